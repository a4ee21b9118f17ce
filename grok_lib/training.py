"""Training: specs in, histories out, around what `engine` does to a stack of runs."""

import collections
import time

import numpy as np
import torch

from grok_lib import fuse, graphs, measures, model
from grok_lib.device import free_memory, out_of_memory, provenance, resolve
from grok_lib.engine import BLOCK, advance, assemble, bytes_a_run, check, evaluate, open_stack, shape
from grok_lib.history import History, evaluation_steps, is_solved

MOST = 256  # runs in a stack on a GPU, even where its memory would hold more


def train(specs, device="auto", evaluate_at=None):
    """Train every spec; returns their histories in the order of `specs`.

    `device`: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1". `evaluate_at`: steps to evaluate at
    instead of the usual schedule; each run's last step is always evaluated.
    Out of memory, a stack is halved.
    """
    specs, histories = list(specs), {}
    for spec in specs:  # before the first is trained
        check(spec, device)
    stacks = into_stacks(specs, device)
    while stacks:
        stack, *stacks = stacks
        try:
            (_, current), = collections.deque(stream(stack, device, evaluate_at), maxlen=1)
            histories |= {history.spec: history for history in current}
        except (MemoryError, RuntimeError) as error:
            half = half_or_raise(stack, error)
            stacks = [stack[:half], stack[half:], *stacks]
    return [histories[spec] for spec in specs]


def half_or_raise(stack, error):
    """Half the size of a stack for which memory did not suffice. Any other error is raised again; for a run alone,
    MemoryError."""
    if not out_of_memory(error):
        raise error
    if len(stack) == 1:
        raise MemoryError(f"out of memory with one run alone ({stack[0].operation}, width {stack[0].width}, "
                          f"batches of {stack[0].batch}): free some, or use another device") from error
    return len(stack) // 2


def into_stacks(specs, device="auto"):
    """Cut a list of specs into stacks: lists of specs that can train together, of one `shape` each, in order of batch
    size."""
    groups, stacks = {}, []
    for spec in sorted(specs, key=lambda s: (s.batch, s.steps)):
        groups.setdefault(shape(spec), []).append(spec)
    for group in groups.values():
        most = most_at_once(device, max(group, key=bytes_a_run))
        stacks += [group[i:i + most] for i in range(0, len(group), most)]
    return stacks


def most_at_once(device, spec):
    """Runs in a stack: as many as a processor's cache bears, or as a GPU's free memory holds (and no more than MOST).

    `spec`: the one of them that needs most.
    """
    device = resolve(device)
    if device.type == "cpu":
        return 8
    return int(min(MOST, max(1, 0.8 * free_memory(device) // bytes_a_run(spec))))


def stream(specs, device="auto", evaluate_at=None, begun=None):
    """Train one stack, live: yields (step, histories so far) at every evaluation and about once a second.

    All specs must have one `shape`. The last yield holds the finished histories, in the order of `specs`. `begun`: a
    history for each spec to go on from, as it was yielded while its run was going on, with its `state` (which is used
    up), all after the same update.
    """
    began, done = time.perf_counter(), 0
    stack, records = open_stack(specs, resolve(device)), [_Record(spec, evaluate_at) for spec in specs]
    facts = provenance(stack.weights.device, specs[0].precision) | {"stack_size": len(specs), "seconds": 0.0}
    if begun:
        done = _go_on(stack, records, begun)
        earlier = begun[0].provenance
        if earlier["device"] == facts["device"]:  # to the bit as it began, whatever is compiled by now
            stack.fused = earlier.get("fused", stack.fused)
        # So that a run's share of its stack's time is the sum of its shares
        began -= earlier["seconds"] * len(specs) / earlier["stack_size"]
        facts["resumed"] = [*earlier.get("resumed", []),
                            [done, *(earlier.get(name) for name in ("device", "torch", "git_revision"))]]
    schedule = sorted({int(step) for record in records for step in record.schedule if step > done or not begun})
    for goal in schedule:
        while done < goal:
            until = min(done + BLOCK[stack.weights.device.type], goal)
            advance(stack, done + 1, until)
            done, facts["fused"] = until, stack.fused and not fuse.State.refused
            if time.perf_counter() - began > facts["seconds"] + 1 and done < goal:
                facts["seconds"] = time.perf_counter() - began
                yield done, _now(stack, records, facts, done)
        _evaluate_and_retire(stack, records, done)
        facts["seconds"] = round(time.perf_counter() - began, 3)
        yield done, _now(stack, records, facts, done)
        if not stack.members:
            return


def _now(stack, records, facts, done):
    """The histories so far; those of running runs with all that their next update needs, not copied."""
    histories = [record.history(facts) for record in records]
    for row, member in enumerate(stack.members):
        if member is not None:
            rows = {name: tensor[row] for name, tensor in _lasting(stack).items()}
            histories[member].state = {"update": torch.tensor(done)} | rows
    return histories


def _go_on(stack, records, begun):
    """Put a stack just opened where these histories end; returns the number of their last update."""
    for row, (record, history) in enumerate(zip(records, begun)):
        curves = np.stack([getattr(history, name) for name in History.CURVES[1:]], 1)
        record.steps, record.curves = list(history.step), list(curves)
        record.saturation = list(history.kept.get("saturation", [None] * len(curves)))
        for name, tensor in _lasting(stack).items():
            # Popped, so that it is not held while training goes on
            tensor[row] = torch.as_tensor(history.state.pop(name))
    return int(begun[0].state["update"])


def _lasting(stack):
    """The tensors (R, P) that an update leaves to the next one."""
    return {"weights": stack.weights, "m": stack.state["m"], "v": stack.state["v"]}


def _evaluate_and_retire(stack, records, step_):
    """Record where each run stands. Runs that have ended stay as idle rows until the stack is packed anew, at the next
    rung."""
    staying, ending = [], []
    saturation = (measures.saturation(stack) if any("saturation" in spec.keep for spec in stack.specs)
                  else [None] * len(stack.specs))
    for row, curves in enumerate(evaluate(stack).T):
        if stack.members[row] is None:
            continue
        record = records[stack.members[row]]
        record.add(step_, curves, saturation[row])
        (staying if record.stopped_because == "running" else ending).append(row)
    _keep(stack, records, ending)
    for row in ending:
        stack.members[row] = None
        stack.knobs.learning_rate[row] = 0  # in place, so that captured updates see it: finite weights stay
    if not staying:
        stack.members = []
    elif rung(len(staying), stack) < rung(len(stack.members), stack):
        keep = torch.tensor(staying, dtype=torch.int64, device=stack.weights.device)
        packed = assemble([stack.specs[r] for r in staying], [stack.members[r] for r in staying],
                          stack.data.rows(keep), stack.weights[keep],
                          {name: t[keep] for name, t in stack.state.items()}, stack.knobs.rows(keep), stack.fused)
        vars(stack).update(vars(packed))


def _keep(stack, records, ending):
    """Put what their specs ask for into the records of the rows that end here."""
    asked = [row for row in ending
             if "sharpness" in stack.specs[row].keep and records[stack.members[row]].stopped_because != "diverged"]
    sharpness = dict(zip(asked, measures.sharpness(stack, asked))) if asked else {}
    for row in ending:
        record = records[stack.members[row]]
        weights = model.unpack(stack.weights[row:row + 1], record.spec)
        found = {name: weights[name][0].float().cpu().numpy() for name in record.spec.keep if name in weights}
        found |= {"sharpness": sharpness.get(row, [np.nan] * 3), "saturation": record.saturation}
        record.kept = {name: np.array(found[name], np.float32) for name in record.spec.keep}


def rung(count, stack):
    """The size of stack that `count` running runs count as: on a GPU each new size is captured anew, so there are few
    sizes."""
    return count if stack.weights.device.type == "cpu" else graphs.rung(count)


class _Record:
    """What one run has shown so far."""

    def __init__(self, spec, evaluate_at):
        usual = evaluation_steps(spec.steps) if evaluate_at is None else [s for s in evaluate_at if s <= spec.steps]
        self.spec, self.schedule = spec, {int(s) for s in usual} | {spec.steps}
        self.steps, self.curves, self.saturation, self.stopped_because, self.kept = [], [], [], "running", {}

    def add(self, step_, curves, saturation):
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
        self.saturation.append(saturation)

    def history(self, facts):
        curves, kept = np.array(self.curves, np.float32).reshape(-1, 4).T, self.kept
        if self.stopped_because == "running" and "saturation" in self.spec.keep:
            kept = {"saturation": np.array(self.saturation, np.float32)}
        return History(self.spec, np.array(self.steps, np.int64), *curves, self.stopped_because, kept, dict(facts))
