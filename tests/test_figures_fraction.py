"""Figures of many runs: what is drawn is what the histories say."""

import numpy as np
import pytest
from synthetic import history, points, results
from test_analysis import arriving

from grok_lib.paper import analysis, figures_fraction
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec

pytestmark = pytest.mark.usefixtures("closed_figures")


def test_side_by_side_draws_every_seed_of_every_group_on_common_axes():
    one, two, long = history(), history(RunSpec(steps=1000, seed=1)), history(RunSpec(steps=10_000))
    figure = figures_fraction.side_by_side({"a": [one, two], "none": [], "b": [long]})
    accuracy, loss = figure.axes[:2], figure.axes[2:]
    assert [ax.get_title("left") for ax in accuracy] == ["a", "b"] and len(accuracy[0].lines) == 4
    np.testing.assert_array_equal(accuracy[0].lines[1].get_ydata(), one.val_accuracy)
    np.testing.assert_array_equal(loss[0].lines[0].get_ydata(), one.train_loss)
    assert {ax.get_xlim() for ax in figure.axes} == {(1, 10_000)}


def test_operations_are_printed_as_mathematics_is_set_and_other_names_as_they_are():
    assert list(map(figures_fraction.in_print, ("x^3+xy^2+y", "xyx^-1 in S5", "x/y if y odd else x-y", "x*y",
                                                "Adam, lr × 0.3"))) == [
        "x³+xy²+y", "xyx⁻¹ in S5", "x/y if y odd else x−y", "x·y", "Adam, lr × 0.3"]


def test_each_run_has_a_panel_with_its_name_and_when_it_was_understood_or_that_it_was_not():
    never = history(RunSpec(operation="x-y", steps=1000), val=(0, 0, 0, 0, 0.5))
    figure = figures_fraction.panels([history(), never], lambda spec: spec.operation)
    shown = [(ax.get_title("left"), ax.texts[0].get_text()) for ax in figure.axes if ax.get_visible()]
    assert shown == [("x+y", "99%\nat 1,000"), ("x−y", "99%\nnot in\n1,000")]


def test_best_accuracies_are_means_over_seeds_and_every_name_asked_for_has_a_panel():
    runs = [arriving(0.4, None), arriving(0.4, 100, 1), arriving(0.6, 100), arriving(0.6, 100, 1)]
    missing = [RunSpec(operation="x-y", train_fraction=0.4, steps=10_000)]
    figure = figures_fraction.accuracy_against_fraction(results(*runs, missing=missing), lambda spec: spec.operation)
    own, other = figure.axes[:2]
    assert [ax.get_title("left") for ax in (own, other)] == ["x+y", "x−y"]
    # Whoever copies the picture copies that
    assert figure.get_supylabel() == "best validation accuracy within 10,000 updates"
    assert points(own.lines[0]) == [(0.4, 0.75), (0.6, 1.0)]
    band = own.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 0.5 and band[:, 1].max() == 1.0  # from the worst seed to the best
    assert [t.get_text() for t in other.texts] == ["no run yet"]
    assert other.lines[0].get_color() == figures_fraction.OTHERS and own.lines[0].get_color() == "#D55E00"


def test_a_run_of_a_larger_budget_is_a_diamond_in_its_own_panel_and_the_legend_counts_them():
    runs = [arriving(f, 100) for f in (0.2, 0.4)] + [history(RunSpec(operation="x-y", train_fraction=0.2, steps=1000))]
    late = [history(RunSpec(operation="x-y", train_fraction=0.2, steps=100_000), val=(0, 0, 0.1, 0.2, 0.3))]
    figure = figures_fraction.accuracy_against_fraction(results(*runs), lambda spec: spec.operation, longer=late)
    marks = [[points(line) for line in ax.lines if line.get_marker() == "D"] for ax in figure.axes[:2]]
    assert marks == [[], [[(0.2, pytest.approx(0.3))]]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a run within 100,000 updates (1 of them)"]
    assert not figures_fraction.accuracy_against_fraction(results(*runs), lambda spec: spec.operation).legends


def test_a_curve_has_a_gap_where_a_fraction_was_asked_for_and_is_not_there():
    runs, missing = [arriving(f, 100) for f in (0.2, 0.4, 0.8)], [RunSpec(train_fraction=0.6, steps=10_000)]
    for some, drawn in ((missing, [[0.2, 0.4], [0.8]]), ([], [[0.2, 0.4, 0.8]])):
        ax = figures_fraction.accuracy_against_fraction(results(*runs, missing=some),
                                                        lambda spec: spec.operation).axes[0]
        assert [[x for x, _ in points(line)] for line in ax.lines] == drawn


def test_updates_are_drawn_run_by_run_with_medians_only_where_there_are_any():
    runs = [arriving(f, step, seed) for f, steps in ((0.4, (None, None, 900)), (0.6, (100, 300, 200)))
            for seed, step in enumerate(steps)]
    ax = figures_fraction.updates_against_fraction(results(*runs)).axes[0]
    validation = [line for line in ax.lines if line.get_color() == "#D55E00"]
    arrived = next(line for line in validation if line.get_marker() == "o" and line.get_linestyle() == "None")
    late = next(line for line in validation if line.get_marker() == "^")
    medians = next(line for line in validation if line.get_linestyle() == "-")
    assert sorted(points(arrived)) == [(0.4, 900), (0.6, 100), (0.6, 200), (0.6, 300)]
    assert points(late) == [(0.4, 10_000)] * 2
    assert np.isnan(medians.get_ydata()[0]) and medians.get_ydata()[1] == 200


def test_a_fit_is_drawn_over_the_fractions_that_entered_it_with_its_price():
    runs = [arriving(f, 1000 * 1.1 ** (100 * (0.6 - f)), seed) for f in (0.4, 0.5, 0.6) for seed in (0, 1)]
    ax = figures_fraction.updates_against_fraction(results(*runs), [analysis.fit(runs)]).axes[0]
    fitted = next(line for line in ax.lines if line.get_linestyle() == ":")
    assert fitted.get_xdata()[[0, -1]].tolist() == [0.4, 0.6]
    np.testing.assert_allclose(fitted.get_ydata()[[0, -1]], [1000 * 1.1**20, 1000], rtol=0.01)
    assert "dotted: 40% to 60%, +10% a point less (10 to 10%)" in [t.get_text() for t in ax.texts]
    assert ax.get_xlabel() == "training fraction of x+y"


@pytest.mark.parametrize("draw", [lambda none: figures_fraction.side_by_side({"a": none}),
                                  lambda none: figures_fraction.panels(none, str),
                                  lambda none: figures_fraction.accuracy_against_fraction(none, str),
                                  lambda none: figures_fraction.updates_against_fraction(none)])
def test_without_any_run_a_figure_says_so(draw):
    assert [t.get_text() for t in draw(Results([], [RunSpec()])).axes[0].texts] == ["no run in the store yet"]


def test_the_lowest_panel_of_each_column_says_what_its_axis_is():
    runs = [history(RunSpec(steps=1000, seed=seed)) for seed in range(4)]
    figure = figures_fraction.panels(runs, lambda spec: str(spec.seed), columns=3)
    assert [ax.get_xlabel() for ax in figure.axes if ax.get_visible()] == ["", "updates", "updates", "updates"]
