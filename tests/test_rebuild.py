"""grok_lib.tools.rebuild and grok_lib.tools.publish, on tiny notebooks in a folder of their own."""

import contextlib
import io
import json
import logging
import re
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from grok_lib.tools import readme, rebuild
from grok_lib.tools.publish import clean, publish

PARAMETERS = 'profile = "best"\nstore = None\ntime_budget = 60.0'
DRAWS = """
import os, pathlib, json
figures = pathlib.Path(os.environ["GROK_BUILD"]) / "figures"
for suffix in ("png", "pdf"):
    (figures / f"curve.{suffix}").write_bytes(b"picture")
text = json.dumps({"name": "curve", "alt": "a curve", "runs": 3, "needed": 5})
_ = (figures / "curve.json").write_text(text)
"""
SHOWS = '''import os, sys, json
print(json.dumps([profile, store, time_budget, sys.executable, os.getcwd(), os.environ["MPLBACKEND"]]))'''


def write(root, name, *sources, parameters=PARAMETERS):
    cells = [new_markdown_cell("# A notebook"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook = new_notebook(cells=cells + [new_code_cell(source.strip()) for source in sources])
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def outputs(path):
    """The text that each code cell printed, those of the parameters left out."""
    cells = nbformat.read(path, as_version=4).cells
    cells = [cell for cell in cells if cell.cell_type == "code" and not cell.metadata.get("tags")]
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder like a checkout, on a machine whose user once registered another Python as "python3"."""
    root = tmp_path_factory.mktemp("a b ü")
    kernel = root / "home" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["/no/such/python"], "display_name": "x", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(root / "home"))
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
        patch.setenv("MPLBACKEND", "agg")
        for name in ("JUPYTER_PATH", "GROK_BUILD"):
            patch.setenv(name, "")  # main sets them for the kernels; here they are put back afterwards
        (root / "results").mkdir()
        (root / "README.md").write_text(f"a {readme.BEGIN} stale {readme.END} b")
        yield root


def main(root, *flags):
    """The exit code, what was printed, and what was printed as an error."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = rebuild.main(flags, root=root, build=root / "build")
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def ran(root):
    """Three notebooks trained from nothing, the second of which fails."""
    write(root, "01_draws", DRAWS, SHOWS)
    write(root, "02_fails", "print('before')", "x = 1\nraise ValueError('first line\\nsecond')", "print('after')")
    write(root, "03_plain", "print(profile, 'store' in globals())", parameters='profile = "best"')
    results = root / "build" / "quick" / "results"
    results.mkdir(parents=True)
    (results / "run.npz").touch()
    return main(root, "--profile", "quick", "--retrain")


def test_a_failing_notebook_is_named_with_its_cell_and_the_others_still_run(root, ran):
    code, out, err = ran
    assert code == 1
    assert "02_fails failed in cell 3 (x = 1): ValueError: first line\n" in err
    assert outputs(root / "build/quick/notebooks/03_plain.ipynb") == ["quick False\n"]
    assert "2 of 3 notebooks ran" in out


def test_what_a_failing_notebook_did_before_the_error_is_kept(root, ran):
    before, error, after = outputs(root / "build/quick/notebooks/02_fails.ipynb")
    assert (before, after) == ("before\n", "")


def test_a_kernel_is_this_python_whatever_the_user_registered_and_starts_in_the_checkout(root, ran):
    shown = json.loads(outputs(root / "build/quick/notebooks/01_draws.ipynb")[1])
    assert shown[3:5] == [sys.executable, str(root)]


def test_figures_are_drawn_into_the_notebook_whatever_backend_the_user_chose(root, ran):
    shown = json.loads(outputs(root / "build/quick/notebooks/01_draws.ipynb")[1])
    assert shown[5].endswith("inline")


def test_retraining_fills_an_empty_store_without_limit_and_keeps_the_old_one_aside(root, ran):
    shown = json.loads(outputs(root / "build/quick/notebooks/01_draws.ipynb")[1])
    assert shown[:3] == ["quick", str(root / "build/quick/results"), None]
    assert not (root / "build/quick/results/run.npz").exists()
    assert (root / "build/quick/results.old/run.npz").exists()


def test_nobody_loses_what_was_trained_by_calling_retrain_again(tmp_path, capsys):
    results = tmp_path / "results"
    for number in (1, 2):
        results.mkdir(exist_ok=True)
        (results / f"run{number}.npz").touch()
        rebuild.set_aside(results)
    rebuild.set_aside(results)  # nothing is there now: nothing more happens
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.npz")) == [
        "results.old/run1.npz", "results.old2/run2.npz"]
    assert capsys.readouterr().out.splitlines() == [f"set aside: {results}, as {name}"
                                                    for name in ("results.old", "results.old2")]


@pytest.mark.parametrize("flags", [["--profile", "nosuch"], ["--retrain"], ["--what"]])
def test_a_mistaken_flag_is_one_line(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        rebuild.main(flags)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1 and "--help" in said


def test_a_parameter_that_a_notebook_does_not_declare_is_said_and_not_passed(ran):
    assert "warning: 03_plain declares no parameter store, time_budget" in ran[2]


def test_the_summary_tells_each_notebooks_figures_and_the_runs_they_stand_on(ran):
    table = [line.split() for line in ran[1].splitlines() if line]
    rows = {row[0]: row[2:] for row in table if row[0][2:3] == "_" and "..." not in row}
    assert rows == {"01_draws": ["curve", "3", "of", "5"], "02_fails": ["FAILED"], "03_plain": ["-"]}


def test_only_picks_notebooks_by_number_and_by_name(root, ran):
    names = [path.stem for path in rebuild.choose(root / "notebooks", ["3", "01_draws"])]
    assert names == ["01_draws", "03_plain"]
    with pytest.raises(SystemExit, match="no notebook 77"):
        rebuild.choose(root / "notebooks", ["01", "77"])


def test_publishing_leaves_the_checkout_clean_of_machine_and_time_and_twice_is_once(root):
    write(root, "04_new", DRAWS, "print(1)\nprint(2)\n3", "print(profile, store, time_budget)")
    source = nbformat.read(root / "notebooks/04_new.ipynb", as_version=4)
    code, _, err = main(root, "--publish", "--only", "04")
    assert (code, err) == (0, "")
    assert "05_embeddings" in (root / "README.md").read_text() and (root / "results" / "summary.csv").exists()
    published = root / "notebooks/04_new.ipynb"
    notebook, first = nbformat.read(published, as_version=4), published.read_bytes()
    assert [cell.id for cell in notebook.cells] == [cell.id for cell in source.cells]
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3, 4]
    assert notebook.cells[3].outputs[1].execution_count == 3
    assert outputs(published)[1:] == ["1\n2\n", "best None 60.0\n"]
    for trace in (b"papermill", b"T00:", b"iopub", b"injected", b'"version"', str(root).encode()):
        assert trace not in first
    assert sorted(path.name for path in (root / "figures").iterdir()) == ["curve.json", "curve.pdf", "curve.png"]
    assert main(root, "--publish", "--only", "04")[0] == 0
    assert published.read_bytes() == first


def test_published_notebooks_see_shipped_runs_alone_not_those_trained_here_before_nor_the_live_one(root):
    folder = "import os, pathlib\nfolder = pathlib.Path(os.environ['GROK_BUILD']) / 'results'"
    write(root, "00_live", folder, "_ = (folder / 'live.npz').write_text('')")
    write(root, "07_reads", folder, "print([path.name for path in folder.iterdir()])")
    (root / "build" / "results").mkdir(parents=True, exist_ok=True)
    (root / "build" / "results" / "trained.npz").touch()
    try:
        for _ in range(2):
            assert main(root, "--publish", "--only", "00", "--only", "07")[0] == 0
            assert outputs(root / "notebooks" / "07_reads.ipynb")[1] == "[]\n"
    finally:
        (root / "notebooks" / "00_live.ipynb").unlink()
        (root / "notebooks" / "07_reads.ipynb").unlink()


def executed(*outputs, used=PARAMETERS):
    return new_notebook(cells=[
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell(used, metadata={"tags": ["injected-parameters"]}),
        new_code_cell("work()", outputs=list(outputs)),
    ])


@pytest.mark.parametrize("notebook, says", [
    (executed(new_output("stream", name="stdout", text="in /some/checkout/build\n")), "cell 2 shows /some/checkout"),
    (executed(new_output("stream", name="stdout", text=f"in {Path.home()}/x\n")), f"cell 2 shows {Path.home()}"),
    (executed(new_output("display_data", data={"image/svg+xml": "<a>/some/checkout</a>"})), "cell 2 shows /some"),
    (executed(new_output("stream", name="stderr", text="UserWarning: no\n")), "cell 2 wrote to stderr: UserWarning"),
    (executed(used='profile = "quick"'), "make the parameters"),
])
def test_what_a_reader_should_not_see_is_refused_not_rewritten(notebook, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        clean(notebook, Path("/some/checkout"))


def test_output_pieces_are_joined_so_that_timing_leaves_no_trace():
    pieces = [new_output("stream", name="stdout", text=text) for text in ("one\n", "two\n")]
    whole = new_output("stream", name="stdout", text="one\ntwo\n")
    one, other = executed(*pieces), executed(whole)
    for mine, theirs in zip(one.cells, other.cells):
        mine.id = theirs.id
    assert clean(one, Path("/x")) == clean(other, Path("/x"))


def test_one_notebook_that_is_refused_leaves_all_as_they_were(tmp_path):
    write(tmp_path, "01_good", "1")
    before = (tmp_path / "notebooks/01_good.ipynb").read_bytes()
    good, bad = tmp_path / "01_good.ipynb", tmp_path / "02_bad.ipynb"
    nbformat.write(executed(new_output("stream", name="stdout", text="fine\n")), good)
    nbformat.write(executed(new_output("stream", name="stdout", text=f"{tmp_path}\n")), bad)
    with pytest.raises(ValueError, match="02_bad: cell 2 shows"):
        publish([good, bad], [], tmp_path)
    assert (tmp_path / "notebooks/01_good.ipynb").read_bytes() == before


@pytest.mark.parametrize("number, code_then", [((), 130), ((15,), 143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_stops_at_once_and_leaves_nothing_half_written(root, monkeypatch, number, code_then):
    def interrupted(source, part, *_, **__):
        part.write_text("half")
        raise KeyboardInterrupt(*number)

    write(root, "05_long", "1")
    monkeypatch.setattr(rebuild.papermill, "execute_notebook", interrupted)
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", False)  # and put back as it is
    code, out, _ = main(root, "--only", "05")
    assert code == code_then and "stopped" in out
    assert not list((root / "build/notebooks").glob("05*"))


def test_a_notebook_that_takes_long_shows_signs_of_life(monkeypatch, capsys):
    monkeypatch.setattr(rebuild, "HEARTBEAT", 0.02)
    with rebuild.heartbeat("06_slow"):
        time.sleep(0.1)
    assert capsys.readouterr().out.count("06_slow ... 0 s\n") >= 2
