"""The figure of A.5: what is drawn is what was measured."""

import numpy as np
import pytest
from synthetic import history, points
from test_correlation import runs

from grok_lib.paper import figures_sharpness
from grok_lib.paper.correlation import correlations
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec

pytestmark = pytest.mark.usefixtures("closed_figures")

FOUR = ((1, 4, 50, 10, 1.0), (2, 3, 60, 100, 0.995), (3, 2, 70, None, 0.6), (40, 1, 55, None, 0.5))


def test_each_run_is_a_mark_in_every_panel_filled_where_it_has_reached_99_percent():
    axes = figures_sharpness.sharpness_scatter(runs(*FOUR)).axes
    for ax, column in zip(axes, range(3), strict=True):
        arrived, late = ax.lines
        np.testing.assert_allclose(points(arrived), [(row[column], row[4]) for row in FOUR[:2]])
        np.testing.assert_allclose(points(late), [(row[column], row[4]) for row in FOUR[2:]])
        assert arrived.get_markerfacecolor() == "#D55E00" and late.get_markerfacecolor() == "none"


def test_each_panel_is_headed_by_its_rho_and_interval():
    results = runs(*FOUR)
    for ax, (name, found) in zip(figures_sharpness.sharpness_scatter(results).axes, correlations(results).items()):
        assert ax.get_title("left") == (
            f"{name}\nρ = {found.rho:.2f} ({found.low:.2f} to {found.high:.2f})".replace("-", "−"))


def test_an_axis_is_logarithmic_where_values_are_positive_and_wide_apart_and_beyond_0_1_where_they_have_both_signs():
    wide, narrow, _ = figures_sharpness.sharpness_scatter(runs(*FOUR)).axes
    assert wide.get_xscale() == "log" and narrow.get_xscale() == "linear"
    below = figures_sharpness.sharpness_scatter(runs(*FOUR[:3], (40, -100, 55, None, 0.5))).axes[1]
    assert below.get_xscale() == "symlog"
    start, near, far = below.transScale.transform([(0, 0), (0.1, 0), (10, 0)])[:, 0]
    assert far - start < 4 * (near - start)


def test_with_too_few_runs_the_marks_are_there_and_rho_is_not():
    axes = figures_sharpness.sharpness_scatter(runs(*FOUR[:2])).axes
    assert axes[0].get_title("left") == "Keskar's φ\ntoo few runs (n = 2)" and len(points(axes[0].lines[0])) == 2


@pytest.mark.parametrize("results", [Results([], [RunSpec()]), Results([history()], [RunSpec()])])
def test_without_any_measured_run_a_figure_says_so(results):
    assert [t.get_text() for t in figures_sharpness.sharpness_scatter(results).axes[0].texts] == [
        "no run in the store yet"]


def test_a_diverged_run_is_no_mark_and_no_harm():
    ax = figures_sharpness.sharpness_scatter(runs(*FOUR, (np.nan, np.nan, np.nan, None, np.nan))).axes[0]
    assert ax.get_xscale() == "log"
