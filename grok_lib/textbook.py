"""The transformer the way it is taught: every position of every example, masked attention, one run beside the other.

It is the oracle for `model.answer_logits`, and all that a reader need know of that: the fast pass computes exactly
this. And it has a branch for each way in which others build it (notebook 08): runs with such a switch are trained by
this pass. The letters are explained in `model`.
"""

import math

import torch
import torch.nn.functional as F

from grok_lib import model
from grok_lib.layers import Take


def logits(p, x, y, spec, masks=None, answer=None):
    """Answer logits (R, B, V) for x, y (R, B), computed the way it is taught.

    `p`: named weights, each (R, ...). `spec`: says what is built otherwise. `masks`: per layer, dropout factors
    (R, B, T, D); the last layer's may be those of position 3 alone.
    `answer` (R, B), only with `spec.eos`: goes in as well, and what is expected to follow it comes out: (R, B, 2, V).
    """
    tokens = sequence(x, y, spec, answer)  # (R, B, T)
    h = take(p["embedding"], tokens)  # (R, B, T, D)
    if spec.positions == "learned":
        h = h + p["positions"][:, None, :h.shape[2]]
    elif spec.positions == "sinusoidal":
        h = h + model.positions(p["embedding"], h.shape[2])
    for l in range(spec.layers):
        w = model.layer(p, l)
        if spec.norm == "pre":
            h = h + attention(w, model.norm(h, w["norm1_gain"], w["norm1_bias"]), spec.heads)
            h = h + mlp(w, model.norm(h, w["norm2_gain"], w["norm2_bias"]), spec, masks and masks[l])
        else:
            h = model.norm(h + attention(w, h, spec.heads), w["norm1_gain"], w["norm1_bias"])
            h = model.norm(h + mlp(w, h, spec, masks and masks[l]), w["norm2_gain"], w["norm2_bias"])
    if spec.norm == "pre":
        h = model.norm(h, p["norm_gain"], p["norm_bias"])
    out = linear(h[:, :, 3 + spec.eos:], p, "output")
    return out[:, :, 0] if answer is None else out


def sequence(x, y, spec, answer=None):
    """The tokens (R, B, T): x, operation, y, '='; with `spec.eos` an <eos> before them, and the answer, if given, after
    them."""
    symbol = lambda number: torch.full_like(x, spec.elements + number)
    tokens = [x, symbol(0), y, symbol(1)]
    if spec.eos:
        tokens = [symbol(2), *tokens]
    return torch.stack(tokens if answer is None else [*tokens, answer], -1)


def attention(w, h, heads):
    """What each position mixes from itself and those before it: h (R, B, T, D) -> (R, B, T, D)."""
    R, B, T, D = h.shape
    K = D // heads
    q, k, v = linear(h, w, "qkv").view(R, B, T, 3, heads, K).unbind(3)
    scores = torch.einsum("rbthk,rbshk->rbhts", q, k) / math.sqrt(K)
    causal = torch.ones(T, T, dtype=torch.bool, device=h.device).tril()
    weights = scores.masked_fill(~causal, -math.inf).softmax(-1)  # (R, B, H, T, T)
    return linear(torch.einsum("rbhts,rbshk->rbthk", weights, v).reshape(R, B, T, D), w, "attention_out")


def mlp(w, h, spec, mask=None):
    """The same small network at each position: h (R, B, T, D) -> (R, B, T, D)."""
    hidden = linear(h, w, "mlp_in")
    hidden = F.gelu(hidden) if spec.activation == "gelu" else hidden.relu()
    out = linear(hidden, w, "mlp_out")
    return out if mask is None else out * mask


def linear(h, w, name):
    """A matrix per run, and its bias where there is one: h (R, B, T, in), w[name] (R, out, in) -> (R, B, T, out)."""
    out = torch.einsum("rbti,roi->rbto", h, w[name])
    return out + w[f"{name}_bias"][:, None, None] if f"{name}_bias" in w else out


def take(embedding, tokens):
    """Each token's row: embedding (R, V, D), tokens (R, B, T) -> (R, B, T, D)."""
    picker = model.Picker(tokens.flatten(1), embedding.shape[1], embedding.dtype)
    return Take.apply(embedding, picker.index, picker.one_hot).unflatten(1, tokens.shape[1:])
