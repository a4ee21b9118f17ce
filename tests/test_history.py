"""What a history answers, and when a run is looked at."""

import math

import numpy as np
import pytest

from grok_lib.history import History, evaluation_steps, is_solved
from grok_lib.specs import RunSpec


def history(last_step=1000, spec=None, stopped_because="budget", kept=(), solved_at=math.inf):
    """A made-up history on the usual schedule; from `solved_at` on everything is right."""
    step = evaluation_steps(last_step)
    accuracy = np.where(step >= solved_at, 1.0, 0.5).astype(np.float32)
    loss = np.linspace(4, 3, len(step), dtype=np.float32)
    return History(spec or RunSpec(steps=last_step), step, loss, accuracy, loss + 1, accuracy, stopped_because,
                   {name: np.full(3, i, np.float32) for i, name in enumerate(kept)}, {"device": "a drawing board"})


def test_the_schedule_starts_densely_and_goes_on_by_decades():
    assert evaluation_steps(32).tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32]
    assert evaluation_steps(1200).tolist()[-6:] == [794, 1000, 1059, 1122, 1189, 1200]


@pytest.mark.parametrize("budget", [1, 2, 7, 999, 1000, 1001, 3000, 10_000, 99_999, 100_000, 500_000, 1_000_000])
def test_the_schedule_is_ten_a_decade_below_1000_and_forty_above(budget):
    below = [round(10 ** (k / 10)) for k in range(31)]
    above = [round(1000 * 10 ** (k / 40)) for k in range(1, 200)]
    expected = sorted({0, budget, *(step for step in below + above if step <= budget)})
    steps = evaluation_steps(budget)
    assert steps.dtype == np.int64
    assert steps.tolist() == expected  # from 0 to the budget, each step once, in order


def test_a_shorter_budgets_schedule_is_the_beginning_of_a_longer_ones():
    longest = evaluation_steps(2_000_000).tolist()
    for budget in [1, 5, 10, 123, 1000, 1060, 9_999, 10_000, 10_001, 100_000, 500_000, 1_000_000]:
        shorter = evaluation_steps(budget).tolist()[:-1]  # its last step may be its own
        assert shorter == longest[:len(shorter)]


def test_a_history_answers_requests_that_it_went_far_enough_for():
    h = history(1000)
    assert h.last_step == 1000
    assert h.answer(RunSpec(steps=1000)) is not None
    assert h.answer(RunSpec(steps=10)) is not None
    assert h.answer(RunSpec(steps=1001)) is None


def test_a_history_answers_for_its_own_trajectory_only():
    assert history(1000).answer(RunSpec(steps=1000, seed=1)) is None
    assert history(1000).answer(RunSpec(steps=1000, weight_decay=0)) is None


def test_an_answer_ends_at_the_last_evaluation_within_the_budget_asked_for():
    h = history(1000)
    answer = h.answer(RunSpec(steps=32))
    assert answer.step.tolist() == evaluation_steps(32).tolist()
    assert answer.last_step == 32
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_array_equal(getattr(answer, name), getattr(h, name)[:len(answer.step)])
    assert h.answer(RunSpec(steps=45)).last_step == 40  # 45 itself was not evaluated
    assert h.last_step == 1000  # the original is as it was


def test_an_answer_carries_the_spec_that_asked_and_the_provenance_of_the_run():
    asked = RunSpec(steps=32, stop="solved")
    answer = history(1000).answer(asked)
    assert answer.spec == asked
    assert answer.provenance == {"device": "a drawing board"}
    assert answer.stopped_because == "budget"


def test_a_diverged_run_has_no_more_to_say_whatever_is_asked():
    h = history(100, stopped_because="diverged")
    for stop in ("budget", "solved"):
        answer = h.answer(RunSpec(steps=100_000, stop=stop))
        assert answer.stopped_because == "diverged"
        assert answer.last_step == 100


def test_a_run_had_not_diverged_before_it_did():
    answer = history(100, stopped_because="diverged").answer(RunSpec(steps=50))
    assert answer.stopped_because == "budget"
    assert answer.last_step == 50
    assert history(100, stopped_because="diverged").answer(RunSpec(steps=100)).stopped_because == "diverged"


def test_an_answer_that_is_part_of_a_run_took_its_part_of_the_time():
    run = history()
    run.provenance = {"seconds": 60.0}
    assert [run.answer(RunSpec(steps=steps)).provenance["seconds"] for steps in (1000, 100)] == [
        60.0, pytest.approx(6.0)]



def test_a_solved_run_answers_those_who_wanted_it_to_stop_there():
    h = history(1000, RunSpec(stop="solved"), stopped_because="solved", solved_at=1000)
    answer = h.answer(RunSpec(steps=100_000, stop="solved"))
    assert answer.stopped_because == "solved"
    assert answer.last_step == 1000
    assert h.answer(RunSpec(steps=100_000, stop="budget")) is None  # who wants the whole curve gets the whole curve
    assert h.answer(RunSpec(steps=794, stop="budget")).stopped_because == "budget"
    assert h.answer(RunSpec(steps=794, stop="solved")).stopped_because == "budget"  # it was not solved yet


def test_a_longer_curve_answers_as_if_it_had_stopped_at_its_first_solution():
    # Otherwise the run would be trained again: the store keeps the longer of two histories.
    h = history(1000, solved_at=500)
    answer = h.answer(RunSpec(steps=100_000, stop="solved"))
    assert answer.stopped_because == "solved"
    assert answer.last_step == 501  # the first evaluation from 500 on
    assert h.answer(RunSpec(steps=100_000, stop="budget")) is None
    assert h.answer(RunSpec(steps=1000, stop="budget")).last_step == 1000
    assert history(1000).answer(RunSpec(steps=100_000, stop="solved")) is None


def test_a_task_is_solved_at_all_of_validation_and_99_percent_of_training():
    train, val = np.float32([0.98, 0.99, 1, 1, 1]), np.float32([1, 1, 1, 0.9999, np.nan])
    assert is_solved(RunSpec(stop="solved"), train, val).tolist() == [False, True, True, False, False]
    # Outliers have to be learnt by heart: 1% of wrong answers may be all of them.
    assert is_solved(RunSpec(stop="solved", outliers=10), train, val).tolist() == [False, False, True, False, False]
    assert not is_solved(RunSpec(stop="budget"), train, val).any()


def test_an_answer_holds_exactly_the_weights_asked_for_and_only_from_the_end_of_the_run():
    asked = RunSpec(steps=1000, keep=("output",))
    assert history(1000).answer(asked) is None
    assert history(1000, kept=["output"]).answer(asked.but(keep=("output", "embedding"))) is None
    answer = history(1000, kept=["embedding", "output"]).answer(asked)
    assert set(answer.kept) == {"output"}
    assert answer.kept["output"].tolist() == [1, 1, 1]


def test_a_shorter_request_never_gets_the_weights_of_a_longer_run():
    h = history(1000, kept=["output"])
    assert h.answer(RunSpec(steps=500, keep=("output",))) is None
    assert h.answer(RunSpec(steps=500)).kept == {}


def test_weights_are_asked_for_where_the_run_diverged_or_was_solved():
    asked = RunSpec(keep=("output",))
    assert history(100, stopped_because="diverged", kept=["output"]).answer(asked).kept["output"].tolist() == [0, 0, 0]
    assert history(100, stopped_because="diverged").answer(asked) is None
    assert history(1000, solved_at=1000, kept=["output"]).answer(asked.but(stop="solved")).last_step == 1000
    assert history(1000, solved_at=500, kept=["output"]).answer(asked.but(stop="solved")) is None
