"""A run that was cut off goes on as if nothing had happened, or begins anew; it never ends otherwise than it would
have."""

import os
import signal

import numpy as np
import pytest
import torch
from synthetic import pace_of

from grok_lib import training
from grok_lib.runs import checkpoint, store, sweep
from grok_lib.runs.results import hardware
from grok_lib.specs import RunSpec

TINY = RunSpec(modulus=7, width=16, heads=2, steps=40)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
STACKS = {
    "alone": [TINY],
    "other budgets": [TINY, TINY.but(seed=1, steps=20), TINY.but(seed=2, steps=25),
                      TINY.but(operation="x*y", train_fraction=0.3)],
    "all kinds of noise and decay": [TINY.but(**more) for more in (
        {}, {"decay_to": "init"}, {"update_noise": 0.5, "weight_decay": 0}, {"weight_noise": 0.01},
        {"decay_by": "gradient"}, {"outliers": 5})],
    "dropout": [TINY.but(dropout=0.1), TINY.but(dropout=0.2, seed=1)],
    "full batch": [TINY.but(full_batch=True)],
    "short last batch": [TINY.but(short_last_batch=True, train_fraction=0.7)],
    "float64": [TINY.but(precision="float64")],
    "measured on the way": [TINY.but(keep=("output", "saturation")), TINY.but(keep=("sharpness",), seed=1)],
}


def assert_same(one, two):
    assert one.spec == two.spec and one.stopped_because == two.stopped_because and one.kept.keys() == two.kept.keys()
    for name in one.CURVES:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name in one.kept:
        np.testing.assert_array_equal(one.kept[name], two.kept[name])


def cut_off(specs, folder, after, device="cpu"):
    """Train a stack until it has so many updates behind it, put it into a store's folder, and let go of it."""
    for step, histories in training.stream(specs, device):
        if step >= after:
            checkpoint.save(histories, folder)
            return histories


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("specs", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("after", [1, 20])
def test_a_stack_that_was_cut_off_ends_as_it_would_have_to_the_bit(tmp_path, specs, after, device):
    aim = training.train(specs, device)
    ended = [h for h in cut_off(specs, tmp_path, after, device) if h.stopped_because != "running"]
    begun = checkpoint.together([spec for spec in specs if spec not in [h.spec for h in ended]], tmp_path)
    for _, histories in training.stream(list(begun), device, begun=list(begun.values())):
        pass
    found = {h.spec: h for h in [*ended, *histories]}
    for history in aim:
        assert_same(found[history.spec], history)
    assert (histories[0].provenance["resumed"]
            == [[after, *(aim[0].provenance[name] for name in ("device", "torch", "git_revision"))]]
            and "resumed" not in aim[0].provenance)


def test_it_may_be_cut_off_again_and_again_between_two_evaluations_too(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BLOCK", {"cpu": 3})
    # A yield after each block
    monkeypatch.setattr(training.time, "perf_counter", lambda clock=[0]: clock.append(0) or 2.0 * len(clock))
    aim, (history,) = training.train([TINY]), cut_off([TINY], tmp_path, 3)
    cuts = []
    while history.stopped_because == "running":
        begun = [checkpoint.load(TINY, tmp_path)]
        for step, (history,) in training.stream([TINY], "cpu", begun=begun):
            if step >= int(begun[0].state["update"]) + 4 and history.stopped_because == "running":
                checkpoint.save([history], tmp_path)
                cuts.append(step)
                break
    assert_same(history, aim[0])
    assert (len(cuts) > 4 and set(cuts) - set(aim[0].step)
            and [update for update, *_ in history.provenance["resumed"]] == [3, *cuts])


def test_a_sweep_goes_on_where_its_time_was_over_and_trains_no_update_twice(tmp_path, monkeypatch):
    """On a clock that moves a second an update; the first two sweeps have time for a part of one run."""
    monkeypatch.setattr(checkpoint, "EVERY", 5)
    monkeypatch.setattr(checkpoint, "WORTH", 5)
    clock, trained, advance, saved, save = [0.0], [], training.advance, [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *what: (saved.append(clock[0]), save(*what)))

    def tick(stack, first, last):
        trained.extend(range(first, last + 1))
        clock[0] += last + 1 - first
        advance(stack, first, last)
    monkeypatch.setattr(training, "advance", tick)
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])
    for budget, there in ((15, 1), (15, 1), (100, 0)):
        found = sweep.sweep([TINY], tmp_path, time_budget=budget, device="cpu", pace=pace_of([TINY], TINY.steps))
        assert checkpoint.file(tmp_path, TINY).exists() == bool(there) == (not found)
    assert trained == list(range(1, TINY.steps + 1)) and 4 <= len(saved) <= TINY.steps / 5 and min(np.diff(saved)) >= 5
    assert_same(store.find(TINY, tmp_path), training.train([TINY])[0])


def test_what_was_cut_off_goes_on_before_anything_else_is_begun(tmp_path):
    specs = [TINY.but(seed=seed) for seed in range(4)]
    cut_off(specs[2:3], tmp_path, 20)
    assert [h.spec for h in sweep.sweep(specs, tmp_path, device="cpu", at_once=2)] == [
        specs[2], specs[0], specs[1], specs[3]]


def test_what_was_cut_off_goes_on_though_it_will_not_end_in_time_and_something_else_would(tmp_path, monkeypatch):
    """By an estimate of a second an update; the clock is the real one, so both end in fact. Where less than a minute is
    left, what ends goes first."""
    short, asked = TINY.but(seed=1, steps=5), []
    monkeypatch.setattr(training, "stream",
                        lambda stack, *a, real=training.stream, **b: (asked.append(stack), real(stack, *a, **b))[1])
    for worth, first in ((9, TINY), (19, short)):
        monkeypatch.setattr(checkpoint, "WORTH", worth)
        cut_off([TINY], tmp_path / str(worth), 20)
        asked.clear()
        sweep.sweep([short, TINY], tmp_path / str(worth), time_budget=18, device="cpu",
                    pace=pace_of([TINY], TINY.steps), at_once=1)
        assert asked[0] == [first]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_can_be_waited_for_costs_nothing(tmp_path, monkeypatch, number):
    """It comes in the midst of an update: the run is put down after it, with all its updates, and the handlers are as
    before."""
    monkeypatch.setattr(training, "BLOCK", {"cpu": 1})
    before, advance = ([signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGTERM)],
                       training.advance)

    def update(stack, first, last):
        if first == 17:
            os.kill(os.getpid(), number)
        advance(stack, first, last)
    monkeypatch.setattr(training, "advance", update)
    # A yield after each update
    monkeypatch.setattr(training.time, "perf_counter", lambda clock=[0]: clock.append(0) or 2.0 * len(clock))
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep.sweep([TINY], tmp_path, device="cpu", pace=pace_of([TINY], 1))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        for each, handler in zip((signal.SIGINT, signal.SIGTERM), before):
            signal.signal(each, handler)
    assert int(checkpoint.load(TINY, tmp_path).state["update"]) == 17
    monkeypatch.undo()
    assert_same(sweep.sweep([TINY], tmp_path, device="cpu")[0], training.train([TINY])[0])


def test_a_run_that_was_cut_off_near_its_end_needs_no_more_time_than_is_left_of_it(tmp_path):
    """By an estimate of a second an update it has 20 seconds to go; a whole one 40, for which there is no time."""
    cut_off([TINY], tmp_path, 20)
    found = sweep.sweep([TINY.but(seed=1), TINY], tmp_path, time_budget=30, device="cpu",
                        pace=pace_of([TINY], TINY.steps), at_once=1)
    assert [h.spec for h in found][:1] == [TINY]


def test_where_too_little_time_is_left_for_a_part_nothing_is_begun(tmp_path):
    assert sweep.sweep([TINY], tmp_path, time_budget=checkpoint.WORTH - 1, pace=pace_of([TINY], 10**6)) == []
    assert not checkpoint.file(tmp_path, TINY).exists()


def test_a_killed_sweep_has_put_down_its_runs_every_few_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(training, "evaluate",
                        lambda stack, real=training.evaluate: real(stack) if int(stack.u) < 20 else 1 / 0)
    specs = [TINY, TINY.but(seed=1, steps=10)]
    with pytest.raises(ZeroDivisionError):
        sweep.sweep(specs, tmp_path, device="cpu")
    assert store.find(specs[1], tmp_path) and not checkpoint.file(tmp_path, specs[1]).exists(), (
        "what has ended has no state any more")
    assert 10 <= int(checkpoint.load(TINY, tmp_path).state["update"]) < 20


def test_runs_that_have_come_differently_far_go_on_each_in_its_own_stack(tmp_path):
    specs = [TINY.but(seed=seed) for seed in range(5)]
    cut_off(specs[:2], tmp_path, 10)
    cut_off(specs[2:3], tmp_path, 20)
    assert [list(checkpoint.together(some, tmp_path)) for some in (specs, specs[2:], specs[3:])] == [
        specs[:2], specs[2:3], specs[3:]]
    aim = training.train(specs)
    assert {h.spec for h in sweep.sweep(specs, tmp_path, device="cpu")} == {*specs}
    for spec, history in zip(specs, aim):
        found = store.find(spec, tmp_path)
        np.testing.assert_allclose(found.train_loss, history.train_loss, atol=1e-4)
        assert [update for update, *_ in found.provenance.get("resumed", [])] == (
            [10] if spec in specs[:2] else [20] if spec == specs[2] else [])


def test_a_run_that_goes_on_elsewhere_names_both_devices_and_its_share_of_their_time(tmp_path):
    """The first part in a stack of four, a share of ten seconds; the second alone."""
    specs = [TINY.but(seed=seed) for seed in range(4)]
    histories = cut_off(specs, tmp_path, 10)
    for history in histories:
        history.provenance |= {"device": "another machine", "seconds": 40.0}
    checkpoint.save(histories, tmp_path)
    for _, (history,) in training.stream(specs[:1], "cpu", begun=[checkpoint.load(specs[0], tmp_path)]):
        pass
    share = history.provenance["seconds"] / history.provenance["stack_size"]
    assert 10 < share < 20 and set(hardware([history]).split("; ")) == {"another machine", history.provenance["device"]}


def test_what_was_stored_before_it_was_forgotten_is_forgotten_by_the_next_sweep(tmp_path):
    cut_off([TINY], tmp_path, 20)
    store.save(training.train([TINY])[0], tmp_path)
    assert sweep.sweep([TINY], tmp_path) == [] and not checkpoint.file(tmp_path, TINY).exists()


def test_a_stack_that_takes_longer_than_it_should_have_is_cut_off_when_its_time_is_over(tmp_path, monkeypatch):
    """On a clock that moves a second an update, by an estimate of half of that less a little: 20 seconds. Who set them
    may be about to take the machine away."""
    clock, advance = [0.0], training.advance
    monkeypatch.setattr(training, "BLOCK", {"cpu": 1})
    monkeypatch.setattr(training, "advance", lambda stack, first, last: (advance(stack, first, last),
                                                                         clock.append(clock.pop() + 1)))
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])
    assert sweep.sweep([TINY], tmp_path, time_budget=20, device="cpu", pace=pace_of([TINY], 0.4 * TINY.steps)) == []
    assert int(checkpoint.load(TINY, tmp_path).state["update"]) == 20


def test_a_run_that_another_request_answers_for_keeps_its_state_and_so_does_one_of_another_company(tmp_path,
                                                                                                   monkeypatch):
    """TINY is not trained where TINY with weights is; but nothing is stored yet. And two that were cut off apart go on
    apart."""
    cut_off([TINY], tmp_path, 20)
    elsewhere, = cut_off([TINY.but(seed=1)], tmp_path, 20)
    elsewhere.provenance["device"] = "another machine"
    checkpoint.save([elsewhere], tmp_path)
    assert list(checkpoint.together([TINY, TINY.but(seed=1)], tmp_path)) == [TINY]
    monkeypatch.setattr(training, "stream", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sweep.sweep([TINY, TINY.but(keep=("output",))], tmp_path, device="cpu")
    assert checkpoint.file(tmp_path, TINY).exists()


def test_of_runs_that_cannot_go_on_together_only_those_that_train_are_claimed(tmp_path, monkeypatch):
    cut_off([TINY], tmp_path, 20)
    specs, left = [TINY, TINY.but(seed=1)], []

    def stream(stack, device, begun, real=training.stream):
        with sweep._claimed(specs, tmp_path) as mine:  # as another process would
            left.append(mine)
        yield from real(stack, device, begun=begun)
    monkeypatch.setattr(training, "stream", stream)
    sweep.sweep(specs, tmp_path, device="cpu")
    assert left == [[specs[1]], [TINY][:0]]


def test_a_run_that_goes_on_from_its_start_is_evaluated_there_once():
    _, begun = next(training.stream([TINY]))
    assert begun[0].step.tolist() == [0]
    *_, (_, (history,)) = training.stream([TINY], begun=begun)
    assert_same(history, training.train([TINY])[0])


def test_a_run_without_an_update_behind_it_leaves_none_and_stands_beside_those_not_begun(tmp_path):
    cut_off([TINY], tmp_path, 0)
    assert not checkpoint.file(tmp_path, TINY).exists()


def test_a_checkpoint_that_is_broken_is_said_and_its_run_begins_anew(tmp_path):
    cut_off([TINY], tmp_path, 10)
    file = checkpoint.file(tmp_path, TINY)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is not a whole history.*passed over"):
        sweep.sweep([TINY], tmp_path, device="cpu")
    assert_same(store.find(TINY, tmp_path), training.train([TINY])[0])
    assert not file.exists()


def test_where_there_is_no_room_for_a_checkpoint_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.warns(UserWarning, match="cannot store runs in .*Training goes on"):
        sweep.sweep([TINY], tmp_path, device="cpu")
    assert store.find(TINY, tmp_path)


def test_a_run_that_has_not_ended_answers_nothing_and_neither_does_its_state_serve_another_request(tmp_path):
    cut_off([TINY], tmp_path, 20)
    assert store.find(TINY, tmp_path) is None and store.find(TINY.but(steps=10), tmp_path) is None
    assert all(checkpoint.load(TINY.but(**more), tmp_path) is None
               for more in ({"steps": 30}, {"stop": "solved"}, {"keep": ("output",)}))
