"""Rank correlations, and what is made of measured sharpness, on numbers with known answers."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from synthetic import history

from grok_lib.paper import correlation
from grok_lib.paper.correlation import correlations, measured, sharpness_table, spearman, within_groups
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec


def runs(*rows, loss=0.25):
    """Results of runs with these (φ, authors' figure, ‖w‖, update at 99% or None, final validation accuracy)."""
    made = []
    for seed, (phi, authors, norm, step, end) in enumerate(rows):
        val = [1.0 if step is not None and s >= step else 0.5 for s in (0, 10, 100, 500)] + [end]
        made.append(history(RunSpec(steps=1000, seed=seed, keep=("sharpness",)), steps=(0, 10, 100, 500, 1000), val=val,
                            train_loss=(4, 3, 2, 1, loss),
                            kept={"sharpness": np.array([phi, authors, norm], np.float32)}))
    return Results(made, [h.spec for h in made])


def test_rho_is_that_of_the_textbook_formula_and_with_ties_that_of_scipy():
    x, y = np.array([3, 1, 4, 10, 5, 9, 2, 6]), np.array([27, 18, 28, 1, 8, 2, 84, 5]) ** 3
    d = stats.rankdata(x) - stats.rankdata(y)
    assert spearman(x, y).rho == pytest.approx(1 - 6 * (d**2).sum() / (8 * 63))
    tied = np.array([1, 1, 2, 2, 2, 3, 3, 9])
    assert spearman(tied, y).rho == pytest.approx(stats.spearmanr(tied, y).statistic)


def test_p_is_students_for_many_runs_and_counted_over_all_orders_for_few():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 21))
    assert spearman(x, y).p_value == pytest.approx(stats.spearmanr(x, y).pvalue)
    x, y = np.arange(5), np.array([1, 0, 2, 2, 4])
    counted = [abs(stats.spearmanr(x, order).statistic) for order in itertools.permutations(y)]
    own = stats.spearmanr(x, y).statistic
    assert spearman(x, y).p_value == pytest.approx(np.mean([c >= own - 1e-9 for c in counted]))
    assert correlation.p_value(1.0, 9) == pytest.approx(2 / 362_880)  # two of all orders: never 0
    for n in (10, 24, 26):  # where rounding leaves ρ a little short of 1
        assert spearman(range(n), range(n)).p_value == pytest.approx(2 / math.factorial(n))
    halves = [0] * 5 + [1] * 5
    assert spearman(halves, halves).p_value == pytest.approx(2 / math.comb(10, 5))
    assert spearman([0] * 8 + [1], [0] * 8 + [1]).p_value == pytest.approx(1 / 9)  # here ρ = -1 cannot be


def test_the_interval_holds_the_true_rho_in_about_95_of_100_samples():
    rng, n, r = np.random.default_rng(1), 20, -0.8
    true = 6 / np.pi * np.arcsin(r / 2)  # Spearman's of a bivariate normal with Pearson's r
    held = 0
    for _ in range(400):
        x = rng.normal(size=n)
        found = spearman(x, r * x + np.sqrt(1 - r**2) * rng.normal(size=n))
        held += found.low <= true <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_the_interval_is_inside_minus_one_to_one_holds_rho_and_narrows_with_n():
    for rho in (-1.0, -0.795, 0.0, 0.5, 1.0):
        widths = []
        for n in (4, 10, 21, 100):
            low, high = correlation.interval(rho, n)
            assert -1 <= low <= rho <= high <= 1 and low < high
            widths.append(high - low)
        assert widths == sorted(widths, reverse=True)


def test_fewer_than_four_runs_or_nothing_to_rank_give_no_number_but_say_so():
    for x, y in (([1, 2, 3], [3, 2, 1]), ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]), ([1, 2, 3, np.nan], [1, 2, 3, 4])):
        found = spearman(x, y)
        assert found.rho is None and found.p_value is None and str(found).startswith("too few runs (n = ")
    assert str(spearman([1, 2, 3], [3, 2, 1])) == "too few runs (n = 3)"


def test_a_rho_is_printed_with_all_that_it_stands_on():
    assert str(correlation.Spearman(-0.8, -0.92, -0.55, 0.012, 21)) == "-0.80 (-0.92 to -0.55), p = 0.012, n = 21"
    # Far out, Student's t says too little
    assert str(correlation.Spearman(-0.8, -0.92, -0.55, 1.2e-5, 21)) == "-0.80 (-0.92 to -0.55), p < 0.0001, n = 21"


def test_measured_holds_what_the_histories_say_and_leaves_out_runs_without_a_measurement():
    results = runs((2.0, 4.0, 50, 500, 1.0), (3.0, 1.0, 60, None, 0.5))
    table = measured(results + [history()])
    assert (list(table["seed"]) == [0, 1] and list(table["Keskar's φ"]) == [2, 3]
            and list(table["weight norm"]) == [50, 60])
    assert list(table["updates to 99%"]) == [500, np.inf] and list(table["validation accuracy"]) == [1, 0.5]
    np.testing.assert_allclose(table["rise / fall"], [2 * 1.25 / (4 * 0.75), 3 * 1.25 / (1 * 0.75)])
    assert len(measured([])) == 0 and list(measured([]).columns) == list(table.columns)


def test_rise_over_fall_is_given_from_the_lowest_run_to_the_highest():
    assert correlation.rise_over_fall(
        runs((2.0, 4.0, 50, 500, 1.0), (3.0, 1.0, 60, None, 0.5))) == "rise / fall 0.83 to 5.00 (n = 2)"


def test_no_run_at_all_is_said_and_is_no_error():
    assert {str(found) for found in [*correlations([]).values(), *within_groups([]).values()]} == {
        "too few runs (n = 0)"}
    assert correlation.rise_over_fall([]) == "rise / fall: no run" and len(sharpness_table([])) == 0


def test_the_table_has_a_row_a_run_the_worst_first_and_says_beyond_which_budget_a_late_run_is():
    table = sharpness_table(runs((2.0, 4.0, 50, 500, 1.0), (0.0031234, 0.001, 60, None, 0.5)))
    assert list(table.index) == [1, 0]
    assert (list(table["updates to 99%"]) == ["> 1,000", "500"]
            and list(table["validation accuracy"]) == ["50.0%", "100.0%"])
    assert table["Keskar's φ"][1] == "0.00312%"


def test_late_runs_are_last_in_rank_and_tied():
    results = runs((1, 4, 50, 10, 1.0), (2, 3, 60, 100, 0.995), (3, 2, 70, None, 0.6), (4, 1, 55, None, 0.5))
    found = correlations(results)
    assert list(found) == list(correlation.MEASURES)
    assert found["Keskar's φ"].rho == pytest.approx(-1) and found["authors' figure"].rho == pytest.approx(1)
    assert found["updates to 99%"].rho == pytest.approx(stats.spearmanr([1, 2, 3.5, 3.5], [4, 3, 2, 1]).statistic)


def test_two_groups_that_lie_apart_correlate_over_all_and_not_within_either():
    good = [(1 + 0.1 * i, 1, 1, 100, 0.991 + 0.002 * (i % 2)) for i in range(6)]
    bad = [(5 + 0.1 * i, 1, 1, None, 0.4 + 0.02 * (i % 2)) for i in range(7)]
    results = runs(*good, *bad)
    assert correlations(results)["Keskar's φ"].rho < -0.6
    inside = within_groups(results)
    assert {group: s.n for group, s in inside.items()} == {"have reached 99%": 6, "have not": 7}
    assert all(abs(s.rho) < 0.4 for s in inside.values())


def test_a_diverged_run_is_left_out_of_the_ranks_and_counted_out():
    results = runs(*[(i, i, i, None, 0.1 * i) for i in range(1, 6)], (np.nan, np.nan, np.nan, None, np.nan))
    found = correlations(results)["Keskar's φ"]
    assert found.n == 5 and found.rho == pytest.approx(1)
