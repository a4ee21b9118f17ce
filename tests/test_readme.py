"""The README says what the store says."""

import pytest
from synthetic import history

from grok_lib import experiments, paths, readme, store


def test_the_table_of_figures_is_what_the_shipped_runs_give():
    text = (paths.ROOT / "README.md").read_text("utf-8")
    assert readme.renewed(text, paths.RESULTS) == text, "stale: run ./run_all.sh --publish"


def test_a_row_says_how_many_runs_of_how_many_and_what_trained_them_for_how_long(tmp_path):
    specs = experiments.runs("regularizers", "quick")
    for spec in specs[:3]:
        h = history(spec, steps=(0, spec.steps), train=(0, 1), val=(0, 1), train_loss=(4, 0), val_loss=(4, 0))
        h.provenance |= {"stack_size": 3, "seconds": 60.0}
        store.save(h, tmp_path)
    row = next(line for line in readme.figures_table(tmp_path).splitlines() if "04_regularizers" in line)
    assert row == "| 2 left | [04_regularizers](notebooks/04_regularizers.ipynb) | quick: 3 of 7 runs, 1 seed | a test; 1 min 00 s |"


def test_only_what_lies_between_the_markers_is_rewritten_and_lost_markers_are_an_error(tmp_path):
    text = f"before {readme.BEGIN} old {readme.END} after"
    new = readme.renewed(text, tmp_path)
    assert new.startswith("before <!--") and new.endswith("--> after") and "old" not in new
    with pytest.raises(ValueError, match="markers"):
        readme.renewed("no table", tmp_path)
