"""What a verdict is, and what must be there before one may be given. No torch.

A rule of `judges` asks these functions for what it needs; where too little has been trained they raise `TooFew`, and the
verdict is "not yet enough runs". So a run that has not arrived within a budget shorter than the claim's never counts as a number.
"""

import dataclasses
import math

import numpy as np

from grok_lib.analysis import best_accuracy, fractions_of, median_step
from grok_lib.progress import count

REPRODUCED, PARTLY, NOT, WAITING = VERDICTS = ("reproduced", "partly", "not", "not yet enough runs")
SEEDS = 3  # where the paper shows a mean or a median; where it shows one run, one is enough
BUDGET = 100_000  # the paper's updates
LONG = 1_000_000  # those of Figure 1 (left)
SUFFICES = 0.99  # of validation accuracy
NEVER = math.inf  # an update, or a training fraction, that did not suffice within the claim's own budget


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A verdict (one of `VERDICTS`), our number as text, and the number of runs that it stands on."""

    verdict: str
    number: str
    n: int


class TooFew(Exception):
    """Nothing can be said yet; the text says what is missing, `n` how many runs there are."""

    def __init__(self, text, n):
        super().__init__(text)
        self.n = n


def judged(number, n, reproduced, partly=False):
    """The `Judgement` whose verdict the two conditions give, the better one first."""
    return Judgement(REPRODUCED if reproduced else PARTLY if partly else NOT, number, n)


def ranked(number, n, held, of):
    """Reproduced where all of `of` cases hold, partly where at least half do."""
    return judged(number, n, held == of, 2 * held >= of)


def enough(runs, seeds=SEEDS, what="", budget=0):
    """The runs, if there are as many seeds, each of which tells what happens within `budget` updates: it went so far, or ended for good."""
    which = f"{what}: " if what else ""
    if len({h.spec.seed for h in runs}) < seeds:
        raise TooFew(f"{which}{count(len(runs), 'run')}, {count(seeds, 'seed')} asked for", len(runs))
    short = [h.spec.steps for h in runs if h.spec.steps < budget and h.stopped_because == "budget"]
    if short:
        raise TooFew(f"{which}{min(short):,} updates, {budget:,} asked for", len(runs))
    return runs


def whole(runs, budget, number):
    """What is not decided yet may be later: raises `TooFew`, with our `number` so far, unless every run went to `budget`."""
    last = min(h.last_step for h in runs)
    if last < budget:
        raise TooFew(f"{number} after {last:,} updates; {budget:,} asked for", len(runs))


def median_within(runs, budget, which="val"):
    """The `Median` over runs of the first update at 99 %, and its value, `NEVER` where it lies beyond `budget`."""
    median = median_step(runs, which)
    if median.value is None and median.budget < budget:
        raise TooFew(f"not within {median.budget:,} updates; {budget:,} asked for", len(runs))
    return median, NEVER if median.value is None or median.value > budget else median.value


def mean_best(runs, which="val"):
    """The mean over runs of the best accuracy."""
    return float(np.mean([best_accuracy(h, which) for h in runs]))


def by_fraction(results, least, seeds=SEEDS, budget=0):
    """{fraction: runs} with as many seeds, ascending; three fractions at least, the smallest not above `least`."""
    groups = {f: runs for f, runs in fractions_of(results).items() if len({h.spec.seed for h in runs}) >= seeds}
    if len(groups) < 3 or min(groups) > least + 1e-9:
        down = f", the smallest {least:.0%} or less" if least < 1 else ""
        raise TooFew(f"{count(len(groups), 'fraction')} with {count(seeds, 'seed')}; 3 or more asked for{down}", len(results))
    return {f: enough(runs, seeds, f"at {f:.0%}", budget) for f, runs in groups.items()}


def smallest(results, what):
    """The smallest training fraction with 99 % validation accuracy, mean over seeds, within 10^5 updates; `NEVER` for none.

    Every smaller fraction of the grid must have been tried in full, and one at least must have failed: else all that is known is a bound.
    """
    groups, fractions = fractions_of(results), sorted({spec.train_fraction for spec in results.specs})
    for tried, fraction in enumerate(fractions):
        runs = enough(groups.get(fraction, []), SEEDS, f"{what} at {fraction:.0%}", BUDGET)
        if mean_best(runs) >= SUFFICES:
            if not tried:
                raise TooFew(f"{what}: the smallest fraction tried, {fraction:.0%}, suffices already", len(results))
            return fraction
    if not fractions:
        raise TooFew(f"{what}: 0 runs", 0)
    return NEVER


def percent(fraction):
    """'35%', or 'never' for `NEVER`."""
    return "never" if fraction == NEVER else f"{fraction:.0%}"


def compared(results, first, second, what):
    """How many points of best validation accuracy (0..100) the specs `first` has over `second`: mean over fractions that both have in full.

    `first`, `second`: tests of a spec. Three fractions at least, each with three seeds and 10^5 updates.
    """
    sides = [fractions_of([h for h in results if side(h.spec)]) for side in (first, second)]
    both = [f for f in sides[0] if f in sides[1] and all(len({h.spec.seed for h in side[f]}) >= SEEDS for side in sides)]
    runs = [h for side in sides for f in both for h in side[f]]
    if len(both) < 3:
        raise TooFew(f"{what}: {count(len(both), 'fraction')} with {count(SEEDS, 'seed')} on both sides; 3 asked for", len(runs))
    enough(runs, SEEDS, what, BUDGET)
    return 100 * float(np.mean([mean_best(sides[0][f]) - mean_best(sides[1][f]) for f in both]))
