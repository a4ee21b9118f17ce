"""Figure 6, the forest plot and the saturation: what is drawn is what the histories say, and no label hides another."""

import numpy as np
import pytest
from matplotlib.text import Text
from synthetic import history, points, results
from test_fidelity import GELU, OURS, arriving

from grok_lib.paper import figures_appendix
from grok_lib.paper.variants import BOARD
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec

pytestmark = pytest.mark.usefixtures("closed_figures")

NONE = [lambda none: figures_appendix.outliers(none), lambda none: figures_appendix.forest(none),
        lambda none: figures_appendix.saturation(none)]


def lying(k, fraction, best, seed=0, train=1.0):
    """A run with k outliers that ends at those accuracies."""
    spec = RunSpec(train_fraction=fraction, outliers=k, seed=seed, steps=1000)
    return history(spec, steps=(0, 1000), train=(0, train), val=(0, best), train_loss=(4, 0), val_loss=(4, 0))


def drawn(ax, marker):
    """The points at which that marker stands, of all lines."""
    return sorted(point for line in ax.lines if line.get_marker() == marker for point in points(line))


def test_each_number_of_outliers_has_a_curve_of_means_with_bars_to_the_lowest_and_highest_seed():
    runs = [lying(0, 0.5, 1), lying(0, 0.8, 1), lying(1000, 0.5, 0.25), lying(1000, 0.5, 0.25, 1),
            lying(1000, 0.5, 1, 2), lying(1000, 0.8, 0.75, train=0.875)]
    validation, training = figures_appendix.outliers(results(*runs)).axes
    curves = [points(c.lines[0]) for c in validation.containers]
    assert curves == [[(0.5, 1), (0.8, 1)], [(0.5, 0.5), (0.8, 0.75)]]
    bars = validation.containers[1].lines[2][0].get_segments()
    np.testing.assert_allclose(bars[0], [[0.5, 0.25], [0.5, 1]])
    assert points(training.containers[1].lines[0]) == [(0.5, 1), (0.8, 0.875)]
    ignored = [line for line in training.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(ignored[1].get_ydata(), [1 - 1000 / 4704, 1 - 1000 / 7527], atol=1e-4)


def test_more_outliers_are_paler_in_grey_too():
    figure = figures_appendix.outliers(results(*[lying(k, 0.8, 1) for k in (3000, 0, 10, 100, 1000, 2000)]))
    greys = [np.dot(text.arrow_patch.get_edgecolor()[:3], [0.3, 0.59, 0.11]) for text in figure.axes[0].texts]
    assert [text.get_text() for text in figure.axes[0].texts] == [f"k = {k:,}" for k in (0, 10, 100, 1000, 2000, 3000)]
    assert (np.diff(greys) > 0.03).all() and greys[-1] < 0.7


@pytest.mark.parametrize("best", [(1, 1, 1, 1, 1, 1), (0, 0, 0, 0, 0, 0), (1, 1, 0.99, 0.9, 0.5, 0.48)])
def test_no_label_of_figure_6_hides_another_wherever_the_curves_end(best):
    runs = [lying(k, f, value) for k, value in zip((0, 10, 100, 1000, 2000, 3000), best) for f in (0.5, 0.8)]
    figure = figures_appendix.outliers(results(*runs))
    figure.canvas.draw()
    # Without their lines
    boxes = sorted((Text.get_window_extent(text).y0, Text.get_window_extent(text).y1) for text in figure.axes[0].texts)
    assert len(boxes) == 6 and all(upper[0] >= lower[1] for lower, upper in zip(boxes, boxes[1:]))


def test_spread_keeps_the_order_and_the_room_and_moves_nothing_that_has_room():
    assert figures_appendix.spread([0.2, 0.9, 0.5], 0.1).tolist() == [0.2, 0.9, 0.5]
    np.testing.assert_allclose(figures_appendix.spread([1, 1, 0.98, 0.5], 0.1), [1, 0.9, 0.8, 0.5])
    np.testing.assert_allclose(figures_appendix.spread([0, 0, 0], 0.1), [0.2, 0.1, 0])


def test_the_forest_has_a_ring_a_run_a_disc_for_the_median_and_an_arrow_for_what_is_not_known():
    runs = [*(arriving(step, seed) for seed, step in enumerate((2000, 2400, 2200))), arriving(900, 0, GELU),
            arriving(1000, 1, GELU), arriving(None, 2, GELU), arriving(None, 0, "no positions")]
    ax, = figures_appendix.forest(results(*runs)).axes
    height = list(BOARD).index
    assert [label.get_text() for label in ax.get_yticklabels()] == list(BOARD)
    discs = {point for line in ax.lines if line.get_marker() == "o" and line.get_markersize() > 6
             for point in points(line)}
    assert discs == {(2200, height(OURS)), (1000, height(GELU))}
    rings = [point for line in ax.lines if line.get_marker() == "o" and line.get_markersize() < 6
             for point in points(line)]
    assert sorted(rings) == [(900, height(GELU)), (1000, height(GELU)),
                             *((step, height(OURS)) for step in (2000, 2200, 2400))]
    assert drawn(ax, ">") == [(10_000, height("no positions")), (10_000, height(GELU))]
    bars = {(*map(float, line.get_xdata()), line.get_ydata()[0]) for line in ax.lines if line.get_linewidth() == 2.5}
    assert bars == {(2000, 2400, height(OURS)), (900, 10_000, height(GELU))}  # the intervals, one of them open
    band, = ax.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (2000, 2400)
    silent = [text.get_position()[1] for text in ax.texts if text.get_text() == "no run yet"]
    assert silent == [i for i, name in enumerate(BOARD) if name not in (OURS, GELU, "no positions")]


def test_marks_at_one_place_are_all_seen():
    runs = [arriving(step, seed) for seed, step in enumerate((2000, 2000, 2400, None, None, 2000))]
    ax, = figures_appendix.forest(results(*runs)).axes
    rings = [point for line in ax.lines if line.get_marker() == "o" and line.get_markersize() < 6
             for point in points(line)]
    np.testing.assert_allclose(sorted(rings), [(2000, -0.13), (2000, 0), (2000, 0.13), (2400, 0)])
    np.testing.assert_allclose(sorted(drawn(ax, ">")), [(10_000, -0.065), (10_000, 0.065)])


def test_runs_as_here_that_never_arrived_leave_no_line_and_carry_the_band_to_the_budget():
    ax, = figures_appendix.forest(results(arriving(2000), arriving(None, 1))).axes
    assert (ax.patches[0].get_x(), ax.patches[0].get_width()) == (2000, 8000)
    assert not [line for line in ax.lines if line.get_linestyle() == "-"]
    assert not figures_appendix.forest(results(arriving(None))).axes[0].patches


def test_each_operation_has_a_panel_and_tick_labels_have_room():
    runs = [arriving(step, operation=o, budget=100_000)
            for o, step in (("x+y", 900), ("x/y", 2000), ("xy in S5", 60_000))]
    runs += [arriving(step, 0, GELU, o, 100_000) for o, step in (("x+y", 20_000), ("x/y", 30_000), ("xy in S5", 9_000))]
    figure = figures_appendix.forest(results(*runs))
    figure.canvas.draw()
    assert [ax.get_title("left") for ax in figure.axes] == [f"{name}, 50%" for name in ("x+y", "x/y", "xy in S5")]
    for ax in figure.axes:
        labels = [label.get_window_extent() for label in ax.get_xticklabels()
                  if ax.get_xlim()[0] <= label.get_position()[0] <= ax.get_xlim()[1]]
        assert len(labels) >= 2 and all(a.x1 < b.x0 for a, b in zip(labels, labels[1:]))


def test_saturation_is_drawn_for_both_losses_over_the_evaluated_updates_with_one_label_for_all_seeds():
    kept = {"saturation": np.float32([[0, 0], [0, 0], [0.5, 0], [0.75, 0.25], [1, 0.5]])}
    runs = [history(RunSpec(steps=1000, seed=seed, keep=("saturation",)), kept=kept) for seed in (0, 1)]
    runs.append(history(RunSpec(steps=1000, loss_precision="float64", keep=("saturation",)),
                        kept={"saturation": np.zeros((5, 2), np.float32)}))
    figure = figures_appendix.saturation(results(*runs))
    shares, accuracy = figure.axes
    assert points(shares.lines[0])[-1] == (1000, 1) and points(shares.lines[1])[-2:] == [(100, 0.25), (1000, 0.5)]
    assert shares.lines[1].get_linestyle() == ":" and points(shares.lines[4])[-1] == (1000, 0)
    np.testing.assert_array_equal(accuracy.lines[2].get_ydata(), runs[2].val_accuracy)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "loss in float32: loss exactly 0", "loss in float32: no gradient at all",
        "loss in float64: loss exactly 0", "loss in float64: no gradient at all"]


@pytest.mark.parametrize("draw", NONE)
def test_without_any_run_a_figure_says_so(draw):
    assert [t.get_text() for t in draw(Results([], [RunSpec()])).axes[0].texts] == ["no run in the store yet"]
