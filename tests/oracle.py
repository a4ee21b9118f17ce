"""The oracle: the authors' model as a plain nn.Module, written from their description and not from grok_lib.

No stacks, no tricks: one run, tokens in, logits out, trained by torch.optim. Only the random numbers are grok_lib's
(they have tests of their own). If this file and `grok_lib` agree, they are right, or wrong in the same way. Small
print (openai/grok): post-LayerNorm, ReLU, MLP of 4 D, no biases in linear layers, fixed sinusoidal positions, untied
output, dropout after the MLP only.
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

    def loss(self, x, y, answer, masks=None):
        return nn.functional.cross_entropy(self(x, y, masks), answer)

    def named(self):
        names = {"embedding": [self.embedding.weight], "output": [self.output.weight]}
        for l, block in enumerate(self.blocks):
            names |= {f"{l}.qkv": [block.query.weight, block.key.weight, block.value.weight],
                      f"{l}.attention_out": [block.attention_out.weight],
                      f"{l}.mlp_in": [block.mlp_in.weight], f"{l}.mlp_out": [block.mlp_out.weight]}
            for n in (1, 2):
                norm = getattr(block, f"norm{n}")
                names |= {f"{l}.norm{n}_gain": [norm.weight], f"{l}.norm{n}_bias": [norm.bias]}
        return names


class Otherwise(nn.Module):
    """The model as others build it, out of torch's own encoder layers; with `eos` the authors' sequence and loss."""

    def __init__(self, spec):
        super().__init__()
        D, L, self.spec, self.elements = spec.width, spec.layers, spec, spec.elements
        vocabulary = 239 if spec.eos else self.elements + 2
        T = 6 if spec.eos else 4
        self.embedding, self.output = nn.Embedding(vocabulary, D), nn.Linear(D, vocabulary, bias=spec.biases)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(D, spec.heads, 4 * D, dropout=0.0, activation=spec.activation, batch_first=True,
                                       norm_first=spec.norm == "pre", bias=spec.biases) for _ in range(L))
        for block in self.blocks:  # bias=False takes LayerNorm's away, too
            block.norm1, block.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.norm = nn.LayerNorm(D) if spec.norm == "pre" else nn.Identity()
        self.places = nn.Parameter(torch.zeros(T, D), requires_grad=spec.positions == "learned")
        if spec.positions == "sinusoidal":
            with torch.no_grad():
                for t in range(T):
                    for i in range(D):
                        self.places[t, i] = (math.cos if i % 2 else math.sin)(t / 10000 ** ((i - i % 2) / D))

    def tokens(self, x, y):
        operation, equals, eos = (torch.full_like(x, self.elements + i) for i in range(3))
        return torch.stack([eos, x, operation, y, equals] if self.spec.eos else [x, operation, y, equals], 1)

    def everywhere(self, tokens):
        T = tokens.shape[1]
        h = self.embedding(tokens) + self.places[:T]
        for block in self.blocks:
            h = block(h, src_mask=nn.Transformer.generate_square_subsequent_mask(T, dtype=h.dtype), is_causal=True)
        return self.output(self.norm(h))  # (B, T, V)

    def forward(self, x, y, masks=None):
        return self.everywhere(self.tokens(x, y))[:, -1]

    def loss(self, x, y, answer, masks=None):
        if not self.spec.eos:
            return nn.functional.cross_entropy(self(x, y), answer)
        whole = torch.cat([self.tokens(x, y), answer[:, None], torch.full_like(x, self.elements + 2)[:, None]], 1)
        # Each token predicts the next; the loss asks for the right-hand side
        logits = self.everywhere(whole[:, :-1])[:, -2:]
        return nn.functional.cross_entropy(logits.flatten(0, 1), whole[:, -2:].flatten())

    def named(self):
        names = {"embedding": [self.embedding.weight], "output": [self.output.weight],
                 "output_bias": [self.output.bias], "positions": [self.places]}
        if self.spec.norm == "pre":
            names |= {"norm_gain": [self.norm.weight], "norm_bias": [self.norm.bias]}
        for l, block in enumerate(self.blocks):
            own = {"qkv": block.self_attn.in_proj_weight, "qkv_bias": block.self_attn.in_proj_bias,
                   "attention_out": block.self_attn.out_proj.weight,
                   "attention_out_bias": block.self_attn.out_proj.bias,
                   "mlp_in": block.linear1.weight, "mlp_in_bias": block.linear1.bias,
                   "mlp_out": block.linear2.weight, "mlp_out_bias": block.linear2.bias,
                   "norm1_gain": block.norm1.weight, "norm1_bias": block.norm1.bias,
                   "norm2_gain": block.norm2.weight, "norm2_bias": block.norm2.bias}
            names |= {f"{l}.{name}": [weight] for name, weight in own.items()}
        return {name: parts for name, parts in names.items() if parts[0] is not None and parts[0].requires_grad}


def otherwise(p, r, spec):
    """`Otherwise` with the weights of run r of a stack."""
    module = Otherwise(spec).to(p["embedding"].dtype)
    assert set(module.named()) == set(p)
    with torch.no_grad():
        for name, (theirs,) in module.named().items():
            theirs.copy_(p[name][r])
    return module


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
    return module.named()


def train(module, spec, x, y, answer, batches):
    """Train the module with torch.optim.AdamW on given batches (arrays of equations); yields the loss before each
    update.

    What torch's AdamW has not is written out here: decay towards the initial weights, update noise (an update by
    nothing but noise, after Adam's own and with its step size), weight noise (added before the forward pass, taken off
    after the backward pass), dropout factors handed to the module.
    """
    decay = 0.0 if spec.decay_to == "init" else spec.weight_decay
    kind = torch.optim.Adam if spec.decay_by == "gradient" else torch.optim.AdamW
    optimizer = kind(module.parameters(), lr=spec.learning_rate, betas=(spec.beta1, spec.beta2),
                     eps=spec.epsilon, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min(1.0, done / spec.warmup) if spec.warmup else 1.0)
    start = [w.detach().clone() for w in module.parameters()]
    for u, batch in enumerate(batches, 1):
        rate = optimizer.param_groups[0]["lr"]
        add_noise(module, spec, rng.WEIGHT_NOISE, u, spec.weight_noise)
        loss = module.loss(x[batch], y[batch], answer[batch], dropout(module, spec, u, len(batch)))
        optimizer.zero_grad()
        loss.backward()
        add_noise(module, spec, rng.WEIGHT_NOISE, u, -spec.weight_noise)
        if spec.decay_to == "init":
            with torch.no_grad():
                for w, w0 in zip(module.parameters(), start):
                    w.add_(w0 - w, alpha=rate * spec.weight_decay)
        optimizer.step()
        add_noise(module, spec, rng.UPDATE_NOISE, u, -rate / (1 - spec.beta1**u) * spec.update_noise)
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
    """The batches of one run, by the words of the design: epochs laid end to end, cut into full batches; or each cut by
    itself."""
    train_set, _ = data.split(spec)
    if spec.full_batch:
        return [train_set] * updates
    if spec.short_last_batch:
        batches, epoch = [], 0
        while len(batches) < updates:
            order = rng.order(rng.numpy_key(spec.seed_for("order"), rng.ORDER, epoch), len(train_set))
            batches, epoch = (batches + [train_set[order[i:i + spec.batch]] for i in range(0, len(order), spec.batch)],
                              epoch + 1)
        return batches[:updates]
    stream, epoch = np.zeros(0, np.int64), 0
    while len(stream) < updates * spec.batch:
        order = rng.order(rng.numpy_key(spec.seed_for("order"), rng.ORDER, epoch), len(train_set))
        stream, epoch = np.concatenate([stream, train_set[order]]), epoch + 1
    return [stream[u * spec.batch:(u + 1) * spec.batch] for u in range(updates)]
