"""The optimiser: torch's AdamW where it has the variant, a written-out loop where it has not."""

import math

import numpy as np
import pytest
import torch

from grok_lib import optim, rng
from grok_lib.specs import RunSpec

P = 40


def problem(R, updates):
    """Initial weights (R, P) and gradients (updates, R, P), the same for every optimiser under test."""
    source = np.random.default_rng(1)
    return torch.tensor(source.normal(size=(R, P))), torch.tensor(source.normal(size=(updates, R, P)))


def ours(specs, start, gradients):
    weights = start.clone()
    knobs, state = optim.knobs(specs, weights), optim.init_state(weights)
    for u, g in enumerate(gradients, 1):
        optim.update(weights, g.clone(), state, knobs, torch.tensor([u]))
    return weights


def torchs(spec, start, gradients):
    weight = torch.nn.Parameter(start.clone())
    kind = torch.optim.Adam if spec.decay_by == "gradient" else torch.optim.AdamW
    optimizer = kind([weight], lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.epsilon,
                     weight_decay=spec.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min(1.0, done / spec.warmup) if spec.warmup else 1.0)
    for g in gradients:
        weight.grad = g.clone()
        optimizer.step()
        schedule.step()
    return weight.detach()


def by_hand(spec, start, gradients):
    """AdamW of one run in plain numpy, one update after the other."""
    w, anchor = start.numpy().copy(), start.numpy() if spec.decay_to == "init" else 0.0
    m, v = np.zeros(P), np.zeros(P)
    for u, g in enumerate(gradients.numpy(), 1):
        lr, decay = spec.learning_rate * min(1, (u - 1) / spec.warmup), spec.weight_decay
        if spec.decay_by == "gradient":
            g, decay = g + decay * (w - anchor), 0
        m, v = spec.beta1 * m + (1 - spec.beta1) * g, spec.beta2 * v + (1 - spec.beta2) * g * g
        step = m / (np.sqrt(v / (1 - spec.beta2**u)) + spec.epsilon)
        if spec.update_noise:
            step = step + spec.update_noise * rng.normal(rng.numpy_key(spec.seed_for("noise"), rng.UPDATE_NOISE, u), P)
        w = w - lr * decay * (w - anchor)
        w = w - lr / (1 - spec.beta1**u) * step  # the authors' `step_size`
    return torch.tensor(w)


VARIANTS = {  # Figure 2 (left), as far as the optimiser knows them
    "Adam": RunSpec(weight_decay=0),
    "AdamW": RunSpec(),
    "AdamW, towards the start": RunSpec(decay_to="init"),
    "Adam, lr 3e-4": RunSpec(weight_decay=0, learning_rate=3e-4),
    "Adam, lr 3e-3": RunSpec(weight_decay=0, learning_rate=3e-3),
    "Adam, update noise": RunSpec(weight_decay=0, update_noise=1.0),
    "L2 in the gradient": RunSpec(weight_decay=0.1, decay_by="gradient"),
    "L2 in the gradient, towards the start": RunSpec(weight_decay=0.1, decay_by="gradient", decay_to="init"),
    "no warm-up": RunSpec(warmup=0, learning_rate=0.02),
}


@pytest.mark.parametrize("name", [name for name, s in VARIANTS.items()
                                  if s.decay_to == "origin" and not s.update_noise])
def test_adamw_matches_torch_reference(name):
    start, gradients = problem(1, 60)
    torch.testing.assert_close(ours([VARIANTS[name]], start, gradients), torchs(VARIANTS[name], start, gradients),
                               atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["AdamW, towards the start", "Adam, update noise",
                                  "L2 in the gradient, towards the start"])
def test_variants_that_torch_lacks_match_a_written_out_loop(name):
    start, gradients = problem(1, 60)
    torch.testing.assert_close(ours([VARIANTS[name]], start, gradients)[0],
                               by_hand(VARIANTS[name], start[0], gradients[:, 0]), atol=1e-12, rtol=1e-12)


def test_every_run_of_a_stack_of_all_variants_does_what_it_does_alone():
    specs = [s.but(seed=i) for i, s in enumerate(VARIANTS.values())]
    start, gradients = problem(len(specs), 30)
    together = ours(specs, start, gradients)
    for r, spec in enumerate(specs):
        alone = ours([spec], start[r:r + 1], gradients[:, r:r + 1])
        torch.testing.assert_close(together[r:r + 1], alone, atol=1e-13, rtol=1e-13)


def test_the_first_update_moves_nothing_and_the_eleventh_has_the_full_rate():
    spec, (start, gradients) = RunSpec(weight_decay=0), problem(1, 1)
    assert torch.equal(ours([spec], start, gradients), start)
    constant = gradients[:1].sign().expand(11, -1, -1)  # on a constant gradient Adam's normalised step is its sign
    moved = ours([spec], start, constant) - ours([spec], start, constant[:10])
    torch.testing.assert_close(moved, -1e-3 * constant[0], rtol=1e-6, atol=0)


def test_noise_differs_between_updates_runs_and_purposes_and_has_unit_variance():
    seeds = torch.tensor([[0], [1]])
    one = torch.ones(2, 1, dtype=torch.float64)
    def noise(purpose, u):
        flat = torch.zeros(2, 20_000, dtype=torch.float64)
        optim.add_noise(flat, torch.tensor([0, 1]), one, seeds, purpose, torch.tensor([u]))
        return flat
    rows = torch.cat([noise(rng.UPDATE_NOISE, 1), noise(rng.UPDATE_NOISE, 2), noise(rng.WEIGHT_NOISE, 1)])
    assert (torch.corrcoef(rows) - torch.eye(6, dtype=torch.float64)).abs().max() < 5 / math.sqrt(20_000)


def test_dropout_keeps_the_asked_share_keeps_the_mean_and_ignores_the_size_of_the_batch():
    knobs = optim.knobs([RunSpec(dropout=0.1), RunSpec(dropout=0.5, seed=1)], torch.zeros(2, 1))
    u = torch.tensor([7])
    large = optim.dropout_masks(knobs, u, 2, (64, 4, 32), torch.float32)
    assert [m.shape[2] for m in large] == [4, 1]
    for r, rate in enumerate((0.1, 0.5)):
        values = large[0][r]
        assert values.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
        assert (values == 0).double().mean() == pytest.approx(rate, abs=0.02)
    small = optim.dropout_masks(knobs, u, 2, (10, 4, 32), torch.float32)
    assert all(torch.equal(s, l[:, :10]) for s, l in zip(small, large))
    rest = optim.dropout_masks(knobs, u, 2, (54, 4, 32), torch.float32, start=10)
    assert all(torch.equal(s, l[:, 10:]) for s, l in zip(rest, large))
    assert not torch.equal(large[0], optim.dropout_masks(knobs, u + 1, 2, (64, 4, 32), torch.float32)[0])
