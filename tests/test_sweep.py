"""`get_results`: the one door between notebooks and training."""

import numpy as np
import pytest

from grok_lib import get_results, store, sweep
from grok_lib.history import evaluation_steps
from grok_lib.specs import RunSpec

TINY = RunSpec(modulus=7, width=16, heads=2, steps=12)


def test_what_is_missing_is_trained_once_and_then_loaded(tmp_path, monkeypatch, capsys):
    specs = [TINY, TINY.but(seed=1), TINY]
    first = get_results(specs, tmp_path, time_budget=None)
    assert len(list(tmp_path.glob("*.npz"))) == 2 and [h.spec for h in first] == specs
    monkeypatch.setattr("grok_lib.training.stream", lambda *_: pytest.fail("trained again"))
    second = get_results(specs, tmp_path)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a.val_loss, b.val_loss)
    assert second.coverage == "3 runs"


def test_training_beyond_the_time_budget_does_not_happen_behind_the_readers_back(tmp_path, capsys):
    get_results([TINY], tmp_path, time_budget=None)
    results = get_results([TINY, TINY.but(seed=1, steps=10_000_000)], tmp_path, time_budget=5)
    said = capsys.readouterr().out
    assert len(results) == 1 and results.coverage == "1 of 2 runs"
    assert "1 run" in said and "time_budget" in said and len(list(tmp_path.glob("*.npz"))) == 1


def test_a_sweep_that_is_interrupted_keeps_the_stacks_that_were_done(tmp_path, monkeypatch):
    from grok_lib import training
    real = training.stream

    def cut_short(stack, device):
        if stack[0].modulus == 5:
            raise KeyboardInterrupt
        yield from real(stack, device)

    monkeypatch.setattr(training, "stream", cut_short)
    with pytest.raises(KeyboardInterrupt):
        get_results([TINY.but(modulus=3), TINY.but(modulus=5)], tmp_path, time_budget=None)
    assert store.find(TINY.but(modulus=3), tmp_path) is not None


def test_a_run_is_trained_once_for_several_budgets(tmp_path):
    short, long = TINY.but(steps=5), TINY
    results = get_results([short, long], tmp_path, time_budget=None)
    assert [h.last_step for h in results] == [5, 12] and len(list(tmp_path.glob("*.npz"))) == 1


def test_what_was_just_trained_is_the_answer_even_beside_a_longer_run_of_another_machine(tmp_path, monkeypatch):
    """A longer history of the same key, solved elsewhere, must not make every call train in vain."""
    easy = RunSpec(operation="x*y", modulus=2, width=16, heads=2, train_fraction=0.75, weight_decay=0, steps=300)
    asked = easy.but(stop="solved", keep=("output",))
    get_results([easy], tmp_path, time_budget=None)
    first = get_results([asked], tmp_path, time_budget=None)
    assert first.coverage == "1 run" and "output" in first[0].kept
    monkeypatch.setattr("grok_lib.training.stream", lambda *_: pytest.fail("trained again"))
    assert get_results([asked], tmp_path)[0].last_step == first[0].last_step


def test_gaps_stay_gaps_where_results_are_chosen_from(tmp_path):
    results = sweep.Results([], [TINY, TINY.but(seed=1)])
    assert results.where(seed=1).coverage == "0 of 1 run"


def test_results_are_chosen_by_fields_of_their_specs(tmp_path):
    results = get_results([TINY, TINY.but(seed=1), TINY.but(operation="x-y")], tmp_path, time_budget=None)
    assert [h.spec for h in results.where(operation="x-y")] == [TINY.but(operation="x-y")]
    assert len(results.where(operation="x+y", seed=1)) == 1


def test_watching_a_run_yields_it_as_it_grows_and_stores_its_end(tmp_path):
    steps = [step for step, (history,) in sweep.watch(TINY, tmp_path)]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 12
    assert store.find(TINY, tmp_path) is not None


def test_the_estimate_counts_updates_by_their_work_and_evaluations_by_their_number(monkeypatch):
    """On a clock that ticks once a look: three updates of the first stack take a second, and so does its evaluation."""
    monkeypatch.setattr(sweep.time, "perf_counter", iter(range(100)).__next__)
    runs = [TINY.but(steps=1000), TINY.but(steps=5000, layers=4)]
    expected = 1000 / 3 + 5000 / 3 * runs[1].flops / runs[0].flops + sum(len(evaluation_steps(run.steps)) for run in runs)
    assert sweep.estimated_seconds(runs, "cpu") == pytest.approx(expected)
