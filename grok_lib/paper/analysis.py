"""Numbers and sentences from histories: no torch, no drawing.

A run that has not reached a threshold within its budget is *censored*, and is reported as such, never as a number.
"""

import dataclasses
import math

import numpy as np

from grok_lib.operations import operation

SETS = {"train": "training", "val": "validation"}


def first_step(history, which="val", threshold=0.99):
    """The first evaluated update with `which` ("train" or "val") accuracy >= threshold; None if there is none."""
    reached = history.step[getattr(history, f"{which}_accuracy") >= threshold]
    return int(reached[0]) if len(reached) else None


def updates_to(history, which="val", threshold=0.99):
    """`first_step`, or infinity where there is none: for ranks and medians."""
    step = first_step(history, which, threshold)
    return np.inf if step is None else step


def best_accuracy(history, which="val", within=np.inf):
    """The highest accuracy at any evaluated update up to `within`; 0 for a run that diverged at once."""
    return float(np.nanmax(getattr(history, f"{which}_accuracy")[history.step <= within], initial=0))


def when(history, which="val"):
    """`first_step` at 99% in words: 'at update 2,239', or 'not within 3,000 updates (best 47.8%)'."""
    step = first_step(history, which)
    if step is not None:
        return f"at update {step:,}"
    budget = history.spec.steps if history.stopped_because == "budget" else history.last_step
    return f"not within {budget:,} updates (best {best_accuracy(history, which):.1%})"


def describe(history):
    """What one run did, a line for each set: when each accuracy first reached 99%."""
    return "\n".join(f"99% {SETS[which]} accuracy {when(history, which)}" for which in SETS)


def sentence(history):
    """The same in one line that names the run: for tables and alt texts."""
    spec = history.spec
    label = operation(spec.operation, spec.modulus).label
    return f"{label}, {spec.train_fraction:.0%}: " + describe(history).replace("\n", "; ")


def gap(history):
    """How many times as many updates validation needs as training, to 99%: '5.9 times', 'over 12 times', or 'unknown'
    (a decimal below ten only, for both are seen on a grid of updates)."""
    known, understood = first_step(history, "train"), first_step(history)
    if not known:
        return "unknown"
    times = (history.last_step if understood is None else understood) / known
    return f"{'over ' if understood is None else ''}{times:,.{1 if times < 9.95 else 0}f} times"


def percent(value):
    """'47.6%', or 'no level' for None, where there was nothing to measure."""
    return "no level" if value is None else f"{value:.1%}"


def waiting_level(history):
    """The median validation accuracy after the training set is known (99%) and before validation rises (60%); None
    where the run shows no such wait: fewer than three evaluations of it."""
    known, rising = first_step(history, "train"), first_step(history, "val", 0.6)
    if known is None:
        return None
    waiting = (history.step >= known) & (history.step < (rising or np.inf))
    return float(np.median(history.val_accuracy[waiting])) if waiting.sum() >= 3 else None


def loss_in_words(history):
    """Where the validation loss was at the start, at its highest, and at the end."""
    loss, top = history.val_loss, int(np.nanargmax(history.val_loss))
    return (f"validation loss: {loss[0]:.2f} at the start, at its highest {loss[top]:.2f} at update "
            f"{history.step[top]:,}, {loss[-1]:.2f} at the end")


def mirrored_share(spec, train):
    """The share of validation equations (x, y) whose mirror (y, x) is among `train` (indices of training equations)."""
    op = operation(spec.operation, spec.modulus)
    seen = np.zeros(op.table.shape, bool)
    seen[op.equations[train, 0], op.equations[train, 1]] = True
    x, y, _ = op.equations.T
    validation = ~seen[x, y]
    return float(seen[y, x][validation].mean())


def falls(history, since=0):
    """How many times validation accuracy fell from above 90% to under 50%, from update `since` on."""
    seen = history.val_accuracy[history.step >= since]
    clear = seen[(seen > 0.9) | (seen < 0.5)]
    high = clear > 0.9
    return int((high[:-1] & ~high[1:]).sum())


def lost_again(histories, times=1):
    """Of the runs that went on after their first 99% in validation, to `times` that update or further: (how many, how
    many of them fell after it, how many end under 50%)."""
    first = [(h, first_step(h)) for h in histories]
    later = [(h, at) for h, at in first if at is not None and at < h.last_step >= times * at]
    return len(later), sum(falls(h, at) > 0 for h, at in later), sum(h.val_accuracy[-1] < 0.5 for h, _ in later)


@dataclasses.dataclass(frozen=True)
class Median:
    """The median over seeds of the first update at a threshold, and an interval for it.

    `value`, `low`, `high` are None where they lie beyond the budget: with censored runs a median exists only if more
    than half have arrived. The interval runs between order statistics and assumes no distribution; `confidence` is what
    it really has, which for few seeds is below 95% even from the first to the last of them (3 seeds: 75%, 5: 94%).
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    arrived: int  # by `budget`, where not all did
    budget: int  # the smallest budget of the runs that did not arrive, or of all
    confidence: float

    def __str__(self):
        if self.value is None:
            return f"> {self.budget:,} ({self.arrived} of {self.n})"
        if self.n == 1:
            return f"{self.value:,.0f} (1 run)"
        high = f"{self.high:,.0f}" if self.high is not None else f"> {self.budget:,}"
        return f"{self.value:,.0f} ({self.low:,.0f} to {high}, n = {self.n})"


def median_step(histories, which="val", threshold=0.99):
    """The `Median` over these runs; None for no runs.

    What came after the smallest budget of a run that did not arrive counts as late, too: that run may have come first.
    """
    if not histories:
        return None
    steps = [updates_to(h, which, threshold) for h in histories]
    late = [h.spec.steps for h, step in zip(histories, steps) if step == np.inf]
    cut = min(late, default=np.inf)
    ordered, n = np.sort([step if step <= cut else np.inf for step in steps]), len(steps)
    rank = _outer_rank(n)
    middle = ordered[n // 2] if n % 2 else ordered[n // 2 - 1:n // 2 + 1].mean()
    value, low, high = (None if np.isinf(v) else float(v) for v in (middle, ordered[rank], ordered[n - 1 - rank]))
    budget = min(late or [h.spec.steps for h in histories])
    return Median(value, low, high, n, int(np.isfinite(ordered).sum()), budget, 1 - 2 * _binomial_tail(n, rank))


def _outer_rank(n):
    """The largest r such that the r-th values from both ends (from 0) enclose the median with 95% confidence, or 0."""
    return max([r for r in range((n + 1) // 2) if 1 - 2 * _binomial_tail(n, r) >= 0.95], default=0)


def _binomial_tail(n, r):
    """P(X <= r) for X heads in n fair coin tosses: that the median lies below the r-th (from 0) order statistic."""
    return sum(math.comb(n, i) for i in range(r + 1)) / 2**n


def fractions_of(histories):
    """{training fraction: its histories}, the smallest fraction first."""
    found = {}
    for history in sorted(histories, key=lambda h: h.spec.train_fraction):
        found.setdefault(history.spec.train_fraction, []).append(history)
    return found


def reduction_table(histories):
    """Updates to 99% against training fraction, as a pandas table: one row per fraction, medians over seeds with
    intervals, best accuracy as in `accuracy_table`."""
    import pandas as pd
    columns = ["training fraction", "seeds", "updates to 99% train", "updates to 99% validation",
               "best validation accuracy"]
    rows = [(f"{fraction:.0%}", len(runs), str(median_step(runs, "train")), str(median_step(runs)),
             _cell([best_accuracy(h) for h in runs])) for fraction, runs in fractions_of(histories).items()]
    return pd.DataFrame(rows, columns=columns).set_index(columns[0])


@dataclasses.dataclass(frozen=True)
class Fit:
    """log(updates to 99% validation) = a - b · fraction, by least squares over single runs.

    `cost`: how many per cent more updates one percentage point less data asks for, with its 95% interval (Student's t).
    `fractions`: those that entered; one with a run that never arrived is left out, since its late runs are missing.
    """

    fractions: tuple
    n: int
    cost: float
    low: float
    high: float
    intercept: float  # log of updates at fraction 0
    slope: float  # of log updates per unit of fraction

    def steps(self, fraction):
        """The fitted updates at a fraction (an array or a number)."""
        return np.exp(self.intercept + self.slope * np.asarray(fraction))

    def __str__(self):
        return (f"{self.cost:.0f}% more updates for one point less data (95% interval {self.low:.0f} to "
                f"{self.high:.0f}%; {self.n} runs at {', '.join(f'{f:.0%}' for f in self.fractions)})")


def fit(histories, low=0.0, high=1.0):
    """The `Fit` over the fractions from `low` to `high`; None with fewer than three of them, or than four runs."""
    from scipy import stats
    usable = {fraction: [first_step(h) for h in runs] for fraction, runs in fractions_of(histories).items()
              if low - 1e-9 <= fraction <= high + 1e-9 and all(first_step(h) is not None for h in runs)}
    x = [fraction for fraction, steps in usable.items() for _ in steps]
    if len(usable) < 3 or len(x) < 4:
        return None
    line = stats.linregress(x, np.log([step for steps in usable.values() for step in steps]))
    margin = stats.t.ppf(0.975, len(x) - 2) * line.stderr
    cost, least, most = (100 * np.expm1(-slope / 100)
                         for slope in (line.slope, line.slope + margin, line.slope - margin))
    return Fit(tuple(usable), len(x), cost, least, most, line.intercept, line.slope)


def accuracy_table(results, name):
    """Best validation accuracy against fraction: one row for each `name(spec)`, one column a fraction.

    A cell is the mean over seeds, with lowest and highest where they differ by a point or more; '-' for no run.
    """
    import pandas as pd
    cells = {}
    for history in results:
        cells.setdefault(name(history.spec), {}).setdefault(history.spec.train_fraction, []).append(
            best_accuracy(history))
    columns = sorted({spec.train_fraction for spec in results.specs})
    rows = {row: [_cell(cells[row].get(fraction)) for fraction in columns] for row in cells}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"{fraction:.0%}" for fraction in columns])


def _cell(values):
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{np.mean(values):.1%}" + (f" ({low:.0%} to {high:.0%})" if high - low >= 0.01 else "")


def smallest_fraction(histories):
    """The smallest training fraction whose runs reach 99% validation accuracy on average; None where none does."""
    return min((fraction for fraction, runs in fractions_of(histories).items()
                if np.mean([best_accuracy(h) for h in runs]) >= 0.99), default=None)
