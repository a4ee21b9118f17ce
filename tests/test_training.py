"""Training: the oracle side by side, and what a run in a stack may and may not notice of its neighbours."""

import dataclasses

import numpy as np
import oracle
import pytest
import torch

from grok_lib import data, engine, model, training
from grok_lib.operations import operation
from grok_lib.paper.variants import BOARD
from grok_lib.specs import RunSpec
from grok_lib.training import train

TINY = RunSpec(modulus=11, width=16, heads=2, steps=40)
CPU = torch.device("cpu")

VARIANTS = {  # Figure 2 (left)
    "full-batch Adam": dict(weight_decay=0, full_batch=True),
    "Adam": dict(weight_decay=0),
    "full-batch Adam, update noise": dict(weight_decay=0, full_batch=True, update_noise=1.0),
    "Adam, dropout": dict(weight_decay=0, dropout=0.1),
    "AdamW": dict(),
    "AdamW, towards the start": dict(decay_to="init"),
    "Adam, lr 3e-4": dict(weight_decay=0, learning_rate=3e-4),
    "Adam, lr 3e-3": dict(weight_decay=0, learning_rate=3e-3),
    "Adam, weight noise": dict(weight_decay=0, weight_noise=0.01),
}


def side_by_side(spec, updates, loss_tolerance, tolerance):
    """Train grok_lib's run and the oracle from equal weights on equal batches; compare after every update."""
    stack = training.open_stack([spec], CPU)
    weights = model.unpack(stack.weights, spec)
    module = oracle.from_stack(weights, 0, spec.heads) if spec.has_fast_pass else oracle.otherwise(weights, 0, spec)
    x, y, _ = torch.tensor(operation(spec.operation, spec.modulus).equations).T
    answer = torch.tensor(data.answers(spec))
    theirs = oracle.train(module, spec, x, y, answer, oracle.naive_batches(spec, updates))
    for u, loss in enumerate(theirs, 1):
        engine.look_up(stack, u, 1)
        ours = engine.step(stack)
        assert float(ours) == pytest.approx(loss, abs=loss_tolerance), f"loss before update {u}"
        parts = [part for name in model.parameter_shapes(spec) for part in oracle.named(module)[name]]
        # Compared as whole vectors: where fp32 rounding tips one ReLU, Adam makes a full step of a single tiny gradient
        pairs = [(stack.weights, parts)]
        # With decay in the gradient, ours has the penalty in it by now. From 2e-7 apart gradients are 3e-4 when a first
        # ReLU has tipped, 1e-2 a dozen updates later, and when that happens is the processor's rounding: so in fp32 the
        # first ten only.
        if spec.decay_by == "weights" and (u <= 10 or spec.precision == "float64"):
            pairs.append((stack.grads, [w.grad for w in parts]))
        for ours, theirs_ in pairs:
            flat = torch.cat([w.detach().flatten() for w in theirs_])
            assert (ours[0] - flat).norm() <= tolerance * flat.norm(), f"update {u}"


@pytest.mark.parametrize("operation", ["x+y", "xy in S5"])
def test_the_engine_and_a_plain_module_under_torch_adamw_agree_for_30_updates(operation):
    side_by_side(RunSpec(operation=operation), 30, loss_tolerance=1e-4, tolerance=1e-2)


@pytest.mark.parametrize("name", VARIANTS)
def test_in_float64_every_variant_agrees_for_200_updates(name):
    spec = RunSpec(precision="float64", modulus=13, width=32, **VARIANTS[name])
    side_by_side(spec, 200, loss_tolerance=1e-6, tolerance=1e-6)


def test_in_float64_they_agree_for_200_updates_with_outliers_and_an_odd_batch():
    spec = RunSpec(precision="float64", operation="x/y", modulus=13, width=32, outliers=30, batch_size=37)
    side_by_side(spec, 200, loss_tolerance=1e-6, tolerance=1e-6)


@pytest.mark.parametrize("before", [False, True])
def test_in_updates_a_cpu_counts_subnormal_numbers_as_zero_and_afterwards_as_before(before, monkeypatch):
    def flushed():
        return bool(torch.tensor([1e-20]).square() == 0)
    stack, seen, honest = training.open_stack([RunSpec(modulus=11, width=16, heads=2)], CPU), [], engine.step
    monkeypatch.setattr(engine, "step", lambda stack: seen.append(flushed()) or honest(stack))
    try:
        torch.set_flush_denormal(before)
        engine.advance(stack, 1, 2)
        engine.evaluate(stack)
        assert (seen, flushed()) == ([True, True], before)
    finally:
        torch.set_flush_denormal(False)


OTHERWISE = {  # the switches of notebook 08, and some at once
    **{name: changes for name, changes in BOARD.items()
       if name not in ("as here", "float64", "TF32", "batches of 128")},
    "float64 loss": dict(loss_precision="float64"),
    "most at once": dict(positions="learned", norm="pre", activation="gelu", biases=True, eos=True,
                         short_last_batch=True, decay_by="gradient", embedding_scale=0.5, loss_precision="float64"),
    "L2 in the gradient, weight noise": dict(decay_by="gradient", weight_noise=0.01),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_built_as_others_build_it_the_engine_agrees_with_torchs_own_layers_for_200_updates(name):
    """TransformerEncoderLayer, torch.optim, and the authors' sequence and epochs: each switch, with a short batch of
    13."""
    spec = RunSpec(modulus=13, width=32, batch_size=36, **{"precision": "float64", **OTHERWISE[name]})
    side_by_side(spec, 200, loss_tolerance=1e-6, tolerance=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_does_the_same_alone_and_beside_runs_of_other_sizes_knobs_and_operations(name):
    spec = TINY.but(precision="float64", **VARIANTS[name])
    rate = {"dropout": 0.4} if spec.dropout else {}
    neighbours = [spec.but(seed=1, train_fraction=0.2, operation="x/y"), spec.but(seed=2, train_fraction=0.8, **rate),
                  spec.but(seed=3, weight_decay=0.5, learning_rate=2e-3, steps=20),
                  spec.but(seed=7, decay_by="gradient"), spec.but(seed=4, update_noise=0.5),
                  spec.but(seed=5, weight_noise=0.1), spec.but(seed=6, decay_to="init")]
    (alone,), together = (train([spec], evaluate_at=[10, 20, 30]),
                          train([*neighbours, spec], evaluate_at=[10, 20, 30])[-1])
    assert alone.step.tolist() == together.step.tolist() == [10, 20, 30, 40]
    for curve in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
        np.testing.assert_allclose(getattr(alone, curve), getattr(together, curve), rtol=0, atol=1e-6)


def test_in_fp32_a_run_stays_within_1e_4_of_itself_in_any_stack_over_30_updates():
    spec = RunSpec(steps=30)
    alone, = train([spec], evaluate_at=[10, 20])
    together = train([spec.but(seed=1, train_fraction=0.08), spec, spec.but(operation="x/y", seed=2)],
                     evaluate_at=[10, 20])[1]
    np.testing.assert_allclose(alone.train_loss, together.train_loss, rtol=0, atol=1e-4)
    np.testing.assert_allclose(alone.val_loss, together.val_loss, rtol=0, atol=1e-4)


def test_the_same_stack_trained_twice_gives_the_same_bits():
    specs = [TINY, TINY.but(seed=1, dropout=0.0, weight_noise=0.01, update_noise=0.1)]
    for a, b in zip(train(specs), train(specs)):
        for curve in a.CURVES:
            np.testing.assert_array_equal(getattr(a, curve), getattr(b, curve))


def test_histories_come_back_in_the_order_of_specs_also_for_mixed_table_sizes():
    specs = [TINY.but(operation="xy in S5", modulus=97, steps=2), TINY, TINY.but(full_batch=True, steps=3),
             TINY.but(seed=9), TINY]
    assert [h.spec for h in train(specs)] == specs


def test_evaluation_happens_at_the_steps_asked_for_and_at_the_last():
    history, = train([TINY], evaluate_at=[0, 7, 1000])
    assert history.step.tolist() == [0, 7, 40] and history.last_step == 40
    assert all(getattr(history, c).dtype == np.float32 for c in history.CURVES[1:])


def test_evaluating_more_often_changes_nothing():
    often, seldom = train([TINY], evaluate_at=range(40))[0], train([TINY], evaluate_at=[20])[0]
    assert (often.val_loss[[20, 40]] == seldom.val_loss).all()


def test_evaluation_is_loss_and_accuracy_over_the_whole_sets():
    """Against the plain module, equation by equation, with outliers counted as the training set has them."""
    spec = TINY.but(outliers=20, precision="float64")
    stack = training.open_stack([spec, spec.but(train_fraction=0.2, operation="x/y")], CPU)
    for r, s in enumerate(stack.specs):
        module = oracle.from_stack(model.unpack(stack.weights, s), r, s.heads)
        x, y, _ = torch.tensor(operation(s.operation, s.modulus).equations).T
        logits, answer = module(x, y).detach(), torch.tensor(data.answers(s))
        loss = torch.nn.functional.cross_entropy(logits, answer, reduction="none")
        right = (logits.argmax(1) == answer).double()
        expected = [float(t[i].mean()) for i in data.split(s) for t in (loss, right)]
        np.testing.assert_allclose(training.evaluate(stack)[:, r], expected, rtol=1e-12)


def test_a_run_that_diverges_is_recorded_and_hurts_nobody():
    bad = TINY.but(learning_rate=1e30, weight_decay=0)
    alone, (diverged, beside) = train([TINY])[0], train([bad, TINY])
    assert diverged.stopped_because == "diverged" and diverged.last_step < 40
    assert beside.stopped_because == "budget" and beside.last_step == 40
    np.testing.assert_allclose(beside.val_loss, alone.val_loss, atol=1e-4)


def test_a_solved_run_leaves_the_stack_and_only_where_that_was_asked_for():
    """Two equations, one for validation, whose answer is the only one ever seen: solved at once."""
    easy = RunSpec(operation="x*y", modulus=2, width=16, heads=2, train_fraction=0.75, steps=400, weight_decay=0,
                   stop="solved", split_seed=next(s for s in range(99) if data.split(
                       RunSpec(operation="x*y", modulus=2, train_fraction=0.75, split_seed=s))[1][0] < 3))
    solved, whole, beside = train([easy, easy.but(stop="budget"), easy.but(seed=1, stop="budget")])
    assert solved.stopped_because == "solved" and solved.last_step < 400 and solved.val_accuracy[-1] == 1
    assert whole.stopped_because == beside.stopped_because == "budget" and whole.last_step == 400
    assert (whole.val_loss[:len(solved.step)] == solved.val_loss).all()


def test_kept_weights_are_those_at_the_end():
    history, = train([TINY.but(keep=("output",))])
    stack = training.open_stack([TINY], CPU)
    training.advance(stack, 1, 40)
    np.testing.assert_allclose(history.kept["output"],
                               model.unpack(stack.weights, TINY)["output"][0].detach(), atol=1e-6)


def test_weights_that_there_are_not_and_specs_that_do_not_fit_are_refused_before_training():
    with pytest.raises(ValueError, match="keep.*outputs.*output"):
        train([TINY.but(keep=("outputs",))])
    with pytest.raises(ValueError, match="one stack"):
        next(training.stream([TINY, TINY.but(width=32)]))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_full_batch_done_in_parts_is_the_same_to_rounding(dropout, monkeypatch):
    """Four parts of 23, 23, 23 and 22 against one, beside a run whose equations end in the second."""
    specs = [RunSpec(precision="float64", modulus=13, width=32, full_batch=True, dropout=dropout, train_fraction=f,
                     steps=60) for f in (0.54, 0.2)]
    whole = train(specs)
    monkeypatch.setattr(engine, "PART", 25)
    for a, b in zip(whole, train(specs)):
        assert (a.train_loss[-1] != a.train_loss[0]) and [s.batch for s in specs] == [91, 34]
        np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=1e-6, atol=0)
        np.testing.assert_allclose(a.val_loss, b.val_loss, rtol=1e-6, atol=0)


def test_a_full_batch_run_sees_every_training_equation_in_each_update():
    spec = TINY.but(full_batch=True)
    chosen = data.batch_stream(training.open_stack([spec], CPU).data, 5, 2)
    assert all(set(row.tolist()) == set(data.split(spec)[0]) for row in chosen[0])


@pytest.mark.parametrize("device, precision, word", [
    ("cuda:77", "fp32", "device"), ("gpu", "fp32", "device"), ("cpu", "tf32", "precision")])
def test_a_device_or_precision_that_is_not_there_is_refused_in_one_line(device, precision, word):
    with pytest.raises(ValueError, match=word) as error:
        train([TINY.but(precision=precision)], device=device)
    assert "\n" not in str(error.value)


def test_a_diverged_run_is_right_about_nothing():
    """The largest of nothing but nan is the first, so it would be right where the answer is 0: about all that is hidden
    here."""
    h, = train([RunSpec(operation="x*y", modulus=7, width=16, heads=2, train_fraction=0.98, steps=40,
                        learning_rate=1e30, seed=3)])
    assert h.stopped_because == "diverged" and h.val_accuracy[-1] == h.train_accuracy[-1] == 0


def test_provenance_says_what_made_a_history():
    history, = train([TINY])
    assert ({"device", "torch", "numpy", "python", "precision", "stack_size", "git_revision", "seconds"}
            <= set(history.provenance))
    assert history.provenance["stack_size"] == 1 and history.provenance["torch"] == torch.__version__


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_and_cpu_agree_for_30_updates():
    specs = [RunSpec(steps=30),
             RunSpec(operation="x/y", train_fraction=0.3, seed=1, steps=30, update_noise=1.0, weight_decay=0)]
    for here, there in zip(train(specs, "cpu", [1, 10, 20]), train(specs, "cuda", [1, 10, 20])):
        np.testing.assert_allclose(here.train_loss, there.train_loss, rtol=0, atol=1e-4)


def test_a_switch_added_later_is_never_passed_over_in_silence():
    """It has a stack of its own and the textbook's pass, until it is said to need neither; switched off it changes
    nothing."""
    later = dataclasses.make_dataclass("Later", [("tied", bool, False)], bases=(RunSpec,), frozen=True)
    assert not later(tied=True).has_fast_pass and later().has_fast_pass and later().key == RunSpec().key
    assert training.shape(later(tied=True)) != training.shape(later())
    assert (not RunSpec(norm="pre").has_fast_pass
            and RunSpec(dropout=0.1, weight_decay=0, decay_by="gradient").has_fast_pass)
