"""Put executed notebooks and their figures where git keeps them.

The same outputs give the same bytes: a notebook that is published twice changes nothing.
"""

import ast
import json
import os
import re
from pathlib import Path

import nbformat

SUFFIXES = (".json", ".pdf", ".png")  # what a saved figure consists of


def publish(executed: list[Path], figures: list[Path], root: Path):
    """Clean the executed notebooks into notebooks/ and copy the figures, given by their JSON files, to figures/.

    Everything is read and checked before anything is replaced.
    """
    files = {}
    for path in executed:
        try:
            files[root / "notebooks" / path.name] = clean(nbformat.read(path, as_version=4), root).encode()
        except ValueError as error:
            raise ValueError(f"{path.stem}: {error}") from error
    for path in figures:
        for part in (path.with_suffix(suffix) for suffix in SUFFIXES):
            files[root / "figures" / part.name] = part.read_bytes()
    (root / "figures").mkdir(exist_ok=True)
    for path, content in files.items():
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(content)
        os.replace(temporary, path)


def clean(notebook, root: Path) -> str:
    """The executed notebook as it is published: its outputs, and no trace of when and where it was run.

    Refuses what a reader should not see: a path of this machine, an output on stderr, a notebook that was
    run with other parameters than it shows.
    """
    shown, used = (literals(tagged(notebook, tag)) for tag in ("parameters", "injected-parameters"))
    if shown | used != shown:
        raise ValueError(f"ran with {used} but shows {shown}: make the parameters cell's defaults the same")
    machine = [re.escape(str(path)) for path in (root, Path.home()) if path != Path("/")]
    private = re.compile(rf"(?<!\w)({'|'.join(machine)})(?!\w)")
    code = own_code(notebook)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type != "code" or cell in code]
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    })
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    for number, cell in enumerate(code, 1):
        merged = []
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise ValueError(f"cell {number} wrote to stderr: {output.text.strip().partition(chr(10))[0]}")
            if leak := private.search(text_of(output)):
                raise ValueError(f"cell {number} shows {leak.group()}, a path of this machine")
            if "execution_count" in output:
                output.execution_count = number
            if merged and output.output_type == merged[-1].output_type == "stream":
                merged[-1].text += output.text
            else:
                merged.append(output)
        cell.outputs, cell.execution_count = merged, number
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1).rstrip("\n") + "\n"


def tagged(notebook, tag: str) -> str:
    """The source of the cell that carries the tag, or nothing."""
    return next((cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])), "")


def literals(source: str) -> dict:
    """The names that a parameters cell assigns, and their values."""
    assignments = [line for line in ast.parse(source).body if isinstance(line, ast.Assign)]
    return {line.targets[0].id: ast.literal_eval(line.value) for line in assignments}


def own_code(notebook) -> list:
    """The notebook's code cells without the one that papermill put in."""
    return [cell for cell in notebook.cells
            if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])]


def text_of(output) -> str:
    """All of an output but its pictures, whose base64 may spell anything."""
    data = {kind: value for kind, value in output.get("data", {}).items() if kind != "image/png"}
    return json.dumps({**output, "data": data}, ensure_ascii=False)
