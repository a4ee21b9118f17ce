"""Promises of `grok_lib.specs`: the paper's defaults, early refusals, keys that never move, honest histories."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from grok_lib.specs import RunSpec

PAPER = {
    # Power et al., A.1.2, and the authors' code where the paper is silent
    "modulus": 97, "layers": 2, "width": 128, "heads": 4, "learning_rate": 1e-3, "weight_decay": 1.0,
    "decay_to": "origin", "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-8, "warmup": 10, "batch_size": None,
    "full_batch": False, "dropout": 0.0, "update_noise": 0.0, "weight_noise": 0.0, "outliers": 0, "steps": 100_000,
    # Ours: the paper gives no default operation, fraction, seeds or precision
    "operation": "x+y", "train_fraction": 0.5, "seed": 0, "split_seed": None, "init_seed": None, "order_seed": None,
    "noise_seed": None, "precision": "fp32", "stop": "budget", "keep": (),
    # The paper's model against the ways in which others build it
    "positions": "sinusoidal", "norm": "post", "activation": "relu", "biases": False, "embedding_scale": 1.0,
    "decay_by": "weights", "loss_precision": "own",
    # The authors' code has these two; the paper's text does not
    "eos": False, "short_last_batch": False,
}


# --- Defaults and what follows from them


def test_the_defaults_are_the_papers():
    assert dataclasses.asdict(RunSpec()) == PAPER


def test_the_vocabulary_is_the_elements_and_two_symbols():
    assert RunSpec().vocabulary == 99
    assert RunSpec(operation="x/y", modulus=11).vocabulary == 13
    assert RunSpec(operation="xy in S5").vocabulary == 122


def test_with_eos_one_vocabulary_of_239_tokens_serves_all_tasks():
    assert {RunSpec(operation=o, eos=True).vocabulary for o in ("x+y", "xy in S5")} == {239}
    assert RunSpec(modulus=997, eos=True).vocabulary == 1000  # unless it does not suffice


@pytest.mark.parametrize("operation, equations", [("x+y", 97 * 97), ("x/y", 97 * 96), ("xy in S5", 120 * 120)])
def test_the_training_set_is_the_fraction_rounded_as_python_rounds(operation, equations):
    for percent in range(1, 100):
        assert RunSpec(operation=operation, train_fraction=percent / 100).train_size == round(percent / 100 * equations)
    assert RunSpec().train_size == 4704  # of 9409: the half in 4704.5 goes to the even neighbour


def test_a_batch_is_512_or_half_the_training_set_rounded_up():
    for percent in range(1, 100):
        spec = RunSpec(operation="x-y", train_fraction=percent / 100)
        assert spec.batch == min(512, (spec.train_size + 1) // 2)
    assert RunSpec(modulus=5, train_fraction=0.52).train_size == 13
    assert RunSpec(modulus=5, train_fraction=0.52).batch == 7
    assert RunSpec(modulus=5, train_fraction=0.04).batch == 1  # of a single training equation


def test_a_batch_can_be_set_or_be_the_whole_training_set():
    assert RunSpec(batch_size=100).batch == 100
    assert RunSpec(batch_size=4704).batch == 4704
    assert RunSpec(full_batch=True).batch == 4704


def test_the_seed_stands_in_for_each_seed_that_is_not_set():
    purposes = ("split", "init", "order", "noise")
    assert [RunSpec(seed=7).seed_for(purpose) for purpose in purposes] == [7, 7, 7, 7]
    for purpose in purposes:
        spec = RunSpec(seed=7, **{f"{purpose}_seed": 0})  # 0 is a seed like any other
        assert {p: spec.seed_for(p) for p in purposes} == {p: 0 if p == purpose else 7 for p in purposes}


def test_an_ordinary_update_in_the_papers_setting_takes_1_92_gigaflops():
    assert RunSpec().flops == pytest.approx(1.92e9, rel=0.01)
    assert 8 < RunSpec(full_batch=True).flops / RunSpec().flops < 9  # 9.2 times the equations, layer 1 shared


# --- Refusals: each names the field, its value and a way out


@pytest.mark.parametrize("field, value, remedy", [
    ("train_fraction", 0.0, "between 0 and 1"),
    ("train_fraction", 1.0, "between 0 and 1"),
    ("train_fraction", 1.5, "between 0 and 1"),
    ("train_fraction", -0.1, "between 0 and 1"),
    ("train_fraction", float("nan"), "finite"),
    ("train_fraction", float("inf"), "finite"),
    ("train_fraction", 1e-5, "at least one to train on"),
    ("train_fraction", 0.99999, "one to validate"),
    ("train_fraction", "0.5", "type float"),
    ("train_fraction", True, "type float"),
    ("train_fraction", None, "type float"),
    ("operation", None, "type str"),
    ("modulus", 1, "from 2 to 1000"),
    ("modulus", 97.0, "type int"),
    ("batch_size", 4705, "at most the 4704 training equations"),
    ("batch_size", 0, "1 or more"),
    ("batch_size", 64.0, "type int"),
    ("outliers", 4705, "at most the 4704 training equations"),
    ("outliers", -1, "0 or more"),
    ("steps", 0, "from 1 to 10^12"),
    ("steps", 10**13, "from 1 to 10^12"),
    ("steps", 1e5, "type int"),
    ("seed", -1, "from 0 to 2^63 - 1"),
    ("seed", 2**63, "from 0 to 2^63 - 1"),
    ("seed", True, "type int"),
    ("seed", "0", "type int"),
    ("seed", 0.0, "type int"),
    ("seed", None, "type int"),
    ("split_seed", -1, "from 0 to 2^63 - 1"),
    ("init_seed", False, "type int"),
    ("order_seed", 1.0, "type int"),
    ("noise_seed", -7, "from 0 to 2^63 - 1"),
    ("layers", 0, "1 to 100"),
    ("width", 0, "1 or more"),
    ("width", 126, "multiple of heads=4"),
    ("heads", 0, "1 or more"),
    ("learning_rate", 0.0, "positive"),
    ("learning_rate", -1e-3, "positive"),
    ("learning_rate", float("inf"), "finite"),
    ("weight_decay", -1.0, "0 or more"),
    ("beta1", 1.0, "[0, 1)"),
    ("beta2", -0.1, "[0, 1)"),
    ("epsilon", 0.0, "positive"),
    ("warmup", -1, "0 or more"),
    ("dropout", 1.0, "[0, 1)"),
    ("update_noise", -1.0, "0 or more"),
    ("weight_noise", -0.01, "0 or more"),
    ("full_batch", 1, "type bool"),
    ("decay_to", "inti", "origin, init"),
    ("precision", "fp16", "fp32, tf32, float64"),
    ("positions", "rotary", "sinusoidal, learned, none"),
    ("norm", "rms", "post, pre"),
    ("activation", "swish", "relu, gelu"),
    ("embedding_scale", 0.0, "positive"),
    ("decay_by", "loss", "weights, gradient"),
    ("loss_precision", "fp32", "own, float64"),
    ("biases", 1, "type bool"),
    ("stop", "solve", "budget, solved"),
    ("keep", "output", "type tuple"),
    ("keep", (1,), "type tuple"),
])
def test_a_value_that_could_not_be_trained_is_refused_with_a_remedy(field, value, remedy):
    with pytest.raises(ValueError) as error:
        RunSpec(**{field: value})
    assert f"{field}={value!r}" in str(error.value)
    assert remedy in str(error.value)


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="width=128 .*multiple of heads=3"):
        RunSpec(heads=3)
    with pytest.raises(ValueError, match="width=3 .*even"):  # sines and cosines come in pairs
        RunSpec(width=3, heads=3)


def test_a_misspelt_operation_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"operation='x\+z'.*did you mean 'x\+y'.*choose from"):
        RunSpec(operation="x+z")


def test_a_composite_modulus_is_refused_for_division_and_fine_for_addition():
    for name in ("x/y", "x/y if y odd else x-y"):
        with pytest.raises(ValueError, match="modulus=91 is composite.*use a prime"):
            RunSpec(operation=name, modulus=91)
    assert RunSpec(operation="x+y", modulus=91).equations == 91 * 91


def test_a_full_batch_with_a_batch_size_is_refused():
    with pytest.raises(ValueError, match="batch_size=64 .*leave it out when full_batch=True"):
        RunSpec(full_batch=True, batch_size=64)


def test_switches_that_contradict_one_another_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match="short_last_batch=True will not do: leave it out when full_batch=True"):
        RunSpec(short_last_batch=True, full_batch=True)
    with pytest.raises(ValueError, match="dropout=0.1 will not do: use 0 with eos=True"):
        RunSpec(eos=True, dropout=0.1)


def test_a_lone_training_equation_cannot_be_an_outlier():
    assert RunSpec(modulus=5, train_fraction=0.04).train_size == 1
    with pytest.raises(ValueError, match="outliers=1 "):
        RunSpec(modulus=5, train_fraction=0.04, outliers=1)


def test_the_extremes_that_can_be_trained_are_accepted():
    RunSpec(train_fraction=0.0001, outliers=0)  # one equation to train on
    RunSpec(train_fraction=0.9999)  # one to validate
    RunSpec(outliers=4704)
    RunSpec(seed=2**63 - 1, weight_decay=0, warmup=0, beta1=0, beta2=0, dropout=0, steps=1)


def test_a_changed_copy_is_checked_like_a_new_spec():
    assert RunSpec(seed=3).but(operation="x-y") == RunSpec(seed=3, operation="x-y")
    with pytest.raises(ValueError, match="outliers=5000"):
        RunSpec().but(outliers=5000)


def test_a_spec_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunSpec().seed = 1


# --- The key


@pytest.mark.parametrize("spec, key", [
    # FROZEN. Stored runs are found by these names: a change that moves one of them orphans every shipped run.
    (RunSpec(), "ede0de8074924080"),
    (RunSpec(operation="xy in S5", train_fraction=0.3, seed=7), "7196588714ab6f68"),
    (RunSpec(operation="x/y", weight_decay=0.0, steps=1_000_000), "8daea8db833adba9"),
    (RunSpec(operation="x^3+xy", train_fraction=0.25, outliers=100, learning_rate=3e-4, precision="tf32",
             full_batch=True, decay_to="init"), "18b7146de82b22a3"),
])
def test_frozen_keys_have_not_moved(spec, key):
    assert spec.key == key


def test_a_key_is_the_hash_of_what_differs_from_the_defaults():
    # Written out by hand, so a field added later with a default cannot change it.
    hashed = lambda text: hashlib.sha256(text.encode()).hexdigest()[:16]
    assert RunSpec().key == hashed("[1,{}]")
    assert RunSpec(weight_decay=0, operation="x/y").key == hashed('[1,{"operation":"x/y","weight_decay":0.0}]')
    spec = RunSpec(seed=5, epsilon=1e-7, full_batch=True)
    assert spec.key == hashed('[1,{"epsilon":1e-07,"full_batch":true,"seed":5}]')


def test_a_switch_added_later_moves_no_key_until_it_is_used():
    Later = dataclasses.make_dataclass("Later", [("shiny", float, 0.0)], bases=(RunSpec,), frozen=True)
    assert Later(operation="x/y", seed=3).key == RunSpec(operation="x/y", seed=3).key
    assert Later(operation="x/y", seed=3, shiny=0.5).key != RunSpec(operation="x/y", seed=3).key


def test_requests_are_no_part_of_the_key():
    key = RunSpec(seed=1).key
    assert RunSpec(seed=1, steps=500).key == key
    assert RunSpec(seed=1, stop="solved").key == key
    assert RunSpec(seed=1, keep=("output",)).key == key


def test_every_field_that_shapes_training_moves_the_key():
    other = {"operation": "x-y", "modulus": 89, "train_fraction": 0.4, "outliers": 10, "seed": 1, "split_seed": 1,
             "init_seed": 1, "order_seed": 1, "noise_seed": 1, "layers": 1, "width": 64, "heads": 2,
             "learning_rate": 3e-4, "weight_decay": 0.0, "decay_to": "init", "beta1": 0.8, "beta2": 0.99,
             "epsilon": 1e-7, "warmup": 0, "batch_size": 64, "full_batch": True, "dropout": 0.1, "update_noise": 1.0,
             "weight_noise": 0.01, "precision": "float64", "positions": "none", "norm": "pre", "activation": "gelu",
             "biases": True, "embedding_scale": 0.02, "eos": True, "short_last_batch": True, "decay_by": "gradient",
             "loss_precision": "float64"}
    assert set(other) == {f.name for f in dataclasses.fields(RunSpec)} - {"steps", "stop", "keep"}
    keys = {RunSpec().key} | {RunSpec(**{name: value}).key for name, value in other.items()}
    assert len(keys) == 1 + len(other)


def test_floats_that_agree_to_six_digits_are_one_run():
    assert RunSpec(train_fraction=0.1 + 0.2) == RunSpec(train_fraction=0.3)
    assert RunSpec(train_fraction=0.1 + 0.2).key == RunSpec(train_fraction=0.3).key
    assert RunSpec(train_fraction=np.float32(0.3)).key == RunSpec(train_fraction=0.3).key
    assert RunSpec(learning_rate=0.00100000001).key == RunSpec().key
    assert RunSpec(learning_rate=0.00100001).key != RunSpec().key  # the sixth digit counts


def test_a_whole_number_in_a_float_field_is_the_same_run():
    assert RunSpec(weight_decay=0).key == RunSpec(weight_decay=0.0).key
    assert RunSpec(weight_decay=1).key == RunSpec().key
    assert RunSpec(weight_decay=np.int64(2)).key == RunSpec(weight_decay=2.0).key
    assert type(RunSpec(weight_decay=2).weight_decay) is float


def test_numpy_integers_are_integers():
    spec = RunSpec(seed=np.int64(3), steps=np.int32(50), modulus=np.int64(11))
    assert spec == RunSpec(seed=3, steps=50, modulus=11)
    assert spec.key == RunSpec(seed=3, modulus=11).key
    assert type(spec.seed) is type(spec.steps) is type(spec.modulus) is int


def test_equal_specs_can_stand_for_one_another_in_sets():
    assert len({RunSpec(seed=1), RunSpec(seed=1), RunSpec(seed=2)}) == 2
    assert RunSpec(keep=["output", "embedding", "output"]) == RunSpec(keep=("embedding", "output"))


def test_equal_specs_have_equal_keys_even_for_a_negative_zero():
    assert RunSpec(weight_decay=-0.0) == RunSpec(weight_decay=0.0)
    assert RunSpec(weight_decay=-0.0).key == RunSpec(weight_decay=0.0).key


# --- JSON


@pytest.mark.parametrize("spec", [
    RunSpec(),
    RunSpec(operation="x/y if y odd else x-y", modulus=11, train_fraction=0.3, outliers=2, seed=2**63 - 1,
            split_seed=0, batch_size=5, keep=("output",), stop="solved", steps=7),
    RunSpec(operation="xyx^-1 in S5", learning_rate=1 / 3, full_batch=True, precision="tf32"),
])
def test_a_spec_survives_the_way_through_json(spec):
    back = RunSpec.from_json(spec.to_json())
    assert back == spec
    assert back.key == spec.key


def test_json_from_an_older_version_gets_the_defaults_of_newer_fields():
    assert RunSpec.from_json('{"operation": "x-y", "seed": 4}') == RunSpec(operation="x-y", seed=4)


def test_json_with_a_field_from_a_newer_version_is_refused():
    text = json.dumps(json.loads(RunSpec().to_json()) | {"shiny": 1})
    with pytest.raises(ValueError, match="shiny.*newer"):
        RunSpec.from_json(text)


def test_json_is_checked_like_any_other_spec():
    with pytest.raises(ValueError, match="train_fraction=1.5"):
        RunSpec.from_json('{"train_fraction": 1.5}')
