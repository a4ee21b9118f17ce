"""The engine: the state of R runs in training, their update and their evaluation (the letters are explained in
`model`).

The losses are summed over R, so no run's gradient touches another's; each run's data, order and noise come from
its own seeds, so a run does the same alone, in any stack, and when its neighbours leave.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F

from grok_lib import data, fuse, graphs, model, optim, rng, textbook
from grok_lib.device import device_name, has_tf32, matmul_precision, resolve, subnormals_as_zero
from grok_lib.history import MEASURES
from grok_lib.specs import OWN

BLOCK = {"cpu": 16, "cuda": 64}  # updates whose batches are looked up together, and between two looks at the clock
CHUNK, PART = 1024, 2500  # equations of a run at once: in an evaluation, in an update
FILL = 2**16  # on a GPU more where there are few runs: this many over all of them


def shape(spec):
    """What the runs of a stack must have in common."""
    return (spec.elements, spec.dropout > 0,
            *(getattr(spec, f.name) for f in dataclasses.fields(spec) if f.name not in (*OWN, "dropout")))


def form(specs, device):
    """What the stacks that one compiled form serves have in common: how many runs they are does not matter, from two
    on."""
    return device.type, shape(specs[0]), _part(max(spec.batch for spec in specs), len(specs), device), len(specs) > 1


def bytes_a_run(spec):
    """Memory that a run takes in a stack, reckoned from shapes; a test holds it against what an update and an
    evaluation take."""
    P, n = sum(math.prod(size) for size in model.parameter_shapes(spec).values()), spec.elements
    B = min(max(spec.batch, CHUNK), PART)
    rows = (spec.layers - 1) * (2 * n + 2 * B) + B  # some 25 numbers for each of their D columns live at once
    if not spec.has_fast_pass:
        # Without gradients half of it suffices
        rows = spec.layers * (6 if spec.eos else 4) * min(max(spec.batch, CHUNK // 2), PART)
    floats = (8 if spec.precision == "float64" else 4) * (9 * P + 25 * spec.width * rows)
    noise = 60 * P if spec.update_noise or spec.weight_noise else 0
    return floats + noise + 26 * spec.equations + 8 * BLOCK["cuda"] * spec.batch


@dataclasses.dataclass
class Stack:
    """The state of R runs in training. `members[r]` is the place of row r in the caller's list of specs, None for an
    idle row."""

    specs: list
    members: list
    data: data.Data
    batch_weights: torch.Tensor  # (R, B)
    weights: torch.Tensor  # (R, P)
    grads: torch.Tensor  # (R, P)
    seen: torch.Tensor  # (R, P): the weights that the forward pass sees; `weights` itself where no run has weight noise
    leaves: dict  # named views of `seen`
    state: dict  # Adam's m and v, and scratch: (R, P) each
    knobs: optim.Knobs
    u: torch.Tensor  # int64 (1,): the number of the next update
    row: torch.Tensor  # int64 (1,): where its batches lie in `chosen`
    chosen: torch.Tensor | None  # int64 (BLOCK, R, B): the equations of some updates, looked up together
    examples: tuple | None  # x, y, answer (R, B) instead, where the batch is full: always the same
    repeat: graphs.Repeat
    fused: bool  # decided once, for all updates


def check(spec, device):
    """Raises ValueError for what this device, or the model, does not have."""
    names = model.parameter_shapes(spec)
    if unknown := set(spec.keep) - {*names, *MEASURES}:
        raise ValueError(f"keep={spec.keep!r} will not do, {sorted(unknown)} are neither weights nor measures: "
                         f"choose from {', '.join([*names, *MEASURES])}")
    if spec.precision == "tf32" and not has_tf32(resolve(device)):
        raise ValueError(f"precision='tf32' will not do on {device_name(resolve(device))}: use precision='fp32'")


def open_stack(specs, device):
    """A stack at step 0 on a device.

    Raises ValueError for what `check` refuses, and for specs that do not fit into one stack.
    """
    for spec in specs:
        if shape(spec) != shape(specs[0]):
            raise ValueError(f"{spec} does not fit into one stack with {specs[0]}: cut them with into_stacks")
        check(spec, device)
    dtype = torch.float64 if specs[0].precision == "float64" else torch.float32
    with subnormals_as_zero(device):  # here already, for torch may start its threads here
        weights = torch.as_tensor(model.init_params(specs), dtype=dtype, device=device)
        return assemble(list(specs), list(range(len(specs))), data.load(specs, device), weights,
                        optim.init_state(weights), optim.knobs(specs, weights),
                        fuse.pays(specs, weights.device, form(specs, weights.device)))


def assemble(specs, members, data_, weights, state, knobs, fused):
    """A stack of these rows, with the buffers that its updates need."""
    grads = torch.zeros_like(weights)
    seen = weights.clone() if len(knobs.noisy_weights) else weights
    leaves = {name: view.detach().requires_grad_() for name, view in model.unpack(seen, specs[0]).items()}
    shares, u = data.batch_weights(data_, weights.dtype), torch.ones_like(data_.order_seed[:1])
    chosen = examples = None
    if data_.full_batch:
        examples = data.pick(data_, data.batch_stream(data_, 1, 1)[:, 0])
    else:
        chosen = u.new_zeros(BLOCK[weights.device.type], *shares.shape)
    return Stack(specs=specs, members=members, data=data_, batch_weights=shares, weights=weights, grads=grads,
                 seen=seen, leaves=leaves, state=state, knobs=knobs, u=u, row=u.clone(), chosen=chosen,
                 examples=examples, repeat=graphs.Repeat(weights.device), fused=fused)


def advance(stack, first, last):
    """Train a stack from update `first` to update `last`, both included."""
    device = stack.weights.device
    with matmul_precision(stack.specs[0].precision), subnormals_as_zero(device), fuse.fusing(stack.fused):
        for begin in range(first, last + 1, BLOCK[device.type]):
            count = min(BLOCK[device.type], last + 1 - begin)
            look_up(stack, begin, count)
            stack.repeat(lambda: fuse.attempt(lambda: step(stack)), count)
    if stack.fused and device.type in fuse.WHOLE and not fuse.State.refused:
        fuse.State.forms.add(form(stack.specs, device))


def look_up(stack, first, count):
    """Lay out the batches of `count` updates from update `first` on, which is the one that `step` does next."""
    stack.u.fill_(first)
    stack.row.zero_()
    if stack.examples is None:
        stack.chosen[:count] = data.batch_stream(stack.data, first, count).transpose(0, 1)


def step(stack):
    """The next update of every run: forward, backward, AdamW. Returns the summed loss.

    A CUDA graph can hold it: what it needs is on the device, in one place and of one shape, and nothing is read back.
    """
    k, u = stack.knobs, stack.u
    examples = stack.examples or data.pick(stack.data, stack.chosen.index_select(0, stack.row)[0])
    if stack.seen is not stack.weights:
        stack.seen.copy_(stack.weights)
        optim.add_noise(stack.seen, k.noisy_weights, k.weight_noise, k.noise_seed, rng.WEIGHT_NOISE, u)
    shares = stack.batch_weights
    if stack.data.short_last_batch:
        shares = data.short_batch_weights(stack.data, u, shares)
    total, B = 0, shares.shape[1]
    part = _part(B, len(stack.specs), stack.weights.device)
    for at in range(0, B, part):
        loss, grads = _gradients(stack, examples, shares, slice(at, at + part))
        total = total + loss
        if at:
            stack.grads += torch.cat(grads, 1)
        else:
            torch.cat(grads, 1, out=stack.grads)
    optim.update(stack.weights, stack.grads, stack.state, k, u)
    u += 1
    stack.row += 1
    return total


def _gradients(stack, examples, shares, part):
    """The loss of a part (slice) of the batch, summed over the runs, and its gradients: a list, one (R, entries) per
    named weight."""
    spec, (x, y, answer), shares = stack.specs[0], (t[:, part] for t in examples), shares[:, part]
    masks = None
    if spec.dropout:
        masks = optim.dropout_masks(stack.knobs, stack.u, spec.layers, (x.shape[1], 4, spec.width), shares.dtype,
                                    part.start)
    total = _loss(stack.leaves, x, y, answer, shares, masks, spec)
    return total.detach(), [g.flatten(1) for g in torch.autograd.grad(total, list(stack.leaves.values()))]


def _loss(leaves, x, y, answer, shares, masks, spec):
    """The mean loss of each run's batch, summed over the runs."""
    if spec.has_fast_pass:
        return _papers_loss(leaves, x, y, answer, shares, masks, model.positions(leaves["embedding"]), spec.heads,
                            spec.loss_precision)
    if spec.eos:  # the mean over the answer and the <eos> after it
        logits = textbook.logits(leaves, x, y, spec, answer=answer)
        answer = torch.stack([answer, torch.full_like(answer, spec.elements + 2)], -1)
        return (losses(logits, answer, spec.loss_precision).mean(-1) * shares).sum()
    return (losses(textbook.logits(leaves, x, y, spec, masks), answer, spec.loss_precision) * shares).sum()


@fuse.fused(whole=True)
def _papers_loss(leaves, x, y, answer, shares, masks, place, heads, precision):
    """The same for the paper's own model, by the fast pass."""
    return (losses(model.answer_logits(leaves, x, y, heads, masks, place), answer, precision) * shares).sum()


def answer_logits(p, x, y, spec):
    """Answer logits (R, B, V): by the fast pass where it knows the model, else by the textbook's."""
    if spec.has_fast_pass:
        return model.answer_logits(p, x, y, spec.heads)
    return textbook.logits(p, x, y, spec)


def losses(logits, answer, precision):
    """Cross-entropy in nats of logits (..., V) and answers (...), in the precision `spec.loss_precision`."""
    if precision == "float64":
        logits = logits.double()
    return F.cross_entropy(logits.flatten(0, -2), answer.flatten(), reduction="none").view_as(answer)


def _part(B, R, device):
    """How many of a batch's B equations an update works on at once: equal parts, for full batches are long."""
    return math.ceil(B / math.ceil(B / _at_once(R, device, PART)))


def _at_once(R, device, few):
    """How many equations of a run to work on at once: `few` on a CPU, whose caches are small, on a GPU enough to fill
    it."""
    return few if device.type == "cpu" else max(few, FILL // R)


@torch.no_grad()
def evaluate(stack):
    """Loss and accuracy on the whole training and validation sets: numpy (4, R), in the order of History's curves."""
    d = stack.data
    sums = torch.zeros(4, len(stack.specs), dtype=torch.float64, device=stack.weights.device)
    for logits, loss, answer, is_train, is_val in whole_tables(stack):
        # Of nan the largest is answer 0
        loss, right = loss.double(), ((logits.argmax(-1) == answer) & ~loss.isnan()).double()
        for i, (value, where) in enumerate([(loss, is_train), (right, is_train), (loss, is_val), (right, is_val)]):
            sums[i] += value.masked_fill(~where, 0.0).sum(1)
    n_train, n_val = d.is_train.sum(1), d.is_val.sum(1)
    return (sums / torch.stack([n_train, n_train, n_val, n_val])).cpu().numpy()


def whole_tables(stack):
    """All equations of every run, some at a time: yields (logits (R, B, V), losses (R, B), answers, is_train,
    is_val)."""
    d, spec, chunk = stack.data, stack.specs[0], _at_once(len(stack.specs), stack.weights.device, CHUNK)
    leaves = model.unpack(stack.weights, spec)
    with matmul_precision(spec.precision):
        for at in range(0, d.x.shape[1], chunk):
            x, y, answer, is_train, is_val = (t[:, at:at + chunk] for t in (d.x, d.y, d.answer, d.is_train, d.is_val))
            logits = answer_logits(leaves, x, y, spec)
            yield logits, losses(logits, answer, spec.loss_precision), answer, is_train, is_val
