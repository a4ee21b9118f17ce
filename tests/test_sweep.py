"""`get_results`: the one door between notebooks and training."""

import types

import numpy as np
import pytest
from synthetic import pace_of

from grok_lib import device as device_
from grok_lib import fuse, get_results, train, training
from grok_lib.history import evaluation_steps
from grok_lib.runs import estimate, store, sweep
from grok_lib.runs.results import Results, to_train
from grok_lib.specs import RunSpec

TINY = RunSpec(modulus=7, width=16, heads=2, steps=12)


def test_what_is_missing_is_trained_once_and_then_loaded(tmp_path, monkeypatch, capsys):
    specs = [TINY, TINY.but(seed=1), TINY]
    first = get_results(specs, tmp_path, time_budget=None)
    assert len(list(tmp_path.glob("*.npz"))) == 2 and [h.spec for h in first] == specs
    monkeypatch.setattr("grok_lib.training.stream", lambda *_, **__: pytest.fail("trained again"))
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

    def cut_short(stack, device, begun):
        if stack[0].modulus == 5:
            raise KeyboardInterrupt
        yield from real(stack, device, begun=begun)

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
    monkeypatch.setattr("grok_lib.training.stream", lambda *_, **__: pytest.fail("trained again"))
    assert get_results([asked], tmp_path)[0].last_step == first[0].last_step


def test_gaps_stay_gaps_where_results_are_chosen_from(tmp_path):
    results = Results([], [TINY, TINY.but(seed=1)])
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
    monkeypatch.setattr(estimate.time, "perf_counter", iter(range(100)).__next__)
    runs = [TINY.but(steps=1000), TINY.but(steps=5000, layers=4)]
    expected = (1000 / 3 + 5000 / 3 * runs[1].flops / runs[0].flops
                + sum(len(evaluation_steps(run.steps)) for run in runs))
    assert sweep.estimated_seconds(runs, estimate.rates(runs, "cpu")) == pytest.approx(expected)


def test_a_tiny_model_and_a_large_one_have_a_rate_each_whichever_comes_first(monkeypatch):
    """A tiny model's updates wait, a large one's work: on this clock both take a third of a second."""
    for runs in ([TINY, RunSpec(steps=1)], [RunSpec(steps=1), TINY]):
        monkeypatch.setattr(estimate.time, "perf_counter", iter(range(100)).__next__)
        monkeypatch.setattr(training, "advance", lambda *_: None)
        monkeypatch.setattr(training, "evaluate", lambda *_: None)
        expected = sum(run.steps / 3 + len(evaluation_steps(run.steps)) for run in runs)
        assert sweep.estimated_seconds(runs, estimate.rates(runs, "cpu")) == pytest.approx(expected)


def test_an_update_takes_a_gpu_some_time_however_little_there_is_to_do(tmp_path, monkeypatch):
    """So a small stack is not begun that its work alone would let end in time."""
    assert estimate.seconds_an_update("cpu", 10**6) == 0
    monkeypatch.setattr(sweep, "seconds_an_update", lambda device, steps: 10.0)
    monkeypatch.setattr(sweep.checkpoint, "WORTH", float("inf"))
    assert sweep.sweep([TINY], tmp_path, time_budget=10 * TINY.steps - 1, pace=pace_of([TINY], 0)) == []
    assert len(sweep.sweep([TINY, TINY.but(seed=1)], tmp_path, time_budget=11 * TINY.steps,
                           pace=pace_of([TINY], 0))) == 2


def test_on_a_gpu_an_update_of_several_runs_takes_the_start_of_its_kernels_and_the_work_of_each(tmp_path, monkeypatch):
    """A run alone takes 10 seconds an update, 4 of them for its work, so three take 18: more than there are; but two
    take 14."""
    stacks, runs = stacks_of(monkeypatch), [RunSpec(steps=6, seed=seed) for seed in range(3)]
    monkeypatch.setattr(sweep, "seconds_an_update", lambda device, steps: 10.0)
    sweep.sweep(runs, tmp_path, time_budget=6 * 16, pace=pace_of(runs, 6 * 3 * 4))
    assert stacks[0] == runs[:2]


@pytest.mark.parametrize("device, steps, asked, compiled", [
    ("cuda", 1_000_000, True, True), ("cuda", 1_000_000, False, False),
    ("cuda", 1000, True, False), ("cpu", 1_000_000, True, False)])
def test_a_gpus_campaign_is_measured_compiled_as_it_will_train_and_nobody_waits_for_a_compiler_elsewhere(
        device, steps, asked, compiled, monkeypatch):
    seen = []

    def open_stack(specs, where):
        return types.SimpleNamespace(fused=fuse.pays(specs, where), weights=np.zeros((1, 1)))
    monkeypatch.setattr(device_, "resolve", lambda name: types.SimpleNamespace(type=name))
    monkeypatch.setattr(training, "most_at_once", lambda *_: 1)
    monkeypatch.setattr(training, "open_stack", open_stack)
    monkeypatch.setattr(training, "advance", lambda stack, *_: seen.append(stack.fused))
    monkeypatch.setattr(training, "evaluate", lambda stack: None)
    monkeypatch.setattr(estimate, "_seconds_alone", estimate._seconds_alone.__wrapped__)
    estimate.rates([RunSpec(steps=steps)], device, compiled=asked)
    assert seen == [compiled] * 2


def test_what_a_device_cannot_train_is_left_out_with_one_line_and_the_rest_is_trained(tmp_path, capsys):
    """TF32 asks for a GPU; `train` alone, which promises every history, refuses it."""
    results = get_results([TINY.but(precision="tf32"), TINY], tmp_path, time_budget=None, device="cpu")
    assert results.coverage == "1 of 2 runs" and capsys.readouterr().out.count("1 run in TF32") == 1
    assert sweep.sweep([TINY.but(precision="tf32")], tmp_path, device="cpu") == []
    row = sweep.status({"one": [RunSpec(precision="tf32", steps=7)]}, tmp_path, "cpu")[0]
    assert row["run_steps_left"] == 7 and row["seconds_left"] is None  # not 0: nothing here can tell
    with pytest.raises(ValueError, match="precision='tf32'"):
        train([TINY.but(precision="tf32")], "cpu")


# --- The campaign ---

def stacks_of(monkeypatch):
    """The stacks trained from now on, as lists of specs; nothing else is changed."""
    from grok_lib import training
    stacks, real = [], training.stream

    def stream(stack, device, begun):
        stacks.append(list(stack))
        return real(stack, device, begun=begun)
    monkeypatch.setattr(training, "stream", stream)
    return stacks


KEPT = TINY.but(keep=("output",))


@pytest.mark.parametrize("asked, trained", [
    ([TINY.but(steps=5), TINY, TINY.but(steps=7)], [TINY]),
    ([TINY, TINY], [TINY]),
    ([TINY, TINY.but(stop="solved")], [TINY]),  # to the budget is at least as far as to the solution
    # It may be solved at update 3
    ([TINY.but(stop="solved"), TINY.but(steps=5)], [TINY.but(stop="solved"), TINY.but(steps=5)]),
    ([TINY.but(stop="solved"), TINY.but(steps=5, stop="solved")], [TINY.but(stop="solved")]),
    ([TINY, KEPT], [KEPT]),  # weights are extra
    ([TINY.but(steps=5), KEPT], [KEPT]),
    ([TINY.but(steps=20), KEPT], [TINY.but(steps=20), KEPT]),  # those at update 12 are not those at 20
    ([KEPT, TINY.but(keep=("output", "embedding"))], [TINY.but(keep=("output", "embedding"))]),
    ([KEPT, TINY.but(keep=("embedding",))], [KEPT, TINY.but(keep=("embedding",))]),
    ([KEPT, KEPT.but(steps=5)], [KEPT, KEPT.but(steps=5)]),
    ([TINY, TINY.but(seed=1)], [TINY, TINY.but(seed=1)]),
])
def test_of_several_requests_for_one_trajectory_only_those_are_trained_that_answer_all(tmp_path, asked, trained):
    assert to_train(asked, tmp_path) == trained


def test_what_is_trained_for_several_requests_does_answer_them_all(tmp_path):
    asked = [TINY.but(steps=5), TINY, TINY.but(stop="solved"), KEPT, TINY.but(keep=("output", "embedding")),
             KEPT.but(steps=5), TINY.but(steps=10, stop="solved")]
    trained = sweep.sweep(asked, tmp_path)
    assert len(trained) == 2 and to_train(asked, tmp_path) == []
    for spec in asked:
        found = store.find(spec, tmp_path)
        assert found.spec == spec and found.last_step == spec.steps and set(found.kept) == set(spec.keep)


def test_what_the_store_has_is_not_trained_again_and_stacks_are_no_larger_than_asked(tmp_path, monkeypatch):
    specs = [TINY.but(seed=seed) for seed in range(7)]
    sweep.sweep(specs[2:4], tmp_path)
    stacks = stacks_of(monkeypatch)
    assert len(sweep.sweep(specs, tmp_path, at_once=2)) == 5
    assert stacks == [[specs[0], specs[1]], [specs[4], specs[5]], [specs[6]]]
    assert sweep.sweep(specs, tmp_path) == [] and len(stacks) == 3


def test_only_runs_of_one_shape_share_a_stack_and_the_first_asked_for_come_first(tmp_path, monkeypatch):
    wide = TINY.but(width=32)
    stacks = stacks_of(monkeypatch)
    sweep.sweep([wide, TINY, wide.but(seed=1), TINY.but(seed=1)], tmp_path)
    assert stacks == [[wide, wide.but(seed=1)], [TINY, TINY.but(seed=1)]]


@pytest.mark.parametrize("budget, trained", [
    (None, [1000, 10, 20, 500]), (2000, [1000, 10, 20, 500]), (1015, [10, 20, 500]), (1060, [1000, 10, 20]),
    (1525, [1000, 10, 20]), (600, [10, 20, 500]), (505, [10, 20]), (25, [10]), (9, [])])
def test_what_would_not_end_in_time_is_not_begun_and_what_is_shorter_is(tmp_path, monkeypatch, budget, trained):
    """On a clock that moves a second an update, with a twentieth to spare. (What is begun for want of anything that
    would end: see test_checkpoint.)"""
    from synthetic import history

    from grok_lib import training
    monkeypatch.setattr(sweep.checkpoint, "WORTH", float("inf"))
    clock, seen = [0.0], []

    def second_by_second(stack, device, begun):
        seen.extend(spec.steps for spec in stack)
        clock[0] += seen[-1]
        yield seen[-1], [history(spec, steps=(0, 1, 2, 3, spec.steps)) for spec in stack]
    monkeypatch.setattr(training, "stream", second_by_second)
    monkeypatch.setattr(sweep.time, "perf_counter", lambda: clock[0])
    specs = [TINY.but(steps=steps, seed=seed) for seed, steps in enumerate([1000, 10, 20, 500])]
    sweep.sweep(specs, tmp_path, budget, pace=pace_of(specs, 1530), at_once=1)
    assert seen == trained


def test_a_stack_is_as_large_as_ends_in_time(tmp_path, monkeypatch):
    stacks = stacks_of(monkeypatch)
    specs = [TINY.but(seed=seed, steps=steps) for seed, steps in enumerate([40, 40, 40, 20])]
    monkeypatch.setattr(sweep.checkpoint, "WORTH", float("inf"))
    monkeypatch.setattr(sweep, "_next", lambda *a, real=sweep._next: real(*a) if not stacks else [])
    # 100 s an update: two of 40 and the one of 20
    sweep.sweep(specs, tmp_path, time_budget=10_600, pace=pace_of(specs, 14_000))
    assert stacks == [[specs[0], specs[1], specs[3]]]


def test_what_has_to_be_compiled_first_takes_that_time_too(tmp_path, monkeypatch):
    """Two of 60 seconds each, and 95 to plan with; the first asked for needs 50 more until it is compiled."""
    wide, stacks = TINY.but(width=32), stacks_of(monkeypatch)
    monkeypatch.setattr(sweep, "compiling", lambda stack, device: 50 if stack[0].width == 32 else 0)
    monkeypatch.setattr(sweep.checkpoint, "WORTH", float("inf"))
    monkeypatch.setattr(sweep, "_next", lambda *a, real=sweep._next: real(*a) if not stacks else [])
    sweep.sweep([wide, TINY], tmp_path, time_budget=100, pace=pace_of([wide], 60) | pace_of([TINY], 60))
    assert stacks == [[TINY]]


def test_where_only_compiling_would_fit_nothing_is_begun(tmp_path, monkeypatch):
    """Of 40 seconds 50 would go by without an update; with 55 there would be five to train in, and that is worth it
    where three are."""
    stacks = stacks_of(monkeypatch)
    monkeypatch.setattr(sweep.checkpoint, "WORTH", 3)
    monkeypatch.setattr(sweep, "compiling", lambda stack, device: 50)
    assert sweep.sweep([TINY], tmp_path, time_budget=40, pace=pace_of([TINY], 10**6)) == [] and not stacks
    sweep.sweep([TINY], tmp_path, time_budget=55, pace=pace_of([TINY], 10**6))
    assert stacks == [[TINY]]


def test_a_claim_by_another_process_is_respected_and_one_left_by_a_dead_process_is_void(tmp_path, monkeypatch):
    import subprocess
    import sys
    hold = ("import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
            "print('held', flush=True); time.sleep(600)")
    claims = tmp_path / ".claims"
    with sweep._claimed([TINY], tmp_path):
        claim, = claims.iterdir()
    assert not list(claims.iterdir()), "a claim that ended is gone"
    with subprocess.Popen([sys.executable, "-c", hold, str(claim)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert [h.spec for h in sweep.sweep([TINY, TINY.but(seed=1)], tmp_path)] == [TINY.but(seed=1)]
        other.kill()
    assert claim.exists()
    assert [h.spec for h in sweep.sweep([TINY, TINY.but(seed=1)], tmp_path)] == [TINY]
    assert not list(claims.iterdir())


def test_what_another_process_has_stored_meanwhile_is_not_trained_again(tmp_path):
    sweep.sweep([TINY], tmp_path)
    with sweep._claimed([TINY, TINY.but(seed=1)], tmp_path) as mine:
        assert mine == [TINY.but(seed=1)]


def test_a_claim_that_ends_while_another_process_looks_is_nobodys(tmp_path, monkeypatch):
    """Opened while it was held, locked when its owner had removed it: a third process could hold its successor."""
    import fcntl
    import os
    real = fcntl.flock

    def removed_first(file, how):
        if ".claims" in str(file.name):
            os.unlink(file.name)
        real(file, how)
    monkeypatch.setattr(fcntl, "flock", removed_first)
    with sweep._claimed([TINY], tmp_path) as mine:
        assert mine == []


def test_status_counts_runs_work_and_time_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "rates",
                        lambda specs, device, compiled=False: pace_of(specs, sum(spec.steps for spec in specs) / 10))
    paper = RunSpec(steps=700)
    short, again = TINY.but(seed=1), TINY.but(seed=1, steps=5)
    get_results([TINY], tmp_path, time_budget=None)
    rows = sweep.status({"one": [TINY, short, again], "two": [TINY, paper], "three": [TINY]}, tmp_path)
    assert [tuple(row) for row in rows] == [("experiment", "needed", "done", "run_steps_left", "seconds_left")] * 4
    assert [(row["experiment"], row["needed"], row["done"]) for row in rows] == [
        ("one", 2, 1), ("two", 2, 1), ("three", 1, 1), ("all", 3, 1)]
    ordinary = 12 * short.flops / RunSpec().flops
    assert [row["run_steps_left"] for row in rows] == [round(ordinary), 700, 0, round(700 + ordinary)]
    assert rows[-1]["seconds_left"] == round(71.2) and rows[1]["seconds_left"] == round(71.2 * 700 / (700 + ordinary))


def test_where_nothing_is_missing_status_measures_nothing(tmp_path, monkeypatch):
    get_results([TINY], tmp_path, time_budget=None)
    monkeypatch.setattr(sweep, "rates", lambda *_, **__: pytest.fail("measured"))
    assert sweep.status({"one": [TINY]}, tmp_path)[0] == {
        "experiment": "one", "needed": 1, "done": 1, "run_steps_left": 0, "seconds_left": 0}


# Where most is idle, the rest is a small difference and tells nothing
@pytest.mark.parametrize("idle, rate", [(0.0, 1), (0.25, 0.75), (0.9, 5), (2.0, 5)])
def test_a_stacks_rate_counts_neither_the_first_updates_which_may_be_compiled_and_are_looked_at_nor_what_a_gpu_idles(
        idle, rate, monkeypatch, tmp_path):
    clock = [0.0]

    def stream(stack, device, begun):
        for seconds, step in ((5, 0), (100, 1), (70, 100), (10, 110), (20, 130)):
            clock[0] += seconds
            yield step, [types.SimpleNamespace(spec=spec, stopped_because="running", last_step=0) for spec in stack]
    monkeypatch.setattr(training, "stream", stream)
    monkeypatch.setattr(sweep.time, "perf_counter", lambda: clock[0])
    with sweep.Progress("training") as progress:
        plan = sweep._Plan("cpu", pace := pace_of([TINY.but(steps=1)], 5), idle, {})
        sweep._train({TINY: None}, float("inf"), tmp_path, plan, {}, [], progress, ())
    assert pace[training.shape(TINY)] == pytest.approx(rate / TINY.flops)


def test_seeds_are_counted_for_each_setting():
    several = [TINY.but(seed=s) for s in range(3)]
    histories = train([*several, TINY.but(train_fraction=0.4)])
    for number, text in ((0, "0 seeds"), (1, "1 seed"), (3, "3 seeds"), (4, "1 to 3 seeds")):
        assert Results(histories[:number], []).seeds == text


@pytest.mark.parametrize("pays", [True, False])
def test_a_line_says_so_where_a_stack_is_compiled_first(pays, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(training, "stream", lambda *_, **__: iter(()))
    monkeypatch.setattr(fuse, "pays", lambda *_: pays)
    monkeypatch.setattr(fuse.State, "refused", False)  # whatever tests before it have met
    with sweep.Progress("training") as progress:
        sweep._train({TINY: None}, float("inf"), tmp_path, sweep._Plan("cpu", pace_of([TINY.but(steps=1)], 5), 0.0, {}),
                     {}, [], progress, ())
    assert ("compiling for 1 run" in capsys.readouterr().out) is pays


@pytest.mark.parametrize("keep", [("sharpness",), ()])
def test_the_time_left_is_said_to_leave_out_what_is_measured_at_the_end(keep, tmp_path, capsys):
    sweep.sweep([TINY.but(keep=keep)], tmp_path, device="cpu")
    assert ("left, then its sharpness" in capsys.readouterr().out) is bool(keep)
