"""The model: the authors' architecture, and a fast forward pass that is exactly the textbook one."""

import math

import numpy as np
import oracle
import pytest
import torch

from grok_lib import model, optim, textbook
from grok_lib.operations import operation
from grok_lib.specs import RunSpec

SMALL = RunSpec(modulus=11, width=16, heads=2)


def leaves(specs, dtype=torch.float64):
    flat = torch.as_tensor(model.init_params(specs), dtype=dtype)
    return {name: w.clone().requires_grad_() for name, w in model.unpack(flat, specs[0]).items()}


def equations(specs, B):
    """B random equations for each run: x, y, answer (R, B)."""
    table = torch.tensor(operation(specs[0].operation, specs[0].modulus).table)
    x, y = torch.tensor(np.random.default_rng(0).integers(0, len(table), (2, len(specs), B)))
    return x, y, table[x, y]


def fast(p, x, y, spec, masks=None):
    return model.answer_logits(p, x, y, spec.heads, masks)


def loss_and_gradients(forward, p, x, y, answer, spec, masks=None):
    logits = forward(p, x, y, spec, masks)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answer.flatten())
    return logits.detach(), torch.autograd.grad(loss, list(p.values()))


def test_the_paper_model_has_394240_non_embedding_parameters():
    assert model.inner_weights(RunSpec()) == 394_240
    assert model.inner_weights(RunSpec(operation="xy in S5")) == sum(
        p.numel() for p in oracle.Transformer(120, 128, 4, 2).blocks.parameters())


def test_the_output_layer_has_a_row_for_every_element_and_both_symbols():
    assert model.parameter_shapes(RunSpec())["output"] == (99, 128)
    assert model.parameter_shapes(RunSpec(operation="xy in S5"))["output"] == (122, 128)


@pytest.mark.parametrize("spec", [RunSpec(), RunSpec(operation="xy in S5")], ids=["Z/97", "S5"])
def test_fast_and_textbook_forward_agree_in_value_and_gradient_at_full_size(spec):
    specs = [spec, spec.but(seed=1)]
    p = leaves(specs, torch.float32)
    batch = equations(specs, 64)
    quick, fast_gradients = loss_and_gradients(fast, p, *batch, spec)
    slow, slow_gradients = loss_and_gradients(textbook.logits, p, *batch, spec)
    torch.testing.assert_close(quick, slow, atol=1e-5, rtol=1e-5)
    for f, s in zip(fast_gradients, slow_gradients):
        torch.testing.assert_close(f, s, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_fast_and_textbook_forward_agree_to_rounding_in_float64(layers, dropout):
    specs = [SMALL.but(layers=layers, dropout=dropout, seed=s) for s in range(3)]
    p, (x, y, answer) = leaves(specs), equations(specs, 20)
    masks = masks_slow = None
    if dropout:
        knobs = optim.knobs(specs, torch.zeros(3, 1, dtype=torch.float64))
        masks = optim.dropout_masks(knobs, torch.tensor([1]), layers, (20, 4, 16), torch.float64)
        masks_slow = [*masks[:-1], masks[-1].expand(-1, -1, 4, -1)]
    quick, fast_gradients = loss_and_gradients(fast, p, x, y, answer, specs[0], masks)
    slow, slow_gradients = loss_and_gradients(textbook.logits, p, x, y, answer, specs[0], masks_slow)
    torch.testing.assert_close(quick, slow, atol=1e-12, rtol=1e-12)
    for f, s in zip(fast_gradients, slow_gradients):
        torch.testing.assert_close(f, s, atol=1e-12, rtol=1e-12)


def test_both_forward_passes_agree_with_a_plain_module_run_by_run():
    specs = [SMALL.but(seed=s) for s in range(2)]
    p, (x, y, _) = leaves(specs), equations(specs, 20)
    theirs = torch.stack([oracle.from_stack(p, r, 2)(x[r], y[r]) for r in range(2)])
    torch.testing.assert_close(textbook.logits(p, x, y, SMALL), theirs, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(model.answer_logits(p, x, y, 2), theirs, atol=1e-12, rtol=1e-12)


def test_initial_weights_are_distributed_as_pytorch_and_the_authors_have_them():
    p = {name: w.detach() for name, w in leaves([RunSpec()]).items()}
    assert abs(p["embedding"].std() - 1) < 0.02 and abs(p["embedding"].mean()) < 0.03
    reference = torch.nn.Linear(512, 128, bias=False).weight  # fan_in 512, as mlp_out
    bound = 1 / math.sqrt(512)
    assert reference.abs().max() <= bound and 0.99 * bound < p["0.mlp_out"].abs().max() <= bound
    assert abs(p["0.mlp_out"].std() - bound / math.sqrt(3)) < 0.01 * bound
    for name in ("0.qkv", "1.attention_out", "0.mlp_in", "output"):  # fan_in 128
        assert 0.99 / math.sqrt(128) < p[name].abs().max() <= 1 / math.sqrt(128)
    assert (p["1.norm1_gain"] == 1).all() and (p["1.norm2_bias"] == 0).all()


def test_a_run_starts_from_the_same_weights_in_any_stack_and_each_matrix_from_its_own():
    specs = [RunSpec(seed=s) for s in (3, 5)]
    together, alone = model.init_params(specs), model.init_params(specs[1:])
    assert (together[1] == alone[0]).all() and (together[0] != together[1]).any()
    p = leaves(specs[:1])
    assert (not torch.allclose(p["0.mlp_in"], p["1.mlp_in"])
            and not torch.allclose(p["0.qkv"][:, :128], p["0.qkv"][:, 128:256]))


def test_positions_are_the_sinusoids_of_the_module():
    theirs = oracle.Transformer(11, 16, 2, 1).positions
    np.testing.assert_allclose(model.position_code(4, 16), theirs.numpy(), atol=1e-15)


def test_flops_are_those_of_the_matrix_products_that_torch_counts():
    """An independent count: every bmm of one forward pass, by torch's own counter, times three."""
    from torch.utils.flop_counter import FlopCounterMode
    for spec in (RunSpec(), RunSpec(operation="xy in S5", train_fraction=0.05),
                 *(RunSpec(layers=l, dropout=d) for l in (1, 2, 3) for d in (0, 0.1))):
        p, (x, y, _) = leaves([spec], torch.float32), equations([spec], spec.batch)
        masks = [torch.ones(1, spec.batch, 4 if l < spec.layers - 1 else 1, spec.width)
                 for l in range(spec.layers)] if spec.dropout else None
        with FlopCounterMode(display=False) as counter:
            model.answer_logits(p, x, y, spec.heads, masks)
        assert counter.get_total_flops() * 3 == pytest.approx(spec.flops, rel=1e-9)
