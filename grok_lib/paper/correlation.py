"""Does one number rank the runs as another does? Spearman's ρ, and what sharpness has to say about validation accuracy
(A.5). No torch."""

import dataclasses
import itertools
import math

import numpy as np

from grok_lib.paper.analysis import updates_to

FEWEST = 4  # runs: Fisher's interval divides by n - 3
# What validation accuracy is held against
MEASURES = ("Keskar's φ", "authors' figure", "weight norm", "training loss", "updates to 99%")


@dataclasses.dataclass(frozen=True)
class Spearman:
    """Spearman's ρ with its 95% interval and the p-value of no association; all None where there are too few runs.

    Too few: fewer than 4, or one of the two numbers is the same in all of them, so that there is nothing to rank.
    """

    rho: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int

    def __str__(self):
        if self.rho is None:
            return f"too few runs (n = {self.n})"
        # How much less, Student's t does not know
        p = "p < 0.0001" if self.p_value < 1e-4 else f"p = {self.p_value:.2g}"
        return f"{self.rho:.2f} ({self.low:.2f} to {self.high:.2f}), {p}, n = {self.n}"


def spearman(x, y):
    """The `Spearman` of two arrays (n,); pairs with a nan are left out, infinite values are the last in rank, and tied.

    ρ is the correlation of the ranks, ties sharing their mean rank.
    """
    from scipy import stats
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = ~(np.isnan(x) | np.isnan(y))
    ranks = [stats.rankdata(v[known]) for v in (x, y)]
    n = int(known.sum())
    if n < FEWEST or min(np.ptp(r) for r in ranks) == 0:
        return Spearman(None, None, None, None, n)
    rho = float(np.clip(np.corrcoef(*ranks)[0, 1], -1, 1))
    ties = np.unique(ranks[1], return_counts=True)[1].tolist()
    mirrored = np.array_equal(np.sort(n + 1 - ranks[1]), np.sort(ranks[1]))
    orders = (1 + mirrored) * math.prod(map(math.factorial, ties))
    p = _exact(*ranks) if n <= 8 else p_value(rho, n, orders)
    return Spearman(rho, *interval(rho, n), p, n)


def interval(rho, n):
    """A 95% interval (low, high) for a Spearman's ρ over n >= 4 runs.

    Fisher's z with the variance (1 + ρ²/2) / (n - 3) (Bonett and Wright 2000, who mean it for |ρ| < 0.95): it needs ρ
    and n only, so it serves for ρ of papers too, and resampling a dozen ranks makes ties that pull ρ inwards. |ρ| = 1
    counts as one swap of neighbours short of it.
    """
    nearly = min(abs(rho), 1 - 12 / (n * (n**2 - 1)))
    margin = 1.959964 * math.sqrt((1 + nearly**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(math.copysign(nearly, rho)) + side * margin) for side in (-1, 1))
    return min(low, rho), max(high, rho)


def p_value(rho, n, orders=2):
    """Two-sided p of a Spearman's ρ over n runs, by Student's t as is usual (and no doubt the paper's).

    Good from some 10 runs on where p is not small; far out it is too small (of n = 12, 1e-10 for 5e-8; of 20, half of
    what orders drawn at random give at 5e-5).

    `orders`: how many of all have |ρ| = 1: more than two where some runs are tied, or one where they are so on one
    side.
    """
    from scipy import stats
    if abs(rho) > 1 - 1e-12:  # rounding
        return orders / math.factorial(n)
    return float(2 * stats.t.sf(abs(rho) * math.sqrt((n - 2) / (1 - rho**2)), n - 2))


def _exact(x, y):
    """The share of all n! orders of y whose |ρ| is no smaller: for few runs, where it can be counted."""
    orders = np.array(list(itertools.permutations(y))) - np.mean(y)
    products = np.abs(orders @ (x - np.mean(x)))
    return float((products >= products[0] * (1 - 1e-9)).mean())


def measured(results):
    """The numbers of A.5, a pandas table with one row per run: seed, each of `MEASURES`, rise / fall, validation
    accuracy, updates trained.

    φ and the authors' figure are in per cent. A run that has not reached 99% has inf updates: last in rank.
    Rise / fall: how far the loss can rise over how far it can fall; 1 where it is a straight line through the box. Runs
    without a measured sharpness (`keep=("sharpness",)`) are left out.
    """
    import pandas as pd
    rows = []
    for history in results:
        if "sharpness" in history.kept:
            phi, authors, norm = (float(value) for value in history.kept["sharpness"])
            loss = float(history.train_loss[-1])
            fall = authors * (1 - loss)
            rise_over_fall = phi * (1 + loss) / fall if fall else np.nan
            rows.append((history.spec.seed, phi, authors, norm, loss, updates_to(history), rise_over_fall,
                         float(history.val_accuracy[-1]), history.last_step))
    numbers = [*MEASURES, "rise / fall", "validation accuracy"]
    return pd.DataFrame(rows, columns=["seed", *numbers, "trained"]).astype(dict.fromkeys(numbers, float))


def sharpness_table(results):
    """`measured` in words, lowest validation accuracy first: '> 4,000' for a run that has not reached 99% by then."""
    table = measured(results)
    formats = {"Keskar's φ": "{:.3g}%", "authors' figure": "{:.3g}%", "weight norm": "{:.1f}", "rise / fall": "{:.2f}",
               "training loss": "{:.2g}", "validation accuracy": "{:.1%}"}
    words = table.assign(**{name: table[name].map(form.format) for name, form in formats.items()})
    words["updates to 99%"] = [f"> {trained:,}" if np.isinf(step) else f"{step:,.0f}"
                                for step, trained in zip(table["updates to 99%"], table["trained"])]
    return words.loc[table.sort_values("validation accuracy").index].set_index("seed").drop(columns="trained")


def correlations(results):
    """{measure: `Spearman` of validation accuracy at the end against it}, for all `MEASURES`; late runs tie last."""
    table = measured(results)
    return {name: spearman(table[name], table["validation accuracy"]) for name in MEASURES}


def rise_over_fall(results):
    """How the loss lies in the box, in words: rise / fall of `measured`, from the lowest to the highest run."""
    ratio = measured(results)["rise / fall"].dropna()
    return (f"rise / fall {ratio.min():.2f} to {ratio.max():.2f} (n = {len(ratio)})"
            if len(ratio) else "rise / fall: no run")


def within_groups(results):
    """The same for Keskar's φ alone, among the runs that have reached 99% validation and among the others.

    Where two groups lie apart, ρ over all runs is large even if it is 0 in each: it then says which group a run is of,
    once more.
    """
    table = measured(results)
    arrived = np.isfinite(table["updates to 99%"])
    return {group: spearman(table[MEASURES[0]][chosen], table["validation accuracy"][chosen])
            for group, chosen in (("have reached 99%", arrived), ("have not", ~arrived))}
