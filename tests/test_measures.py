"""What is kept of a run besides its curves: saturation over time, sharpness where training ends."""

import numpy as np
import oracle
import pytest
import torch

from grok_lib import data, engine, measures, model
from grok_lib.operations import operation
from grok_lib.runs import store, sweep
from grok_lib.specs import RunSpec
from grok_lib.training import train

TINY = RunSpec(modulus=11, width=16, heads=2, steps=40)
CPU = torch.device("cpu")


def confident(specs, factor):
    """A stack whose logits are `factor` times as large as at the start."""
    stack = engine.open_stack(specs, CPU)
    model.unpack(stack.weights, specs[0])["output"].mul_(factor)
    return stack


@pytest.mark.parametrize("precision", ["own", "float64"])
@pytest.mark.parametrize("factor", [1, 20, 60, 1000])
def test_saturation_is_the_share_of_training_equations_to_which_torch_gives_no_loss_and_no_gradient(factor, precision):
    specs = [TINY.but(loss_precision=precision), TINY.but(loss_precision=precision, seed=1, train_fraction=0.3)]
    stack = confident(specs, factor)
    for r, spec in enumerate(specs):  # one equation after the other
        module = oracle.from_stack(model.unpack(stack.weights, spec), r, 2)
        x, y, answer = torch.tensor(operation("x+y", 11).equations[data.split(spec)[0]]).T
        counts = np.zeros(2)
        for i in range(len(x)):
            logits = module(x[i:i + 1], y[i:i + 1]).detach().to(
                torch.float64 if precision == "float64" else torch.float32).requires_grad_()
            loss = torch.nn.functional.cross_entropy(logits, answer[i:i + 1])
            loss.backward()
            counts += [loss.item() == 0, not logits.grad.any()]
        # One on the edge may round otherwise
        np.testing.assert_allclose(measures.saturation(stack)[r], counts / len(x), atol=1.5 / len(x))


def test_saturation_is_the_same_whether_or_not_the_processor_has_subnormal_numbers():
    """Between 87 and 104 below the answer a logit's gradient is such a number."""
    logits = torch.full((1, 4, 13), -95.0)
    logits[..., 0] = 0
    logits[0, 3] -= 95 * (torch.arange(13) > 0)
    answer, every = torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool)
    stack = engine.open_stack([TINY], CPU)
    stack.data.is_train = every
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "whole_tables", lambda stack: [
            (logits, engine.losses(logits, answer, TINY.loss_precision), answer, every, ~every)])
        for flushed in (False, True):
            torch.set_flush_denormal(flushed)
            try:
                seen = measures.saturation(stack)
            finally:
                torch.set_flush_denormal(False)
            np.testing.assert_array_equal(seen, [[1, 0.25]])


def test_saturation_is_kept_for_each_evaluated_update_and_only_where_asked_for():
    asked, other = train([TINY.but(keep=("saturation",)), TINY.but(seed=1, steps=60)])
    assert asked.kept["saturation"].shape == (len(asked.step), 2) and asked.kept["saturation"].dtype == np.float32
    assert other.kept == {}


def test_the_loss_whose_sharpness_is_measured_is_that_of_the_whole_training_set_with_its_gradient():
    specs = [TINY, TINY.but(seed=1, train_fraction=0.3, operation="x-y")]
    stack = engine.open_stack(specs, CPU)
    engine.advance(stack, 1, 20)
    losses, grads = measures.training_loss(TINY, stack.data, stack.weights.double().numpy())
    np.testing.assert_allclose(losses, engine.evaluate(stack)[0], rtol=1e-5)
    for r, spec in enumerate(specs):
        module = oracle.from_stack(model.unpack(stack.weights.double(), spec), r, 2)
        train_set, _ = data.split(spec)
        x, y, answer = torch.tensor(operation(spec.operation, 11).equations[train_set]).T
        module.loss(x, y, answer).backward()
        parts = [part for name in model.parameter_shapes(spec) for part in oracle.named(module)[name]]
        np.testing.assert_allclose(grads[r], torch.cat([w.grad.flatten() for w in parts]), atol=1e-12)


def test_a_training_set_done_in_parts_has_the_same_loss_and_gradient(monkeypatch):
    stack = engine.open_stack([TINY, TINY.but(train_fraction=0.2)], CPU)
    whole = measures.training_loss(TINY, stack.data, stack.weights.numpy())
    monkeypatch.setattr(measures, "TOGETHER", 7)
    for a, b in zip(whole, measures.training_loss(TINY, stack.data, stack.weights.numpy())):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_sharpness_is_kept_where_training_ends_the_same_alone_and_in_company():
    everything = (*model.parameter_shapes(TINY), "sharpness")
    spec = TINY.but(keep=everything, precision="float64")
    (alone,), together = (train([spec], "cpu"),
                          train([spec.but(seed=3, steps=20), spec, spec.but(seed=4, train_fraction=0.3)], "cpu"))
    np.testing.assert_allclose(together[1].kept["sharpness"], alone.kept["sharpness"], rtol=1e-3)
    rise, fall, length = alone.kept["sharpness"]
    weights = np.concatenate([alone.kept[name].ravel() for name in model.parameter_shapes(TINY)])
    assert rise > 0 and length == pytest.approx(np.linalg.norm(weights), rel=1e-6)
    assert all(np.isfinite(h.kept["sharpness"]).all() for h in together)


def test_the_sharpness_of_more_runs_than_are_measured_together_is_each_ones_own(monkeypatch):
    specs = [TINY.but(seed=seed, keep=("sharpness",)) for seed in range(3)]
    at_once = train(specs, "cpu")
    monkeypatch.setattr(measures, "RUNS_TOGETHER", 2)
    for one, two in zip(at_once, train(specs, "cpu")):
        np.testing.assert_allclose(one.kept["sharpness"], two.kept["sharpness"], rtol=1e-3)
    assert len({h.kept["sharpness"][2] for h in at_once}) == 3


def test_a_run_that_diverged_has_no_sharpness_and_hurts_no_other():
    lost, fine = train([TINY.but(learning_rate=1e30, keep=("sharpness",)),
                        TINY.but(seed=1, keep=("sharpness",))], "cpu")
    assert lost.stopped_because == "diverged" and np.isnan(lost.kept["sharpness"]).all()
    assert np.isfinite(fine.kept["sharpness"]).all()


def test_what_was_measured_survives_the_store_and_answers_only_the_request_that_it_was_made_for(tmp_path):
    spec = TINY.but(keep=("saturation", "sharpness"))
    (made,) = train([spec], "cpu")
    store.save(made, tmp_path)
    found = store.find(spec, tmp_path)
    for name in spec.keep:
        np.testing.assert_array_equal(found.kept[name], made.kept[name])
    assert store.find(spec.but(steps=20), tmp_path) is None and store.find(TINY, tmp_path) is not None


def test_the_sharpness_of_weights_that_were_kept_is_what_was_measured_where_training_ended():
    names = tuple(model.parameter_shapes(TINY))
    (history,) = train([TINY.but(keep=(*names, "sharpness"))], "cpu")
    np.testing.assert_allclose(measures.sharpness_of(history), history.kept["sharpness"][:2], rtol=1e-4)
    assert not np.allclose(measures.sharpness_of(history, seed=1), history.kept["sharpness"][:2], rtol=1e-4)
    assert measures.sharpness_of(history, epsilon=1e-2)[0] > history.kept["sharpness"][0]
    with pytest.raises(ValueError, match="has not kept .*output"):
        measures.sharpness_of(train([TINY], "cpu")[0])


def test_a_mistake_in_the_last_spec_is_found_before_the_first_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("grok_lib.training.open_stack", lambda *_: pytest.fail("trained"))
    good, bad = RunSpec(modulus=7, width=8, steps=2), RunSpec(modulus=7, width=8, steps=3, norm="pre", keep=("outptu",))
    for begin in (lambda: train([good, bad], "cpu"), lambda: sweep.sweep([good, bad], tmp_path, None, "cpu")):
        with pytest.raises(ValueError, match="outptu"):
            begin()


def test_asking_to_keep_what_there_is_not_lists_weights_and_measures():
    with pytest.raises(ValueError,
                       match="neither weights nor measures: choose from embedding, .*output, sharpness, saturation"):
        train([TINY.but(keep=("sharpnes",))], "cpu")
