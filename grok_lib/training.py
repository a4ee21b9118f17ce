"""Training: R runs at once, every tensor with a leading R axis (the letters are explained in `model`).

The losses are summed over R, so no run's gradient touches another's; each run's data, order and noise come from
its own seeds, so a run does the same alone, in any stack, and when its neighbours leave.
"""

import dataclasses
import time

import numpy as np
import torch
import torch.nn.functional as F

from grok_lib import data, model, optim, rng
from grok_lib.device import device_name, matmul_precision, provenance, resolve
from grok_lib.history import History, evaluation_steps, is_solved

BLOCK = 16  # updates whose batches are looked up together, and between two looks at the clock
CHUNK = 1024  # equations evaluated at once


def train(specs, device="auto", evaluate_at=None):
    """Train every spec; returns their histories in the order of `specs`.

    `device`: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1". `evaluate_at`: steps to evaluate at
    instead of the usual schedule; each run's last step is always evaluated.
    """
    specs, histories = list(specs), {}
    for stack in into_stacks(specs, device):
        for _, current in stream(stack, device, evaluate_at):
            pass
        histories |= {id(h.spec): h for h in current}
    return [histories[id(spec)] for spec in specs]


def into_stacks(specs, device="auto"):
    """Cut a list of specs into stacks that can train together: lists of specs, in order of size of batch."""
    most = most_at_once(device)
    groups = {}
    for spec in sorted(specs, key=lambda s: (s.batch, s.steps)):
        groups.setdefault(shape(spec), []).append(spec)
    return [group[i:i + most] for group in groups.values() for i in range(0, len(group), most)]


def most_at_once(device="auto"):
    """Runs in a stack: enough to fill a GPU, or as many as a processor's cache bears."""
    return 64 if resolve(device).type == "cuda" else 8


def shape(spec):
    """What the runs of a stack must have in common."""
    return spec.vocabulary, spec.layers, spec.width, spec.heads, spec.precision, spec.full_batch, spec.dropout > 0


def stream(specs, device="auto", evaluate_at=None):
    """Train one stack, live: yields (step, histories so far) at every evaluation and about once a second.

    All specs must share vocabulary, model, precision, and whether they have full batches and dropout, as those of
    one stack of `into_stacks` do. The last yield holds the finished histories, in the order of `specs`.
    """
    began = time.perf_counter()
    stack, records = open_stack(specs, resolve(device)), [_Record(spec, evaluate_at) for spec in specs]
    schedule = sorted({int(step) for record in records for step in record.schedule})
    facts = provenance(stack.weights.device, specs[0].precision) | {"stack_size": len(specs), "seconds": 0.0}
    done = 0
    for goal in schedule:
        while done < goal:
            until = min(done + BLOCK, goal)
            advance(stack, done + 1, until)
            done = until
            if time.perf_counter() - began > facts["seconds"] + 1 and done < goal:
                facts["seconds"] = time.perf_counter() - began
                yield done, [record.history(facts) for record in records]
        _evaluate_and_retire(stack, records, done)
        facts["seconds"] = round(time.perf_counter() - began, 3)
        yield done, [record.history(facts) for record in records]
        if not stack.members:
            return


@dataclasses.dataclass
class Stack:
    """The state of R runs in training. `members[r]` is the place of row r in the caller's list of specs."""

    specs: list
    members: list
    data: data.Data
    batch_weights: torch.Tensor  # (R, B)
    weights: torch.Tensor  # (R, P)
    grads: torch.Tensor  # (R, P)
    seen: torch.Tensor  # (R, P): the weights that the forward pass sees; `weights` itself where no run has weight noise
    leaves: dict  # named views of `seen`
    state: dict
    knobs: optim.Knobs


def open_stack(specs, device):
    """A stack at step 0 on a device.

    Raises ValueError for a precision that the device does not have, for weights to keep that the model does not
    have, and for specs that do not fit into one stack.
    """
    names = model.parameter_shapes(specs[0])
    for spec in specs:
        if shape(spec) != shape(specs[0]):
            raise ValueError(f"{spec} does not fit into one stack with {specs[0]}: cut them with into_stacks")
        if unknown := set(spec.keep) - set(names):
            raise ValueError(f"keep={spec.keep!r} will not do, {sorted(unknown)} are no weights: choose from {', '.join(names)}")
    if specs[0].precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8):
        raise ValueError(f"precision='tf32' will not do on {device_name(device)}: use precision='fp32'")
    dtype = torch.float64 if specs[0].precision == "float64" else torch.float32
    weights = torch.as_tensor(model.init_params(specs), dtype=dtype, device=device)
    return _assemble(list(specs), list(range(len(specs))), data.load(specs, device), weights,
                     optim.init_state(weights), optim.knobs(specs, weights))


def _assemble(specs, members, data_, weights, state, knobs):
    grads = torch.zeros_like(weights)
    seen = weights.clone() if len(knobs.noisy_weights) else weights
    leaves = {name: view.detach().requires_grad_() for name, view in model.unpack(seen, specs[0]).items()}
    return Stack(specs, members, data_, data.batch_weights(data_, weights.dtype), weights, grads, seen, leaves, state, knobs)


def advance(stack, first, last):
    """Train a stack from update `first` to update `last`, both included."""
    with matmul_precision(stack.specs[0].precision):
        chosen = data.batch_stream(stack.data, first, last - first + 1)
        for i in range(last - first + 1):
            step(stack, first + i, chosen[:, i])


def step(stack, u, chosen):
    """Update u of every run, on the equations `chosen` (R, B): forward, backward, AdamW. Returns the summed loss."""
    spec, k = stack.specs[0], stack.knobs
    x, y, answer = (t.gather(1, chosen) for t in (stack.data.x, stack.data.y, stack.data.answer))
    if stack.seen is not stack.weights:
        stack.seen.copy_(stack.weights)
        optim.add_noise(stack.seen, k.noisy_weights, k.weight_noise, k.noise_seed, rng.WEIGHT_NOISE, u)
    masks = None
    if spec.dropout:
        masks = optim.dropout_masks(k, u, spec.layers, (x.shape[1], 4, spec.width), stack.weights.dtype)
    logits = model.answer_logits(stack.leaves, x, y, spec.heads, masks)
    loss = F.cross_entropy(logits.flatten(0, 1), answer.flatten(), reduction="none")
    total = (loss.view_as(stack.batch_weights) * stack.batch_weights).sum()
    grads = torch.autograd.grad(total, list(stack.leaves.values()))
    torch.cat([g.flatten(1) for g in grads], 1, out=stack.grads)
    optim.update(stack.weights, stack.grads, stack.state, k, u)
    return total.detach()


@torch.no_grad()
def evaluate(stack):
    """Loss and accuracy on the whole training and validation sets: numpy (4, R), in the order of History's curves."""
    d, heads = stack.data, stack.specs[0].heads
    leaves = model.unpack(stack.weights, stack.specs[0])
    sums = torch.zeros(4, len(stack.specs), dtype=torch.float64, device=stack.weights.device)
    with matmul_precision(stack.specs[0].precision):
        for at in range(0, d.x.shape[1], CHUNK):
            x, y, answer, is_train, is_val = (t[:, at:at + CHUNK] for t in (d.x, d.y, d.answer, d.is_train, d.is_val))
            logits = model.answer_logits(leaves, x, y, heads)
            loss = F.cross_entropy(logits.flatten(0, 1), answer.flatten(), reduction="none").view(x.shape).double()
            right = (logits.argmax(-1) == answer).double()
            for i, (value, where) in enumerate([(loss, is_train), (right, is_train), (loss, is_val), (right, is_val)]):
                sums[i] += torch.where(where, value, 0.0).sum(1)
    n_train, n_val = d.is_train.sum(1), d.is_val.sum(1)
    return (sums / torch.stack([n_train, n_train, n_val, n_val])).cpu().numpy()


def _evaluate_and_retire(stack, records, step_):
    """Record where each run stands; runs that have ended leave the stack, which is packed anew."""
    staying = []
    for row, curves in enumerate(evaluate(stack).T):
        record = records[stack.members[row]]
        record.add(step_, curves)
        if record.stopped_because is None:
            staying.append(row)
        else:
            rows = model.unpack(stack.weights[row:row + 1], record.spec)
            record.kept = {name: rows[name][0].float().cpu().numpy() for name in record.spec.keep}
    if not staying:
        stack.members = []
    elif len(staying) < len(stack.members):
        keep = torch.tensor(staying, dtype=torch.int64, device=stack.weights.device)
        packed = _assemble([stack.specs[r] for r in staying], [stack.members[r] for r in staying],
                           stack.data.rows(keep), stack.weights[keep],
                           {name: t[keep] for name, t in stack.state.items()}, stack.knobs.rows(keep))
        vars(stack).update(vars(packed))


class _Record:
    """What one run has shown so far."""

    def __init__(self, spec, evaluate_at):
        usual = evaluation_steps(spec.steps) if evaluate_at is None else [s for s in evaluate_at if s <= spec.steps]
        self.spec, self.schedule = spec, {int(s) for s in usual} | {spec.steps}
        self.steps, self.curves, self.stopped_because, self.kept = [], [], None, {}

    def add(self, step_, curves):
        if step_ not in self.schedule:
            return  # a neighbour's own step
        curves = curves.astype(np.float32)
        train_loss, train_accuracy, _, val_accuracy = curves
        if not np.isfinite(train_loss):
            self.stopped_because = "diverged"
        elif is_solved(self.spec, train_accuracy, val_accuracy):
            self.stopped_because = "solved"
        elif step_ == self.spec.steps:
            self.stopped_because = "budget"
        self.steps.append(step_)
        self.curves.append(curves)

    def history(self, facts):
        curves = np.array(self.curves, np.float32).reshape(-1, 4).T
        return History(self.spec, np.array(self.steps, np.int64), *curves,
                       stopped_because=self.stopped_because or "running", kept=self.kept, provenance=dict(facts))
