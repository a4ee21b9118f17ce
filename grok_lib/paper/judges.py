"""The rules by which the paper's claims are judged: a function per claim, and its docstring, which the scorecard shows,
is the rule. Here: Figures 1 and 4.

Each takes the `Results` of the claim's experiment and returns a `Judgement`, or raises `TooFew`. Thresholds are from
the paper's figures and words, most of them written down before the runs that they judge; results/DECISIONS.md tells
which were not, and which verdicts that moved. "Reproduced" is named first, then "partly"; all else is "not".
"""

import numpy as np

from grok_lib.operations import OPERATIONS
from grok_lib.paper import analysis
from grok_lib.paper.needs import AtMost, percent, smallest
from grok_lib.paper.verdicts import (BUDGET, LONG, NEVER, SUFFICES, TooFew, arrival, by_fraction, enough, judged,
                                     mean_best, median_within, ranked, trend, whole)

BEYOND_CHANCE = 0.05  # five times the accuracy of guessing


# Figures 1 (left) and 4: x/y at 50% without weight decay. One run is enough, as in the paper.
def known_early(results):
    """Median first update with 99% training accuracy, no decay: at most 1,000; at most 3,000."""
    median, update = median_within(_without_decay(results), 3000, "train")
    return judged(f"at update {median}", median.n, update <= 1000, update <= 3000)


def waits(results):
    """Best validation accuracy within 10⁵ updates, no decay, median over runs that did not diverge: at most 10%; at
    most 25%."""
    runs = _without_decay(results, diverged=False)
    level = float(np.median([analysis.best_accuracy(h, within=BUDGET) for h in runs]))
    if level <= 0.25:  # what has been understood already, no further update undoes
        whole(runs, BUDGET, f"{level:.1%}")
    return judged(f"{level:.1%}", len(runs), level <= 0.1, level <= 0.25)


def starts_late(results):
    """Median update at which validation accuracy is first above 5% (guessing: 1 to 2%) over that of 99% training
    accuracy, no decay, within 10⁶ updates: 300 or more; 100 or more."""
    return _times_as_many(results, BEYOND_CHANCE)


def understands_late(results):
    """Median first update with 99% validation accuracy, no decay: between 3·10⁵ and 10⁶; between 10⁵ and 10⁶."""
    median, update = median_within(_without_decay(results), LONG)
    return judged(f"at update {median}", median.n, 3e5 <= update <= LONG, 1e5 <= update <= LONG)


def thousandfold(results):
    """Median update of 99% validation over that of 99% training accuracy, no decay, within 10⁶ updates: 300 or more;
    100 or more."""
    return _times_as_many(results, SUFFICES)


def _times_as_many(results, level):
    runs = _without_decay(results)
    known, understood = median_within(runs, LONG, "train")[1], median_within(runs, LONG, "val", level)[1]
    if NEVER in (known, understood):
        return judged("never", len(runs), False)
    return judged(f"{understood / known:,.0f} times", len(runs), understood >= 300 * known, understood >= 100 * known)


def loss_rises(results):
    """Highest ratio of validation loss to its lowest so far, where training loss is at its lowest so far, no decay,
    within 10⁵ updates, median over runs that did not diverge: 2 or more; 1.2 or more."""
    runs = _without_decay(results, diverged=False)
    rises = [np.nanmax((h.val_loss / np.fmin.accumulate(h.val_loss))[_at_its_lowest(h) & (h.step <= BUDGET)])
             for h in runs]
    rise = float(np.median(rises))
    if rise < 2:
        whole(runs, BUDGET, f"{rise:.1f} times")
    return judged(f"{rise:.1f} times", len(runs), rise >= 2, rise >= 1.2)


def loss_falls_again(results):
    """Validation loss falls to half or less of its highest (where training loss is at its lowest so far), no decay,
    medians over runs of 10⁶ updates that did not diverge: from training loss under 0.01, and validation accuracy gains
    50 points meanwhile (else it may merely recover from a leap); from training accuracy of 99% or more."""
    runs = _without_decay(results, diverged=False)
    fall, rise, loss, accuracy = np.median([_second_descent(h) for h in runs], 0)
    number = f"to {fall:.0%} of its highest, accuracy {100 * rise:+.0f} points"
    whole(runs, LONG, number)  # the highest may come later
    return judged(number, len(runs), fall <= 0.5 and loss < 0.01 and rise >= 0.5, fall <= 0.5 and accuracy >= 0.99)


def typical(results):
    """At each operation's smallest fraction that suffices, known to 5 points, median ratio of updates to 99% validation
    and training accuracy: 10 or more for every operation that has such a fraction; for half of them."""
    gaps = {}
    for name in OPERATIONS:
        own = results.where(operation=name)
        if (fraction := smallest(own, name)) < NEVER:
            if isinstance(fraction, AtMost):  # the wait near a bound says nothing of that near the fraction itself
                raise TooFew(f"{name}: {percent(fraction)}; not tried within 5 points below", len(results))
            enough([h for h in own.where(train_fraction=fraction) if analysis.first_step(h) is None], 0, name, BUDGET)
            steps = [(analysis.first_step(h), analysis.first_step(h, "train"))
                     for h in own.where(train_fraction=fraction)]
            gaps[name] = np.median([(understood or NEVER) / known if known else 0 for understood, known in steps])
    long = sum(gap >= 10 for gap in gaps.values())
    least = f", from {min(gaps.values()):.0f} times" if gaps else ""
    return ranked(f"{long} of {len(gaps)} operations{least}", len(results), long, max(1, len(gaps)))


# Figure 1 (centre): xy in S5
def dearer(results):
    """Spearman ρ of training fraction and updates to 99% validation accuracy, single runs, three fractions with 3 seeds
    or more: below 0 with p < 0.05; below 0."""
    runs = [h for group in by_fraction(results, 1).values() for h in group]
    rho, p_value = trend(runs, arrival(runs))
    return judged(f"ρ = {rho:.2f}, p = {p_value:.2g}", len(runs), rho < 0 and p_value < 0.05, rho < 0)


def forty_to_fifty(results):
    """Per cent more updates to 99% validation for a point less data, log-linear fit from 25 to 30% over fractions where
    all of 3 seeds or more arrived: 30 to 60%, the 95% interval overlapping 40 to 50%; interval above 0."""
    near = results.where(lambda spec: 0.25 - 1e-9 <= spec.train_fraction <= 0.30 + 1e-9)
    fit = analysis.fit([h for runs in by_fraction(near, 0.30).values() for h in runs], 0.25, 0.30)
    if fit is None:
        raise TooFew("fewer than 3 fractions from 25 to 30% where all runs arrived", len(results))
    return judged(str(fit), fit.n, 30 <= fit.cost <= 60 and fit.low <= 50 and fit.high >= 40, fit.low > 0)


def stays_whole(results):
    """Mean best validation accuracy within 10⁵ updates (3 seeds) is 99% or more at each fraction tried from the
    smallest such one on, if those are three or more, 20 points apart; at three neighbours."""
    groups = by_fraction(results, 1, budget=BUDGET)
    held = [mean_best(runs) >= SUFFICES for runs in groups.values()]
    good = [fraction for fraction, holds in zip(groups, held) if holds]
    all_above = good and all(held[list(groups).index(good[0]):]) and len(good) >= 3 and good[-1] - good[0] >= 0.2 - 1e-9
    text = (f"{len(good)} of {len(groups)} fractions, {percent(good[0])} to {percent(good[-1])}"
            if good else f"none of {len(groups)} fractions")
    return judged(text, sum(map(len, groups.values())), all_above,
                  any(all(held[i:i + 3]) for i in range(len(held) - 2)))


def tracks(results):
    """Spearman ρ of training fraction and the ratio of updates to 99% validation and to 99% training accuracy, single
    runs, three fractions with 3 seeds or more: below 0 with p < 0.05; below 0."""
    runs = [h for group in by_fraction(results, 1).values() for h in group]
    rho, p_value = trend(runs, _apart(runs))
    return judged(f"ρ = {rho:.2f}, p = {p_value:.2g}", len(runs), rho < 0 and p_value < 0.05, rho < 0)


def learns_by_heart_as_fast(results):
    """Median updates to 99% training accuracy, by heart or not (3 seeds), at all fractions, the smallest 30% or less:
    above 10³ (99% is first seen at an evaluation, and came before that) and up to 10⁴; at half of them."""
    medians = [median_within(runs, 10_000, "train")[1] for runs in by_fraction(results, 0.30).values()]
    inside = sum(1e3 < update <= 1e4 for update in medians)
    spread = (f", {min(reached):,.0f} to {max(reached):,.0f}"
              if (reached := [update for update in medians if update < NEVER]) else "")
    return ranked(f"{inside} of {len(medians)} fractions{spread}", len(results), inside, len(medians))


def by_heart_sooner(results):
    """Spearman ρ of training fraction and updates to 99% training accuracy, by heart or not, single runs, from 30% or
    less on: above 0 with p < 0.05, and not below 0 in the upper half of the fractions; above 0 over all."""
    groups = list(by_fraction(results, 0.30).values())
    runs, above = sum(groups, []), sum(groups[len(groups) // 2:], [])
    (rho, p_value), (upper, p_upper) = (trend(runs, arrival(runs, "train")),
                                        trend(above, arrival(above, "train"), (0, 1)))
    text = f"ρ = {rho:.2f}, p = {p_value:.2g}; upper half of the fractions {upper:.2f}, p = {p_upper:.2g}"
    return judged(text, len(runs), rho > 0 and p_value < 0.05 and upper >= 0, rho > 0)


def _apart(runs):
    """Of each run, how many times as many updates validation took as training; infinite where it has not arrived."""
    known = [min(understood, analysis.updates_to(h, "train")) for h, understood in zip(runs, arrival(runs))]
    return [understood / max(1, first) if understood < NEVER else NEVER
            for first, understood in zip(known, arrival(runs))]


def _second_descent(h):
    """From the highest validation loss on: its lowest over its highest, accuracy gained meanwhile; and the training
    loss and accuracy at that highest."""
    top = int(np.argmax(np.where(_at_its_lowest(h), h.val_loss, 0)))
    end = top + int(np.nanargmin(h.val_loss[top:]))
    return (h.val_loss[end] / h.val_loss[top], h.val_accuracy[end] - h.val_accuracy[top],
            h.train_loss[top], h.train_accuracy[top])


def _at_its_lowest(history):
    return history.train_loss <= np.fmin.accumulate(history.train_loss)  # elsewhere a spike throws both losses up


def _without_decay(results, diverged=True):
    return enough([h for h in results.where(weight_decay=0.0) if diverged or h.stopped_because != "diverged"], 1,
                  "without decay")
