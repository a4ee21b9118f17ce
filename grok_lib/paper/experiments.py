"""Which runs each figure needs, at each profile.

`smoke` is the same code on tiny tables, in seconds; `quick` is the real model on a laptop, some 35 minutes for all of
it; `overnight` is the paper's operations and variants on a coarse grid, mostly with 1 to 70% of its updates, 16 to 23
hours on two CPU cores, and as many again for Figure 6, whose runs are a GPU's; `paper` is the paper's grid, for a GPU.
Runs that several figures need are trained once: the key sees to it.
"""

import dataclasses
from collections.abc import Callable

from grok_lib.operations import OPERATIONS
from grok_lib.paper.variants import BOARD, VARIANTS
from grok_lib.runs import store as store_
from grok_lib.specs import RunSpec

PROFILES = ("smoke", "quick", "overnight", "paper")  # and "best": what has most to show of each experiment (`scale`)
S5 = RunSpec(operation="xy in S5")
CURVE = RunSpec(train_fraction=0.5)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What one figure of the paper stands on: `specs(profile)` lists its runs."""

    figure: str  # in the paper
    notebook: str
    specs: Callable


def start_here(profile):
    """Notebook 00: the live run, the same at 30%, and the two non-commutative cousins; the same at every profile."""
    live = CURVE.but(steps=3000)
    return [live, live.but(train_fraction=0.3, steps=5000), live.but(operation="x-y", steps=5000),
            live.but(operation="x/y", steps=5000)]


def grokking_curve(profile):
    """Figures 1 (left) and 4: `x/y` at 50% without weight decay (473,151 is where a machine's time ended); beside it,
    as most reproductions have it, with."""
    without, with_decay, seeds = {"quick": (4000, 5000, 1), "overnight": (473_151, 6000, 1),
                                  "paper": (1_000_000, 100_000, 3)}[profile]
    run = CURVE.but(operation="x/y")
    keep = ("saturation",) if profile == "paper" else ()  # the million updates that notebook 08 asks for, trained once
    return [*_seeds(run.but(weight_decay=0, steps=without, keep=keep), seeds),
            *_seeds(run.but(steps=with_decay), seeds)]


def curves(profile):
    """A learning curve for each operation at 50%, not stopped when solved."""
    some = ("x+y", "x-y", "x/y", "x^2+y^2", "x^3+xy^2+y", "xy in S5")
    names, steps, seeds = {"quick": (some, 1200, 1), "overnight": (OPERATIONS, 5000, 1),
                           "paper": (OPERATIONS, 100_000, 3)}[profile]
    return [spec for name in names for spec in _seeds(CURVE.but(operation=name, steps=steps), seeds)]


def operations(profile):
    """Figure 2 (right): best validation accuracy against training fraction, for each operation.

    Overnight there are two more seeds from 50% on, and from the fraction on at which an operation arrives (`arrived`);
    from there on they have 10,000 updates, at 30% 20,000; there the mixture of x/y and x-y has the paper's 100,000.
    """
    names, fractions, steps, seeds = {
        "quick": (("x+y", "x-y"), _percents(50, 80), 1200, 1),
        "overnight": (OPERATIONS, _percents(90, 70, 50, 30), 5000, 1),
        "paper": (OPERATIONS, _percents(*range(5, 100, 5)), 100_000, 3)}[profile]
    specs = [spec for name in names for fraction in fractions
             for spec in _seeds(RunSpec(operation=name, train_fraction=fraction, steps=steps, stop="solved"), seeds)]
    if profile != "overnight":
        return specs
    at_30 = dict.fromkeys(("x+y", "x-y", "x*y", "x/y", "x^2+y^2"), 20_000) | {"x/y if y odd else x-y": 100_000}
    arrived = dict.fromkeys(at_30, 0.3) | {"x/y if y odd else x-y": 0.9}
    specs += [spec.but(seed=seed, steps=10_000 if spec.train_fraction >= first else steps) for spec in specs
              if spec.train_fraction >= min(0.5, first := arrived.get(spec.operation, 1)) for seed in (1, 2)]
    return [spec.but(steps=at_30.get(spec.operation, steps)) if spec.train_fraction == 0.3 else spec for spec in specs]


def data_reduction(profile):
    """Figure 1 (centre): `xy` in S5, updates to 99% against training fraction; 5e5 updates and 7 seeds at paper scale,
    as a summary of its appendix has it."""
    steps, fractions, seeds = {
        "quick": (4000, _percents(90, 80), 1),
        "overnight": (100_000, _percents(80, 75, 70, 65, 60, 50, 40, 30), 3),
        "paper": (500_000, _percents(20, 22, *range(24, 35), *range(36, 50, 2), *range(50, 81, 5)), 7)}[profile]
    return [spec for fraction in fractions
            for spec in _seeds(S5.but(train_fraction=fraction, steps=steps, stop="solved"), seeds)]


def regularizers(profile):
    """Figure 2 (left): `xy` in S5, the nine variants against training fraction.

    A full-batch update is 6 to 26 ordinary ones: those two variants are there at paper scale only. Overnight Figure 1
    (centre)'s serve here too.
    """
    fractions, full, steps, seeds = {
        "quick": (_percents(80), (), 500, 1),
        "overnight": (_percents(90, 80, 70), (), 6000, 1),
        "paper": (_percents(*range(5, 100, 5)), _percents(20, 30, 40, 50, 60, 75, 90), 100_000, 3)}[profile]
    specs = [spec for changes in VARIANTS.values() for fraction in (full if changes.get("full_batch") else fractions)
             for spec in _seeds(S5.but(train_fraction=fraction, steps=steps, stop="solved", **changes), seeds)]
    centre = [spec.but(steps=steps) for spec in data_reduction(profile)] if profile == "overnight" else []
    return sorted(dict.fromkeys(specs + centre),
                  key=lambda spec: (spec.full_batch, -spec.train_fraction))  # the dearest last


def embeddings(profile):
    """Figure 3: rows of the output layer for `xy` in S5 and `x+y`, with and without weight decay.

    The paper does not give the fractions: we take 50%. Overnight, S5's networks with decay are taken where they are
    solved, within what the slowest of the first three needed, for longer is not always better (notebook 05); at paper
    scale after all updates, and the rules leave out those that broke down. Chance decides what each finds, so they are
    eleven (results/DECISIONS.md tells what was known when that was chosen), beside three (paper: five) without decay.
    """
    steps = 1500 if profile == "quick" else 100_000
    half, addition = S5.but(train_fraction=0.5, steps=steps), CURVE.but(steps=steps)
    networks = (half.but(steps=25_119, stop="solved") if profile == "overnight" else half, half.but(weight_decay=0),
                addition, addition.but(weight_decay=0))
    seeds = {"quick": (1, 1, 1, 1), "overnight": (11, 3, 3, 3), "paper": (11, 5, 5, 5)}[profile]
    return [spec for run, number in zip(networks, seeds) for spec in _seeds(run.but(keep=("output",)), number)]


def outliers(profile):
    """Figure 6: `x+y` with k false answers among the training equations, retired only once it knows all of those too.

    The paper does not name the operation: this one asks for few updates, so a budget hides least. Overnight's is what a
    GPU's time allowed.
    """
    ks, fractions, steps, seeds = {
        "quick": ((0, 1000, 3000), _percents(50), 1800, 1),
        "overnight": ((0, 10, 100, 1000, 2000, 3000), _percents(80, 50), 66_834, 3),
        "paper": ((0, 10, 100, 1000, 2000, 3000), _percents(*range(10, 100, 10)), 100_000, 3)}[profile]
    return [spec for fraction in fractions for k in ks if k < fraction * CURVE.equations
            for spec in _seeds(RunSpec(train_fraction=fraction, outliers=k, steps=steps, stop="solved"), seeds)]


def sharpness(profile):
    """A.5: how sharp the minimum is where training ends, for seeds that differ in what they have understood by then.

    The authors' script `compute_sharpness.py` names 20 networks of seeds 0 to 19, trained on 70% of the data, but no
    operation (S5: the paper's text), decay or budget. The decay is the paper's usual one; the budget, so that about
    half should have understood, the median of what three runs of Figure 1 (centre) needed. Two earlier choices, before
    the script was found, left 12 of 20 networks short of their training set, and 6 of 26: notebook 07 has both. Quick
    has `x+y` only.
    """
    run = CURVE.but(steps=1000) if profile == "quick" else S5.but(train_fraction=0.7, steps=5300)
    seeds = {"quick": 4, "overnight": 20, "paper": 64}[profile]
    return _seeds(run.but(keep=("sharpness",)), seeds)


def fidelity(profile):
    """What each way of building it otherwise does to the updates to 99% (`BOARD`): 16 seeds as here and in TF32, 5 of
    the others (with one split, seed 0 would be as here)."""
    fraction, steps, names = 0.5, 3500, BOARD
    operations_, seeds = ("x+y",), dict.fromkeys(BOARD, 5) | {"as here": 16, "TF32": 16}
    if profile == "quick":
        fraction, steps, seeds = 0.7, 1500, {}
        names = ["as here", "LayerNorm before (pre-LN)", "embedding start × 0.02", "L2 in the gradient"]
    if profile == "paper":
        operations_, steps = ("x+y", "x/y", "xy in S5"), 100_000
    return [spec for name in names for operation in operations_
            for spec in _seeds(RunSpec(operation=operation, train_fraction=fraction, steps=steps, stop="solved",
                                       **BOARD[name]), seeds.get(name, 1))
            if spec.split_seed != spec.seed]


def saturation(profile):
    """Figure 1 (left) once more: how many training equations have no gradient left in float32, measured on that very
    run; and a float64 loss beside it."""
    own, exact, seeds = {"quick": (1500, 1500, 1), "overnight": (473_151, 10_000, 1),
                         "paper": (1_000_000, 1_000_000, 3)}[profile]
    run = CURVE.but(operation="x/y", weight_decay=0, keep=("saturation",))
    return [*_seeds(run.but(steps=own), seeds), *_seeds(run.but(steps=exact, loss_precision="float64"), seeds)]


EXPERIMENTS = {  # the order in which a campaign trains them
    "start_here": Experiment("1 right", "00_start_here", start_here),
    "grokking_curve": Experiment("1 left, 4", "01_grokking_curve", grokking_curve),
    "curves": Experiment("-", "02_operations", curves),
    "operations": Experiment("2 right", "02_operations", operations),
    "data_reduction": Experiment("1 centre", "03_data_reduction", data_reduction),
    "regularizers": Experiment("2 left", "04_regularizers", regularizers),
    "embeddings": Experiment("3", "05_embeddings", embeddings),
    "outliers": Experiment("6", "06_outliers", outliers),
    "sharpness": Experiment("A.5", "07_sharpness", sharpness),
    "fidelity": Experiment("-", "08_fidelity", fidelity),
    "saturation": Experiment("-", "08_fidelity", saturation),
}


def scale(name, profile, store=None):
    """The profile itself; for "best" that of `paper` and `overnight` with most to show, if any curve of it is complete
    in the store, else `quick`: the sum, over settings of which all seeds are there, of the root of their updates. (A
    larger one's first curve would hide all that a smaller one has.) ValueError as for `runs`."""
    small = runs(name, "quick" if profile == "best" else profile)
    if profile != "best":
        return profile
    def shown(p):
        settings = {}
        for spec in runs(name, p):
            settings.setdefault(spec.but(seed=0, steps=1), []).append(store_.find(spec, store))
        return sum(max(history.last_step for history in found) ** 0.5 for found in settings.values() if all(found))
    larger = [p for p in ("paper", "overnight") if runs(name, p) != small and _has_a_curve(runs(name, p), store)]
    return max(larger, key=shown, default="quick")


def runs(name, profile):
    """The specs of an experiment at a profile other than "best"."""
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment {name!r} is not known: choose from {', '.join(EXPERIMENTS)}")
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r} is not known: choose from {', '.join(PROFILES)}")
    if profile == "smoke":
        return list(dict.fromkeys(tiny(spec) for spec in EXPERIMENTS[name].specs("quick")))
    return EXPERIMENTS[name].specs(profile)


def _has_a_curve(specs, store):
    """Whether all runs that differ only in fraction, budget and seed are there, for any such group."""
    groups = {}
    for spec in specs:
        groups.setdefault(spec.but(train_fraction=0.5, seed=0, steps=1), []).append(spec)
    return any(all(store_.find(spec, store) for spec in group) for group in groups.values())


def tiny(spec):
    """The spec on a table of 11 elements (S5 stays itself), with a narrow model and few updates."""
    modulus = {} if spec.operation.endswith("in S5") else {"modulus": 11}
    return spec.but(**modulus, width=32, steps=max(50, spec.steps // 100), outliers=spec.outliers // 80)


def _seeds(spec, number):
    return [spec.but(seed=seed) for seed in range(number)]


def _percents(*percents):
    return [percent / 100 for percent in percents]
