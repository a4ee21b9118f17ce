"""The rules by which the paper's claims are judged: a function per claim, and its docstring, which the scorecard shows, is the rule.

Each takes the `Results` of the claim's experiment and returns a `Judgement`, or raises `TooFew`. Thresholds were written down from the
paper's figures and words before its scale was trained (small runs had been seen), and are not moved when runs arrive; rules that let
something pass were mended, as notebook 09 tells. "Reproduced" is named first, then "partly"; all else is "not".
"""

import functools

import numpy as np

from grok_lib import analysis
from grok_lib.experiments import VARIANTS, variant_of
from grok_lib.operations import OPERATIONS
from grok_lib.results import Results
from grok_lib.verdicts import (BUDGET, LONG, NEVER, SEEDS, SUFFICES, AtMost, TooFew, asked_for, by_fraction, compared, enough, judged, mean_best,
                               median_within, percent, pinned, ranked, smallest, trend, whole)

COUSINS = {"x+y": "x-y", "x*y": "x/y", "x^2+xy+y^2": "x^2+xy+y^2+x"}  # symmetric: the same, no longer symmetric
DECAY, TO_INIT = "AdamW, weight decay 1", "AdamW, decay to init"
NOISY = {"Adam": "Adam, full batch", "Adam, full batch, update noise": "Adam, full batch", "Adam, weight noise 0.01": "Adam"}


# Figures 1 (left) and 4: x/y at 50% without weight decay. One run is enough, as in the paper.
def known_early(results):
    """Median first update with 99% training accuracy, no decay: at most 1,000; at most 3,000."""
    median, update = median_within(_without_decay(results), 3000, "train")
    return judged(f"at update {median}", median.n, update <= 1000, update <= 3000)


def waits(results):
    """Best validation accuracy within 10⁵ updates, no decay, median over runs that did not diverge: at most 20%; at most 50%."""
    runs = _without_decay(results, diverged=False)
    level = float(np.median([analysis.best_accuracy(h, within=BUDGET) for h in runs]))
    if level <= 0.5:  # what has been understood already, no further update undoes
        whole(runs, BUDGET, f"{level:.1%}")
    return judged(f"{level:.1%}", len(runs), level <= 0.2, level <= 0.5)


def understands_late(results):
    """Median first update with 99% validation accuracy, no decay: between 3·10⁵ and 10⁶; between 10⁵ and 10⁶."""
    median, update = median_within(_without_decay(results), LONG)
    return judged(f"at update {median}", median.n, 3e5 <= update <= LONG, 1e5 <= update <= LONG)


def thousandfold(results):
    """Median update of 99% validation over that of 99% training accuracy, no decay, within 10⁶ updates: 300 or more; 100 or more."""
    runs = _without_decay(results)
    known, understood = median_within(runs, LONG, "train")[1], median_within(runs, LONG)[1]
    if NEVER in (known, understood):
        return judged("never", len(runs), False)
    return judged(f"{understood / known:,.0f} times", len(runs), understood >= 300 * known, understood >= 100 * known)


def loss_rises(results):
    """Highest ratio of validation loss to its lowest so far, where training loss is at its lowest so far, no decay, within 10⁵ updates,
    median over runs that did not diverge: 2 or more; 1.2 or more."""
    runs = _without_decay(results, diverged=False)
    rises = [np.nanmax((h.val_loss / np.fmin.accumulate(h.val_loss))[_at_its_lowest(h) & (h.step <= BUDGET)]) for h in runs]
    rise = float(np.median(rises))
    if rise < 2:
        whole(runs, BUDGET, f"{rise:.1f} times")
    return judged(f"{rise:.1f} times", len(runs), rise >= 2, rise >= 1.2)


def loss_falls_again(results):
    """Validation loss falls to half or less of its highest (where training loss is at its lowest so far), no decay, medians over runs of 10⁶ updates that did not
    diverge: from training loss under 0.01, and validation accuracy gains 50 points meanwhile (else it may merely recover from a leap); from training accuracy of 99% or more."""
    runs = _without_decay(results, diverged=False)
    fall, rise, loss, accuracy = np.median([_second_descent(h) for h in runs], 0)
    number = f"to {fall:.0%} of its highest, accuracy {100 * rise:+.0f} points"
    whole(runs, LONG, number)  # the highest may come later
    return judged(number, len(runs), fall <= 0.5 and loss < 0.01 and rise >= 0.5, fall <= 0.5 and accuracy >= 0.99)


def typical(results):
    """At each operation's smallest fraction that suffices, known to 5 points, median ratio of updates to 99% validation and training
    accuracy: 10 or more for every operation that has such a fraction; for half of them."""
    gaps = {}
    for name in OPERATIONS:
        own = results.where(operation=name)
        if (fraction := smallest(own, name)) < NEVER:
            if isinstance(fraction, AtMost):  # the wait near a bound says nothing of that near the fraction itself
                raise TooFew(f"{name}: {percent(fraction)}; not tried within 5 points below", len(results))
            steps = [(analysis.first_step(h), analysis.first_step(h, "train")) for h in own.where(train_fraction=fraction)]
            gaps[name] = np.median([(understood or NEVER) / known if known else 0 for understood, known in steps])
    long = sum(gap >= 10 for gap in gaps.values())
    least = f", from {min(gaps.values()):.0f} times" if gaps else ""
    return ranked(f"{long} of {len(gaps)} operations{least}", len(results), long, max(1, len(gaps)))


# Figure 1 (centre): xy in S5
def dearer(results):
    """Spearman ρ of training fraction and updates to 99% validation accuracy, single runs, three fractions with 3 seeds or more:
    below 0 with p < 0.05; below 0."""
    runs = [h for group in by_fraction(results, 1).values() for h in group]
    rho, p_value = trend(runs, "val")
    return judged(f"ρ = {rho:.2f}, p = {p_value:.2g}", len(runs), rho < 0 and p_value < 0.05, rho < 0)


def forty_to_fifty(results):
    """Per cent more updates to 99% validation for a point less data, log-linear fit from 25 to 30% over fractions where all of
    3 seeds or more arrived: 30 to 60%, the 95% interval overlapping 40 to 50%; interval above 0."""
    near = results.where(lambda spec: 0.25 - 1e-9 <= spec.train_fraction <= 0.30 + 1e-9)
    fit = analysis.fit([h for runs in by_fraction(near, 0.30).values() for h in runs], 0.25, 0.30)
    if fit is None:
        raise TooFew("fewer than 3 fractions from 25 to 30% where all runs arrived", len(results))
    return judged(str(fit), fit.n, 30 <= fit.cost <= 60 and fit.low <= 50 and fit.high >= 40, fit.low > 0)


def stays_whole(results):
    """Mean best validation accuracy within 10⁵ updates is 99% or more at all fractions from 30% on; at half of them (3 seeds each)."""
    groups = by_fraction(results.where(lambda spec: spec.train_fraction >= 0.30 - 1e-9), 0.30, budget=BUDGET)
    held = sum(mean_best(runs) >= SUFFICES for runs in groups.values())
    return ranked(f"{held} of {len(groups)} fractions", sum(map(len, groups.values())), held, len(groups))


def learns_by_heart_as_fast(results):
    """Median updates to 99% training accuracy, by heart or not (3 seeds), at all fractions, the smallest 30% or less: above 10³ (99% is first seen at an
    evaluation, and came before that) and up to 10⁴; at half of them."""
    medians = [median_within(runs, 10_000, "train")[1] for runs in by_fraction(results, 0.30).values()]
    inside = sum(1e3 < update <= 1e4 for update in medians)
    spread = f", {min(reached):,.0f} to {max(reached):,.0f}" if (reached := [update for update in medians if update < NEVER]) else ""
    return ranked(f"{inside} of {len(medians)} fractions{spread}", len(results), inside, len(medians))


def by_heart_sooner(results):
    """Spearman ρ of training fraction and updates to 99% training accuracy, by heart or not, single runs, from 30% or less on: above 0 with p < 0.05, and
    not below 0 in the upper half of the fractions; above 0 over all."""
    groups = list(by_fraction(results, 0.30).values())
    (rho, p_value), (upper, p_upper) = trend(sum(groups, []), "train"), trend(sum(groups[len(groups) // 2:], []), "train", (0, 1))
    text = f"ρ = {rho:.2f}, p = {p_value:.2g}; upper half of the fractions {upper:.2f}, p = {p_upper:.2g}"
    return judged(text, sum(map(len, groups)), rho > 0 and p_value < 0.05 and upper >= 0, rho > 0)


# Figure 2 (right): thirteen operations. The smallest fraction with 99% mean validation accuracy within 10⁵ updates, 3 seeds.
def symmetric_need_less(results):
    """Smallest fraction that suffices, of a symmetric operation and its cousin, three pairs: smaller in all; in two."""
    pairs = {pair: [pinned(results.where(operation=name), name) for name in pair] for pair in COUSINS.items()}
    text = "; ".join(f"{first} {percent(a)}, {second} {percent(b)}" for (first, second), (a, b) in pairs.items())
    return ranked(text, len(results), sum(a < b for a, b in pairs.values()), len(pairs))


def as_hard_as_subtraction(results):
    """Smallest fractions that suffice for x-y and x/y, each known to 5 points (a step of the grid): at most 5 points apart; at most 10."""
    a, b = (pinned(results.where(operation=name), name) for name in ("x-y", "x/y"))
    apart = abs(a - b) if NEVER not in (a, b) else NEVER
    return judged(f"x-y {percent(a)}, x/y {percent(b)}", len(results), apart <= 0.05 + 1e-9, apart <= 0.10 + 1e-9)


def mixture_is_late(results):
    """Smallest fraction that suffices for the mixture is above those of x-y and x/y; there is such a fraction."""
    mixed, *parts = (pinned(results.where(operation=name), name) for name in ("x/y if y odd else x-y", "x-y", "x/y"))
    return judged(f"{percent(mixed)}, its parts {' and '.join(map(percent, parts))}", len(results), max(parts) < mixed < NEVER, mixed < NEVER)


def never_up_to_95(results):
    """Highest mean validation accuracy of x^3+xy^2+y within 10⁵ updates, fractions up to 95%, 3 seeds: under 50%; under 99%."""
    own = results.where(operation="x^3+xy^2+y")
    groups = by_fraction(Results(own, [h.spec for h in own]), 1)  # what it has understood already needs no other fraction
    best = max(map(mean_best, groups.values()))
    if best < SUFFICES:
        for fraction in {spec.train_fraction for spec in own.specs} | {0.95}:
            enough(groups.get(fraction, []), SEEDS, f"at {fraction:.0%}", BUDGET)
    return judged(f"{best:.1%}", len(own), best < 0.5, best < SUFFICES)


# Figure 2 (left): xy in S5, nine variants (two are compared on the fractions that both have)
def decay_is_best(results):
    """Smallest fraction that suffices with weight decay 1: below that of each of the eight others; above that of none."""
    need, with_decay = _needs(results)
    others = [name for name in need if name != DECAY]
    text = f"{percent(need[DECAY])}, next of {len(others)} {percent(min(need[name] for name in others))}"
    return judged(text, len(results), all(with_decay[name] < need[name] for name in others),
                  all(with_decay[name] <= need[name] for name in others) and need[DECAY] < NEVER)


def decay_halves_the_data(results):
    """Of the eight others, how many need more than twice the fraction that weight decay 1 needs: more than half; one."""
    need, twice = _needs(results, times=2)
    others = [name for name in need if name != DECAY]
    if any(need[name] == twice[name] == NEVER > need[DECAY] for name in others):
        raise TooFew(f"with decay {percent(need[DECAY])}: above {max(s.train_fraction for s in results.specs):.0%} nothing was tried", len(results))
    more = sum(need[name] > twice[name] for name in others)
    return judged(f"{more} of {len(others)}; with decay {percent(need[DECAY])}", len(results), 2 * more > len(others), more > 0)


def decay_to_init_is_second(results):
    """Smallest fraction that suffices: for decay to init above that to the origin, and below that of most of the other seven; the former."""
    need, to_init = _needs(results, TO_INIT)
    others = need.keys() - {DECAY, TO_INIT}
    worse = sum(to_init[name] < need[name] for name in others)
    text = f"origin {percent(need[DECAY])}, init {percent(need[TO_INIT])}, {worse} of {len(others)} others more"
    return judged(text, len(results), need[DECAY] < need[TO_INIT] and 2 * worse > len(others), need[DECAY] < need[TO_INIT])


def noise_helps(results):
    """Points of mean best validation accuracy, over common fractions, that minibatches, noise on updates and noise on weights bring:
    1 or more for all three; for two."""
    gains = [compared(results, _is(noisy), _is(still), noisy) for noisy, still in NOISY.items()]
    return ranked("minibatch {:+.1f}, update noise {:+.1f}, weight noise {:+.1f} points".format(*gains), len(results), sum(gain >= 1 for gain in gains), len(gains))


def rate_within_a_decade(results):
    """Points of mean best validation accuracy, over common fractions, that Adam loses with its rate × 0.3 and × 3: 5 or more by both; by one."""
    losses = [compared(results, _is("Adam"), _is(name), name) for name in ("Adam, lr × 0.3", "Adam, lr × 3")]
    return ranked("× 0.3 loses {:.1f}, × 3 {:.1f} points".format(*losses), len(results), sum(loss >= 5 for loss in losses), len(losses))


def _second_descent(h):
    """From the highest validation loss on: its lowest over its highest, accuracy gained meanwhile; and the training loss and accuracy at that highest."""
    top = int(np.argmax(np.where(_at_its_lowest(h), h.val_loss, 0)))
    end = top + int(np.nanargmin(h.val_loss[top:]))
    return h.val_loss[end] / h.val_loss[top], h.val_accuracy[end] - h.val_accuracy[top], h.train_loss[top], h.train_accuracy[top]


def _at_its_lowest(history):
    return history.train_loss <= np.fmin.accumulate(history.train_loss)  # elsewhere a spike throws both losses up


def _without_decay(results, diverged=True):
    return enough([h for h in results.where(weight_decay=0.0) if diverged or h.stopped_because != "diverged"], 1, "without decay")


_variant = functools.cache(variant_of)


def _is(name):
    return lambda spec: _variant(spec) == name


def _needs(results, of=DECAY, times=1):
    """{variant: the smallest fraction that suffices}, for all nine; and {variant: so many times what variant `of` needs, rounded up to that
    variant's fractions}: on a coarser grid any need looks larger."""
    own = {name: results.where(_is(name)) for name in VARIANTS}
    need = {name: smallest(own[name], name) for name in asked_for(own, DECAY, TO_INIT)}
    least = times * need[of] - 1e-9
    return need, {name: min((spec.train_fraction for spec in own[name].specs if spec.train_fraction >= least), default=NEVER) for name in need}
