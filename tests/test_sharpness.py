"""Sharpness on functions whose highest and lowest point in the box is known."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from grok_lib import model, rng
from grok_lib.sharpness import DIMENSIONS, sharpness, subspace
from grok_lib.specs import RunSpec

P, EPSILON = 60, 1e-3
CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=DIMENSIONS)))


def chance(name, *shape):
    return np.random.default_rng(rng.name_code(name)).normal(size=shape)


def bases(R):
    return np.stack([subspace(seed, P) for seed in range(R)])


def bowl(matrices, middles, floors):
    """f_r(w) = floor + |M (w - m)|² / 2, by which every row of a stack is a bowl of its own."""
    def loss_and_grad(points):
        moved = np.einsum("rij,rj->ri", matrices, points - middles)
        return floors + (moved**2).sum(1) / 2, np.einsum("rij,ri->rj", matrices, moved)
    return loss_and_grad


def slope(gradients, heights):
    return lambda points: (heights + (gradients * points).sum(1), gradients)


def box(weights, basis, epsilon=EPSILON):
    """The box's corners as moves of the weights, (1024, P), and its half widths: by numpy's own pseudo-inverse."""
    half = epsilon * (np.abs(basis @ weights) + 1)
    return CORNERS * half @ np.linalg.pinv(basis).T, half


def some_bowls(apart=1e-4, scales=(1e-6, 1.0, 1e3, 1e6)):
    """Four bowls, and weights near their bottoms: so that `apart` is well below, or above, the half width of the
    box."""
    matrices = (np.eye(P) + 0.3 * chance("matrices", 4, P, P) / np.sqrt(P)) * np.sqrt(scales)[:, None, None]
    middles = chance("middles", 4, P)
    return bowl(matrices, middles, np.full(4, 0.1)), middles + apart * chance("weights", 4, P)


def rises(loss_and_grad, weights, r):
    """How far run r's loss rises at each of the box's corners, as φ has it: (1024,)."""
    def loss(point):
        return loss_and_grad(np.where(np.arange(4)[:, None] == r, point, weights))[0][r]
    before = loss(weights[r])
    return np.array([100 * (loss(weights[r] + move) - before) / (1 + before)
                     for move in box(weights[r], subspace(r, P))[0]])


def rows_of(loss_and_grad, weights, rows):
    """The arguments of `sharpness` for some rows of `some_bowls`."""
    def chosen(points):
        every = np.zeros_like(weights)
        every[rows] = points
        return tuple(a[rows] for a in loss_and_grad(every))
    return chosen, weights[rows], bases(len(weights))[rows]


def test_on_a_slope_of_a_bowl_the_highest_of_the_1024_corners_is_found():
    """A convex function on a box is highest at a corner, so that counting them all is an oracle."""
    loss_and_grad, weights = some_bowls(apart=3e-2)
    phi = sharpness(loss_and_grad, weights, bases(4))[:, 0]
    np.testing.assert_allclose(phi, [rises(loss_and_grad, weights, r).max() for r in range(4)], rtol=1e-6)


def test_at_the_bottom_where_many_corners_are_nearly_as_high_more_starts_come_nearer_to_the_highest():
    loss_and_grad, weights = some_bowls()
    highest = np.array([rises(loss_and_grad, weights, r).max() for r in range(4)])
    few, many = (sharpness(loss_and_grad, weights, bases(4), starts=starts)[:, 0] / highest for starts in (4, 64))
    assert (0.7 < few).all() and (few <= many).all() and (0.95 < many).all() and (many < 1 + 1e-9).all()


def test_a_straight_loss_rises_and_falls_by_the_slopes_times_the_half_widths():
    gradients, weights, heights = chance("gradients", 3, P), chance("weights", 3, P), np.array([0.0, 0.5, 3.0])
    figures = sharpness(slope(gradients, heights), weights, bases(3))
    for r in range(3):
        half = box(weights[r], subspace(r, P))[1]
        reach = np.abs(np.linalg.pinv(subspace(r, P)).T @ gradients[r]) @ half
        loss = heights[r] + gradients[r] @ weights[r]
        np.testing.assert_allclose(figures[r], [100 * reach / (1 + loss), 100 * reach / (1 - loss)], rtol=1e-9)


def test_at_a_minimum_the_loss_cannot_fall_but_rises_all_the_same():
    middles = chance("middles", 2, P)
    rise, fall = sharpness(bowl(np.stack([np.eye(P)] * 2), middles, np.zeros(2)), middles, bases(2)).T
    assert (fall == 0).all() and (rise > 0).all()


def test_a_search_from_the_origin_alone_would_not_leave_a_minimum():
    middles = chance("middles", 1, P)
    loss_and_grad = bowl(np.eye(P)[None], middles, np.zeros(1))
    assert sharpness(loss_and_grad, middles, bases(1), starts=1)[0, 0] == 0
    assert sharpness(loss_and_grad, middles, bases(1), starts=2)[0, 0] > 0


def test_the_authors_figure_is_the_lowest_point_that_the_subspace_has_if_it_lies_inside_the_box():
    weights, basis = chance("weights", 1, P), subspace(0, P)
    inverse, half = np.linalg.pinv(basis), box(weights[0], basis)[1]
    lowest = 0.5 * half * np.cos(np.arange(DIMENSIONS))  # z of the lowest point
    middles = weights + inverse @ lowest
    figure = sharpness(bowl(np.eye(P)[None], middles, np.full(1, 0.2)), weights, basis[None], iterations=50)[0, 1]
    fall = ((inverse @ lowest) ** 2).sum() / 2
    assert figure == pytest.approx(100 * fall / (1 - (0.2 + fall)), rel=1e-6)


def test_runs_of_very_different_scales_in_one_call_get_what_each_gets_alone():
    loss_and_grad, weights = some_bowls()
    together = sharpness(loss_and_grad, weights, bases(4), iterations=50)
    for r in range(4):
        alone = sharpness(*rows_of(loss_and_grad, weights, [r]), iterations=50)
        np.testing.assert_allclose(together[r:r + 1], alone, rtol=1e-4)
    assert together[:, 0].max() > 1e6 * together[:, 0].min() > 0


def test_a_run_whose_loss_is_not_finite_gets_nan_and_disturbs_no_other():
    loss_and_grad, weights = some_bowls()
    sound = sharpness(*rows_of(loss_and_grad, weights, [1, 2]))
    weights = weights.copy()
    weights[3] = np.nan
    spoilt = sharpness(*rows_of(loss_and_grad, weights, [1, 2, 3]))
    assert np.isnan(spoilt[2]).all()
    np.testing.assert_array_equal(spoilt[:2], sound)


def test_the_box_grows_with_the_weights_along_its_directions_and_with_epsilon():
    gradients, basis = chance("gradients", 1, P), subspace(0, P)
    far = (np.linalg.pinv(basis) @ np.full(DIMENSIONS, 3.0))[None]  # A⁺x = 3 everywhere: four times the half width at 0
    flat = slope(gradients, np.zeros(1))
    def rise(weights, epsilon=EPSILON):
        return sharpness(flat, weights, basis[None], epsilon)[0, 0] * (1 + gradients[0] @ weights[0])
    assert rise(far) == pytest.approx(4 * rise(np.zeros((1, P))), rel=1e-9)
    assert rise(far, 1e-2) == pytest.approx(10 * rise(far), rel=1e-9)


def test_phi_is_never_negative_even_where_every_search_starts_downhill():
    def spike(points):  # highest at the weights themselves
        return 0.9 - (points**2).sum(1), -2 * points
    figures = sharpness(spike, np.zeros((1, P)), bases(1))
    assert figures[0, 0] == 0


def test_a_search_that_is_led_astray_counts_the_best_it_has_seen_and_not_where_it_ends():
    def false(points):  # its gradient points downhill
        return 1e-3 * points.sum(1), -1e-3 * np.ones_like(points)
    figures = sharpness(false, np.zeros((1, P)), bases(1), starts=1)
    assert (figures == 0).all()


def test_the_same_call_gives_the_same_bits():
    loss_and_grad, weights = some_bowls()
    np.testing.assert_array_equal(*(sharpness(loss_and_grad, weights, bases(4)) for _ in range(2)))


def test_a_subspace_has_rows_of_length_one_drawn_evenly_and_hangs_on_its_seed_alone():
    basis = subspace(3, 4000)
    np.testing.assert_allclose(np.linalg.norm(basis, axis=1), 1)
    spread = basis / np.abs(basis).max(1, keepdims=True)
    np.testing.assert_allclose(np.quantile(spread, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.02)
    np.testing.assert_array_equal(basis, subspace(3, 4000))
    assert np.abs(basis @ subspace(4, 4000).T).max() < 0.1
    with pytest.raises(ValueError, match="dimensions=10 will not do: use 1 to 9"):
        subspace(0, 9)


def test_a_subspace_has_nothing_to_do_with_the_initial_weights_of_its_seed():
    spec, at = RunSpec(modulus=11, width=32, seed=5), 0
    weights, rows = model.init_params([spec])[0], subspace(5, 30_000).ravel()
    for name, shape in model.parameter_shapes(spec).items():
        count = int(np.prod(shape))
        own, at = weights[at:at + count], at + count
        for numbers in (own, np.abs(own)):  # a normal made of the same bits would show in its size
            if np.ptp(numbers):
                assert abs(np.corrcoef(numbers, rows[:count])[0, 1]) < 4 / np.sqrt(count), name


def test_it_loads_no_torch():
    code = "import sys, grok_lib.sharpness; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
