"""How much data suffices: the smallest training fraction, exact or between bounds, from the runs that there are."""

import dataclasses

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

    A seed that is not there counts as 0 to 100%, one that was not trained to its end as its best so far to 100%. So one
    seed may be enough to know: with one at 5%, three have 68% at most.
    """
    if not asks():
        return mean_best(runs) >= SUFFICES if runs else None
    low, high = {}, {}
    for h in runs:
        best = best_accuracy(h, "val", BUDGET)
        low[h.spec.seed] = max(best, low.get(h.spec.seed, 0))
        if h.spec.steps >= BUDGET or h.stopped_because != "budget":
            high[h.spec.seed] = best
    asked = max(SEEDS, len(low))
    at_least, at_most = sum(low.values()) / asked, (sum(high.values()) + asked - len(high)) / asked
    return True if round(at_least, 6) >= SUFFICES else False if round(at_most, 6) < SUFFICES else None


def smallest(results, what):
    """The smallest training fraction that `suffices`; `NEVER` for none.

    Every smaller fraction that was asked for must be known to fail, one of them within a step of the paper's grid: else
    all that is known is a bound.
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
        if (self.least, self.most) == (GRID, NEVER):
            return "not known"
        return f"≥ {self.least:.0%} or none" if self.most == NEVER else f"{100 * self.least:.0f} to {self.most:.0%}"

    def each(self):
        """All that it may be."""
        return [fraction for fraction in FRACTIONS if self.least <= fraction <= self.most]


def needed(results):
    """The `Need` of these results: not above the smallest fraction that is known to suffice, and above those below it
    that are known to fail (smaller ones then count as failing too)."""
    known = {fraction: suffices(runs) for fraction, runs in fractions_of(results).items()}
    most = min((fraction for fraction, holds in known.items() if holds), default=NEVER)
    failed = max((fraction for fraction, holds in known.items() if holds is False and fraction < most), default=0)
    return Need(next(step for step in FRACTIONS if step > failed + 1e-9),
                next(step for step in FRACTIONS if step >= most - 1e-9))
