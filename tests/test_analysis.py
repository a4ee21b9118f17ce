"""Numbers from histories, on synthetic ones with known answers."""

import numpy as np
import pytest
from synthetic import history

from grok_lib import data
from grok_lib.operations import OPERATIONS
from grok_lib.paper import analysis
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec


def test_the_first_step_at_a_threshold_is_the_first_evaluated_one_even_if_accuracy_falls_again():
    h = history(val=(0, 0.99, 0.4, 0.5, 1))
    assert analysis.first_step(h) == 1 and analysis.first_step(h, "train") == 10
    assert analysis.first_step(h, threshold=0.995) == 1000


def test_a_run_that_never_got_there_is_censored_and_gives_its_best_instead_of_a_number():
    h = history(val=(0, 0, 0.4, 0.625, 0.5))
    assert analysis.first_step(h) is None
    assert analysis.when(h) == "not within 1,000 updates (best 62.5%)"
    assert analysis.when(h, "train") == "at update 10"


def test_a_diverged_run_never_reached_anything():
    h = history(steps=(0, 1), train=(0, np.nan), val=(0, np.nan), train_loss=(4, np.nan), val_loss=(4, np.nan))
    assert analysis.first_step(h) is None and "best 0.0%" in analysis.when(h)


def test_the_waiting_level_is_the_median_between_knowing_and_rising():
    h = history(steps=(0, 1, 10, 20, 30, 40), train=(0, 1, 1, 1, 1, 1), val=(0, 0.3, 0.4, 0.5, 0.7, 1),
                train_loss=[1] * 6, val_loss=[1] * 6)
    assert analysis.waiting_level(h) == pytest.approx(0.4)


def test_a_run_without_a_wait_or_without_knowing_has_no_level():
    assert analysis.waiting_level(history(val=(0, 0, 0.7, 1, 1))) is None
    assert analysis.waiting_level(history(train=(0, 0, 0.1, 0.2, 0.3))) is None
    assert analysis.percent(None) == "no level" and analysis.percent(0.476) == "47.6%"


def test_the_mirrored_share_is_counted_cell_by_cell():
    spec = RunSpec(modulus=7, train_fraction=0.4)
    train, validation = data.split(spec)
    cells = [divmod(int(e), 7) for e in range(49)]
    shown = {cells[e] for e in train}
    expected = np.mean([(y, x) in shown for x, y in (cells[e] for e in validation)])
    assert analysis.mirrored_share(spec, train) == pytest.approx(expected)


def test_sentences_name_the_run_and_both_sets():
    text = analysis.sentence(history())
    assert text.startswith(
        "x+y (mod 97), 50%: 99% training accuracy at update 10; 99% validation accuracy at update 1,000")
    assert analysis.loss_in_words(history()) == (
        "validation loss: 4.00 at the start, at its highest 6.00 at update 10, 0.20 at the end")


def arriving(fraction, step, seed=0, budget=10_000):
    """A run that is at 99% validation accuracy from that update on, or never (None)."""
    at = step or budget
    return history(RunSpec(train_fraction=fraction, seed=seed, steps=budget), steps=(0, at), train=(0, 1),
                   val=(0, 1 if step else 0.5), train_loss=(4, 0), val_loss=(4, 0))


def test_the_median_exists_only_where_more_than_half_arrived():
    def median(*steps):
        return analysis.median_step([arriving(0.5, step, seed) for seed, step in enumerate(steps)])
    assert median(100, 300, 200).value == 200 and median(100, None, 300).value == 300
    assert median(100, 200, 300, 500).value == 250
    late = median(100, None, None)
    assert late.value is None and str(late) == "> 10,000 (1 of 3)"
    assert median(100, None).value is None  # half is not more than half
    mixed = analysis.median_step(
        [arriving(0.5, None, 0, budget=5000), arriving(0.5, 20_000, 1), arriving(0.5, 30_000, 2)])
    assert str(mixed) == "> 5,000 (0 of 3)"  # the one cut off may have come first
    assert analysis.median_step([]) is None


def test_the_interval_of_a_median_has_the_confidence_that_it_claims():
    """Against scipy's sign test, and against 4,000 draws of a lopsided distribution whose median is known."""
    from scipy import stats
    draws = np.random.default_rng(0).exponential(1000, (4000, 11)) + 1
    covered = 0
    for n in (3, 5, 6, 11):
        m = analysis.median_step([arriving(0.5, step, seed) for seed, step in enumerate(range(100, 100 * n + 1, 100))])
        rank = int(m.low / 100) - 1
        assert m.confidence == pytest.approx(1 - 2 * stats.binom.cdf(rank, n, 0.5))
        assert rank == 0 or m.confidence >= 0.95
    rank = int(m.low / 100) - 1
    ordered = np.sort(draws, 1)
    covered = np.mean((ordered[:, rank] <= 1000 * np.log(2) + 1) & (ordered[:, 10 - rank] >= 1000 * np.log(2) + 1))
    assert covered == pytest.approx(m.confidence, abs=0.01)


def test_the_fit_recovers_the_cost_of_a_point_of_data():
    """Updates that grow by 45% a point, exactly, give 45% with an interval of no width; noise gives it width around
    it."""
    exact = [arriving(f, 1000 * 1.45 ** (100 * (0.30 - f)), budget=10**6) for f in (0.25, 0.26, 0.28, 0.30)]
    found = analysis.fit(exact)
    assert found.cost == pytest.approx(45, abs=0.1) and found.high - found.low < 1
    np.testing.assert_allclose(found.steps([0.25, 0.30]), [1000 * 1.45**5, 1000], rtol=0.01)
    rng, inside = np.random.default_rng(1), 0
    for _ in range(200):
        noisy = [arriving(f, 1000 * 1.45 ** (100 * (0.30 - f)) * rng.lognormal(0, 0.2), seed, 10**7)
                 for f in (0.25, 0.27, 0.30) for seed in range(3)]
        found = analysis.fit(noisy)
        inside += found.low <= 45 <= found.high
    assert 180 <= inside <= 199  # 95% of 200, give or take


def test_fractions_with_a_run_that_never_arrived_do_not_enter_the_fit():
    runs = [arriving(f, 1000, seed) for f in (0.4, 0.5, 0.6) for seed in (0, 1)]
    assert analysis.fit([*runs, arriving(0.3, 9000), arriving(0.3, None, 1)]).fractions == (0.4, 0.5, 0.6)
    assert analysis.fit(runs, low=0.5) is None  # two fractions make no fit
    assert analysis.fit(runs, 0.4, 0.6).n == 6


def test_the_table_of_data_reduction_has_a_row_for_each_fraction_and_says_what_is_censored():
    table = analysis.reduction_table(
        [arriving(0.6, 100), arriving(0.4, None), arriving(0.6, 300, 1), arriving(0.6, 200, 2)])
    assert list(table.index) == ["40%", "60%"] and list(table["seeds"]) == [1, 3]
    assert list(table["updates to 99% validation"]) == ["> 10,000 (0 of 1)", "200 (100 to 300, n = 3)"]
    assert list(table["best validation accuracy"]) == ["50.0%", "100.0%"]


def test_the_table_of_accuracies_shows_means_spread_and_gaps():
    runs = [arriving(0.6, 100), arriving(0.6, None, 1), arriving(0.4, None)]
    asked = [h.spec for h in runs] + [runs[0].spec.but(train_fraction=0.9)]
    table = analysis.accuracy_table(Results(runs, asked), lambda spec: spec.operation)
    assert list(table.columns) == ["40%", "60%", "90%"]
    assert list(table.loc["x+y"]) == ["50.0%", "75.0% (50% to 100%)", "-"]


def test_the_smallest_fraction_is_that_whose_runs_all_reach_it_on_average():
    assert analysis.smallest_fraction([arriving(0.6, 100), arriving(0.4, 100), arriving(0.4, None, 1)]) == 0.6
    assert analysis.smallest_fraction([arriving(0.4, None)]) is None


def test_the_symmetric_share_is_one_for_commutative_operations_only():
    shares = {name: op.symmetric_share for name, op in OPERATIONS.items()}
    assert {name for name, share in shares.items() if share == 1} == {"x+y", "x*y", "x^2+y^2", "x^2+xy+y^2"}
    assert shares["x-y"] == 0 and shares["x/y"] == pytest.approx(1 / 96)  # x/y = y/x where x = -y; 0/y has no mirror
    classes = 7  # of S5: x and y commute in |G| * classes pairs
    assert shares["xy in S5"] == pytest.approx((120 * classes - 120) / (120 * 119))


def test_the_gap_says_how_many_times_as_long_and_at_least_so_for_censored_runs():
    assert analysis.gap(history()) == "100 times"
    assert analysis.gap(
        history(steps=(0, 1, 100, 794, 1000), train=(0, 0, 1, 1, 1), val=(0, 0, 0, 1, 1))) == "7.9 times"
    assert analysis.gap(history(val=(0, 0, 0, 0, 0.5))) == "over 100 times"
    assert analysis.gap(history(steps=(0, 1, 2, 3, 2000), train=(0, 1, 1, 1, 1), val=(0, 0, 0, 0, 1))) == "2,000 times"
    assert analysis.gap(history(train=(0, 0, 0, 0, 0.5))) == "unknown"


def test_a_fall_is_from_above_ninety_per_cent_to_under_fifty_however_long_it_takes():
    assert analysis.falls(history(val=(0, 0.95, 0.7, 0.6, 0.95))) == 0
    assert analysis.falls(history(val=(0, 0.95, 0.7, 0.4, 0.95))) == 1
    assert analysis.falls(history(val=(0.95, 0.2, 0.1, 0.91, 0.3))) == 2
    assert analysis.falls(history(val=(0.95, 0.2, 0.1, 0.91, 0.3)), since=1) == 1


def test_what_was_lost_again_is_counted_from_the_first_99_percent_on_and_among_runs_that_were_looked_at_after_it():
    runs = [history(val=(0.95, 0.4, 0.99, 1, 1)), history(val=(0, 0.99, 0.4, 0.95, 1)),
            history(val=(0, 0, 0.99, 1, 0.3)), history(val=(0, 0, 0, 0, 1)),
            history(steps=(0, 1, 10, 600, 1000), val=(0, 0, 0, 1, 0.4)), history()]
    assert analysis.lost_again(runs) == (4, 3, 2)
    assert analysis.lost_again(runs, 2) == (3, 2, 1)
