"""What a verdict is, and what must be there before one may be given. No torch.

A rule of `judges` asks these functions for what it needs; where too little has been trained they raise `TooFew`, and
the verdict is "not yet enough runs". So a run that has not arrived within a budget shorter than the claim's never
counts as a number. Inside `so_far` they ask for nothing, and the rule's number is what the existing runs show, under
their own budget: no verdict.
"""

import contextlib
import contextvars
import dataclasses
import math

import numpy as np
from scipy.stats import rankdata

from grok_lib.paper.analysis import best_accuracy, fractions_of, median_step, updates_to
from grok_lib.runs.progress import count

REPRODUCED, PARTLY, NOT, WAITING = VERDICTS = ("reproduced", "partly", "not", "not yet enough runs")
SEEDS = 3  # where the paper shows a mean or a median; where it shows one run, one is enough
BUDGET = 100_000  # the paper's updates
LONG = 1_000_000  # those of Figure 1 (left)
SUFFICES = 0.99  # of validation accuracy
ORDERS = 99_999  # drawn for a p-value: the smallest is 10⁻⁵
NEVER = math.inf  # an update, or a training fraction, that did not suffice within the claim's own budget


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A verdict (one of `VERDICTS`), our number as text, and the number of runs that it stands on.

    Where there is not yet enough, `number` says what is lacking, or which bounds do not decide, and `so_far` is the
    number that the same rule gives by what there is, if any.
    """

    verdict: str
    number: str
    n: int
    so_far: str = ""


class TooFew(Exception):
    """Nothing can be said yet; the text says what is missing, `n` how many runs there are."""

    def __init__(self, text, n):
        super().__init__(text)
        self.n = n


_asks = contextvars.ContextVar("asks", default=True)


@contextlib.contextmanager
def so_far():
    """Inside, rules take the seeds, fractions and budgets that there are. Of what they give only the number may be
    used."""
    token = _asks.set(False)
    try:
        yield
    finally:
        _asks.reset(token)


def asks():
    """Whether rules ask for what a verdict needs: False inside `so_far`."""
    return _asks.get()


def judged(number, n, reproduced, partly=False):
    """The `Judgement` whose verdict the two conditions give, the better one first."""
    return Judgement(REPRODUCED if reproduced else PARTLY if partly else NOT, number, n)


def decided(number, n, cases):
    """`judged` by the conditions in `cases`, one pair for all that may be so; `TooFew` where they give more than one
    verdict."""
    if not n:
        raise TooFew("0 runs", n)
    verdicts = {judged(number, n, *case) for case in cases}
    if len(verdicts) > 1 and _asks.get():
        raise TooFew(f"bounds that do not decide: {number}", n)
    return verdicts.pop()


def ranked(number, n, held, of):
    """Reproduced where all of `of` cases hold, partly where at least half do."""
    return judged(number, n, held == of, 2 * held >= of)


def enough(runs, seeds=SEEDS, what="", budget=0):
    """The runs, if there are that many seeds, and each run tells what happens within `budget` updates: it went so far,
    or ended for good."""
    which = f"{what}: " if what else ""
    if not _asks.get():
        seeds, budget = min(seeds, 1), 0
    if len({h.spec.seed for h in runs}) < seeds:
        raise TooFew(f"{which}{count(len(runs), 'run')}, {count(seeds, 'seed')} asked for", len(runs))
    short = [h.spec.steps for h in runs if h.spec.steps < budget and h.stopped_because == "budget"]
    if short:
        raise TooFew(f"{which}{min(short):,} updates, {budget:,} asked for", len(runs))
    return runs


def complete(results, what):
    """The results, if all runs that were asked for are there: those that come first are the quick ones, and the easy
    fractions."""
    if _asks.get() and len(results) < len(results.specs):
        raise TooFew(f"{what}: {len(results)} of {count(len(results.specs), 'run')}", len(results))
    return results


def whole(runs, budget, number):
    """What is not decided yet may be later: raises `TooFew`, with our `number` so far, unless every run went to
    `budget`."""
    last = min(h.last_step for h in runs)
    if last < budget and _asks.get():
        raise TooFew(f"{number} after {last:,} updates; {budget:,} asked for", len(runs))


def median_within(runs, budget, which="val", threshold=SUFFICES):
    """The `Median` over runs of the first update at 99%, or another threshold, and its value, `NEVER` where it lies
    beyond `budget`."""
    median = median_step(runs, which, threshold)
    if median.value is None and median.budget < budget:
        raise TooFew(f"not within {median.budget:,} updates; {budget:,} asked for", len(runs))
    return median, NEVER if median.value is None or median.value > budget else median.value


def mean_best(runs, which="val"):
    """The mean over runs of the best accuracy within 10^5 updates, to a millionth: three times 0.99 in float32 is to be
    0.99."""
    return round(float(np.mean([best_accuracy(h, which, BUDGET) for h in runs])), 6)


def by_fraction(results, least, budget=0):
    """{fraction: runs} with three seeds, ascending; three fractions at least, the smallest not above `least`.

    All runs asked for must be there: those that come first are the quick ones, and the easy fractions.
    """
    if not _asks.get() and results:
        return fractions_of(results)
    if len(results) < len(results.specs):
        raise TooFew(f"{len(results)} of {count(len(results.specs), 'run')}", len(results))
    groups = {f: runs for f, runs in fractions_of(results).items() if len({h.spec.seed for h in runs}) >= SEEDS}
    if len(groups) < 3 or min(groups) > least + 1e-9:
        down = f", the smallest {least:.0%} or less" if least < 1 else ""
        raise TooFew(f"{count(len(groups), 'fraction')} with {count(SEEDS, 'seed')}; 3 or more asked for{down}",
                     len(results))
    return {f: enough(runs, SEEDS, f"at {f:.0%}", budget) for f, runs in groups.items()}


def arrival(runs, which="val"):
    """Updates to 99% of each run; one that has not arrived within the smallest of all budgets never did: for ranks, in
    which it is among the last."""
    budget = min(h.spec.steps for h in runs)
    return [update if (update := updates_to(h, which)) <= budget else NEVER for h in runs]


def trend(runs, values, alike=None):
    """Spearman ρ of training fraction and some value of each run, and the share of all orders that have so large a |ρ|,
    by 10⁵ of them at random (ties and few runs are no trouble). `alike`: what to return where nothing can be ranked;
    else `TooFew` is raised.
    """
    fractions = [h.spec.train_fraction for h in runs]
    if len(runs) < 3 or 1 in (len(set(values)), len(set(fractions))):
        if alike is None:
            raise TooFew("too few runs, or all alike", len(runs))
        return alike
    x, y = (rankdata(ranked) - (len(runs) + 1) / 2 for ranked in (fractions, values))
    orders = np.random.default_rng(0).permuted(np.tile(y, (ORDERS, 1)), axis=1)
    as_large = (abs(orders @ x) >= abs(y @ x) * (1 - 1e-9)).sum()
    return float(x @ y / math.sqrt((x @ x) * (y @ y))), float((1 + as_large) / (1 + ORDERS))


def asked_for(groups, *always):
    """The names in {name: results} that a rule asks for: all of them; inside `so_far`, those `always` asked for and
    others that have any runs."""
    there = [name for name, results in groups.items() if results or name in always]
    return list(groups) if _asks.get() or len(there) == len(always) else there


def compared(results, first, second, what):
    """How many points of best validation accuracy (0..100) `first`'s specs have over `second`'s: mean over fractions
    that both have in full.

    `first`, `second`: tests of a spec. Three fractions at least, and all that both were asked for, each with three
    seeds and 10^5 updates; one of the two must fail at the smallest, for where both are at 100% nothing can be gained.
    """
    asked = set.intersection(*({spec.train_fraction for spec in results.specs if side(spec)}
                               for side in (first, second)))
    sides = [fractions_of([h for h in results if side(h.spec)]) for side in (first, second)]
    seeds, fewest = (SEEDS, max(3, len(asked))) if _asks.get() else (1, 1)
    both = [f for f in sides[0]
            if f in sides[1] and all(len({h.spec.seed for h in side[f]}) >= seeds for side in sides)]
    runs = [h for side in sides for f in both for h in side[f]]
    if len(both) < fewest:
        raise TooFew(f"{what}: {count(len(both), 'fraction')} with {count(SEEDS, 'seed')} on both sides; "
                     f"{fewest} asked for", len(runs))
    enough(runs, SEEDS, what, BUDGET)
    if _asks.get() and min(mean_best(side[min(both)]) for side in sides) >= SUFFICES:
        raise TooFew(f"{what}: {min(both):.0%}, the smallest fraction, suffices already", len(runs))
    return 100 * float(np.mean([mean_best(sides[0][f]) - mean_best(sides[1][f]) for f in both]))
