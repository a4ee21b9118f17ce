"""results/: small, whole, and summed up in a table that is generated."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from synthetic import history

from grok_lib import paths
from grok_lib.paper import analysis, claims
from grok_lib.runs import store
from grok_lib.specs import RunSpec
from grok_lib.tools import summary


def test_the_shipped_summary_is_what_the_shipped_runs_give():
    shipped = (paths.RESULTS / "summary.csv").read_text()
    assert summary.table().to_csv(index=False, lineterminator="\n") == shipped, "stale: run ./run_all.sh --publish"


def test_the_shipped_runs_are_whole_small_and_readable_without_this_library():
    files = sorted(paths.RESULTS.glob("*.npz"))
    assert files and sum(file.stat().st_size for file in files) <= 25 * 2**20
    for file in files:
        store.load(file)
        with np.load(file, allow_pickle=False) as run:
            assert run["val_accuracy"].dtype == np.float32 and len(run["step"]) == len(run["val_loss"])


def test_the_table_that_the_shipped_page_makes_with_pandas_alone_is_the_librarys(monkeypatch):
    monkeypatch.chdir(paths.ROOT)
    *lines, last = re.findall(r"```python\n(.*?)```", (paths.RESULTS / "README.md").read_text("utf-8"),
                              re.DOTALL)[1].strip().splitlines()
    names = {}
    exec("\n".join(lines), names)
    table = eval(last, names)
    for fraction, runs in analysis.fractions_of(claims.load("data_reduction", "overnight", paths.RESULTS)).items():
        assert (table.loc[fraction, "median"], table.loc[fraction, "count"]) == (
            analysis.median_step(runs).value or np.inf, len(runs)), fraction


def test_a_row_holds_every_knob_what_the_run_did_and_what_trained_it(tmp_path):
    store.save(history(), tmp_path)
    store.save(history(RunSpec(operation="x-y", steps=1000, seed=3), val=(0, 0, 0, 0, 0.5),
                       kept={"output": np.zeros((99, 128), np.float32)}), tmp_path)
    summary.write(tmp_path)
    table = pd.read_csv(tmp_path / "summary.csv").set_index("operation")
    assert set(summary.KNOBS) - {"operation"} <= set(table.columns) and len(table) == 2
    assert table.loc["x+y", "updates_to_99_val"] == 1000 and np.isnan(table.loc["x-y", "updates_to_99_val"])
    assert table.loc["x-y", "best_val_accuracy"] == 0.5 and table.loc["x-y", "seed"] == 3
    assert table.loc["x+y", "trained_device"] == "a test" and table.loc["x+y", "stopped_because"] == "budget"


def test_the_same_runs_give_the_same_bytes_and_whole_numbers_stay_whole(tmp_path):
    store.save(history(), tmp_path)
    summary.write(tmp_path)
    first = (tmp_path / "summary.csv").read_text()
    summary.write(tmp_path)
    assert (tmp_path / "summary.csv").read_text() == first and ",10,1000," in first
    assert pd.read_csv(io.StringIO(first)).shape[0] == 1


def test_a_damaged_run_is_passed_over_and_named(tmp_path):
    store.save(history(), tmp_path)
    (tmp_path / "0123456789abcdef.npz").write_bytes(b"not a run")
    with pytest.warns(UserWarning, match="0123456789abcdef"):
        assert len(summary.table(tmp_path)) == 1
