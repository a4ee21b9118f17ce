"""More rules, as in `judges`: how much data each operation needs (Figure 2, right), and each variant of the optimiser
(Figure 2, left)."""

import functools
import itertools

from grok_lib.operations import OPERATIONS
from grok_lib.paper import analysis
from grok_lib.paper.analysis import fractions_of
from grok_lib.paper.needs import needed, percent, smallest
from grok_lib.paper.variants import VARIANTS, variant_of
from grok_lib.runs.results import Results
from grok_lib.paper.verdicts import (BUDGET, NEVER, SEEDS, SUFFICES, TooFew, asked_for, asks, by_fraction, compared,
                                     complete, decided, enough, judged, mean_best, median_within, ranked)

COUSINS = {"x+y": "x-y", "x*y": "x/y", "x^2+xy+y^2": "x^2+xy+y^2+x"}  # symmetric: the same, no longer symmetric
MIXTURE, NEVER_COMES = "x/y if y odd else x-y", "x^3+xy^2+y"
DECAY, TO_INIT = "AdamW, weight decay 1", "AdamW, decay to init"
NOISY = {"Adam": "Adam, full batch", "Adam, full batch, update noise": "Adam, full batch",
         "Adam, weight noise 0.01": "Adam"}


# Figure 2 (right): thirteen operations. The smallest fraction with 99% mean validation accuracy within 10⁵ updates, 3
# seeds.
def symmetric_need_less(results):
    """Smallest fraction that suffices, of a symmetric operation and its cousin, three pairs: smaller in all; in two.
    (Where only bounds are known, what they decide.)"""
    pairs = {pair: [needed(results.where(operation=name)) for name in pair] for pair in COUSINS.items()}
    text = "; ".join(f"{first} {a}, {second} {b}" for (first, second), (a, b) in pairs.items())
    less = [{x < y for x in a.each() for y in b.each()} for a, b in pairs.values()]
    return decided(text, len(results), {(all(held), sum(held) >= 2) for held in itertools.product(*less)})


def as_hard_as_subtraction(results):
    """Smallest fractions that suffice for x-y and x/y, in steps of 5 points: at most 5 points apart; at most 10. (Where
    only bounds are known, what they decide.)"""
    a, b = (needed(results.where(operation=name)) for name in ("x-y", "x/y"))
    apart = [abs(x - y) if NEVER not in (x, y) else NEVER for x in a.each() for y in b.each()]
    return decided(f"x-y {a}, x/y {b}", len(results), {(d <= 0.05 + 1e-9, d <= 0.10 + 1e-9) for d in apart})


def mixture_generalises(results):
    """Mean best validation accuracy of the mixture of x/y and x-y within 10⁵ updates, the best of the fractions with 3
    seeds: 99% or more; 50% or more."""
    own = results.where(operation=MIXTURE)
    levels = {f: mean_best(runs) for f, runs in fractions_of(own).items()
              if len({h.spec.seed for h in runs}) >= (SEEDS if asks() else 1)}
    if not levels:
        raise TooFew("no fraction with 3 seeds", len(own))
    at = max(levels, key=levels.get)
    if levels[at] < SUFFICES:
        enough(complete(own, "the mixture"), SEEDS, "the mixture", BUDGET)
    return judged(f"{levels[at]:.1%} at {at:.0%}", len(own.where(train_fraction=at)),
                  levels[at] >= SUFFICES, levels[at] >= 0.5)


def mixture_needs_more(results):
    """Smallest fraction that suffices for the mixture (there is one) is above those of x-y and x/y; above one of them.
    (Where only bounds are known, what they decide.)"""
    needs = [needed(results.where(operation=name)) for name in (MIXTURE, "x-y", "x/y")]
    return decided("{}, its parts {} and {}".format(*needs), len(results),
                   {(max(parts) < mixed < NEVER, min(parts) < mixed < NEVER)
                    for mixed, *parts in itertools.product(*(each.each() for each in needs))})


def dearer_everywhere(results):
    """Operations of which all of 3 seeds arrive at three fractions or more: per cent more updates to 99% validation for
    a point less data, log-linear fit, with a 95% interval above 0: all of them; half."""
    fits = {}
    for name in OPERATIONS:
        own = complete(results.where(operation=name), name)
        if own and (fit := analysis.fit([h for runs in by_fraction(own, 1).values() for h in runs])):
            fits[name] = fit
    if not fits:
        raise TooFew("no operation that arrives at 3 fractions", len(results))
    dearer = sum(fit.low > 0 for fit in fits.values())
    costs = [fit.cost for fit in fits.values()]
    return ranked(f"{dearer} of {len(fits)} operations, {min(costs):.0f} to {max(costs):.0f}% a point", len(results),
                  dearer, len(fits))


def merely_memorised(results):
    """Fractions of x^3+xy^2+y, up to 95%, 3 seeds, at which training accuracy reaches 99% within 10⁵ updates and mean
    best validation accuracy is at most 5% (guessing: 1 to 3%): all; half."""
    own = results.where(operation=NEVER_COMES)
    groups = by_fraction(own, 1, budget=BUDGET)
    if asks() and max(groups) < 0.95 - 1e-9:
        raise TooFew(f"not tried up to 95%, but to {max(groups):.0%}", len(own))
    held = sum(mean_best(runs, "train") >= SUFFICES and mean_best(runs) <= 0.05 for runs in groups.values())
    return ranked(f"{held} of {len(groups)} fractions", len(own), held, len(groups))


def never_up_to_95(results):
    """Highest mean validation accuracy of x^3+xy^2+y within 10⁵ updates, fractions up to 95%, 3 seeds: under 50%; under
    99%."""
    own = results.where(operation=NEVER_COMES)
    # What it has understood already needs no other fraction
    groups = by_fraction(Results(own, [h.spec for h in own]), 1)
    best = max(map(mean_best, groups.values()))
    if best < SUFFICES:
        for fraction in {spec.train_fraction for spec in own.specs} | {0.95}:
            enough(groups.get(fraction, []), SEEDS, f"at {fraction:.0%}", BUDGET)
    return judged(f"{best:.1%}", len(own), best < 0.5, best < SUFFICES)


# Figure 2 (left): xy in S5, nine variants (two are compared on the fractions that both have)
def decay_is_best(results):
    """Smallest fraction that suffices with weight decay 1: below that of each of the eight others; above that of
    none."""
    need, with_decay = _needs(results)
    others = [name for name in need if name != DECAY]
    text = f"{percent(need[DECAY])}, next of {len(others)} {percent(min(need[name] for name in others))}"
    return judged(text, len(results), all(with_decay[name] < need[name] for name in others),
                  all(with_decay[name] <= need[name] for name in others) and need[DECAY] < NEVER)


def decay_halves_the_data(results):
    """Of the eight others, how many need more than twice the fraction that weight decay 1 needs: more than half;
    one."""
    need, twice = _needs(results, times=2)
    others = [name for name in need if name != DECAY]
    if any(need[name] == twice[name] == NEVER > need[DECAY] for name in others):
        raise TooFew(f"with decay {percent(need[DECAY])}: "
                     f"above {max(s.train_fraction for s in results.specs):.0%} nothing was tried", len(results))
    more = sum(need[name] > twice[name] for name in others)
    return judged(f"{more} of {len(others)}; with decay {percent(need[DECAY])}", len(results),
                  2 * more > len(others), more > 0)


def decay_to_init_is_second(results):
    """Smallest fraction that suffices: for decay to init above that to the origin, and below that of most of the other
    seven; the former."""
    need, to_init = _needs(results, TO_INIT)
    others = need.keys() - {DECAY, TO_INIT}
    worse = sum(to_init[name] < need[name] for name in others)
    text = f"origin {percent(need[DECAY])}, init {percent(need[TO_INIT])}, {worse} of {len(others)} others more"
    return judged(text, len(results), need[DECAY] < need[TO_INIT] and 2 * worse > len(others),
                  need[DECAY] < need[TO_INIT])


def trains_alike(results):
    """Median updates to 99% training accuracy over all runs of a variant (3 seeds a fraction), nine variants: above 10³
    and up to 10⁴ for all; for half."""
    own = {name: results.where(_is(name)) for name in VARIANTS}
    for name in asked_for(own):
        for fraction, runs in fractions_of(complete(own[name], name)).items() or [(1, [])]:
            enough(runs, SEEDS, f"{name} at {fraction:.0%}")
    medians = {name: median_within(own[name], 10_000, "train")[1] for name in asked_for(own)}
    if not medians:
        raise TooFew("0 runs", 0)
    inside = sum(1e3 < update <= 1e4 for update in medians.values())
    ends = " to ".join("later" if update == NEVER else f"{update:,.0f}"
                       for update in (min(medians.values()), max(medians.values())))
    return ranked(f"{inside} of {len(medians)} variants, {ends}", len(results), inside, len(medians))


def some_without_noise(results):
    """Mean best validation accuracy within 10⁵ updates at the largest fraction (75% or more, 3 seeds), Adam in full
    batches, and in minibatches without other noise: 10% or more in both (chance is 0.8%); in one."""
    levels = []
    for name in ("Adam, full batch", "Adam"):
        own = results.where(_is(name))
        largest = max((spec.train_fraction for spec in own.specs if spec.train_fraction >= 0.75 - 1e-9), default=None)
        runs = enough(own.where(train_fraction=largest), SEEDS, name)
        if not runs:
            raise TooFew(f"{name}: 0 runs", 0)
        levels.append(mean_best(runs))
        if levels[-1] < 0.1:
            enough(runs, SEEDS, name, BUDGET)
    return ranked("full batch {:.1%}, minibatches {:.1%}".format(*levels), len(results),
                  sum(level >= 0.1 for level in levels), len(levels))


def noise_helps(results):
    """Points of mean best validation accuracy, over common fractions, that minibatches, noise on updates and noise on
    weights bring: 1 or more for all three; for two."""
    gains = [compared(results, _is(noisy), _is(still), noisy) for noisy, still in NOISY.items()]
    return ranked("minibatch {:+.1f}, update noise {:+.1f}, weight noise {:+.1f} points".format(*gains), len(results),
                  sum(gain >= 1 for gain in gains), len(gains))


def rate_within_a_decade(results):
    """Points of mean best validation accuracy, over common fractions, that Adam loses with its rate × 0.3 and × 3: 20
    or more by both; by one."""
    losses = [compared(results, _is("Adam"), _is(name), name) for name in ("Adam, lr × 0.3", "Adam, lr × 3")]
    return ranked("× 0.3 loses {:.1f}, × 3 {:.1f} points".format(*losses), len(results),
                  sum(loss >= 20 for loss in losses), len(losses))


_variant = functools.cache(variant_of)


def _is(name):
    return lambda spec: _variant(spec) == name


def _needs(results, of=DECAY, times=1):
    """{variant: the smallest fraction that suffices}, for all nine; and {variant: so many times what variant `of`
    needs, rounded up to that variant's fractions}: on a coarser grid any need looks larger."""
    own = {name: results.where(_is(name)) for name in VARIANTS}
    need = {name: smallest(own[name], name) for name in asked_for(own, DECAY, TO_INIT)}
    least = times * need[of] - 1e-9
    return need, {name: min((spec.train_fraction for spec in own[name].specs if spec.train_fraction >= least),
                            default=NEVER) for name in need}
