"""The fidelity board: ratios, ranks and verdicts, on synthetic runs with known answers."""

import itertools

import numpy as np
import pytest
from synthetic import history

from grok_lib.paper import fidelity
from grok_lib.paper.variants import BOARD
from grok_lib.paper.fidelity import OURS, Row
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec

GELU = "GELU"


def arriving(step, seed=0, switch=OURS, operation="x+y", budget=10_000, **others):
    """A run that is at 99% validation accuracy from that update on, or never (None)."""
    spec = RunSpec(operation=operation, seed=seed, steps=budget, **BOARD[switch], **others)
    return history(spec, steps=(0, step or budget), train=(0, 1), val=(0, 1 if step else 0.5),
                   train_loss=(4, 0), val_loss=(4, 0))


def row(theirs, ours, switch=GELU, seeds=None):
    """A row of the board from updates, one a seed from 0 on."""
    seeds = seeds or range(len(theirs))
    return Row("x+y", switch, [arriving(step, seed, switch) for seed, step in zip(seeds, theirs)],
               [arriving(step, seed) for seed, step in enumerate(ours)])


OURS_FIVE = (2000, 2100, 2200, 2300, 2400)


@pytest.mark.parametrize("theirs, ours, verdict", [
    ((), OURS_FIVE, "no run yet"),
    ((None,) * 3, OURS_FIVE, "not within 10,000 updates"),
    ((3000, None, None), OURS_FIVE, "not within 10,000 updates"),
    ((3000, None, None), (2000, None, None), "not within 10,000 updates, nor as here"),
    ((None,), (), "not within 10,000 updates"),
    ((3000,), (), "too few runs as here to judge by"),
    ((3000,), (2000,), "too few runs as here to judge by"),
    ((2250,), OURS_FIVE, "no difference shown"),
    ((2050, 2150, 2250, 2350, 2500), OURS_FIVE, "no difference shown"),
    ((9000,), (2000, 2100, 2200, 2300), "slower than all 4 of ours"),
    ((900,), (2000, 2100, 2200, 2300), "faster than all 4 of ours"),
    ((4000, 4100, 4200, 4300, 4400), OURS_FIVE, "slower"),
    ((4000, 4100, 4200, None, None), OURS_FIVE, "slower"),
    ((1000, 1100, 1200, 1300, 1400), OURS_FIVE, "faster"),
    ((1000, 1100, 1200, 1300, 1400), (None,) * 5, "faster"),
])
def test_a_verdict_is_what_the_runs_allow_and_no_more(theirs, ours, verdict):
    assert row(theirs, ours).verdict == verdict


def test_the_row_that_others_are_measured_against_is_not_judged():
    own = row(OURS_FIVE, OURS_FIVE, OURS)
    assert own.verdict == "what the others are measured against" and own.ratio == "-" and own.ranked is None
    assert row((), (), OURS).verdict == "no run yet"


@pytest.mark.parametrize("theirs, ours", [((100, 250, 300), (200, 400, 500, 600)),
                                          ((100, 200, 300, 400, 500), (600, 700, 800, 900, 1000)),
                                          ((700,), (100, 200, 300, 400)), ((300, 300, None), (300, 200, None, None)),
                                          ((10_000, 9000), (None, None, None))])
def test_the_chance_is_that_of_the_exact_rank_sum_test(theirs, ours):
    """Against scipy: its exact distribution, or, with ties, its test over all permutations of the ranks."""
    from scipy import stats
    found = row(theirs, ours).ranked[1]
    a, b = ([np.inf if step is None else step for step in steps] for steps in (theirs, ours))
    if len({*a, *b}) == len(a) + len(b):
        assert found == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue)
    else:
        ranks = stats.rankdata([*a, *b])
        by_scipy = stats.permutation_test((ranks[:len(a)], ranks[len(a):]), lambda x, y: abs(np.mean(x) - ranks.mean()),
                                          alternative="greater", n_resamples=np.inf)
        assert found == pytest.approx(by_scipy.pvalue)


def test_a_switch_that_does_nothing_is_called_slower_or_faster_in_at_most_one_of_twenty_cases():
    """Over all 252 ways to deal ten runs out to five and five."""
    steps = range(1000, 2000, 100)
    called = [row(some, [s for s in steps if s not in some]).verdict in ("slower", "faster")
              for some in itertools.combinations(steps, 5)]
    assert 0.02 < np.mean(called) <= 0.05


def test_ratios_pair_runs_by_seed():
    # Not the ratio of medians, 4400 / 3000
    assert row((4400, 4000, 6000), (2000, 4000, 3000)).ratio == "× 2.00 (1.00 to 2.20, 3 pairs)"
    assert row((3000,), (9000, 2000), seeds=[1]).ratio == "× 1.50 (1 pair)"
    assert row((3000,), (2000,), seeds=[7]).ratio == "-"
    assert row((3000, 3000), (2000, None)).ratio == "-"


def test_runs_of_other_splits_are_no_pairs():
    """With one split for all seeds a seed has another split than as here."""
    its = row((4400, 4500), (2000, 2100, 2200, 2300), "one split for all seeds")
    assert (its.ratio, its.ranked, its.verdict) == ("-", None, "not judged: not independent")


def test_a_run_that_did_not_arrive_bounds_a_ratio_from_below_and_is_never_a_number():
    assert row((None,), (2000,)).ratio == "> × 5.00 (1 pair)"
    # Its 5.00 is one of the two in the middle
    assert row((9000, None, 3000, 8000), (1000, 2000, 2000, 2000)).ratio == "> × 4.50 (4 pairs)"
    assert row((3000, None, None), (2000, 2000, 4000)).ratio == "> × 2.50 (3 pairs)"


def test_a_run_that_did_not_arrive_and_is_above_the_median_anyway_leaves_it_as_it_is():
    assert row((3000, None, 2000), (2000, 2000, 2000)).ratio == "× 1.50 (1.00 to > 5.00, 3 pairs)"
    assert row((2000, 2000, 3000, None, 9000),
               (2000, 2000, 2000, 4000, 1500)).ratio == "× 1.50 (1.00 to ≥ 6.00, 5 pairs)"
    table = fidelity.board_table(Results([arriving(None, switch=GELU), arriving(2000)], [RunSpec()]))
    assert table.loc[("x+y", GELU), "updates to 99% validation"] == "> 10,000 (0 of 1)"


def test_every_way_of_the_board_has_a_row_for_each_operation_asked_for_in_its_order():
    runs = [arriving(900, operation="x/y"), arriving(800, 1, GELU), arriving(700), arriving(600, 1)]
    rows = fidelity.board(Results(runs, [h.spec for h in runs] + [RunSpec(operation="xy in S5")]))
    assert [(r.operation, r.switch) for r in rows] == [(o, s) for o in ("x/y", "x+y", "xy in S5") for s in BOARD]
    found = {(r.operation, r.switch): (len(r.runs), len(r.ours)) for r in rows if r.runs}
    assert found == {("x/y", OURS): (1, 1), ("x+y", OURS): (2, 2), ("x+y", GELU): (1, 2)}
    table = fidelity.board_table(Results(runs, [RunSpec()]))
    assert list(table.loc[("x+y", GELU)]) == ["800 (1 run)", "× 1.33 (1 pair)", "66.7%", "slower than all 2 of ours"]
    assert list(table.loc[("x+y", "no positions")]) == ["-", "-", "-", "no run yet"]
    # 2 in 12,870
    apart = [arriving(step + seed, seed, switch) for step, switch in ((500, GELU), (900, OURS)) for seed in range(8)]
    assert list(fidelity.board_table(Results(apart, [RunSpec()])).loc[("x+y", GELU)])[-2:] == ["< 0.1%", "faster"]


def test_the_table_of_saturation_says_when_first_and_how_much_at_the_end():
    kept = {"saturation": np.float32([[0, 0], [0.2, 0], [0.5, 0], [0.4, 0], [0.75, 0.25]])}
    own = history(RunSpec(steps=1000, keep=("saturation",)), kept=kept)
    other = history(RunSpec(steps=1000, loss_precision="float64", keep=("saturation",)),
                    kept={"saturation": np.zeros((5, 2), np.float32)})
    table = fidelity.saturation_table([own, other])
    assert list(table.index) == ["loss in float32, seed 0", "loss in float64, seed 0"]
    assert list(table.iloc[0]) == ["1,000", "10", "75.0%", "25.0%", "1,000 (1 run)"]
    assert list(table.iloc[1])[1:4] == ["-", "0.0%", "0.0%"]
    assert fidelity.saturation_table([]).empty
