"""How much data suffices: the smallest training fraction, exact or between bounds, from the runs that there are."""

import dataclasses
import itertools

from grok_lib.paper.analysis import best_accuracy, fractions_of
from grok_lib.paper.verdicts import BUDGET, NEVER, SEEDS, SUFFICES, TooFew, asks, enough, mean_best

GRID = 0.05  # the step of the paper's training fractions
FRACTIONS = [round(GRID * k, 2) for k in range(1, 20)] + [NEVER]


class AtMost(float):
    """A training fraction that suffices where none was tried below it, or none within a step of the paper's grid: a
    bound."""


def percent(fraction):
    """'35%', '≤ 35%' for a bound, or 'none' for `NEVER`."""
    return "none" if fraction == NEVER else f"{'≤ ' if isinstance(fraction, AtMost) else ''}{fraction:.0%}"


def suffices(runs):
    """Whether the mean of best validation accuracy within 10^5 updates, over these seeds, or three if there are fewer,
    is 99%; None where that is not known.

    One seed may be enough to know that it is not: with one at 5%, three have 68% at most, whatever the others do.
    """
    if not asks():
        return mean_best(runs) >= SUFFICES if runs else None
    best = {h.spec.seed: best_accuracy(h, "val", BUDGET) for h in runs
            if h.spec.steps >= BUDGET or h.stopped_because != "budget"}
    asked = max(SEEDS, len({h.spec.seed for h in runs}))
    at_most = round(float(sum(best.values()) + asked - len(best)) / asked, 6)
    return False if at_most < SUFFICES else len(best) == asked or None


def smallest(results, what):
    """The smallest training fraction that `suffices`; `NEVER` for none.

    Every smaller fraction of the grid must be known to fail, and one at least: else all that is known is a bound.
    """
    groups, fractions = fractions_of(results), sorted({spec.train_fraction for spec in results.specs})
    for tried, fraction in enumerate(fractions):
        if (known := suffices(groups.get(fraction, []))) is None:
            enough(groups.get(fraction, []), SEEDS, f"{what} at {fraction:.0%}", BUDGET)
        if known:
            if not tried and asks():
                raise TooFew(f"{what}: the smallest fraction tried, {fraction:.0%}, suffices already", len(results))
            return fraction if tried and fraction - fractions[tried - 1] <= GRID + 1e-9 else AtMost(fraction)
    if not fractions:
        raise TooFew(f"{what}: 0 runs", 0)
    if asks() and fractions[-1] < 0.9 - 1e-9:
        raise TooFew(f"{what}: not up to {fractions[-1]:.0%}, and no more was tried", len(results))
    return NEVER


@dataclasses.dataclass(frozen=True)
class Need:
    """The smallest training fraction that suffices, in steps of the paper's grid: from `least` to `most`, by what was
    tried."""

    least: float
    most: float

    def __str__(self):
        if self.least == self.most:
            return percent(self.most)
        return f"≥ {self.least:.0%}" if self.most == NEVER else f"{100 * self.least:.0f} to {self.most:.0%}"

    def each(self):
        """All that it may be."""
        return [fraction for fraction in FRACTIONS if self.least <= fraction <= self.most]


def needed(results, what):
    """The `Need` of these results: above the fractions that are known to fail, and not above one that is known to
    suffice."""
    groups, fractions = fractions_of(results), sorted({spec.train_fraction for spec in results.specs})
    known = {fraction: suffices(groups.get(fraction, [])) for fraction in fractions}
    if not {True, False} & {*known.values()}:
        raise TooFew(f"{what}: of no fraction is it known whether it suffices", len(results))
    failed = [*itertools.takewhile(lambda fraction: known[fraction] is False, fractions)]
    most = min((fraction for fraction in fractions if known[fraction]), default=NEVER)
    if len(failed) == len(fractions) and failed[-1] >= 0.9 - 1e-9:
        return Need(NEVER, NEVER)
    return Need(round(GRID + max(failed, default=0), 2), most)
