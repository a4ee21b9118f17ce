"""The authors' transformer for a whole stack of runs, twice: the textbook forward pass and the fast one.

One alphabet of dimensions, everywhere in this library; `R` always leads:

    R runs, B examples, T = 4 positions (x, operation, y, =), D width, H heads, K = D/H head width,
    V vocabulary, n elements, N equations, L layers, P parameters of one run

Decoder-only, post-LayerNorm, ReLU, MLP of 4 D, no biases in linear layers, sinusoidal positions, untied output
(Power et al., A.1.2, and the authors' code where the paper is silent). Only the answer at '=' is asked for.

All weights of a run lie in one flat row, so that the optimiser sees a single (R, P) tensor; `unpack` gives the
named views of it.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

from grok_lib import rng
from grok_lib.layers import MLP, Linear, Take


def parameter_shapes(spec):
    """{name: shape} of one run's weights, in the order of the flat row. Matrices are (out, in), as in nn.Linear."""
    D, V = spec.width, spec.vocabulary
    shapes = {"embedding": (V, D)}
    for l in range(spec.layers):
        shapes |= {f"{l}.qkv": (3 * D, D), f"{l}.attention_out": (D, D),
                   f"{l}.norm1_gain": (D,), f"{l}.norm1_bias": (D,),
                   f"{l}.mlp_in": (4 * D, D), f"{l}.mlp_out": (D, 4 * D),
                   f"{l}.norm2_gain": (D,), f"{l}.norm2_bias": (D,)}
    return shapes | {"output": (V, D)}  # rows are tokens, as in the embedding: these are Figure 3's points


def inner_weights(spec):
    """How many weights there are besides embedding and output: 394,240 for the paper's model."""
    return sum(math.prod(shape) for name, shape in parameter_shapes(spec).items() if name not in ("embedding", "output"))


def init_params(specs):
    """The initial weights: numpy float64 (R, P), made without torch so that every device starts from equal bits.

    Embedding ~ N(0, 1); linear layers U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default; LayerNorm 1 and 0.
    """
    return np.stack([np.concatenate([_initial(spec.seed_for("init"), name, shape).ravel()
                                     for name, shape in parameter_shapes(spec).items()]) for spec in specs])


def _initial(seed, name, shape):
    if "norm" in name:
        return np.full(shape, float(name.endswith("gain")))
    keys, count = rng.numpy_key(seed, rng.INIT, rng.name_code(name)), math.prod(shape)
    if name == "embedding":
        return rng.normal(keys, count).reshape(shape)
    return (rng.uniform(rng.bits(keys, np.arange(count))).reshape(shape) * 2 - 1) / math.sqrt(shape[1])


def unpack(flat, spec):
    """Named views of flat weights: (R, P) gives {name: (R, *shape)}."""
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(spec).items()}
    pieces = flat.split(list(sizes.values()), dim=1)
    return {name: piece.unflatten(1, shape) for piece, (name, shape) in zip(pieces, parameter_shapes(spec).items())}


def position_code(T, D):
    """Sinusoidal positions (T, D), sines in even and cosines in odd columns (Vaswani et al. 2017; the authors' code)."""
    column = np.arange(D)
    angle = np.arange(T)[:, None] / 10000 ** ((column - column % 2) / D)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))


def textbook_logits(p, x, y, heads, masks=None):
    """Answer logits (R, B, V) for x, y (R, B), computed the way it is taught: all four positions, masked attention.

    It teaches, and it is the oracle of `answer_logits`. `masks`: per layer, dropout factors (R, B, T, D).
    """
    R, B = x.shape
    V, D = p["embedding"].shape[1:]
    tokens = torch.stack([x, torch.full_like(x, V - 2), y, torch.full_like(x, V - 1)], -1)  # (R, B, T)
    run = torch.arange(R, device=x.device)[:, None, None]
    h = p["embedding"][run, tokens] + _positions(p)  # (R, B, T, D)
    T, K = 4, D // heads
    causal = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
    for l in range(layer_count(p)):
        w = layer(p, l)
        q, k, v = linear(h, w["qkv"]).view(R, B, T, 3, heads, K).unbind(3)
        scores = torch.einsum("rbthk,rbshk->rbhts", q, k) / math.sqrt(K)
        attention = scores.masked_fill(~causal, -math.inf).softmax(-1)  # (R, B, H, T, T)
        mixed = torch.einsum("rbhts,rbshk->rbthk", attention, v).reshape(R, B, T, D)
        h = norm(h + linear(mixed, w["attention_out"]), w["norm1_gain"], w["norm1_bias"])
        m = linear(linear(h, w["mlp_in"]).relu(), w["mlp_out"])
        m = m if masks is None else m * masks[l]
        h = norm(h + m, w["norm2_gain"], w["norm2_bias"])
    return linear(h[:, :, 3:], p["output"])[:, :, 0]


def linear(h, w):
    """A matrix per run: h (R, B, T, in), w (R, out, in) -> (R, B, T, out)."""
    return torch.einsum("rbti,roi->rbto", h, w)


def norm(h, gain, bias):
    """LayerNorm over D with a gain and a bias per run: h (R, ..., D), gain and bias (R, D)."""
    gain, bias = (t.view(len(h), *[1] * (h.ndim - 2), -1) for t in (gain, bias))
    return torch.addcmul(bias, F.layer_norm(h, h.shape[-1:]), gain)


def layer(p, l):
    """The weights of layer l: 'qkv', 'attention_out', ..."""
    return {name.removeprefix(f"{l}."): weight for name, weight in p.items() if name.startswith(f"{l}.")}


def layer_count(p):
    """L, from the names of the weights."""
    return sum(name.endswith(".qkv") for name in p)


def _positions(p):
    e = p["embedding"]
    return _position_tensor(e.shape[2], e.dtype, e.device)


@functools.cache  # uploaded once: a step may wait for nothing from the host
def _position_tensor(D, dtype, device):
    return torch.as_tensor(position_code(4, D), dtype=dtype, device=device)


def answer_logits(p, x, y, heads, masks=None):
    """Answer logits (R, B, V) for x, y (R, B): exactly `textbook_logits`, without its redundant work.

    Under the causal mask positions 0 and 1 see only x, so they have n distinct rows in a run, not B; before any
    mixing all four positions have 2 n + 2. Only position 3 is asked, so the last layer computes nothing else.
    `masks`: as in the textbook; of the last layer's only position 3 is used.
    """
    n, L, place = p["embedding"].shape[1] - 2, layer_count(p), _positions(p)
    by_x, by_y = Picker(x, n, place.dtype), Picker(y, n, place.dtype)
    elements, symbols = p["embedding"].split([n, 2], 1)
    # The distinct rows at the four positions: x (n), the operation (1), y (n), '=' (1)
    rows = [elements + place[0], symbols[:, :1] + place[1], elements + place[2], symbols[:, 1:] + place[3]]
    pickers = [by_x, None, by_y, None]  # how examples pick theirs; None: one row serves all, or each has its own
    for l in range(L):
        w, last = layer(p, l), l == L - 1
        before, mixed = _attention(w, rows, pickers, heads, last)
        h = norm(torch.cat(before, 1) + Linear.apply(torch.cat(mixed, 1), w["attention_out"]), w["norm1_gain"], w["norm1_bias"])
        m = MLP.apply(h, w["mlp_in"], w["mlp_out"])
        sizes, pickers = [t.shape[1] for t in mixed], [pickers[0], pickers[0], None, None]
        if masks is not None:  # masks are each example's own, so from here on nobody shares a row
            h, m = (torch.cat(_each(t.split(sizes, 1), pickers[-len(sizes):]), 1) for t in (h, m))
            m = m * masks[l][:, :, -len(sizes):].transpose(1, 2).flatten(1, 2)
            sizes, pickers = [x.shape[1]] * len(sizes), [None] * 4
        rows = norm(h + m, w["norm2_gain"], w["norm2_bias"]).split(sizes, 1)
    return Linear.apply(rows[-1], p["output"])


def _attention(w, rows, pickers, heads, last):
    """Each position's rows before attention, and what attention mixes for them; in the last layer position 3 only.

    Positions 0 and 1 keep their n rows; 2 and 3 go on with one row an example.
    """
    h, sizes, D = torch.cat(rows, 1), [t.shape[1] for t in rows], rows[0].shape[2]
    if last:
        q, kv = Linear.apply(rows[3], w["qkv"][:, :D]), Linear.apply(h, w["qkv"][:, D:]).split(sizes, 1)
        return [rows[3]], [_attend(q, _each(kv, pickers), heads)]
    qkv = Linear.apply(h, w["qkv"]).split(sizes, 1)
    q, kv = [t[..., :D] for t in qkv], [t[..., D:] for t in qkv]
    mixed = [kv[0][..., D:], _attend(q[1], kv[:2], heads)]
    own = _each([kv[0], kv[1], torch.cat([qkv[2], rows[2]], 2), kv[3]], pickers)
    q2, own[2], before2 = own[2].split([D, 2 * D, D], 2)
    mixed += [_attend(q2, own[:3], heads), _attend(q[3], own, heads)]
    return [rows[0], rows[1].expand_as(mixed[1]), before2, rows[3].expand_as(mixed[3])], mixed


class Picker:
    """Which of a run's n element rows each example uses: `index` (R, B), and its one-hot form for gradients."""

    def __init__(self, index, n, dtype):
        self.index = index
        self.one_hot = None
        if torch.is_grad_enabled():  # F.one_hot would look at the values, from the host
            self.one_hot = (index[..., None] == torch.arange(n, device=index.device)).to(dtype)


def _each(rows, pickers):
    """Rows as the examples use them: (R, m, D) -> (R, B, D), or (R, 1, D) where one serves all."""
    return [t if p is None else Take.apply(t, p.index, p.one_hot) for t, p in zip(rows, pickers)]


def _attend(q, kv, heads):
    """Softmax attention of q (R, m, D) over len(kv) positions (R, m, 2 D); any m may be 1 instead."""
    D = q.shape[2]
    K = D // heads
    q = q.unflatten(2, (heads, K))
    k, v = zip(*(t.unflatten(2, (2, heads, K)).unbind(2) for t in kv))
    scores = torch.stack(torch.broadcast_tensors(*((q * k_).sum(-1) for k_ in k)), -1)  # (R, m, H, t)
    attention = (scores / math.sqrt(K)).softmax(-1)
    return sum(attention[..., t, None] * v_ for t, v_ in enumerate(v)).flatten(2)
