"""Before anything is trained: what this device can train, how much of it at once, and how long it will take. Loads
torch when called."""

import collections
import functools
import importlib.util
import math
import time

from grok_lib.history import evaluation_steps
from grok_lib.runs.progress import count
from grok_lib.specs import RunSpec


def possible(specs, device, say=True):
    """Those of the specs that can be trained here: TF32 asks for a GPU that has it, sharpness for scipy. What is left
    out is said, in a line for each reason."""
    lacking = {spec: _lacking(spec, device) for spec in specs}
    if say:
        for reason, runs in collections.Counter(filter(None, lacking.values())).items():
            print(f"left out: {count(runs, 'run')} {reason}")
    return [spec for spec in specs if not lacking[spec]]


def _lacking(spec, device):
    if spec.precision == "tf32":
        from grok_lib.device import device_name, has_tf32, resolve
        if not has_tf32(resolve(device)):
            return f"in TF32, which {device_name(resolve(device))} does not have"
    if "sharpness" in spec.keep and importlib.util.find_spec("scipy") is None:
        return "with their sharpness, which asks for scipy"
    return ""


def most_of(specs, device, at_once):
    """{shape: runs in a stack, at most}: `at_once`, or as many as the device bears of the largest of them."""
    from grok_lib import training

    largest = {training.shape(spec): spec for spec in sorted(specs, key=training.bytes_a_run)}
    return {shape: at_once or training.most_at_once(device, spec) for shape, spec in largest.items()}


def compiling(specs, device="auto"):
    """Seconds, at most, that compiling the updates of this stack will take; 0 where a GPU has them compiled, or they
    will not be."""
    from grok_lib import engine, fuse
    from grok_lib.device import resolve

    device = resolve(device)
    compiled = engine.form(specs, device) in fuse.State.forms
    if compiled or fuse.State.refused or not fuse.pays(specs, device):
        return 0
    return fuse.SECONDS[device.type]


def rates(specs, device, at_once=None, compiled=False):
    """{shape: seconds that a FLOP of such runs takes, with their evaluations}, from a few updates and an evaluation of
    one stack.

    One stack is measured for each ten-thousandfold of an update's work: a tiny model's updates wait, those of a large
    one work. `compiled`: on a GPU measure them compiled, where training will have them so; the first time that takes a
    minute.
    """
    from grok_lib import training

    sizes, found = {}, {}
    for spec in specs:
        sizes.setdefault(math.log10(spec.flops) // 4, []).append(spec)
    for size in sizes.values():
        first, measured = [spec for spec in size if training.shape(spec) == training.shape(size[0])], None
        first = first[:most_of(first, device, at_once)[training.shape(first[0])]]
        while measured is None:
            try:
                measured = _seconds(first, device, compiled)
            except (MemoryError, RuntimeError) as error:
                # Tried anew outside, where the error no longer holds the tensors
                first = first[:training.half_or_raise(first, error)]
        seconds = sum(spec.work * measured[0] + len(evaluation_steps(spec.steps)) * measured[1] for spec in size)
        found |= dict.fromkeys(map(training.shape, size), seconds / sum(spec.work for spec in size))
    return found


def estimated_seconds(specs, pace):
    """Seconds that training these to their budgets would take at these `rates`; the slowest stands in for one not
    measured. None without rates."""
    from grok_lib import training

    return (sum(spec.work * pace.get(training.shape(spec), max(pace.values())) for spec in specs)
            if pace or not specs else None)


def seconds_an_update(device, steps):
    """Seconds that an update takes however small its stack: a GPU has hundreds of kernels to start. On a CPU only work
    counts: 0.

    Measured on a run of the paper's setting alone; `steps`: its budget, which decides whether it is compiled.
    """
    from grok_lib import fuse
    from grok_lib.device import resolve

    where = resolve(device)
    return (0.0 if where.type == "cpu"
            else _seconds_alone(device, steps if fuse.pays([RunSpec(steps=steps)], where) else 1))


@functools.cache
def _seconds_alone(device, steps):
    return _seconds([RunSpec(steps=steps)], device, True)[0] * RunSpec().flops


def _seconds(first, device, compiled):
    """Seconds that a stack takes for one FLOP of training, and for one evaluation of a run.

    `compiled`: as training will have it, on a GPU: a campaign that has an hour should know what fits into it. On a CPU
    it makes little difference, and nobody is to wait half a minute for an estimate.
    """
    from grok_lib import training
    from grok_lib.device import resolve

    device = resolve(device)
    # A GPU captures its graphs first
    warm, timed = (2, 3) if device.type == "cpu" else (training.BLOCK["cuda"], 2 * training.BLOCK["cuda"])
    stack = training.open_stack(first, device)
    stack.fused &= compiled and device.type != "cpu"
    training.advance(stack, 1, warm)
    training.evaluate(stack)
    began = time.perf_counter()
    training.advance(stack, warm + 1, warm + timed)
    float(stack.weights[0, 0])  # waits for the device
    updated = time.perf_counter()
    training.evaluate(stack)
    return (updated - began) / sum(timed * spec.flops for spec in first), (time.perf_counter() - updated) / len(first)
