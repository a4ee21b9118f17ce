"""The scorecard: what each rule says of runs whose answer is known, and that too little is never taken for an
answer."""

import numpy as np
import pytest
from synthetic import history

from grok_lib.operations import OPERATIONS, operation
from grok_lib.paper import claims, experiments, geometry, judges, judges_fraction, judges_networks
from grok_lib.paper.claims import CLAIMS
from grok_lib.paper.experiments import S5
from grok_lib.paper.needs import needed, suffices
from grok_lib.paper.variants import VARIANTS
from grok_lib.paper.verdicts import NOT, PARTLY, REPRODUCED, VERDICTS, WAITING
from grok_lib.runs import store
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec

CUBIC = RunSpec(operation="x^3+xy^2+y")
ALONE = RunSpec(operation="x/y", weight_decay=0, steps=10**6)  # Figure 1 (left)
FRACTIONS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.95)


def run(spec, known=500, understood=None, level=0.02, train=1.0, kept=None, **losses):
    """A run at `level` until validation is understood, if ever; its training accuracy becomes `train` at update
    `known`."""
    end = max(known, understood) if understood and spec.stop == "solved" else spec.steps
    steps = np.unique([0, 1, known, min(understood or 1, end), end])
    steps = steps[steps <= end]
    val = np.where(steps >= (understood or np.inf), 1, np.where(steps > 0, level, 0))
    losses = {f"{which}_loss": losses.get(which, np.ones(len(steps))) for which in ("train", "val")}
    return history(spec, steps, np.where(steps >= known, train, 0.1), val, kept=kept, **losses,
                   stopped_because="solved" if understood and spec.stop == "solved" else "budget")


def of(*histories):
    return Results(histories, [h.spec for h in histories])


def seeds(spec, number=3, **what):
    return [run(spec.but(seed=seed), **what) for seed in range(number)]


def alone(**what):
    return of(run(ALONE, **what))


def losses(val, train, understood=0.0, budget=ALONE.steps):
    """A run without decay whose losses are these, and whose validation accuracy is `understood` in the end."""
    steps, accuracy = np.linspace(0, budget, len(val)).astype(int), np.zeros(len(val))
    accuracy[-1] = understood
    return of(history(ALONE.but(steps=budget), steps, np.array(train) < 0.5, accuracy, val_loss=val, train_loss=train))


def grid(needs, fractions=FRACTIONS, steps=100_000, number=3, late=2000):
    """Three seeds at each fraction: those of `needs` {operation: smallest fraction} that it suffices for understand at
    `late`."""
    return of(*[each for name, need in needs.items() for fraction in fractions
                for each in seeds(RunSpec(operation=name, train_fraction=fraction, steps=steps, stop="solved"), number,
                                  understood=late if fraction >= need else None)])


def reduction(updates, number=3, steps=500_000):
    """Figure 1 (centre): {fraction: (updates to 99% training, to 99% validation)}."""
    return of(*[each for fraction, (known, understood) in updates.items()
                for each in seeds(S5.but(train_fraction=fraction, steps=steps), number, known=known,
                                  understood=understood)])


def priced(cost):
    """The same where one point less data costs so many per cent more updates."""
    return reduction({percents / 100: (2000, round(1e5 * (1 + cost / 100) ** (25 - percents)))
                      for percents in (25, 26, 28, 30)})


def variants(needs, others=0.6, steps=100_000):
    """Figure 2 (left): {variant: smallest fraction that suffices}, for all the other variants `others`."""
    return of(*[each for name, changes in VARIANTS.items() for fraction in (0.1, 0.2, 0.3, 0.4, 0.6)
                for each in seeds(S5.but(train_fraction=fraction, stop="solved", steps=steps, **changes),
                                  understood=2000 if fraction >= needs.get(name, others) else None)])


def levels(values, settings, base):
    """{name: best validation accuracy} at three fractions; `settings` {name: changes of `base`}."""
    return of(*[each for name, value in values.items() for fraction in (0.4, 0.6, 0.8)
                for each in seeds(base.but(train_fraction=fraction, **settings[name]), level=value)])


def noise(**values):
    names = {"full": "Adam, full batch", "adam": "Adam", "updates": "Adam, full batch, update noise",
             "weights": "Adam, weight noise 0.01"}
    return levels({names[key]: value for key, value in values.items()}, VARIANTS, S5)


def rates(low, middle, high):
    return levels({"Adam, lr × 0.3": low, "Adam": middle, "Adam, lr × 3": high}, VARIANTS, S5)


def lies(values):
    return levels(values, {k: {"outliers": k} for k in values}, RunSpec())


def lies_by_heart(train, steps=100_000):
    """Best training accuracy is 100%, or `train` {outliers: accuracy}."""
    return of(*[each for k in (10, 100, 1000, 2000, 3000) for fraction in (0.4, 0.6, 0.8)
                for each in seeds(RunSpec(train_fraction=fraction, outliers=k, steps=steps), train=train.get(k, 1))])


def network(spec, rows, understood=1000):
    return run(spec.but(keep=("output",)), understood=understood, kept={"output": rows.astype(np.float32)})


def near_cosets(noise):
    """120 rows that gather by the first of the twelve partitions, and as much noise."""
    return np.eye(12)[geometry.coset_partitions()[1][0]] + noise * np.random.default_rng(0).normal(size=(120, 12))


def on_a_circle(step, noise):
    """97 rows on a circle on which x and x + step are neighbours, and as much noise in 20 dimensions."""
    angles = 2 * np.pi * geometry.partner(step, 97) * np.arange(97) / 97
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.hstack([circle, np.zeros((97, 18))]) + noise * np.random.default_rng(0).normal(size=(97, 20))


def inside(cosets=None, line=None, without=(None, None), understood=1000, steps=100_000):
    """Figure 3: rows for S5 and x+y with decay, and without (these are in `understood`'s state)."""
    sides = [(S5, 1.0, cosets, 1000), (RunSpec(), 1.0, line, 1000),
             (S5, 0.0, without[0], understood), (RunSpec(), 0.0, without[1], understood)]
    return of(*[network(spec.but(weight_decay=decay, steps=steps, seed=seed), rows, when)
                for spec, decay, rows, when in sides if rows is not None for seed in range(3)])


def stepping(*steps):
    """Networks of x+y, each with a line of its own step."""
    return of(*[network(RunSpec(seed=seed, steps=100_000), on_a_circle(step, 0.01)) for seed, step in enumerate(steps)])


def arriving(name, sign):
    """An operation that arrives at three fractions, the later the less (sign -1) or the more (1) data there are."""
    return of(*[each for fraction in (0.4, 0.5, 0.6)
                for each in seeds(RunSpec(operation=name, train_fraction=fraction, steps=100_000, stop="solved"),
                                  understood=round(3000 * np.exp(5 * sign * (fraction - 0.5))))])


def training_by(updates):
    """Figure 2 (left): {variant: updates to 99% training accuracy}."""
    return of(*[each for name, known in updates.items() for fraction in (0.4, 0.6, 0.8)
                for each in seeds(S5.but(train_fraction=fraction, steps=100_000, stop="solved", **VARIANTS[name]),
                                  known=known)])


def minima(accuracy_of, number=21):
    return of(*[run(S5.but(seed=seed, keep=("sharpness",)), level=accuracy_of(seed),
                    kept={"sharpness": np.array([seed, 0, 1], np.float32)}) for seed in range(number)])


PAIRS = {"x+y": 0.25, "x-y": 0.3, "x*y": 0.25, "x/y": 0.3, "x^2+xy+y^2": 0.35, "x^2+xy+y^2+x": 2}
MIXED = "x/y if y odd else x-y"
DECAY, TO_INIT = "AdamW, weight decay 1", "AdamW, decay to init"
NOTHING, NO_LINE = (np.random.default_rng(1).normal(size=(n, 20)) for n in (120, 97))
GATHERED, LINE = near_cosets(0.01), on_a_circle(8, 0.01)


def gaps(late, soon):
    """So many of the thirteen operations understand 10 times as late as they learn by heart, so many sooner."""
    names = list(OPERATIONS)
    return of(*grid(dict.fromkeys(names[:late], 0.3), (0.25, 0.3, 0.95), late=5000),
              *grid(dict.fromkeys(names[late:late + soon], 0.3), (0.25, 0.3, 0.95), late=4000),
              *grid(dict.fromkeys(names[late + soon:], 2), (0.25, 0.3, 0.95)))


# For each rule: runs that must give "reproduced", "partly" and "not", and runs of which too little is known.
CASES = {
    "known_early": (lambda: alone(known=900), lambda: alone(known=1500), lambda: alone(known=5000),
                    lambda: of(run(ALONE.but(steps=800), known=801))),
    "waits": (lambda: alone(level=0.09, understood=600_000), lambda: alone(level=0.2), lambda: alone(level=0.3),
              lambda: of(run(ALONE.but(steps=10_000)))),
    "starts_late": (lambda: alone(understood=500_000), lambda: alone(understood=100_000),
                    lambda: alone(level=0.06, understood=500_000), lambda: of(run(ALONE.but(steps=999_999)))),
    "understands_late": (lambda: alone(understood=600_000), lambda: alone(understood=150_000), alone,
                         lambda: of(run(ALONE.but(steps=500_000)))),
    "thousandfold": (lambda: alone(understood=500_000), lambda: alone(understood=100_000),
                     lambda: alone(understood=40_000), lambda: of(run(ALONE.but(steps=999_999)))),
    "typical": (lambda: gaps(12, 0), lambda: gaps(7, 6), lambda: gaps(4, 9), lambda: grid({"x+y": 0.3}, (0.25, 0.3))),
    "loss_rises": (lambda: losses([5, 4, 9, 1], [4, 1, 0, 0], budget=10**5),
                   lambda: losses([5, 4, 6, 1], [4, 1, 0, 0], budget=10**5),
                   lambda: losses([5, 4, 3, 1], [4, 1, 0, 0], budget=10**5), lambda: of(run(ALONE.but(steps=10_000)))),
    "loss_falls_again": (lambda: losses([5, 4, 9, 1], [4, 1, 0, 0], 0.9),
                         lambda: losses([5, 4, 9, 1], [4, 1, 0.1, 0], 0.9),
                         lambda: losses([5, 4, 9, 8], [4, 1, 0, 0]), lambda: of(run(ALONE.but(steps=10_000)))),
    "dearer": (lambda: priced(10), lambda: reduction({0.3: (500, 3000), 0.4: (500, 1000), 0.5: (500, 2000)}),
               lambda: priced(-10),
               lambda: reduction({0.3: (500, 3000), 0.4: (500, 2000), 0.5: (500, 1000)}, number=2)),
    "forty_to_fifty": (lambda: priced(45), lambda: priced(20), lambda: priced(-10),
                       lambda: reduction({0.3: (500, 3000), 0.35: (500, 9)})),
    "stays_whole": (lambda: reduction(dict.fromkeys((0.2, 0.3, 0.5, 0.8), (500, 5000)) | {0.2: (500, None)}),
                    lambda: reduction(dict.fromkeys((0.3, 0.4, 0.5, 0.8), (500, 5000)) | {0.8: (500, None)}),
                    lambda: reduction({0.3: (500, None), 0.4: (500, None), 0.5: (500, 5000)}),
                    lambda: reduction({0.3: (500, None), 0.4: (500, 5000), 0.5: (500, 5000)}, steps=10_000)),
    "tracks": (lambda: reduction({0.3: (500, 5000), 0.4: (500, 2000), 0.5: (500, 1000)}),
               lambda: reduction({0.3: (500, 3000), 0.4: (500, 1000), 0.5: (500, 2000)}),
               lambda: reduction({0.3: (500, 1000), 0.4: (500, 2000), 0.5: (500, 5000)}),
               lambda: reduction({0.3: (500, 5000), 0.4: (500, 2000), 0.5: (500, 1000)}, number=2)),
    "learns_by_heart_as_fast": (lambda: reduction(dict.fromkeys((0.3, 0.4, 0.5), (3000, None))),
                                lambda: reduction({0.3: (900, None), 0.4: (2000, None), 0.5: (10_000, None)}),
                                lambda: reduction({0.3: (900, None), 0.4: (2000, None), 0.5: (10_001, None)}),
                                lambda: reduction(dict.fromkeys((0.65, 0.7, 0.8), (3000, None)))),
    "by_heart_sooner": (lambda: reduction({0.3: (1000, None), 0.4: (2000, None), 0.5: (3000, None)}),
                        lambda: reduction({0.3: (1000, None), 0.4: (5000, None), 0.5: (2000, None)}),
                        lambda: reduction({0.3: (3000, None), 0.4: (2000, None), 0.5: (1000, None)}),
                        lambda: reduction(dict.fromkeys((0.3, 0.4, 0.5), (600_000, None)))),
    "symmetric_need_less": (lambda: grid(PAIRS), lambda: grid(PAIRS | {"x/y": 0.25}),
                            lambda: grid(PAIRS | {"x/y": 0.25, "x+y": 0.4}), lambda: grid(PAIRS, (0.3, 0.4))),
    "as_hard_as_subtraction": (lambda: grid({"x-y": 0.3, "x/y": 0.35}), lambda: grid({"x-y": 0.3, "x/y": 0.4}),
                               lambda: grid({"x-y": 0.25, "x/y": 0.4}),
                               lambda: grid({"x-y": 0.3, "x/y": 2}, steps=99_999)),
    "mixture_generalises": (lambda: grid({MIXED: 0.95}),
                            lambda: of(*levels({0: 0.7}, {0: {}}, RunSpec(operation=MIXED))),
                            lambda: grid({MIXED: 2}), lambda: grid({MIXED: 2}, steps=99_999)),
    "mixture_needs_more": (lambda: grid({"x-y": 0.3, "x/y": 0.3, MIXED: 0.35}),
                           lambda: grid({"x-y": 0.25, "x/y": 0.3, MIXED: 0.3}),
                           lambda: grid({"x-y": 0.3, "x/y": 0.3, MIXED: 0.3}), lambda: grid({"x-y": 0.3, "x/y": 0.3})),
    "dearer_everywhere": (lambda: of(*arriving("x+y", -1), *arriving("x-y", -1)),
                          lambda: of(*arriving("x+y", -1), *arriving("x-y", 1)),
                          lambda: arriving("x+y", 1), lambda: grid({"x+y": 0.4, "x-y": 2})),
    "merely_memorised": (lambda: grid({"x^3+xy^2+y": 2}), lambda: grid({"x^3+xy^2+y": 0.35}),
                         lambda: grid({"x^3+xy^2+y": 0.25}), lambda: grid({"x^3+xy^2+y": 2}, steps=99_999)),
    "never_up_to_95": (lambda: grid({"x^3+xy^2+y": 2}),
                       lambda: of(*levels({0: 0.7}, {0: {}}, CUBIC), *grid({"x^3+xy^2+y": 2})),
                       lambda: grid({"x^3+xy^2+y": 0.95}), lambda: grid({"x^3+xy^2+y": 2}, FRACTIONS[:-1])),
    "decay_is_best": (lambda: variants({DECAY: 0.2}), lambda: variants({DECAY: 0.2, "Adam": 0.2}),
                      lambda: variants({DECAY: 0.3, "Adam": 0.2}), lambda: variants({DECAY: 0.2}, steps=50_000)),
    "decay_halves_the_data": (lambda: variants({DECAY: 0.2}), lambda: variants({DECAY: 0.2, "Adam": 0.6}, 0.4),
                              lambda: variants({DECAY: 0.2}, 0.4), lambda: variants({DECAY: 0.1})),
    "decay_to_init_is_second": (lambda: variants({DECAY: 0.2, TO_INIT: 0.4}),
                                lambda: variants({DECAY: 0.2, TO_INIT: 0.6}),
                                lambda: variants({DECAY: 0.4, TO_INIT: 0.4}), lambda: variants({TO_INIT: 0.1})),
    "trains_alike": (lambda: training_by(dict.fromkeys(VARIANTS, 2000)),
                     lambda: training_by(dict.fromkeys(VARIANTS, 2000) | {"Adam": 900}),
                     lambda: training_by(dict.fromkeys(VARIANTS, 900) | {"Adam": 2000}),
                     lambda: training_by({"Adam": 2000})),
    "some_without_noise": (lambda: noise(full=0.12, adam=0.4), lambda: noise(full=0.08, adam=0.4),
                           lambda: noise(full=0.05, adam=0.05), lambda: noise(adam=0.4)),
    "noise_helps": (lambda: noise(full=0.2, adam=0.4, updates=0.3, weights=0.5),
                    lambda: noise(full=0.2, adam=0.4, updates=0.3, weights=0.4),
                    lambda: noise(full=0.2, adam=0.4, updates=0.2, weights=0.3),
                    lambda: noise(full=0.2, adam=0.4, weights=0.3)),
    "rate_within_a_decade": (lambda: rates(0.2, 0.5, 0.3), lambda: rates(0.6, 0.5, 0.3), lambda: rates(0.6, 0.5, 0.48),
                             lambda: noise(adam=0.4)),
    "shows_cosets": (lambda: inside(GATHERED), lambda: inside(near_cosets(0.5)), lambda: inside(NOTHING),
                     lambda: inside(NOTHING, steps=6000)),
    "shows_a_line": (lambda: inside(line=LINE), lambda: inside(line=on_a_circle(8, 0.5)), lambda: inside(line=NO_LINE),
                     lambda: inside(line=NO_LINE, steps=6000)),
    "steps_differ": (lambda: stepping(8, 11, 40), lambda: stepping(8, 8, 40), lambda: stepping(8, 8, 8),
                     lambda: stepping(8, 11)),
    "clearer_with_decay": (lambda: inside(GATHERED, LINE, (NOTHING, NO_LINE)),
                           lambda: inside(GATHERED, LINE, (NOTHING, NO_LINE), None),
                           lambda: inside(NOTHING, NO_LINE, (GATHERED, LINE)),
                           lambda: inside(GATHERED, LINE, (NOTHING, NO_LINE), None, 6000)),
    "few_hardly_matter": (lambda: lies({0: 0.9, 10: 0.9, 100: 0.9, 1000: 0.81}),
                          lambda: lies({0: 0.9, 10: 0.9, 100: 0.9, 1000: 0.7}),
                          lambda: lies({0: 0.9, 10: 0.6, 100: 0.9, 1000: 0.9}),
                          lambda: lies({0: 0.9, 10: 0.9, 100: 0.9})),
    "many_hurt": (lambda: lies({0: 0.9, 2000: 0.6, 3000: 0.3}), lambda: lies({0: 0.9, 2000: 0.8, 3000: 0.3}),
                  lambda: lies({0: 0.9, 2000: 0.9, 3000: 0.8}), lambda: lies({0: 0.9, 2000: 0.6})),
    "all_is_learnt_by_heart": (lambda: lies_by_heart({}), lambda: lies_by_heart({3000: 0.98}),
                               lambda: lies_by_heart(dict.fromkeys((100, 1000, 3000), 0.9)),
                               lambda: lies_by_heart({3000: 0.98}, steps=5000)),
    "sharper_is_worse": (lambda: minima(lambda i: 0.9 - i / 40 + 0.15 * (i % 3 - 1)),
                         lambda: minima(lambda i: 0.9 - i / 40),
                         lambda: minima(lambda i: i / 40), lambda: minima(lambda i: 0.9 - i / 40, 19)),
}


def claim_of(rule):
    return next(claim for claim in CLAIMS if claim.rule.__name__ == rule)


@pytest.mark.parametrize("rule, verdict", [(rule, verdict) for rule in CASES for verdict in VERDICTS])
def test_each_rule_gives_each_verdict_where_it_is_due(rule, verdict):
    judgement = claim_of(rule).judge(CASES[rule][VERDICTS.index(verdict)]())
    assert judgement.verdict == verdict, judgement
    assert judgement.number and (judgement.n or verdict == WAITING)


def test_every_claim_has_its_cases_and_a_rule_that_says_in_words_when_it_is_reproduced_and_when_partly():
    assert set(CASES) == {claim.rule.__name__ for claim in CLAIMS} and len(CASES) == len(CLAIMS)
    assert all(len(claim.test.split()) >= 8 and claim.test.count(";") >= 1 and "\n" not in claim.test
               for claim in CLAIMS)
    assert {claim.figure for claim in CLAIMS} == {"1 left", "4", "1 centre", "2 right", "2 left", "3", "6", "A.5"}


@pytest.mark.parametrize("profile", ["best", "smoke", "overnight"])
def test_an_empty_store_gives_not_yet_enough_runs_for_every_claim(tmp_path, profile):
    judged = claims.judge_all(claims.load_all(profile, tmp_path))
    assert list(judged) == list(CLAIMS) and {its.verdict for its in judged.values()} == {WAITING}


def test_a_new_run_in_the_store_changes_the_verdict_and_another_profile_does_not_see_it(tmp_path):
    claim = claim_of("known_early")
    store.save(run(experiments.runs("grokking_curve", "overnight")[0], known=400), tmp_path)
    seen = {profile: claim.judge(claims.load("grokking_curve", profile, tmp_path))
            for profile in ("best", "overnight", "paper")}
    assert [its.verdict for its in seen.values()] == [REPRODUCED, REPRODUCED, WAITING]
    assert seen["best"].number == "at update 400 (1 run)" and seen["best"].n == 1


@pytest.mark.parametrize("rule", CASES)
def test_the_runs_of_tiny_tables_decide_nothing(rule):
    tiny = list(CASES[rule][0]())
    for each in tiny:
        each.spec = each.spec.but(width=32)
    assert claim_of(rule).judge(of(*tiny)).verdict == WAITING


def test_a_censored_run_is_a_number_in_no_verdict():
    budget = 10_000
    for rule in ("understands_late", "thousandfold"):
        assert f"{budget:,} updates; 1,000,000 asked for" in claim_of(rule).judge(
            of(run(ALONE.but(steps=budget)))).number
    # At 30% none has arrived: its updates are unknown
    late = reduction({0.3: (500, None), 0.4: (500, 400_000), 0.5: (500, 1000)})
    assert claim_of("forty_to_fifty").judge(late).verdict == WAITING
    assert claim_of("dearer").judge(late).verdict == REPRODUCED  # but it is known that they are more
    # Trained for less long than others have needed, nobody knows who would have arrived first.
    mixed = [each for each in late if each.spec.train_fraction > 0.3] + list(reduction({0.3: (500, None)}, steps=5000))
    never = [run(each.spec) if each.spec.train_fraction == 0.4 else each for each in mixed]
    assert claim_of("dearer").judge(of(*mixed)).number == claim_of("dearer").judge(of(*never)).number


def test_too_few_runs_give_a_number_so_far_with_their_budget_and_seeds_and_still_no_verdict():
    few = of(*[each for k, level in {0: 0.9, 2000: 0.6, 3000: 0.3}.items()
               for each in seeds(RunSpec(outliers=k, train_fraction=0.4, steps=5000), 2, level=level)])
    for _ in range(2):  # what was asked for is asked for again afterwards
        its = claim_of("many_hurt").judge(few)
        assert (its.verdict, its.so_far) == (
            WAITING, "k = 2,000: 30.0, k = 3,000: 60.0 points (6 runs, 2 seeds, within 5,000 updates)")
        assert "3 asked for" in its.number
    row = claims.as_table({claim_of("many_hurt"): its}).iloc[0]
    assert (row["verdict"], row["ours"], row["runs"], row["lacking"]) == (WAITING, its.so_far, "-", its.number)


def test_a_number_so_far_names_bounds_and_leaves_out_variants_that_nobody_trained():
    its = claim_of("symmetric_need_less").judge(grid(PAIRS, (0.3, 0.4), steps=5000, number=1))
    assert its.so_far.startswith("x+y 5 to 30%, x-y 5 to 30%; x*y 5 to 30%, x/y 5 to 30%; "
                                  "x^2+xy+y^2 35 to 40%, x^2+xy+y^2+x ≥ 45% or none")
    some = of(*[each for each in variants({DECAY: 0.2}) if not each.spec.full_batch and each.spec.seed == 0])
    assert claim_of("decay_is_best").judge(some).so_far == (
        "≤ 20%, next of 6 ≤ 60% (35 runs, 1 seed, within 100,000 updates)")


@pytest.mark.parametrize("rule", CASES)
def test_whichever_runs_are_missing_a_rule_has_an_answer(rule):
    random = np.random.default_rng(0)
    for case in CASES[rule] * 3:
        runs = case()
        its = claim_of(rule).judge(Results([h for h in runs if random.random() < 0.3], runs.specs))
        assert its.verdict in VERDICTS and its.number and "nan" not in its.so_far


@pytest.mark.parametrize("rule", CASES)
def test_a_verdict_has_no_number_so_far_and_nothing_has_none(rule):
    assert not any(claim_of(rule).judge(CASES[rule][kind]()).so_far for kind in range(3))
    assert not claim_of(rule).judge(of()).so_far


def test_what_came_after_the_claims_own_budget_has_not_come():
    assert claim_of("thousandfold").judge(of(run(ALONE.but(steps=2 * 10**6), understood=1_500_000))).number == "never"


def test_even_and_odd_lying_apart_are_no_cosets():
    rows = np.hstack([10 * geometry.parity()[:, None], np.random.default_rng(2).normal(size=(120, 12))])
    assert claim_of("shows_cosets").judge(inside(rows)).verdict == NOT


def test_a_weaker_correlation_than_the_papers_is_partly_what_it_says():
    assert claim_of("sharper_is_worse").judge(minima(lambda i: 0.9 - i / 40 + 0.25 * (i % 3 - 1))).verdict == PARTLY


def test_one_network_is_too_few_to_tell_whether_steps_differ_and_enough_for_some_line():
    one = of(inside(line=LINE)[0])
    assert (claim_of("steps_differ").judge(one).verdict == WAITING
            and claim_of("shows_a_line").judge(one).verdict == REPRODUCED)


@pytest.mark.parametrize("rule, place, shown, nothing", [("shows_cosets", "cosets", GATHERED, NOTHING),
                                                         ("shows_a_line", "line", LINE, NO_LINE)])
def test_what_some_network_shows_counts_as_in_the_paper_and_each_is_named(rule, place, shown, nothing):
    """A median of p-values would be no p-value, and would not tell that a third network says otherwise."""
    runs, others = inside(**{place: shown}), inside(**{place: nothing})
    some, none = (claim_of(rule).judge(of(*runs[:n], *others[n:])) for n in (1, 0))
    assert (some.verdict, none.verdict) == (REPRODUCED, NOT)
    assert some.number.count("clear in the plane") == 1 and len(some.number.split("; ")) == some.n == 3


def test_of_many_networks_one_has_a_small_p_by_luck(monkeypatch):
    ps = iter([0.5, 0.004, 0.5, 0.5, 0.003, 0.5])
    found = [geometry.Tested(8, 0.4, p, np.zeros(48)) for p in ps]
    monkeypatch.setattr(judges_networks, "_line_test", lambda rows, each=iter(found): next(each))
    monkeypatch.setattr(judges_networks, "_plane", lambda rows, n: np.frombuffer(rows, np.float32).reshape(n, -1))
    assert [claim_of("shows_a_line").judge(inside(line=NO_LINE)).verdict for _ in range(2)] == [NOT, REPRODUCED]


def test_a_validation_loss_that_leaps_together_with_the_training_loss_is_no_rise_while_that_falls():
    assert claim_of("loss_rises").judge(
        losses([5, 4, 4.4, 99, 1], [4, 1, 0.01, 0.5, 0], budget=10**5)).number == "1.1 times"


def test_a_rise_after_the_claims_own_updates_is_none():
    assert claim_of("loss_rises").judge(losses([5, 4, 99, 1], [4, 1, 0.01, 0])).verdict == NOT


def test_a_run_that_diverged_decides_nothing_and_keeps_nothing_undecided():
    """No sweep will train it again, so a rule that waited for it would wait for ever; alone it shows no wait."""
    runs = of(*(run(ALONE.but(seed=seed), level=0.09) for seed in range(2)),
              run(ALONE.but(seed=2, steps=5000), level=0.09))
    runs[2].spec, runs[2].stopped_because = ALONE.but(seed=2), "diverged"
    assert (claim_of("waits").judge(runs).verdict == REPRODUCED
            and claim_of("waits").judge(of(runs[2])).verdict == WAITING)
    for h in runs[1:]:
        h.stopped_because = "diverged"
    runs[0].val_accuracy[:] = 0.9
    assert claim_of("waits").judge(runs).number == "90.0%"


def test_a_run_whose_validation_was_first_at_99_percent_lags_by_nothing():
    """As where much is learnt only with understanding: the ratio is 1, not 0."""
    close = reduction({0.3: (100, 5000), 0.4: (100, 2000), 0.5: (100, 1000)})
    for h in close[6:]:
        h.train_accuracy[:] = 0.5
    assert claim_of("tracks").judge(close).verdict == REPRODUCED
    assert judges._apart(close)[-1] == 1


def test_a_mixture_that_never_suffices_needs_no_more_than_its_parts():
    assert claim_of("mixture_needs_more").judge(grid({"x-y": 0.3, "x/y": 0.3, MIXED: 2})).verdict == NOT


def test_one_seed_at_each_of_three_fractions_is_no_three_seeds():
    runs = training_by(dict.fromkeys(VARIANTS, 2000))
    thin = of(*[h for h in runs if h.spec.seed == round(10 * h.spec.train_fraction) // 2 - 2])
    assert claim_of("trains_alike").judge(thin).verdict == WAITING


def test_a_first_evaluation_at_a_thousand_is_no_proof_of_a_thousand_updates():
    """Evaluated at 794 and then at 1,000, the run may have been there at 800."""
    inside = [claim_of("learns_by_heart_as_fast").judge(
                  reduction(dict.fromkeys((0.3, 0.4, 0.5), (known, None)))).verdict
              for known in (1000, 1059, 10_000)]
    assert inside == [NOT, REPRODUCED, REPRODUCED]


def test_two_opposite_trends_are_at_most_partly_one():
    """Sooner with less data where it is learnt by heart; where the last of it comes with understanding, later."""
    updates = {0.3: 400, 0.35: 500, 0.4: 600, 0.45: 700, 0.6: 5000, 0.65: 4000, 0.7: 3000, 0.75: 2000}
    its = claim_of("by_heart_sooner").judge(reduction({f: (known, None) for f, known in updates.items()}))
    assert its.verdict == PARTLY and "upper half of the fractions -1.00" in its.number
    # Where the upper half is all alike
    falling = reduction({0.3: (3000, None), 0.4: (2000, None), 0.5: (1000, None), 0.6: (1000, None)})
    assert claim_of("by_heart_sooner").judge(falling).verdict == NOT


def test_a_highest_loss_may_come_later_so_a_fall_is_judged_when_the_time_is_over():
    fallen = losses([5, 4, 9, 1], [4, 1, 0, 0])
    fallen[0].spec = fallen[0].spec.but(steps=10**5)
    fallen[0].step = fallen[0].step // 10
    assert claim_of("loss_falls_again").judge(fallen).verdict == WAITING


def test_twice_as_much_data_than_was_tried_is_no_number():
    """Where decay needs 40% and no more than 60% was tried, those that never sufficed may need less than 80%."""
    its = claim_of("decay_halves_the_data").judge(variants({DECAY: 0.4}, 2))
    assert its.verdict == WAITING and "60%" in its.number and not its.so_far


def test_on_a_coarser_grid_a_variant_is_held_against_decay_on_that_grid():
    """Both need some 25%: on the grid of the one that is 30%, on that of the other 40%."""
    runs = variants({DECAY: 0.3, "Adam, full batch": 0.3})
    coarse = of(*[h for h in runs if not (h.spec.full_batch and h.spec.train_fraction == 0.3)])
    assert claim_of("decay_is_best").judge(runs).verdict == claim_of("decay_is_best").judge(coarse).verdict == PARTLY


def test_on_a_coarse_grid_needs_that_look_alike_are_bounds_and_no_verdict():
    """Where 30 and 50% were tried, "50%" may be 35 or 50%: neither a difference of 5 points nor the wait there is
    known."""
    runs = grid(dict.fromkeys(OPERATIONS, 0.5), (0.3, 0.5))
    its = claim_of("as_hard_as_subtraction").judge(runs)
    assert its.verdict == WAITING and its.so_far.startswith("x-y 35 to 50%, x/y 35 to 50%")
    assert {claim_of(rule).judge(runs).verdict
            for rule in ("typical", "symmetric_need_less", "mixture_needs_more")} == {WAITING}


def test_a_seed_that_fails_tells_that_three_cannot_have_99_percent_and_one_that_arrives_tells_nothing():
    def at(*levels, steps=100_000):
        return [run(RunSpec(train_fraction=0.3, steps=steps, seed=seed), level=level)
                for seed, level in enumerate(levels)]
    assert [suffices(at(*levels)) for levels in ((0.9,), (0.98,), (1.0,), (1.0, 0.96), (1.0, 0.98))] == [
        False, None, None, False, None]
    assert [suffices(at(*levels)) for levels in ((1.0, 1.0, 0.97), (1.0, 1.0, 0.96), (1,) * 6 + (0.95,))] == [
        True, False, True]
    short = [suffices(at(*levels, steps=5000)) for levels in ((0.1,), (0.9, 1, 1), (0.99,) * 3)]
    assert short == [None, None, True]  # it may arrive yet; and what was known once is known


def test_what_is_needed_lies_above_what_failed_and_not_above_what_suffices_in_steps_of_5_points():
    def need(*fractions, suffices=1.0):
        return needed(grid({"x+y": suffices}, fractions, number=3))
    assert str(need(0.3, 0.5, suffices=0.5)) == "35 to 50%" and str(need(0.3, 0.35, suffices=0.35)) == "35%"
    assert str(need(0.3, 0.5, suffices=0.3)) == "5 to 30%" and str(need(0.3, 0.9)) == "≥ 95% or none"
    assert str(need(0.3, 0.95)) == "none" and str(needed(of())) == "not known"
    assert str(need(0.22, 0.5, suffices=0.5)) == "25 to 50%" and str(need(0.33, 0.35, suffices=0.35)) == "35%"
    assert need(0.22, 0.25, suffices=0.25).each() == [0.25] and str(need(0.2, 0.22, suffices=0.22)) == "25%"
    # What fails with more data than was enough says nothing of the smallest
    assert str(needed(of(*grid({"x+y": 0.3}, (0.2, 0.3)), *grid({"x+y": 2}, (0.5,))))) == "25 to 30%"
    # Seeds that are not there, and fractions: no more is known than the others tell
    runs = grid({"x+y": 0.5}, (0.1, 0.3, 0.5))
    assert str(needed(Results([h for h in runs if h.spec.train_fraction > 0.2], [h.spec for h in runs]))) == "35 to 50%"
    assert str(needed(of(*[h for h in runs if h.spec.train_fraction < 0.4 or h.spec.seed]))) == "≥ 35% or none"
    # Two histories of a seed: what is known by either is known
    short, whole = [[run(RunSpec(train_fraction=0.3, steps=steps, seed=seed), level=level) for seed in range(3)]
                    for steps, level in ((5000, 0.1), (100_000, 1.0))]
    assert suffices(short + whole) is suffices(whole + short) is True


def test_a_wait_that_may_end_yet_is_no_wait_that_never_ended():
    """Two seeds of three have understood, and the mean so far suffices; the third is at 97.5%, and was not trained
    on."""
    runs = list(grid(dict.fromkeys(OPERATIONS, 0.3), (0.25, 0.3), late=30_000))
    assert claim_of("typical").judge(of(*runs)).verdict == REPRODUCED
    last = runs[-1]
    last.spec, last.stopped_because, last.val_accuracy[:] = last.spec.but(steps=5000), "budget", 0.975
    its = claim_of("typical").judge(of(*runs))
    assert suffices(runs[-3:]) and its.verdict == WAITING and "5,000 updates, 100,000 asked for" in its.number


def test_bounds_decide_where_whatever_lies_between_them_gives_the_same_verdict():
    """x-y is known to need 35 to 50%: more than what suffices for x+y, less than what does not for the mixture; but as
    much as x/y it needs only perhaps."""
    runs = list(grid({"x+y": 0.3, "x*y": 0.3, "x^2+xy+y^2": 0.3, "x-y": 0.5, "x/y": 0.5, "x^2+xy+y^2+x": 0.5,
                      MIXED: 0.7}, (0.3, 0.5, 0.7)))
    fewest = Results([h for h in runs if h.spec.seed == 0 or h.train_accuracy[-1] == h.val_accuracy[-1]],
                     [h.spec for h in runs])
    for each in (of(*runs), fewest):
        judged = {rule: claim_of(rule).judge(each)
                  for rule in ("symmetric_need_less", "mixture_needs_more", "as_hard_as_subtraction")}
        assert [its.verdict for its in judged.values()] == [REPRODUCED, REPRODUCED, WAITING]
        assert judged["symmetric_need_less"].number.startswith("x+y 5 to 30%, x-y 35 to 50%; ")
        assert judged["mixture_needs_more"].number == "55 to 70%, its parts 35 to 50% and 35 to 50%"
    assert len(fewest) < len(runs)
    other = grid({"x-y": 0.5, "x/y": 0.3, MIXED: 2}, (0.3, 0.5, 0.7))
    assert claim_of("mixture_needs_more").judge(other).number == (
        "bounds that do not decide: ≥ 75% or none, its parts 35 to 50% and 5 to 30%")


def test_the_runs_that_come_first_stand_for_none_that_are_missing():
    """Seeds that end early are the quick ones, fractions that are done early the easy ones: all that were asked for
    must be there."""
    whole = reduction({0.25: (500, 100_000), 0.26: (500, 69_000), 0.28: (500, 33_000), 0.3: (500, 16_000),
                       0.4: (500, 3000)}, number=5)
    quick = Results([h for h in whole if h.spec.seed < 3], whole.specs)
    assert [claim_of("forty_to_fifty").judge(runs).verdict for runs in (whole, quick)] == [REPRODUCED, WAITING]
    hurt = lies({0: 0.9, 2000: 0.6, 3000: 0.3})
    easy = Results([h for h in hurt if h.spec.train_fraction > 0.5], hurt.specs)
    assert [claim_of("many_hurt").judge(runs).verdict for runs in (hurt, easy)] == [REPRODUCED, WAITING]


def test_where_both_are_at_their_best_nothing_is_compared():
    settings = {name: VARIANTS[name] for name in ("Adam", "Adam, lr × 0.3", "Adam, lr × 3")}
    assert claim_of("rate_within_a_decade").judge(
        levels(dict.fromkeys(settings, 0.995), settings, S5)).verdict == WAITING


def test_a_grid_that_ends_early_shows_nothing_that_never_comes():
    assert claim_of("merely_memorised").judge(grid({"x^3+xy^2+y": 2}, FRACTIONS[:-1])).verdict == WAITING
    assert claim_of("mixture_needs_more").judge(
        grid({"x-y": 0.3, "x/y": 0.3, MIXED: 2}, (0.2, 0.25, 0.3, 0.35))).verdict == WAITING


def test_on_grids_of_unequal_fineness_neither_twice_the_data_nor_the_median_misleads():
    """Full batches have few fractions: what they need looks like more than it is."""
    def coarse(fractions, needs, others):
        return of(*[h for h in variants(needs, others) if not h.spec.full_batch or h.spec.train_fraction in fractions])
    full, rates_ = ({name: need for name in VARIANTS if part in name}
                    for part, need in (("full batch", 0.4), ("lr", 0.6)))
    assert claim_of("decay_to_init_is_second").judge(
        coarse((0.1, 0.4, 0.6), {DECAY: 0.2, TO_INIT: 0.3} | full | rates_, 0.3)).verdict == PARTLY
    assert claim_of("decay_halves_the_data").judge(coarse((0.1, 0.2, 0.6), {DECAY: 0.2} | full, 0.4)).verdict == NOT


def test_what_is_understood_after_the_papers_updates_is_not_understood_within_them():
    assert claim_of("stays_whole").judge(
        reduction(dict.fromkeys((0.3, 0.4, 0.5), (500, 400_000)))).number == "none of 3 fractions"
    assert claim_of("as_hard_as_subtraction").judge(
        grid({"x-y": 0.3, "x/y": 0.3}, steps=500_000, late=400_000)).number == "x-y none, x/y none"


def test_a_run_cut_off_before_the_median_may_have_come_sooner():
    cut = of(run(ALONE, understood=250_000), run(ALONE.but(seed=1), understood=900_000),
             run(ALONE.but(seed=2, steps=255_000)))
    assert claim_of("understands_late").judge(cut).verdict == WAITING


def test_a_spike_is_not_the_highest_from_which_the_loss_falls():
    spiked = losses([5, 4, 20, 20, 45, 20, 20], [4, 0.4, 0, 0, 0.005, 0, 0])
    assert claim_of("loss_falls_again").judge(spiked).number == "to 100% of its highest, accuracy +0 points"


def test_a_loss_that_merely_recovers_from_a_leap_is_no_second_descent():
    """Training loss is tiny at the top, and validation loss falls to a tenth of it; but nothing has been understood
    meanwhile."""
    recovered = claim_of("loss_falls_again").judge(losses([5, 4, 100, 10], [4, 1, 0, 0], 0.2))
    assert (recovered.verdict, recovered.number) == (PARTLY, "to 10% of its highest, accuracy +20 points")


def test_a_network_that_diverged_is_no_network_without_decay():
    runs = inside(GATHERED, LINE, (NOTHING, NO_LINE))
    broken = runs[6]
    assert broken.spec.operation == "xy in S5" and not broken.spec.weight_decay
    broken.stopped_because, broken.kept = "diverged", {"output": np.full((122, 20), np.nan, np.float32)}
    assert claim_of("clearer_with_decay").judge(runs).verdict == WAITING
    assert claim_of("clearer_with_decay").judge(
        inside(NOTHING, NO_LINE, (GATHERED, LINE), steps=6000)).verdict == WAITING


def test_networks_with_decay_are_clearer_only_where_each_of_three_is_clearer_than_each_without():
    """On average one alone could be so by the toss of a coin."""
    runs = inside(GATHERED, LINE, (NOTHING, NO_LINE))
    assert claim_of("clearer_with_decay").judge(runs).verdict == REPRODUCED
    runs[6].kept = runs[0].kept  # one of S5 without decay is as clear as any with it
    assert claim_of("clearer_with_decay").judge(runs).verdict == PARTLY
    runs[9].kept = runs[3].kept
    assert claim_of("clearer_with_decay").judge(runs).verdict == NOT
    assert claim_of("clearer_with_decay").judge(of(*(h for h in runs if h.spec.seed < 2))).verdict == WAITING


def test_two_fractions_are_too_few_to_compare():
    few = of(*[each for each in rates(0.4, 0.5, 0.3) if each.spec.train_fraction < 0.7])
    assert claim_of("rate_within_a_decade").judge(few).verdict == WAITING


def test_a_diverged_run_is_no_wait_and_never_understands():
    broken = run(ALONE.but(steps=10**6))
    broken = Results([history(broken.spec, (0, 100), (0, 1), (0, 0), "diverged", train_loss=(4, np.nan),
                              val_loss=(4, np.nan))], [broken.spec])
    assert claim_of("waits").judge(broken).verdict == WAITING
    assert claim_of("understands_late").judge(broken).verdict == NOT


def test_a_run_that_serves_two_experiments_is_counted_once_in_all():
    runs, other = alone(), reduction({0.3: (500, None)})
    both = claims.together({"one": of(*runs, *other[:1]), "two": other})
    assert len(both) == len(both.specs) == len(runs) + len(other)
    cut = other[0].answer(other[0].spec.but(steps=100))
    for loaded in ({"one": other, "two": of(cut)}, {"one": of(cut), "two": other}):
        assert sorted(h.last_step for h in claims.together(loaded)) == sorted(h.last_step for h in other)


def test_the_cousins_differ_in_their_symmetry():
    for symmetric, cousin in judges_fraction.COUSINS.items():
        assert operation(symmetric).symmetric_share == 1 > 0.5 > operation(cousin).symmetric_share


def test_verdicts_are_counted_in_their_order():
    assert claims.counted([NOT, REPRODUCED, WAITING, NOT]) == "1 reproduced, 2 not, 1 not yet enough runs"
    assert claims.counted([]) == "-"


def test_the_scorecard_is_a_row_a_claim_with_the_notebook_that_shows_its_figure(tmp_path):
    table = claims.as_table(claims.judge_all(claims.load_all("quick", tmp_path)))
    assert list(table["claim"]) == [claim.sentence for claim in CLAIMS] and set(table["verdict"]) == {WAITING}
    assert all(notebook in {each.notebook for each in experiments.EXPERIMENTS.values()}
               for notebook in table["notebook"])
