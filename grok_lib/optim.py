"""One AdamW for a stack of runs: every knob is a column (R, 1), every weight one entry of the flat (R, P).

The nine variants of Figure 2 (left) are settings of these knobs and of `full_batch`: no decay is `weight_decay = 0`,
decay towards the initial weights is another `anchor`, and so on. For each run, with gradient g at update u = 1, 2, ...:

    lr      = learning_rate * min(1, (u - 1) / warmup)        the first update moves nothing (the authors' code);
                                                              warmup 0: no factor
    g       = g + weight_decay * (w - anchor)                 with decay_by="gradient" only, which leaves out the
                                                              first w = ... below
    m, v    = moving averages of g and g^2, with beta1 and beta2
    w       = w - lr * weight_decay * (w - anchor)            decoupled, on every weight; anchor 0 or the start
    w       = w - lr / (1 - beta1^u) * (m / (sqrt(v / (1 - beta2^u)) + epsilon) + update_noise * N(0, 1))

Adam's correction 1 - beta1^u divides the noise too, as in the authors' code: at first it is larger, from some 50
updates on it makes no difference.
"""

import dataclasses

import torch

from grok_lib import rng
from grok_lib.fuse import fused


COLUMNS = ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon", "warmup", "dropout", "update_noise",
           "weight_noise")


@dataclasses.dataclass
class Knobs:
    """What differs between the runs of a stack. Columns are float64 (R, 1), so that 1 - beta^u loses nothing."""

    learning_rate: torch.Tensor
    weight_decay: torch.Tensor
    beta1: torch.Tensor
    beta2: torch.Tensor
    epsilon: torch.Tensor
    warmup: torch.Tensor
    dropout: torch.Tensor
    update_noise: torch.Tensor
    weight_noise: torch.Tensor
    noise_seed: torch.Tensor  # int64 (R, 1)
    penalised: torch.Tensor  # bool (R, 1): decay goes into the gradient instead
    anchor: torch.Tensor | None  # (R, P): what decay pulls towards; None when it is the origin for all runs

    def __post_init__(self):
        # The runs that have such noise: only they pay for it
        self.noisy_updates = self.update_noise[:, 0].nonzero()[:, 0]
        self.noisy_weights = self.weight_noise[:, 0].nonzero()[:, 0]
        self.any_penalised = bool(self.penalised.any())

    def rows(self, keep):
        """The knobs of some of the runs; `keep` is an index tensor."""
        tensors = {f.name: value[keep] for f in dataclasses.fields(self)
                   if (value := getattr(self, f.name)) is not None}
        return dataclasses.replace(self, **tensors)


def knobs(specs, weights):
    """The `Knobs` of a stack, beside its initial weights (R, P)."""
    def column(values, dtype=torch.float64):
        return torch.tensor(values, dtype=dtype, device=weights.device)[:, None]
    towards_start = column([s.decay_to == "init" for s in specs], weights.dtype)
    return Knobs(**{name: column([getattr(s, name) for s in specs]) for name in COLUMNS},
                 noise_seed=column([s.seed_for("noise") for s in specs], torch.int64),
                 penalised=column([s.decay_by == "gradient" for s in specs], torch.bool),
                 anchor=weights * towards_start if towards_start.any() else None)


def init_state(weights):
    """Adam's two moving averages, and a scratch tensor: (R, P) each."""
    return {"m": torch.zeros_like(weights), "v": torch.zeros_like(weights), "scratch": torch.empty_like(weights)}


def update(weights, grads, state, knobs, u):
    """One AdamW update, in place: `weights` and `grads` (R, P), `u` the number of the update, from 1: int64 (1,).

    `u` is a tensor so that a captured graph goes on counting by itself.
    """
    k = knobs
    if k.any_penalised:
        grads.addcmul_(weights if k.anchor is None else weights - k.anchor,
                       (k.weight_decay * k.penalised).to(weights.dtype))
    step_size, *columns = _columns(u, k.learning_rate, k.warmup, k.weight_decay, k.penalised, k.beta1, k.beta2,
                                   k.epsilon, weights.dtype)
    # Before weights move: `fuse.attempt` may repeat a step until then
    noise = _noises(weights, k.noisy_updates, -step_size * k.update_noise, k.noise_seed, rng.UPDATE_NOISE, u)
    _adamw(weights, grads, state["m"], state["v"], state["scratch"], k.anchor, *columns)
    for some, values in noise:
        weights.index_add_(0, some, values)


@fused
def _columns(u, learning_rate, warmup, weight_decay, penalised, beta1, beta2, epsilon, dtype):
    """The step size of update `u`, lr / (1 - beta1^u), float64 (R, 1), and what `_adamw` needs: reckoned in float64,
    then cast to the weights' type."""
    lr = learning_rate * torch.maximum(((u - 1) / warmup.clamp(min=1)).clamp(max=1), (warmup == 0).double())
    pull = lr * weight_decay * ~penalised
    seen_m = 1 - beta1**u
    columns = lr, pull, 1 - pull, 1 - beta1, 1 - beta2, seen_m, 1 - beta2**u, epsilon
    return lr / seen_m, *(column.to(dtype) for column in columns)


@fused
def _adamw(weights, grads, m, v, step, anchor, lr, pull, kept, new_m, new_v, seen_m, seen_v, epsilon):
    """The update itself, in place: all (R, P), and columns (R, 1). `step` is scratch.

    kept = 1 - pull; new_m = 1 - beta1, the share of g in m; seen_m = 1 - beta1^u, Adam's correction for the start;
    likewise of v.
    """
    torch.mul(grads, grads, out=step)
    v.lerp_(step, new_v)
    m.lerp_(grads, new_m)
    torch.div(v, seen_v, out=step).sqrt_().add_(epsilon)
    torch.div(m, step, out=step).div_(seen_m)
    weights.mul_(kept) if anchor is None else weights.lerp_(anchor, pull)
    weights.addcmul_(step, -lr)


def add_noise(flat, runs, sigma, seed, purpose, u):
    """Adds the noise of update `u` (1,), N(0, sigma^2), to the rows `runs` of `flat` (R, P), in place."""
    for some, values in _noises(flat, runs, sigma, seed, purpose, u):
        flat.index_add_(0, some, values)


def _noises(flat, runs, sigma, seed, purpose, u):
    """[(rows of `flat`, noise for them)]; on a CPU, whose caches hold one run's, a row at a time."""
    if not len(runs):
        return []
    count, pieces = flat.shape[1], runs.split(1 if flat.device.type == "cpu" else len(runs))
    index = torch.arange((count + 1) // 2, device=flat.device)  # made here: Triton would reckon with its own in 32 bits
    return [(some, _noise(rng.key(seed[some], purpose, u), index, sigma[some], count, flat.dtype)) for some in pieces]


_noise = fused(lambda keys, index, sigma, count, dtype: (rng.normal(keys, count, index) * sigma).to(dtype))
_mask = fused(lambda keys, entry, rate, dtype: ((rng.uniform(rng.bits(keys, entry)) >= rate) / (1 - rate)).to(dtype))


def dropout_masks(knobs, u, layers, shape, dtype, start=0):
    """Dropout factors of update `u` (1,), one tensor a layer: 0 or 1/(1 - rate), (R, B, T, D); `shape` is (B, T, D).

    In one run's update an entry depends on the layer, the example's place in the batch (the first one's is `start`),
    position and column alone. The last layer's has position 3 only: the others are not asked for.
    """
    T, D = shape[1:]
    keys = rng.key(knobs.noise_seed, rng.DROPOUT, u)[..., None, None]
    b, t, d = (torch.arange(size, device=keys.device) for size in shape)
    rate, masks = knobs.dropout[..., None, None], []
    for l in range(layers):
        positions = t if l < layers - 1 else t[-1:]
        entry = (((b[:, None, None] + start) * layers + l) * T + positions[:, None]) * D + d
        masks.append(_mask(keys, entry, rate, dtype))
    return masks
