"""The notebooks as committed: thin, executed, clean, and in the order a reader expects."""

import ast
import json
import re
import statistics

import nbformat
import pytest

from grok_lib import paths
from grok_lib.tools.readme import SHORT

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def test_code_cells_are_few_short_and_define_nothing(path):
    sources = [cell.source for cell in cells(path, "code")]
    lines = [len(source.splitlines()) for source in sources]
    assert 8 <= len(sources) <= 14
    assert statistics.median(lines) <= 4 and max(lines) <= 15
    assert max(len(line) for source in sources for line in source.splitlines()) <= 120  # wider ones a browser cuts off
    for source in sources:  # exercises are prose: what they ask for is the reader's to write
        defined = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        assert not defined, source


def test_a_notebook_is_executed_from_top_to_bottom_without_errors_or_warnings(path):
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source


def test_a_published_notebook_lacks_no_runs_that_it_asks_for(path):
    """Its profile is the one with most to show, and what its prose speaks of is there."""
    assert "left out: " not in path.read_text("utf-8")


def test_a_notebook_is_light_and_carries_no_traces_of_the_machine_that_ran_it(path):
    assert path.stat().st_size <= 300 * 1024
    notebook = nbformat.read(path, 4)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    text = path.read_text()
    assert "papermill" not in text and str(paths.ROOT) not in text and "/home/" not in text and "/root/" not in text


def test_it_opens_with_a_title_and_holds_the_parts_that_every_notebook_has(path):
    prose = [cell.source for cell in cells(path, "markdown")]
    text = "\n".join(prose)
    assert prose[0].startswith(f"# {path.stem[:2]} · ")
    parts = ["Figure", "## In a hurry", "## Guess first", "## What to notice", "## Paper against ours", "## Exercises",
             "**Next:**"]
    places = [text.find(part) for part in parts]
    assert -1 not in places and places == sorted(places), dict(zip(parts, places))
    words = [line for line in text.splitlines() if not line.startswith(SHORT)]  # without what is generated
    assert 600 <= len(" ".join(words).split()) <= 1200


def test_there_are_three_to_five_exercises_and_one_of_them_extends_the_code(path):
    exercises = ("\n".join(cell.source for cell in cells(path, "markdown"))
                 .partition("## Exercises")[2].partition("**Next:**")[0])
    assert 3 <= len(re.findall(r"^\d+\. ", exercises, re.MULTILINE)) <= 5 and "*Extends the code.*" in exercises


def test_outputs_carry_no_progress_bars_and_no_time_of_day(path):
    for cell in cells(path, "code"):
        shown = json.dumps([{**output, "data": {kind: text for kind, text in output.get("data", {}).items()
                                                if kind != "image/png"}}
                            for output in cell.outputs], ensure_ascii=False)
        assert not re.search(r"(?<!\\)\\r|[█▏▎▍▌▋▊▉]|\d\d:\d\d:\d\d|\b20\d\d-\d\d-\d\d", shown), cell.source


def test_its_parameters_are_those_that_run_all_sets_with_their_defaults(path):
    first = cells(path, "code")[0]
    assert first.metadata.get("tags") == ["parameters"]
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(first.source).body}
    assert values == {"profile": "best", "store": None, "time_budget": 60.0}


def test_every_figure_it_shows_has_alt_text_and_is_among_the_published_ones(path):
    pictures = [output for cell in cells(path, "code") for output in cell.outputs
                if "image/png" in output.get("data", {})]
    shown = [picture for picture in pictures if picture.get("metadata", {}).get("image/png", {}).get("alt")]
    assert shown, "no figure with alt text"
    published = {p.stem for p in paths.FIGURES.glob(f"{path.stem[:2]}_*.png")}
    assert len(shown) == len(published)
    for name in published:
        assert (paths.FIGURES / f"{name}.pdf").exists() and (paths.FIGURES / f"{name}.json").exists()
