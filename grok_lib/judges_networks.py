"""More rules, as in `judges`: what is found inside the networks (Figure 3), what false answers do (Figure 6), how sharp minima are (A.5)."""

import functools

import numpy as np

from grok_lib import geometry
from grok_lib.verdicts import BUDGET, SEEDS, SUFFICES, TooFew, by_fraction, compared, enough, judged, mean_best, ranked, whole

FEW, MANY = (10, 100, 1000), (2000, 3000)  # the outliers that hardly matter, and those that do
PAPERS_RHO = -0.795
FEWEST_NETWORKS = 20  # the paper's ρ and p-value imply 22 at least


# Figure 3: one network is enough, as in the paper (three for the step of 8, which one in 48 has by luck), but what does not show may still form: for a "not" it takes 10⁵ updates ("partly" is
# for what does show, and may come before).
# Looked at are the networks at 99% validation accuracy where training ends, one by one: what most of them show, counts.
def shows_cosets(results):
    """Share of the 9 nearest output rows in the same coset, best of 12 partitions, weight decay 1, and p of that maximum with
    parity kept, in most networks: 50% or more and p ≤ 0.01; p ≤ 0.01 (which rows in S5's representation "2 2 1" pass, clusters or none)."""
    runs = _understood(results, "xy in S5", 1.0)
    tests = [_coset_test(_rows(h)) for h in runs]
    shows = [test.p_value <= 0.01 for test in tests]
    return _most(runs, shows, [test.score >= 0.5 for test in tests], [f"{test.score:.0%} (p = {test.p_value:.2g})" for test in tests])


def shows_a_line(results):
    """Mean distance from x to x + s divided by that of all pairs, output rows of x+y, weight decay 1, and p of the best s as the
    best of all, in most networks: 0.5 or less and p ≤ 0.01; p ≤ 0.01."""
    return _line(_understood(results, "x+y", 1.0), None)


def steps_by_eight(results):
    """The same for s = 8 alone, which was fixed before looking, if at most 2 of the other 47 steps are shorter: 0.5 or less and
    p ≤ 0.01; p ≤ 0.01 (p is against no order at all: of networks with a few frequencies some pass by luck, so 3 are asked for)."""
    return _line(_understood(results, "x+y", 1.0, SEEDS), geometry.PAPER_STEP)


def _line(runs, step):
    tests = [_line_test(_rows(h), step) for h in runs]
    shorter = [(test.scores < test.score).sum() for test in tests]  # where few frequencies are strong, about half of all steps beat chance
    shows = [test.p_value <= 0.01 and fewer <= 2 for test, fewer in zip(tests, shorter)]
    texts = [f"s = {test.which}: {test.score:.2f} (p = {test.p_value:.2g}, {fewer} shorter)" for test, fewer in zip(tests, shorter)]
    return _most(runs, shows, [test.score <= 0.5 for test in tests], texts)


def _most(runs, shows, clear, texts):
    """Reproduced where most networks show it and clearly, partly where most show it."""
    shown, number = 2 * sum(shows) > len(runs), "; ".join(texts)
    if not shown:
        whole(runs, BUDGET, number)
    return judged(number, len(runs), 2 * np.logical_and(shows, clear).sum() > len(runs), shown)


def clearer_with_decay(results):
    """All networks with decay (3 or more) have a larger share in the same coset, and shorter joins, than all without (3 or more): both,
    where all have understood; one, or both where networks without decay have not within 10⁵ updates. (The numbers are medians.)"""
    cosets, line = _both(results, "xy in S5"), _both(results, "x+y")
    runs = [h for side in cosets + line for h in side]
    shares = [[geometry.agreement(geometry.element_rows(h), geometry.coset_partitions()[1]).max() for h in side] for side in cosets]
    joins = [[geometry.join_lengths(geometry.element_rows(h)).min() for h in side] for side in line]
    better = sum((min(shares[0]) > max(shares[1]), max(joins[0]) < min(joins[1])))
    text = "shares {:.0%} against {:.0%}; joins {:.2f} against {:.2f}".format(*map(np.median, shares + joins))
    if not better:
        whole(runs, BUDGET, text)
    return judged(text, len(runs), better == 2 and all(map(_has_understood, runs)), better > 0)


def _has_understood(history):
    return bool(history.val_accuracy[-1] >= SUFFICES)


def _understood(results, operation, decay, seeds=1):
    runs = [h for h in results.where(operation=operation, weight_decay=decay) if _has_understood(h)]
    return enough(runs, seeds, f"networks that understood {operation}")


def _both(results, operation):
    """Runs with decay and without; of those without, the ones that did understand if there are any, else all, of the whole budget."""
    without = [h for h in results.where(operation=operation, weight_decay=0.0) if h.stopped_because != "diverged"]
    understood = [h for h in without if _has_understood(h)]
    without = enough(understood, SEEDS, f"{operation} without decay") if understood else enough(without, SEEDS, f"{operation} without decay", BUDGET)
    return _understood(results, operation, 1.0, SEEDS), without


def _rows(history):
    return geometry.element_rows(history).tobytes()  # what a cache can remember


@functools.cache
def _coset_test(rows):
    points = np.frombuffer(rows, np.float32).reshape(120, -1)
    return geometry.best_partition(points, geometry.coset_partitions()[1], within=geometry.parity())


@functools.cache
def _line_test(rows, step):
    return geometry.line_test(np.frombuffer(rows, np.float32).reshape(97, -1), step)


# Figure 6: x+y with k false answers
def few_hardly_matter(results):
    """Points of mean best validation accuracy lost to 10, 100 and 1000 outliers, over the fractions (3 or more, 3 seeds) shared
    with runs without any: at most 10 for each; at most 25."""
    worst = max(losses := _lost(results, FEW))
    return judged(_points(FEW, losses), len(results), worst <= 10, worst <= 25)


def many_hurt(results):
    """The same for 2000 and 3000 outliers: 20 points or more for both; for one."""
    losses = _lost(results, MANY)
    return ranked(_points(MANY, losses), len(results), sum(loss >= 20 for loss in losses), len(MANY))


def all_is_learnt_by_heart(results):
    """Share of the runs with outliers (3 seeds at 3 fractions or more, for each number of them) whose training accuracy reaches
    99.9% within 10⁵ updates: 95% or more of them; half."""
    runs = [h for k in FEW + MANY for group in by_fraction(results.where(outliers=k), 1).values() for h in group]
    learnt = [mean_best([h], "train") >= 0.999 for h in runs]
    enough([h for h, known in zip(runs, learnt) if not known], 0, "with false answers not learnt", BUDGET)
    return judged(f"{np.mean(learnt):.0%} of the runs", len(runs), np.mean(learnt) >= 0.95, np.mean(learnt) >= 0.5)


def _lost(results, ks):
    def has(k):
        return lambda spec: spec.outliers == k
    return [compared(results, has(0), has(k), f"{k:,} outliers") for k in ks]


def _points(ks, losses):
    return ", ".join(f"k = {k:,}: {loss:.1f}" for k, loss in zip(ks, losses)) + " points"


# A.5
def sharper_is_worse(results):
    """Spearman ρ of Keskar's φ and validation accuracy where training ends, 20 networks or more (by its p, the paper had 22 at
    least) that may be at a minimum, with 99% training accuracy: 95% interval below 0 with the paper's -0.795 inside; below 0 (weaker
    than the paper's, or stronger)."""
    knowing = [h for h in results if "sharpness" in h.kept and h.train_accuracy[-1] >= SUFFICES]
    runs = enough(knowing, FEWEST_NETWORKS, "networks that know their training set")
    from grok_lib.correlation import spearman
    found = spearman([h.kept["sharpness"][0] for h in runs], [h.val_accuracy[-1] for h in runs])
    if found.rho is None:
        raise TooFew("all networks alike", len(runs))
    return judged(str(found), found.n, found.low <= PAPERS_RHO <= found.high < 0, found.high < 0)
