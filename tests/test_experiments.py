"""The grids: what the paper asks for, what a laptop bears, and which of them a figure stands on."""

import dataclasses

import numpy as np
import pytest
from synthetic import history

from grok_lib import paths
from grok_lib.operations import OPERATIONS
from grok_lib.paper import experiments, variants
from grok_lib.runs import store
from grok_lib.specs import RunSpec

EVERY = list(experiments.EXPERIMENTS)


def ordinary_run_steps(specs, as_shipped=False):
    """Work in units of the paper's usual update, each trajectory once, to its longest budget, or to where its shipped
    run ended."""
    longest = {}
    for spec in specs:
        shipped = store.find(spec, paths.RESULTS) if as_shipped else None
        longest[spec.key] = max(longest.get(spec.key, 0), spec.flops * (shipped.last_step if shipped else spec.steps))
    return sum(longest.values()) / RunSpec().flops


def test_the_quick_profile_is_half_an_hour_on_a_laptop_and_the_overnight_one_a_night():
    every = {profile: [spec for name in EVERY for spec in experiments.runs(name, profile)]
             for profile in ("quick", "overnight")}
    assert ordinary_run_steps(every["quick"]) <= 60_000
    figure_6 = experiments.runs("outliers", "overnight")
    # 16 hours at 62 a second, 23 at 44
    assert ordinary_run_steps([spec for spec in every["overnight"] if spec not in figure_6],
                              as_shipped=True) <= 3_600_000
    assert ordinary_run_steps(figure_6, as_shipped=True) <= 1_900_000  # as much again; a GPU took 204 s


def test_overnight_has_three_seeds_of_every_operation_from_half_of_the_table_on():
    """So "for all operations that generalise" can be judged. At 30% those that arrive have the updates for it, and the
    mixture all of the paper's: whatever it does in them, its parts have arrived."""
    runs = experiments.runs("operations", "overnight")
    seeds = {(name, f): {s.seed for s in runs if (s.operation, s.train_fraction) == (name, f)}
             for name in OPERATIONS for f in (0.3, 0.5, 0.7, 0.9)}
    assert {at for at, found in seeds.items() if found != {0, 1, 2}} == {
        (name, 0.3) for name in OPERATIONS if name not in ("x+y", "x-y", "x*y", "x/y", "x^2+y^2")}
    assert {(s.operation, s.steps) for s in runs if s.train_fraction == 0.3 and s.steps > 5000} == {
        ("x/y if y odd else x-y", 100_000), *((name, 20_000) for name in ("x+y", "x-y", "x*y", "x/y", "x^2+y^2"))}


def test_the_paper_profile_has_the_papers_grids_budgets_and_at_least_its_seeds():
    grid = {name: experiments.runs(name, "paper") for name in EVERY}
    assert sum(s.steps == 10**6 and s.weight_decay == 0 and s.operation == "x/y" for s in grid["grokking_curve"]) >= 3
    for name in OPERATIONS:
        for fraction in range(5, 100, 5):
            assert sum(s.operation == name and s.train_fraction == fraction / 100 for s in grid["operations"]) >= 3
    assert {s.steps for s in grid["operations"]} == {100_000}
    for fraction in (20, *range(24, 35), 80):
        runs = [s for s in grid["data_reduction"] if s.train_fraction == fraction / 100]
        assert len(runs) >= 7 and {s.steps for s in runs} == {500_000}
    full = {s.train_fraction for s in grid["regularizers"] if s.full_batch}
    assert len(full) == 7 and {variants.variant_of(s) for s in grid["regularizers"]} == set(variants.VARIANTS)
    assert {(s.operation, s.weight_decay) for s in grid["embeddings"]} == {
        (o, d) for o in ("xy in S5", "x+y") for d in (0, 1)}
    assert all(s.keep == ("output",) for s in grid["embeddings"])
    for k in (0, 10, 100, 1000, 2000, 3000):
        assert len({s.seed for s in grid["outliers"] if s.outliers == k and s.train_fraction == 0.5}) >= 3
    assert len({s.seed for s in grid["sharpness"]}) >= 64 and all(s.keep == ("sharpness",) for s in grid["sharpness"])
    assert {variants.variant_of(s, variants.BOARD) for s in grid["fidelity"]} == set(variants.BOARD)
    assert {(s.operation, s.train_fraction) for s in grid["fidelity"]} == {
        ("x+y", 0.5), ("x/y", 0.5), ("xy in S5", 0.5)}
    assert {(s.loss_precision, s.weight_decay, s.steps) for s in grid["saturation"]} == {
        ("own", 0, 10**6), ("float64", 0, 10**6)}


def test_learning_curves_are_never_stopped_early_and_grids_of_best_accuracy_always_are():
    for profile in ("quick", "overnight", "paper"):
        assert {s.stop for s in experiments.runs("curves", profile)} == {"budget"}
        assert {s.stop for name in ("operations", "regularizers", "data_reduction")
                for s in experiments.runs(name, profile)} == {"solved"}
        assert profile == "quick" or {s.operation for s in experiments.runs("curves", profile)} == set(OPERATIONS)


def test_the_nine_variants_differ_from_plain_adam_as_the_paper_says():
    def changed(name):
        plain = RunSpec(operation="xy in S5", weight_decay=0)
        own = RunSpec(operation="xy in S5", **variants.VARIANTS[name])
        return {f.name: getattr(own, f.name) for f in dataclasses.fields(own)
                if getattr(own, f.name) != getattr(plain, f.name)}
    assert [changed(name) for name in variants.VARIANTS] == [
        {"full_batch": True}, {}, {"full_batch": True, "update_noise": 1.0}, {"dropout": 0.1}, {"weight_decay": 1.0},
        {"weight_decay": 1.0, "decay_to": "init"}, {"learning_rate": 3e-4}, {"learning_rate": 3e-3},
        {"weight_noise": 0.01}]
    for name, changes in variants.VARIANTS.items():
        assert variants.variant_of(
            RunSpec(operation="xy in S5", seed=4, train_fraction=0.3, steps=7, **changes)) == name
    with pytest.raises(ValueError, match="no variant"):
        variants.variant_of(RunSpec(learning_rate=0.5))


def test_each_row_of_the_fidelity_board_is_one_choice_and_the_first_is_ours():
    names = list(variants.BOARD)
    assert variants.BOARD[names[0]] == {} and all(variants.BOARD[name] for name in names[1:])
    for name, changes in variants.BOARD.items():
        assert variants.variant_of(RunSpec(operation="x/y", seed=3, steps=9, **changes), variants.BOARD) == name
    switched = {field for changes in variants.BOARD.values() for field in changes}
    assert switched == {"positions", "norm", "activation", "biases", "embedding_scale", "eos", "short_last_batch",
                        "decay_by", "split_seed", "precision", "weight_decay", "layers", "batch_size"}


def test_runs_that_several_figures_need_are_one_run():
    def keys(name):
        return {spec.key for spec in experiments.runs(name, "paper")}
    assert ({RunSpec(train_fraction=0.5).key, RunSpec(operation="xy in S5", train_fraction=0.5).key}
            <= keys("curves") & keys("operations"))
    assert len(keys("curves") - keys("operations")) == 0
    assert (RunSpec(operation="xy in S5", train_fraction=0.5).key
            in keys("regularizers") & keys("data_reduction") & keys("embeddings"))


def test_the_smoke_profile_is_the_same_figures_on_tiny_tables():
    for name in EVERY:
        smoke, quick = experiments.runs(name, "smoke"), experiments.runs(name, "quick")
        assert len(set(smoke)) == len(smoke) and {s.operation for s in smoke} == {s.operation for s in quick}
        assert max(s.flops * s.steps for s in smoke) < max(s.flops * s.steps for s in quick) / 100


def test_best_is_the_profile_with_a_complete_curve_that_shows_most(tmp_path):
    assert experiments.scale("data_reduction", "best", tmp_path) == "quick"
    def finish(specs):
        for spec in specs:
            store.save(history(spec, steps=(0, spec.steps), train=(0, 1), val=(0, 1), train_loss=(4, 0),
                               val_loss=(4, 0)), tmp_path)
    grid = experiments.runs("regularizers", "overnight")
    adamw = [s for s in grid if variants.variant_of(s) == "AdamW, weight decay 1"]
    finish(adamw[1:])
    assert experiments.scale("regularizers", "best", tmp_path) == "quick"  # one fraction of every curve is missing
    finish(adamw[:1])
    assert experiments.scale("regularizers", "best", tmp_path) == "overnight"
    finish([s for s in experiments.runs("regularizers", "paper") if s.weight_noise])
    assert experiments.scale("regularizers", "best", tmp_path) == "paper"
    assert experiments.scale("regularizers", "quick", tmp_path) == "quick"


def test_the_first_curve_of_a_larger_profile_does_not_hide_all_that_a_smaller_one_has(tmp_path):
    for spec in experiments.runs("regularizers", "overnight"):
        store.save(history(spec, steps=(0, spec.steps), train=(0, 1), val=(0, 0.5), train_loss=(4, 0),
                           val_loss=(4, 0)), tmp_path)
    for spec in experiments.runs("regularizers", "paper"):
        if spec.weight_noise:
            store.save(history(spec, steps=(0, 1000), train=(0, 1), val=(0, 1), train_loss=(4, 0), val_loss=(4, 0),
                               stopped_because="solved"), tmp_path)
    assert experiments.scale("regularizers", "best", tmp_path) == "overnight"


def test_one_long_run_does_not_hide_the_panels_of_all_others(tmp_path):
    """Learning curves: thirteen of 5,000 updates say more than one of 100,000, in three seeds; and of six of them
    less."""
    def finish(specs):
        for spec in specs:
            store.save(history(spec, steps=(0, spec.steps), train=(0, 1), val=(0, 1), train_loss=(4, 0),
                               val_loss=(4, 0)), tmp_path)
    finish(experiments.runs("curves", "overnight"))
    paper = experiments.runs("curves", "paper")
    finish(paper[:3])
    assert {s.seed for s in paper[:3]} == {0, 1, 2} and experiments.scale("curves", "best", tmp_path) == "overnight"
    finish(paper[:18])
    assert experiments.scale("curves", "best", tmp_path) == "paper"


def test_every_experiment_belongs_to_a_notebook_that_there_is():
    assert all((paths.NOTEBOOKS / f"{e.notebook}.ipynb").exists() for e in experiments.EXPERIMENTS.values())


@pytest.mark.parametrize("call", [
    lambda: experiments.runs("curvs", "quick"), lambda: experiments.runs("curves", "best"),
    lambda: experiments.scale("curves", "huge"), lambda: experiments.scale("curvs", "best")])
def test_an_unknown_name_is_one_line_that_lists_the_known_ones(call):
    with pytest.raises(ValueError, match="choose from") as error:
        call()
    assert "\n" not in str(error.value)


def test_a_smaller_budget_never_asks_for_a_run_that_a_larger_one_would_not_answer():
    """Quick and overnight share their runs where both have the same trajectory: the longer history answers."""
    for name in EVERY:
        longest = {s.key: s.steps for s in experiments.runs(name, "overnight")}
        both = [s for s in experiments.runs(name, "quick") if s.key in longest]
        assert all(np.less_equal(s.steps, longest[s.key]) for s in both), name
