"""How sharp a minimum is (Power et al., A.5): Keskar's φ, and what the authors' code has in its place. No torch.

From the weights x, how far does the training loss f change within a small box, in a random subspace of n = 10
directions? The weights move by A z with |z_i| <= ε (|(A⁺x)_i| + 1), ε = 1e-3. A⁺ (n, P) has rows drawn evenly from -1
to 1 and then brought to length 1, A (P, n) is its pseudo-inverse (Keskar et al. 2016, section 2.2.2, and the authors'
measure.py).

- Keskar:  φ = (max f(x + A z) - f(x)) / (1 + f(x)) · 100, in per cent: how far the loss can *rise*.
- Authors: (f(x) - min f(x + A z)) / (1 - f(x)) · 100. Their L-BFGS-B minimises +f, and both losses change sign before
  they enter φ's formula: it says how far the loss can *fall*, which at a minimum is nowhere, and beyond f = 1 it is
  negative.

Theirs is one search of 10 iterations from z = 0, and so is ours of it, with the true gradient (they divide it by the
size of the batch once more). A maximum needs more starts: at a minimum of f the gradient is 0, and a search from z = 0
would stay there. They average f over a data loader's batches; here it is the mean over the whole training set, in
float64: in float32 f is rounded by 1e-7, and in so small a box it may change by no more.
"""

import numpy as np

from grok_lib import rng

DIMENSIONS = 10  # n, the authors'
# The size of the scaled objective's gradient: L-BFGS-B's first step, the gradient itself, then reaches the walls
STEEP = 100.0


def subspace(seed, P, dimensions=DIMENSIONS):
    """A⁺: float64 (dimensions, P), rows of length 1, a pure function of the seed and independent of its initial
    weights."""
    if not 1 <= dimensions <= P:
        raise ValueError(f"dimensions={dimensions!r} will not do: use 1 to {P}, the number of weights")
    keys = rng.numpy_key(seed, rng.INIT, rng.name_code("sharpness"))
    rows = rng.uniform(rng.bits(keys, np.arange(dimensions * P))).reshape(dimensions, P) * 2 - 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def sharpness(loss_and_grad, weights, bases, epsilon=1e-3, starts=4, iterations=10):
    """Keskar's φ and the authors' figure of R runs at once, in per cent: float64 (R, 2).

    `loss_and_grad(points)`: losses (R,) and gradients (R, P) at float64 points (R, P), row r by run r's own data.
    `weights`: (R, P). `bases`: each run's A⁺, (R, n, P). `epsilon`: the box. `starts`: searches for the maximum, from
    z = 0 and from random points of the box; each, and the one for the minimum, has at most `iterations`. What counts is
    the best point that a search has seen, so φ >= 0. On a slope all starts meet in one corner of the box; at the very
    bottom of a bowl many corners are nearly as high, and four starts find one within a quarter of the highest. A run
    whose loss is nan gets nan, and disturbs no other.
    """
    weights, bases = np.asarray(weights, np.float64), np.asarray(bases, np.float64)
    R, n = bases.shape[:2]
    half = epsilon * (np.abs(_times(bases, weights)) + 1)  # (R, n): the box's half widths
    # (R, n, n): A = A⁺ᵀ (A⁺ A⁺ᵀ)⁻¹, the rows being independent
    inverse = np.linalg.inv(bases @ bases.transpose(0, 2, 1))

    def at(u):
        """Loss (R,) and its gradient by u (R, n), at z = u · half: the box is -1 <= u <= 1."""
        points = weights + _times(bases.transpose(0, 2, 1), _times(inverse, u * half))
        losses, grads = loss_and_grad(points)
        return losses, half * _times(inverse, _times(bases, grads))

    origin = np.zeros((R, n))
    others = [np.broadcast_to(_somewhere(start, n), (R, n)) for start in range(1, max(2, starts))]
    loss, slope = at(origin)
    # Each run's slope, at x or, where x is a minimum, away from it: divided by it, flat runs count as much as steep
    # ones
    steep = np.fmax(np.abs(slope).sum(1), np.abs(at(others[0])[1]).sum(1))
    scale = STEEP / np.where(np.isfinite(steep) & (steep > 0), steep, 1)
    rise = np.max([_furthest(at, +1, loss, start, scale, iterations) for start in [origin, *others][:starts]], 0)
    fall = _furthest(at, -1, loss, origin, scale, iterations)
    with np.errstate(divide="ignore", invalid="ignore"):  # the authors' denominator at f = 1
        return 100 * np.stack([rise / (1 + loss), fall / (1 - loss)], 1)


def _times(matrices, vectors):
    """Run by run: matrices (R, i, j), vectors (R, j) -> (R, i)."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _somewhere(start, n):
    """A point of the box, float (n,) in [-1, 1): the same ones in every run and every stack."""
    keys = rng.numpy_key(start, rng.INIT, rng.name_code("start of a search"))
    return rng.uniform(rng.bits(keys, np.arange(n))) * 2 - 1


def _furthest(at, sign, loss, start, scale, iterations):
    """How far the loss rises (sign +1) or falls (-1) at most, among all points that a search from `start` (R, n)
    visits: (R,).

    One L-BFGS-B serves all runs. None touches another's variables, so the maximum of the sum is the sum of the maxima.
    """
    from scipy.optimize import minimize
    best = np.zeros(len(start))

    def objective(flat):
        losses, slopes = at(flat.reshape(start.shape))
        gain = sign * (losses - loss)
        finite = np.isfinite(gain) & np.isfinite(slopes).all(1)  # other runs stand still, and leave the sum alone
        gain, slopes = np.where(finite, gain, 0), np.where(finite[:, None], slopes, 0)
        np.maximum(best, gain, out=best)
        return -(scale * gain).sum(), -sign * (scale[:, None] * slopes).ravel()

    minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", bounds=[(-1, 1)] * start.size,
             options={"maxiter": iterations, "ftol": 1e-10, "gtol": 1e-6})
    return best
