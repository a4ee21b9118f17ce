"""The README says what the store says, and its examples run."""

import html
import json
import re
import subprocess
import sys

import pytest
from synthetic import history, pace_of

from grok_lib import paths
from grok_lib.paper import claims, experiments
from grok_lib.runs import results, store, sweep
from grok_lib.specs import RunSpec
from grok_lib.tools import readme

TEXT = (paths.ROOT / "README.md").read_text("utf-8")


def test_table_verdicts_coverage_and_each_notebooks_line_are_what_the_shipped_runs_give():
    judged = readme.judge(paths.RESULTS)
    assert readme.renewed(TEXT, judged, paths.RESULTS) == TEXT, "stale: run ./run_all.sh --publish"
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        line = readme.in_short(path.stem, judged, paths.RESULTS)
        assert json.dumps(line, ensure_ascii=False)[1:-1] in path.read_text("utf-8"), (
            f"stale: run ./run_all.sh --publish ({path.stem}: {line})")


def test_a_notebooks_line_stands_above_its_picture_once_however_often_it_is_written():
    once = readme.with_line("## In a hurry\n\nNo hurry?\n\n![a](b)\n\nmore", readme.SHORT + "old")
    assert readme.with_line(once, readme.SHORT + "new") == (
        f"## In a hurry\n\nNo hurry?\n\n{readme.SHORT}new\n\n![a](b)\n\nmore")


SHOWN = {"01_grokking_curve": "grokking_curve", "02_curves": "curves", "02_accuracy": "operations",
         "03_updates": "data_reduction", "04_regularizers": "regularizers", "06_outliers": "outliers",
         "07_sharpness": "sharpness", "08_board": "fidelity", "08_saturation": "saturation"}


@pytest.mark.parametrize("figure, experiment", SHOWN.items())
def test_a_published_figure_shows_the_shipped_runs_and_most_of_what_was_asked_for(figure, experiment):
    """Not those of some time ago; and no page of thirteen panels with one of them filled."""
    facts, loaded = (json.loads((paths.FIGURES / f"{figure}.json").read_text("utf-8")),
                     claims.load(experiment, store=paths.RESULTS))
    loaded = loaded.where(seed=0) if figure == "02_curves" else loaded
    assert set(facts["keys"]) == {h.spec.key for h in loaded}, "stale: run ./run_all.sh --publish"
    assert (facts["runs"], facts["needed"]) == (len(loaded), len(loaded.specs)) and 2 * len(loaded) >= len(loaded.specs)


def test_the_published_scorecard_is_that_of_the_shipped_runs_and_of_the_rules_as_they_are():
    loaded = claims.load_all(store=paths.RESULTS)
    text = (paths.NOTEBOOKS / "09_scorecard.ipynb").read_text("utf-8")
    for claim, its in claims.judge_all(loaded).items():
        for words in (claim.sentence, claim.test, its.so_far or its.number):
            assert html.escape(words, quote=False).replace('"', r'\"') in text, (
                f"stale: run ./run_all.sh --publish ({words})")


def test_a_row_says_what_holds_on_how_many_runs_of_how_many_and_what_trained_them_for_how_long(tmp_path):
    specs = experiments.runs("regularizers", "quick")
    for spec, device in zip(specs[:3], ("a chip, 1 thread", "a chip, 2 threads", "another")):
        h = history(spec, steps=(0, spec.steps), train=(0, 1), val=(0, 1), train_loss=(4, 0), val_loss=(4, 0))
        h.provenance |= {"stack_size": 3, "seconds": 60.0, "device": device}
        store.save(h, tmp_path)
    row = next(line for line in readme.figures_table(readme.judge(tmp_path), tmp_path).splitlines()
               if "04_regularizers" in line)
    assert row == ("| 2 left | [04](notebooks/04_regularizers.ipynb) | 7 not yet enough runs "
                   "| quick: 3 of 7 runs, 1 seed | a chip; another | 1 min 00 s |")


def test_a_new_run_changes_the_verdicts_of_its_figure_and_their_sum(tmp_path):
    spec = experiments.runs("grokking_curve", "overnight")[0]
    before = readme.figures_table(readme.judge(tmp_path), tmp_path)
    store.save(history(spec, steps=(0, 300, spec.steps), train=(0, 1, 1), val=(0, 0, 0), train_loss=(4, 0, 0),
                       val_loss=(4, 4, 4)), tmp_path)
    after = readme.figures_table(readme.judge(tmp_path), tmp_path)
    assert ("[01](notebooks/01_grokking_curve.ipynb) | 7 not yet" in before
            and "| 2 reproduced, 1 not, 4 not yet" in after)
    assert f"Of {len(claims.CLAIMS)} claims in the paper: 2 reproduced, 1 not, " in after


def test_what_is_left_is_what_status_says(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "rates", lambda specs, device, compiled: pace_of(specs, 1.0))
    specs = [spec for name in ("start_here", "curves", "grokking_curve") for spec in experiments.runs(name, "quick")]
    for spec in specs[:2]:
        store.save(history(spec, steps=(0, spec.steps), train=(0, 1), val=(0, 1), train_loss=(4, 0), val_loss=(4, 0)),
                   tmp_path)
    said = sweep.status({"these": specs}, tmp_path)[-1]
    there = {spec.key for spec in specs[:2]}  # one of them answers a shorter request, too
    longest = {spec.key: spec for spec in sorted(specs, key=lambda spec: spec.steps) if spec.key not in there}
    assert {name: said[name] for name in ("needed", "done", "run_steps_left")} == results.tally(specs, tmp_path) == {
        "needed": len(longest) + 2, "done": 2,
        "run_steps_left": round(sum(spec.steps * spec.flops for spec in longest.values()) / RunSpec().flops)}


def test_only_what_lies_between_the_markers_is_rewritten_and_lost_markers_are_an_error(tmp_path):
    text = f"before {readme.BEGIN} old {readme.END} after"
    new = readme.renewed(text, {}, tmp_path)
    assert new.startswith("before <!--") and new.endswith("--> after") and "old" not in new
    with pytest.raises(ValueError, match="markers"):
        readme.renewed("no table", {}, tmp_path)


def examples():
    """{heading: code} of the worked examples under "Extend it"."""
    part = TEXT.partition("## Extend it")[2].partition("\n## ")[0]
    return dict(re.findall(r"\*\*(Add [^*]+)\.\*\*.*?```python\n(.*?)```", part, re.DOTALL))


def test_there_is_a_worked_example_for_an_operation_and_for_an_optimiser():
    assert list(examples()) == ["Add an operation", "Add an optimiser"]


@pytest.mark.parametrize("heading", examples())
def test_a_worked_example_runs_as_it_is_printed_and_shows_two_runs(heading, tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-c", examples()[heading]], cwd=paths.ROOT,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (len(done.stdout.splitlines()) == 2
            and all("99% training accuracy" in line for line in done.stdout.splitlines()))


def test_it_names_only_files_that_are_there():
    links = re.findall(r"\]\((?!http|#)([^)#]+)", TEXT)
    planned = {f"notebooks/{each.notebook}.ipynb" for each in experiments.EXPERIMENTS.values()}
    missing = [link for link in links if not (paths.ROOT / link).exists()]
    assert links and not missing, f"missing: {missing}, of which planned: {planned & set(missing)}"
