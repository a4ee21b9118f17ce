"""The authors' transformer for a whole stack of runs: its weights, and the fast forward pass (`textbook` has the plain
one).

One alphabet of dimensions, everywhere in this library; `R` always leads:

    R runs, B examples, T positions (x, operation, y, =; two more with <eos>), D width, H heads, K = D/H head width,
    V vocabulary, n elements, N equations, L layers, P parameters of one run, E evaluations

Decoder-only, post-LayerNorm, ReLU, MLP of 4 D, no biases in linear layers, sinusoidal positions, untied output (Power
et al., A.1.2, and the authors' code where the paper is silent). Only the answer at '=' is asked for. The weights of the
ways in which others build it (biases, learned positions, a final norm) lie here too; the passes that use them are in
`textbook`.

All weights of a run lie in one flat row, so that the optimiser sees a single (R, P) tensor; `unpack` gives the
named views of it.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

from grok_lib import rng
from grok_lib.fuse import fused
from grok_lib.layers import Linear, Take, mlp


def parameter_shapes(spec):
    """{name: shape} of one run's weights, in the order of the flat row. Matrices are (out, in), as in nn.Linear."""
    D, V = spec.width, spec.vocabulary
    shapes = {"embedding": (V, D)}
    if spec.positions == "learned":
        shapes |= {"positions": (6 if spec.eos else 4, D)}
    for l in range(spec.layers):
        shapes |= {f"{l}.qkv": (3 * D, D), f"{l}.attention_out": (D, D),
                   f"{l}.norm1_gain": (D,), f"{l}.norm1_bias": (D,),
                   f"{l}.mlp_in": (4 * D, D), f"{l}.mlp_out": (D, 4 * D),
                   f"{l}.norm2_gain": (D,), f"{l}.norm2_bias": (D,)}
    if spec.norm == "pre":
        shapes |= {"norm_gain": (D,), "norm_bias": (D,)}
    shapes |= {"output": (V, D)}  # rows are tokens, as in the embedding: these are Figure 3's points
    if spec.biases:
        linear = [name for name in shapes if name.endswith(("qkv", "attention_out", "mlp_in", "mlp_out", "output"))]
        shapes |= {f"{name}_bias": shapes[name][:1] for name in linear}
    return shapes


def inner_weights(spec):
    """How many weights there are besides embedding and output: 394,240 for the paper's model."""
    return sum(math.prod(shape) for name, shape in parameter_shapes(spec).items()
               if name not in ("embedding", "output"))


def init_params(specs):
    """The initial weights: numpy float64 (R, P), made without torch so that every device starts from equal bits.

    Embedding (times `embedding_scale`) and learned positions ~ N(0, 1); linear layers, and their biases,
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)): both PyTorch's defaults; LayerNorm 1 and 0.
    """
    return np.stack([np.concatenate([_initial(spec, name, shape).ravel()
                                     for name, shape in parameter_shapes(spec).items()])
                     for spec in specs])


def _initial(spec, name, shape):
    if "norm" in name:
        return np.full(shape, float(name.endswith("gain")))
    keys, count = rng.numpy_key(spec.seed_for("init"), rng.INIT, rng.name_code(name)), math.prod(shape)
    if name in ("embedding", "positions"):
        return rng.normal(keys, count).reshape(shape) * (spec.embedding_scale if name == "embedding" else 1)
    fan_in = parameter_shapes(spec)[name.removesuffix("_bias")][1]
    return (rng.uniform(rng.bits(keys, np.arange(count))).reshape(shape) * 2 - 1) / math.sqrt(fan_in)


def unpack(flat, spec):
    """Named views of flat weights: (R, P) gives {name: (R, *shape)}."""
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(spec).items()}
    pieces = flat.split(list(sizes.values()), dim=1)
    return {name: piece.unflatten(1, shape) for piece, (name, shape) in zip(pieces, parameter_shapes(spec).items())}


def position_code(T, D):
    """Sinusoidal positions (T, D), sines in even and cosines in odd columns (Vaswani et al. 2017; the authors'
    code)."""
    column = np.arange(D)
    angle = np.arange(T)[:, None] / 10000 ** ((column - column % 2) / D)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))


def norm(h, gain, bias):
    """LayerNorm over D with a gain and a bias per run: h (R, ..., D), gain and bias (R, D)."""
    gain, bias = (t.view(len(h), *[1] * (h.ndim - 2), -1) for t in (gain, bias))
    return torch.addcmul(bias, F.layer_norm(h, h.shape[-1:]), gain)


@fused
def norm_of_sum(parts, change, gain, bias):
    """`norm` of rows and what a block adds to them: parts, each (R, m, D), one after the other, and change
    (R, sum of m, D)."""
    return norm((torch.cat(parts, 1) if len(parts) > 1 else parts[0]) + change, gain, bias)


def layer(p, l):
    """The weights of layer l: 'qkv', 'attention_out', ..."""
    return {name.removeprefix(f"{l}."): weight for name, weight in p.items() if name.startswith(f"{l}.")}


def positions(embedding, T=4):
    """`position_code` beside an embedding (R, V, D), in its kind of number."""
    return _position_tensor(T, embedding.shape[2], embedding.dtype, embedding.device)


@functools.cache  # uploaded once: a step must not wait for anything from the host
def _position_tensor(T, D, dtype, device):
    return torch.as_tensor(position_code(T, D), dtype=dtype, device=device)


def answer_logits(p, x, y, heads, masks=None, place=None):
    """Answer logits (R, B, V) for x, y (R, B): exactly the textbook's, without its redundant work.

    Under the causal mask positions 0 and 1 see only x, so they have n distinct rows in a run, not B; before any mixing
    all four positions together have 2 n + 2. Only position 3 is asked for: of the others the last layer needs keys and
    values alone.
    `masks`: as in the textbook; of the last layer's only position 3 is used. `place`: the tensor `positions`, which
    compiled code has to get from outside.
    """
    n, L = p["embedding"].shape[1] - 2, sum(name.endswith(".qkv") for name in p)
    place = positions(p["embedding"]) if place is None else place
    by_x, by_y = Picker(x, n, place.dtype), Picker(y, n, place.dtype)
    elements, symbols = p["embedding"].split([n, 2], 1)
    # The distinct rows at the four positions: x (n), the operation (1), y (n), '=' (1)
    rows = [elements + place[0], symbols[:, :1] + place[1], elements + place[2], symbols[:, 1:] + place[3]]
    pickers = [by_x, None, by_y, None]  # how examples pick theirs; None: one row serves all, or each has its own
    for l in range(L):
        w, last = layer(p, l), l == L - 1
        before, mixed = _attention(w, rows, pickers, heads, last)
        h = norm_of_sum(before, Linear.apply(torch.cat(mixed, 1), w["attention_out"]), w["norm1_gain"], w["norm1_bias"])
        m = mlp(h, w["mlp_in"], w["mlp_out"])
        sizes, pickers = [t.shape[1] for t in mixed], [pickers[0], pickers[0], None, None]
        if masks is not None:
            h, m = (_expand(t, sizes, pickers) for t in (h, m))
            m = m * masks[l][:, :, -len(sizes):].transpose(1, 2).flatten(1, 2)
            sizes, pickers = [x.shape[1]] * len(sizes), [None] * 4
        rows = norm_of_sum([h], m, w["norm2_gain"], w["norm2_bias"]).split(sizes, 1)
    return Linear.apply(rows[-1], p["output"])


def _expand(rows, sizes, pickers):
    """Rows (R, sum of sizes, D) of the last positions, as each example uses them: (R, positions * B, D). Dropout's
    masks are each example's own, so from here on nobody shares a row."""
    return torch.cat(_each(rows.split(sizes, 1), pickers[-len(sizes):]), 1)


def _attention(w, rows, pickers, heads, last):
    """Each position's rows before attention, and what attention mixes for them; in the last layer position 3 only.

    Positions 0 and 1 leave with n rows (with dropout, B from the second layer on); 2 and 3 with one per example.
    """
    h, sizes, D = torch.cat(rows, 1), [t.shape[1] for t in rows], rows[0].shape[2]
    if last:
        q, kv = Linear.apply(rows[3], w["qkv"][:, :D]), Linear.apply(h, w["qkv"][:, D:]).split(sizes, 1)
        return [rows[3]], [_attend(q, _each(kv, pickers), heads)]
    qkv = Linear.apply(h, w["qkv"]).split(sizes, 1)
    q, kv = [t[..., :D] for t in qkv], [t[..., D:] for t in qkv]
    mixed = [kv[0][..., D:], _attend(q[1], kv[:2], heads)]
    # From here on each example has a row of its own at position 2: its qkv and the row itself are picked at once
    own = _each([kv[0], kv[1], torch.cat([qkv[2], rows[2]], 2), kv[3]], pickers)
    q2, own[2], before2 = own[2].split([D, 2 * D, D], 2)
    mixed += [_attend(q2, own[:3], heads), _attend(q[3], own, heads)]
    return [rows[0], rows[1].expand_as(mixed[1]), before2, rows[3].expand_as(mixed[3])], mixed


class Picker:
    """Which of a run's n rows (of elements, or of a whole embedding) each example uses: `index` (R, B), and its one-hot
    form for gradients."""

    def __init__(self, index, n, dtype):
        self.index = index
        self.one_hot = None
        if torch.is_grad_enabled():  # F.one_hot would look at the values, from the host
            self.one_hot = (index[..., None] == torch.arange(n, device=index.device)).to(dtype)


def _each(rows, pickers):
    """Rows as the examples use them: (R, m, D) -> (R, B, D), or (R, 1, D) where one serves all."""
    return [t if p is None else Take.apply(t, p.index, p.one_hot) for t, p in zip(rows, pickers)]


@fused
def _attend(q, kv, heads):
    """Softmax attention of q (R, m, D) over len(kv) positions (R, m, 2 D); any m may be 1 instead."""
    D = q.shape[2]
    K = D // heads
    q = q.unflatten(2, (heads, K))
    k, v = zip(*(t.unflatten(2, (2, heads, K)).unbind(2) for t in kv))
    scores = torch.stack(torch.broadcast_tensors(*((q * k_).sum(-1) for k_ in k)), -1)  # (R, m, H, t)
    attention = (scores / math.sqrt(K)).softmax(-1)
    return sum(attention[..., t, None] * v_ for t, v_ in enumerate(v)).flatten(2)
