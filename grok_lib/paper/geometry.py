"""The geometry of what a network learnt (Figure 3): cosets of S5, circles of Z/p in the output layer's rows. No torch.

A product ab of permutations is "first a, then b", as everywhere here; a permutation is its index in `PERMUTATIONS`.
Points are float (n, d), the rows themselves or a t-SNE plane, point i being element i; distances are Euclidean.
Every p-value is (1 + as good or better) / (1 + permutations): the elements change places, the points stay.
"""

import dataclasses
import functools

import numpy as np

from grok_lib.operations import PERMUTATIONS, cycle_notation, operation, permutation_index

NEIGHBOURS = 9  # a coset has 10 members: whoever sits among its own has 9 of them nearest
PAPER_STEP = 8  # Figure 3 joins x to x + 8
PAPER_GENERATORS = ((3, 4, 2, 0, 1), (0, 2, 1, 4, 3))  # (0 3)(1 4) and (1 2)(3 4), one-line notation
# The conjugacy classes of S5, told by how many points p and pp leave in place
KINDS = {"identity": (5, 5), "transposition": (3, 5), "double transposition": (1, 5), "3-cycle": (2, 2),
         "3-cycle and transposition": (0, 2), "4-cycle": (1, 1), "5-cycle": (0, 0)}
# Of its irreducible representations, named by partitions of 5, in the order of KINDS; the first is the dimension
CHARACTERS = {"5": (1, 1, 1, 1, 1, 1, 1), "4 1": (4, 2, 0, 1, -1, 0, -1), "3 2": (5, 1, 1, -1, 1, -1, 0),
              "3 1 1": (6, 0, -2, 0, 0, 0, 1), "2 2 1": (5, -1, 1, -1, -1, 1, 0),
              "2 1 1 1": (4, -2, 0, 1, 1, 0, -1), "1 1 1 1 1": (1, -1, 1, 1, -1, -1, 1)}


@dataclasses.dataclass(frozen=True)
class Tested:
    """One of several partitions or steps, and how surprising its score is."""

    which: int  # the index of the partition, or the step
    score: float
    p_value: float
    scores: np.ndarray  # float: of every partition (P,), or of every step ((n - 1) // 2,)


def element_rows(history):
    """float32 (n, D): the output layer's rows for the n elements. ValueError where none were kept, or they diverged."""
    if "output" not in history.kept:
        raise ValueError('this history kept no output rows: ask for its spec with keep=("output",)')
    rows = history.kept["output"][:operation(history.spec.operation, history.spec.modulus).size]
    if not np.isfinite(rows).all():
        raise ValueError(f"these output rows are not finite (the run ended as {history.stopped_because!r}): "
                         "leave it out")
    return rows


def subgroup(generators):
    """The subgroup of S5 that these permutations (indices) generate: its members' indices, ascending."""
    table, members, larger = operation("xy in S5").table, set(), {0}  # 0 is the identity
    while larger != members:
        members = larger
        larger = members | {int(table[a, g]) for a in members for g in generators}
    return np.array(sorted(members))


def conjugates(generators):
    """The distinct conjugates a<generators>a^-1, as generators (indices): the subgroup itself comes first."""
    conjugate, found = operation("xyx^-1 in S5").table, {}
    for a in range(len(PERMUTATIONS)):
        moved = tuple(int(conjugate[a, g]) for g in generators)
        found.setdefault(tuple(subgroup(moved)), moved)
    return list(found.values())


def cosets(members, side):
    """int (120,): the coset of each permutation, aH for side "left" and Ha for "right"; 0 is the subgroup itself."""
    table = operation("xy in S5").table
    smallest = {"left": table[:, members].min(1), "right": table[members, :].min(0)}[side]
    return np.unique(smallest, return_inverse=True)[1]


@functools.cache
def coset_partitions():
    """Left and right cosets of the paper's subgroup and its conjugates: 12 names, int labels (12, 120), read-only."""
    names, labels = [], []
    for generators in conjugates(permutation_index(np.array(PAPER_GENERATORS))):
        cycles = ", ".join(cycle_notation(PERMUTATIONS[g]) for g in generators)
        for side in ("left", "right"):
            names.append(f"{side} cosets of ⟨{cycles}⟩")
            labels.append(cosets(subgroup(generators), side))
    labels = np.stack(labels)
    labels.setflags(write=False)  # it is shared by all who ask
    return tuple(names), labels


def parity():
    """int (120,): 0 for even permutations, 1 for odd ones. Every coset above lies within one of the two halves."""
    return np.triu(PERMUTATIONS[:, :, None] > PERMUTATIONS[:, None, :], 1).sum((1, 2)) % 2


@functools.cache
def kinds():
    """int (120, 120): the kind (index in `KINDS`) of ba^-1, and of a^-1b, for every two permutations b, a."""
    table, each = operation("xy in S5").table, np.arange(120)
    left = [(PERMUTATIONS[p] == np.arange(5)).sum(1).tolist() for p in (each, table[each, each])]
    # ab = 0, the identity: b is a's inverse
    return np.array([list(KINDS.values()).index(pair) for pair in zip(*left)])[table[:, table.argmin(1)]]


def kinds_of_nearest(points, neighbours=3):
    """{kind: share}: by what a permutation has to be multiplied to become one of its nearest others."""
    near = nearest(points, neighbours)
    return dict(zip(KINDS, np.bincount(kinds()[near, np.arange(120)[:, None]].ravel(),
                                       minlength=len(KINDS)) / near.size))


def representations(rows):
    """{representation: share of the variance of rows (120, d)}; they sum to 1: for S5 as `spectrum` for Z/p.

    A function on a group is a sum of parts, one per representation; the projection is d/120 sum_b chi(ba^-1) row_b (any
    book on representations of finite groups). The mean row, the trivial one's part, is left out. Chance: d^2/119.
    """
    centred = np.asarray(rows, np.float64) - np.mean(rows, 0, dtype=np.float64)
    parts = {name: chi[0] / 120 * np.array(chi)[kinds()] @ centred for name, chi in CHARACTERS.items() if name != "5"}
    return {name: float((part**2).sum() / (centred**2).sum()) for name, part in parts.items()}


def likeness_apart(rows):
    """The mean likeness (cosine, without the mean row) of rows (120, d) whose permutations differ by one kind, found
    directly and as the sum over representations of share * character of ba^-1 / dimension: how far apart, at most."""
    centred = np.asarray(rows, np.float64) - np.mean(rows, 0, dtype=np.float64)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    alike = [(centred @ centred.T)[kinds() == i].mean() for i in range(len(KINDS))]
    summed = sum(share * np.array(CHARACTERS[name]) / CHARACTERS[name][0]
                 for name, share in representations(rows).items())
    return float(np.abs(summed - alike).max())


def left_in_place(generators=PAPER_GENERATORS):
    """{representation: dimensions that these generators (one-line notation) leave in place}, the mean character."""
    members = subgroup(permutation_index(np.array(generators)))
    return {name: int(round(np.array(chi)[kinds()[members, 0]].mean())) for name, chi in CHARACTERS.items()}


def distances(points):
    """float64 (n, n): the distance of every pair."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def nearest(points, neighbours=NEIGHBOURS):
    """int (n, neighbours): each point's nearest other points, nearest first."""
    apart = distances(points)
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, 1, kind="stable")[:, :neighbours]


def agreement(points, labels, neighbours=NEIGHBOURS):
    """The share of a point's nearest others that carry its label, mean over points: labels (..., n) give (...).

    Chance is (class size - 1) / (n - 1): 9/119 for the cosets.
    """
    return _agreement(nearest(points, neighbours), np.asarray(labels))


def _agreement(near, labels):
    return (labels[..., near] == labels[..., None]).mean((-2, -1))


def best_partition(points, partitions, permutations=2000, seed=0, within=None):
    """Score all partitions, int (P, n), by `agreement`, and test the best as the best of P (`Tested`).

    `within`: labels (n,); elements then change places only with those of their label. `parity()` there asks for
    more than even and odd lying apart, which alone makes every coset look gathered.
    """
    near, rng, chance = nearest(points), np.random.default_rng(seed), []
    scores = _agreement(near, partitions)
    label = np.zeros(len(near)) if within is None else np.asarray(within)
    for _ in range(permutations):
        order = np.empty(len(near), int)
        order[np.argsort(label, kind="stable")] = np.lexsort((rng.random(len(near)), label))
        chance.append(_agreement(near, partitions[:, order]).max())
    as_good = int((np.array(chance) >= scores.max()).sum())
    return Tested(int(scores.argmax()), float(scores.max()), (1 + as_good) / (1 + permutations), scores)


def spectrum(rows):
    """float ((p - 1) // 2,): the share of the variance of rows (p, d) at each frequency 1, 2, ...; they sum to 1.

    Frequency k turns k times on the way from 0 to p, an odd number. The mean row is left out.
    """
    power = (np.abs(np.fft.rfft(np.asarray(rows, np.float64), axis=0)) ** 2).sum(1)[1:(len(rows) + 1) // 2]
    return power / power.sum()


def partner(k, p):
    """The s in 1..(p - 1) / 2 with k s = 1 or -1 mod p; ValueError where k has no inverse.

    On a circle that turns k times, x and x + s lie side by side: from frequency to step, and from step to frequency.
    """
    s = pow(int(k), -1, int(p))
    return min(s, int(p) - s)


def dominant_step(shares):
    """(k, s): the strongest frequency of a `spectrum`, and the step that joins neighbours on its circle (`partner`)."""
    k = int(np.argmax(shares)) + 1
    return k, partner(k, 2 * len(shares) + 1)


def join_lengths(points):
    """float ((n - 1) // 2,): for each step s = 1, 2, ... the mean distance of x and x + s mod n, over all pairs'.

    1 is chance; the shorter, the more a line through x, x + s, x + 2s, ... runs from neighbour to neighbour.
    """
    return _join_lengths(distances(points), np.arange(1, (len(points) - 1) // 2 + 1))


def line_test(points, step=None, permutations=2000, seed=0):
    """Test the joins of a step fixed before looking; None: the shortest joins as the shortest of all (`Tested`)."""
    n, apart, scores, rng = len(points), distances(points), join_lengths(points), np.random.default_rng(seed)
    which = int(scores.argmin()) + 1 if step is None else min(step % n, -step % n)  # x to x - s is the same join
    tried = np.arange(1, len(scores) + 1) if step is None else np.array([which])
    orders = (rng.permutation(n) for _ in range(permutations))
    chance = np.array([_join_lengths(apart[order[:, None], order], tried).min() for order in orders])
    as_good = int((chance <= scores[which - 1]).sum())
    return Tested(which, float(scores[which - 1]), (1 + as_good) / (1 + permutations), scores)


def _join_lengths(apart, steps):
    n, x = len(apart), np.arange(len(apart))
    return apart[x, (x + steps[:, None]) % n].mean(1) / (apart.sum() / (n * (n - 1)))


def tsne(points, perplexity=30, seed=0, init="pca"):
    """float (n, 2): the t-SNE plane of points (n, d), everything pinned; the same bits on the same machine.

    Perplexity, about the number of neighbours that count, is cut to two thirds of n on tiny tables. `init`: "pca", or
    "random" for another of the many pictures that the same points allow.
    """
    from sklearn.manifold import TSNE  # a second to load
    flow = TSNE(2, perplexity=min(perplexity, 2 * len(points) / 3), learning_rate="auto", max_iter=1000, init=init,
                method="exact", random_state=seed)
    return flow.fit_transform(np.asarray(points, np.float64))


def survival(points, perplexities=(10, 30, 50), seeds=(0, 1, 2)):
    """How much of a t-SNE picture is in the points: the same from random starts, at several perplexities.

    A list of {perplexity, seed, kept}: the share of each point's 9 nearest in the plane that are so in the reference
    plane, `tsne(points)`, too; 9 / (n - 1) is chance.
    """
    reference, rows = nearest(tsne(points)), []
    for perplexity in perplexities:
        for seed in seeds:
            near = nearest(tsne(points, perplexity, seed, init="random"))
            kept = float((near[:, :, None] == reference[:, None]).any(2).mean())
            rows.append({"perplexity": perplexity, "seed": seed, "kept": kept})
    return rows
