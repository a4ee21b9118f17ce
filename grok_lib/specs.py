"""What a run is: `RunSpec`.

A spec says everything that shapes a training run and nothing else: no device, path or callable. Its defaults
are the paper's (Power et al., A.1.2). Its `key` names the *trajectory*: two specs with one key train through
the same weights, so one stored history answers both.
"""

import dataclasses
import functools
import hashlib
import json
import math

import numpy as np

from grok_lib.operations import operation

SCHEMA = 1  # part of every key: raising it orphans every stored run

# Requests: they say how far to train and what to keep, and change nothing in training itself.
REQUESTS = ("steps", "stop", "keep")
# Fields in which runs side by side may differ; in all others, later ones included, a stack's runs are alike (dropout:
# all or none; `engine.shape`).
OWN = ("operation", "modulus", "train_fraction", "outliers", "seed", "split_seed", "init_seed", "order_seed",
       "noise_seed", "learning_rate", "weight_decay", "decay_to", "beta1", "beta2", "epsilon", "warmup", "batch_size",
       "update_noise", "weight_noise", "embedding_scale", "decay_by", *REQUESTS)
# And those that the fast forward pass knows, or has nothing to do with: a run with any other switch is trained by the
# textbook's.
FAST = (*OWN, "layers", "width", "heads", "full_batch", "dropout", "precision", "short_last_batch", "loss_precision")


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One training run. Raises ValueError (field, value, remedy) for anything that could not be trained.

    Fractions are in (0, 1), steps counted in updates; an update takes learning_rate * weight_decay of each weight away.
    Floats are kept to 6 significant digits, so that 0.1 + 0.2 and 0.3 are one run.
    """

    # The data
    operation: str = "x+y"
    modulus: int = 97
    train_fraction: float = 0.5
    outliers: int = 0  # training equations that get the answer of another one (Figure 6's k)
    # What is random: `seed` stands in for each of the four that is None
    seed: int = 0
    split_seed: int | None = None
    init_seed: int | None = None
    order_seed: int | None = None
    noise_seed: int | None = None
    # The model
    layers: int = 2
    width: int = 128
    heads: int = 4
    # Optimisation
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    decay_to: str = "origin"  # or "init": towards the initial weights
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8
    warmup: int = 10  # updates over which the learning rate rises linearly from 0
    batch_size: int | None = None  # None: the paper's min(512, half the training set)
    full_batch: bool = False
    dropout: float = 0.0  # after each block's MLP (the authors' code)
    update_noise: float = 0.0  # standard deviation, added to Adam's normalised update before its step size (`optim`)
    weight_noise: float = 0.0  # standard deviation, added to every weight in each training forward pass
    precision: str = "fp32"  # or "tf32", "float64"
    # Ways in which others build it: off by default, and measured by notebook 08
    positions: str = "sinusoidal"  # or "learned", "none"
    norm: str = "post"  # or "pre": LayerNorm before attention and MLP, and once more at the end
    activation: str = "relu"  # or "gelu"
    biases: bool = False  # in every linear layer
    embedding_scale: float = 1.0  # standard deviation of the initial embedding
    eos: bool = False  # an <eos> at both ends, the closing one in the loss, 239 tokens for all (the authors' code)
    short_last_batch: bool = False  # what an epoch leaves over is a batch of its own (the authors' code)
    decay_by: str = "weights"  # or "gradient": the L2 penalty of torch.optim.Adam, not decoupled
    loss_precision: str = "own"  # or "float64", for softmax and cross-entropy alone
    # Requests, not part of the key
    steps: int = 100_000
    stop: str = "budget"  # or "solved": at 100% validation and >= 99% training accuracy (100% with outliers)
    keep: tuple = ()  # names of weights to keep from the last update, e.g. ("output",), or of `history.MEASURES`

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _coerced(field, getattr(self, field.name)))
        for name, (holds, remedy) in _RULES.items():
            if getattr(self, name) is not None and not holds(getattr(self, name)):
                raise _error(name, getattr(self, name), remedy)
        operation(self.operation, self.modulus)  # raises for an unknown name or an impossible modulus
        if self.width % self.heads or self.width % 2:
            raise _error("width", self.width, f"use an even number that is a multiple of heads={self.heads}")
        if not 1 <= self.train_size < self.equations:
            raise _error("train_fraction", self.train_fraction,
                         f"of {self.equations} equations it must leave at least one to train on and one to validate")
        if self.outliers > (self.train_size if self.train_size > 1 else 0):
            raise _error("outliers", self.outliers,
                         f"use at most the {self.train_size} training equations, and 0 if there is only one")
        if self.full_batch and self.batch_size is not None:
            raise _error("batch_size", self.batch_size, "leave it out when full_batch=True")
        if self.batch_size is not None and self.batch_size > self.train_size:
            raise _error("batch_size", self.batch_size, f"use at most the {self.train_size} training equations")
        if self.full_batch and self.short_last_batch:
            raise _error("short_last_batch", True, "leave it out when full_batch=True: there is no last batch")
        if self.eos and self.dropout:
            raise _error("dropout", self.dropout,
                         "use 0 with eos=True: its masks know the four positions without <eos>")

    @property
    def equations(self):
        """N, the number of defined equations in the operation's table."""
        return len(operation(self.operation, self.modulus).equations)

    @property
    def train_size(self):
        """round(f N), as the authors' code has it."""
        return round(self.train_fraction * self.equations)

    @property
    def batch(self):
        """B, the number of equations in an update."""
        if self.full_batch:
            return self.train_size
        return self.batch_size or min(512, math.ceil(self.train_size / 2))

    @property
    def elements(self):
        """n, the number of elements: tokens 0 to n - 1. Token n is the operation, n + 1 '=', n + 2 an <eos>, if any."""
        return operation(self.operation, self.modulus).size

    @property
    def vocabulary(self):
        """V: the elements, the operation's symbol and '='; with `eos` the authors' 239 tokens (or more if need be),
        most of them never used."""
        return max(239, self.elements + 3) if self.eos else self.elements + 2

    @functools.cached_property
    def has_fast_pass(self):
        """Whether `model.answer_logits` computes its logits: otherwise the textbook does, which knows all switches of
        the model."""
        return all(f.name in FAST or getattr(self, f.name) == f.default for f in dataclasses.fields(self))

    @property
    def work(self):
        """Useful floating-point operations of the run, if it goes to its budget."""
        return self.flops * self.steps

    @property
    def flops(self):
        """Useful floating-point operations of one update: the matrix products of its forward pass, times three.

        1.9e9 for the paper's setting, by `model.answer_logits`; the textbook's pass takes 4.9e9.
        """
        if not self.has_fast_pass:
            T, asked = (6, 2) if self.eos else (4, 1)
            return 6 * self.batch * self.width * (self.layers * T * (12 * self.width + 2 * T) + asked * self.vocabulary)
        n, B, D, rows = self.elements, self.batch, self.width, 2 * self.elements + 2
        products = B * self.vocabulary * D  # the logits
        for layer in range(self.layers):
            last = layer == self.layers - 1
            asked = (B if layer else 1) if last else rows
            out = B if last else 4 * B if self.dropout and layer else 2 * n + 2 * B
            products += D**2 * (2 * rows + asked + 9 * out)  # keys, values; queries; what attention gives, and the MLP
            rows = 4 * B if self.dropout else out
        return 2 * 3 * products

    def seed_for(self, purpose):
        """The seed that rules 'split', 'init', 'order' or 'noise'."""
        own = getattr(self, f"{purpose}_seed")
        return self.seed if own is None else own

    @functools.cached_property
    def key(self):
        """16 hex digits of the sha256 of the schema version and the fields that shape training.

        Fields equal to their default are left out, so that a switch added later, off by default, moves no key.
        """
        shaping = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                   if f.name not in REQUESTS and getattr(self, f.name) != f.default}
        text = json.dumps([SCHEMA, shaping], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def but(self, **changes):
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self):
        """The spec as JSON text; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text):
        """A spec from `to_json`'s text, validated. Raises ValueError for fields this version does not know."""
        fields = json.loads(text)
        unknown = set(fields) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"fields {sorted(unknown)} are not known: written by a newer grok_lib?")
        return cls(**fields)


def _error(name, value, remedy):
    return ValueError(f"{name}={value!r} will not do: {remedy}")


def _coerced(field, value):
    """`value` as the field's type, floats at 6 significant digits; ValueError where it is of another kind."""
    kind = field.type
    if value is None and "None" in str(kind):
        return None
    if kind is float and isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            rounded = float(f"{value:.6g}") + 0.0  # so that -0.0 is 0.0
        except OverflowError:  # an integer beyond all floats
            rounded = math.inf
        if not math.isfinite(rounded):
            raise _error(field.name, value, "use a finite number")
        return rounded
    if kind in (int, int | None) and isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(sorted(set(value)))
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise _error(field.name, value, f"use a value of type {getattr(kind, '__name__', kind)}")


_at_least_0 = (lambda v: v >= 0, "use 0 or more")
_at_least_1 = (lambda v: v >= 1, "use 1 or more")
_below_1 = (lambda v: 0 <= v < 1, "use a number in [0, 1)")
_seed = (lambda v: 0 <= v < 2**63, "use a whole number from 0 to 2^63 - 1")


def _one_of(*choices):
    return (lambda v: v in choices, f"choose from {', '.join(choices)}")


_RULES = {
    "train_fraction": (lambda v: 0 < v < 1, "use a fraction between 0 and 1, such as 0.5"), "outliers": _at_least_0,
    "seed": _seed, "split_seed": _seed, "init_seed": _seed, "order_seed": _seed, "noise_seed": _seed,
    "layers": (lambda v: 1 <= v <= 100, "use 1 to 100"), "width": _at_least_1, "heads": _at_least_1,
    "learning_rate": (lambda v: v > 0, "use a positive number, such as 1e-3"), "weight_decay": _at_least_0,
    "decay_to": _one_of("origin", "init"), "beta1": _below_1, "beta2": _below_1,
    "epsilon": (lambda v: v > 0, "use a small positive number, such as 1e-8"), "warmup": _at_least_0,
    "batch_size": _at_least_1, "dropout": _below_1, "update_noise": _at_least_0, "weight_noise": _at_least_0,
    "precision": _one_of("fp32", "tf32", "float64"), "positions": _one_of("sinusoidal", "learned", "none"),
    "norm": _one_of("post", "pre"), "activation": _one_of("relu", "gelu"),
    "embedding_scale": (lambda v: v > 0, "use a positive number, such as 0.02"),
    "decay_by": _one_of("weights", "gradient"), "loss_precision": _one_of("own", "float64"),
    "steps": (lambda v: 1 <= v <= 10**12, "use a whole number from 1 to 10^12"), "stop": _one_of("budget", "solved"),
}
