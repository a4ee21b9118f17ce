"""The oracle: the authors' model as a plain nn.Module, written from their description and not from grok_lib.

No stacks, no tricks: one run, tokens in, logits out, trained by torch.optim. Only the random numbers are
grok_lib's (they have tests of their own). If this file and `grok_lib` agree, both would have to be wrong in the same way. Small print (openai/grok): post-LayerNorm, ReLU, MLP of 4 D, no
biases in linear layers, fixed sinusoidal positions, untied output, dropout after the MLP only.
"""

import math

import numpy as np
import torch
from torch import nn

from grok_lib import data, model, rng


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.attention_out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, h, mask):
        def split(t):  # (B, T, D) -> (B, H, T, K)
            return t.view(*t.shape[:2], self.heads, -1).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(
            split(self.query(h)), split(self.key(h)), split(self.value(h)), is_causal=True)
        h = self.norm1(h + self.attention_out(mixed.transpose(1, 2).flatten(2)))
        return self.norm2(h + self.mlp_out(torch.relu(self.mlp_in(h))) * mask)


class Transformer(nn.Module):
    """x, y (B,) -> answer logits (B, elements + 2); `masks` are dropout factors (B, 4, D), one a layer."""

    def __init__(self, elements, width, heads, layers):
        super().__init__()
        self.symbols = elements  # the operation's token; the next one is '='
        self.embedding = nn.Embedding(elements + 2, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.output = nn.Linear(width, elements + 2, bias=False)
        positions = torch.zeros(4, width, dtype=torch.float64)
        for t in range(4):
            for i in range(0, width, 2):
                positions[t, i] = math.sin(t / 10000 ** (i / width))
                positions[t, i + 1] = math.cos(t / 10000 ** (i / width))
        self.register_buffer("positions", positions)

    def forward(self, x, y, masks=None):
        operation, equals = torch.full_like(x, self.symbols), torch.full_like(x, self.symbols + 1)
        h = self.embedding(torch.stack([x, operation, y, equals], 1)) + self.positions.to(self.embedding.weight.dtype)
        for l, block in enumerate(self.blocks):
            h = block(h, 1 if masks is None else masks[l])
        return self.output(h[:, 3])


def from_stack(p, r, heads):
    """The module with the weights of run r of a stack: `p` as from `model.unpack`."""
    vocabulary, width = p["embedding"].shape[1:]
    layers = sum(name.endswith(".qkv") for name in p)
    module = Transformer(vocabulary - 2, width, heads, layers).to(p["embedding"].dtype)
    with torch.no_grad():
        for name, theirs in named(module).items():
            for part, ours in zip(theirs, p[name][r].split(len(theirs[0]))):
                part.copy_(ours)
    return module


def named(module):
    """The module's parameters under grok_lib's names: {name: list of tensors, one above the other}."""
    names = {"embedding": [module.embedding.weight], "output": [module.output.weight]}
    for l, block in enumerate(module.blocks):
        names |= {f"{l}.qkv": [block.query.weight, block.key.weight, block.value.weight],
                  f"{l}.attention_out": [block.attention_out.weight],
                  f"{l}.mlp_in": [block.mlp_in.weight], f"{l}.mlp_out": [block.mlp_out.weight]}
        for n in (1, 2):
            norm = getattr(block, f"norm{n}")
            names |= {f"{l}.norm{n}_gain": [norm.weight], f"{l}.norm{n}_bias": [norm.bias]}
    return names


def train(module, spec, x, y, answer, batches):
    """Train the module with torch.optim.AdamW on given batches (arrays of equations); yields the loss before each update.

    What torch's AdamW has not is written out here: decay towards the initial weights, update noise (an update by
    nothing but noise, after Adam's own), weight noise (added before the forward pass, taken off after the
    backward pass), dropout factors handed to the module.
    """
    decay = 0.0 if spec.decay_to == "init" else spec.weight_decay
    optimizer = torch.optim.AdamW(module.parameters(), lr=spec.learning_rate, betas=(spec.beta1, spec.beta2),
                                  eps=spec.epsilon, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, done / spec.warmup) if spec.warmup else 1.0)
    start = [w.detach().clone() for w in module.parameters()]
    for u, batch in enumerate(batches, 1):
        rate = optimizer.param_groups[0]["lr"]
        add_noise(module, spec, rng.WEIGHT_NOISE, u, spec.weight_noise)
        loss = nn.functional.cross_entropy(module(x[batch], y[batch], dropout(module, spec, u, len(batch))), answer[batch])
        optimizer.zero_grad()
        loss.backward()
        add_noise(module, spec, rng.WEIGHT_NOISE, u, -spec.weight_noise)
        if spec.decay_to == "init":
            with torch.no_grad():
                for w, w0 in zip(module.parameters(), start):
                    w.add_(w0 - w, alpha=rate * spec.weight_decay)
        optimizer.step()
        add_noise(module, spec, rng.UPDATE_NOISE, u, -rate * spec.update_noise)
        schedule.step()
        yield float(loss.detach())


@torch.no_grad()
def add_noise(module, spec, purpose, u, scale):
    """Adds scale * N(0, 1) to every weight: entry i of the flat row, in grok_lib's order, gets the i-th normal."""
    if scale:
        parts = [part for name in model.parameter_shapes(spec) for part in named(module)[name]]
        count = sum(part.numel() for part in parts)
        noise = torch.tensor(rng.normal(rng.numpy_key(spec.seed_for("noise"), purpose, u), count))
        for part, values in zip(parts, noise.split([part.numel() for part in parts])):
            part.add_(values.view_as(part), alpha=scale)


def dropout(module, spec, u, B):
    """Dropout factors (B, 4, D), one a layer, from one hash an entry; None without dropout."""
    if not spec.dropout:
        return None
    L, D = spec.layers, spec.width
    key = rng.numpy_key(spec.seed_for("noise"), rng.DROPOUT, u)
    entries = np.arange(B * L * 4 * D).reshape(B, L, 4, D)
    keep = rng.uniform(rng.bits(key, entries.ravel())).reshape(entries.shape) >= spec.dropout
    return list(torch.tensor(keep / (1 - spec.dropout)).unbind(1))


def naive_batches(spec, updates):
    """The batches of one run, by the words of the design: epochs laid end to end, cut into full batches."""
    train_set, _ = data.split(spec)
    if spec.full_batch:
        return [train_set] * updates
    stream, epoch = np.zeros(0, np.int64), 0
    while len(stream) < updates * spec.batch:
        order = rng.order(rng.numpy_key(spec.seed_for("order"), rng.ORDER, epoch), len(train_set))
        stream, epoch = np.concatenate([stream, train_set[order]]), epoch + 1
    return [stream[u * spec.batch:(u + 1) * spec.batch] for u in range(updates)]
