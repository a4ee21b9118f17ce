"""Are stored runs what this machine, with this version, trains? Some of them, trained again for their first updates.

Data and order are not compared themselves: `agreement` tells how the first losses show them.
"""

import dataclasses
import random
from pathlib import Path

from grok_lib.history import History
from grok_lib.runs import store
from grok_lib.runs.agreement import UPDATES, disagreement, early


@dataclasses.dataclass
class Check:
    """What came of one run: `fault` says how it disagrees, "" where it does not."""

    file: Path
    agreement: str = ""
    fault: str = ""


def draw(folder, sample, seed):
    """`sample` of the files in a store, or all where there are fewer; the seed decides which."""
    files = sorted(Path(folder).glob("*.npz"))
    if not files:
        raise ValueError(f"no runs in {folder}: name a store that has some")
    return random.Random(seed).sample(files, min(sample, len(files)))


def check(files, device="auto"):
    """Train the runs in these files again, side by side; returns a `Check` for each, in their order."""
    from grok_lib import training  # torch is loaded only where something is to be trained

    checks, stored = {file: Check(file) for file in files}, {}
    for file in files:
        try:
            stored[file] = store.load(file)
        except (OSError, ValueError) as error:
            checks[file].fault = str(error)
    specs = [_start(history) for history in stored.values()]
    steps = sorted({int(step) for history in stored.values() for step in history.step if step <= UPDATES})
    for (file, history), again in zip(stored.items(), training.train(specs, device, evaluate_at=steps)):
        checks[file] = compare(file, history, again)
    return list(checks.values())


def compare(file, stored, again):
    """A `Check`: both losses at the updates that both evaluated, within the tolerance of the run's precision."""
    common, losses, apart = early(stored, again)
    if not len(common):
        return Check(file, fault=f"cannot be compared: it was not evaluated in its first {UPDATES} updates")
    if fault := disagreement(stored, again):
        return Check(file, fault=f"{stored.spec.operation}: {fault}")
    return Check(file, f"{stored.spec.operation}: at most {apart.max():.0e} apart at {len(common)} evaluations")


def _start(history: History):
    """The run in a history, to its first updates only."""
    # what was in tf32 is trained again in fp32, which is everywhere
    precision = "fp32" if history.spec.precision == "tf32" else history.spec.precision
    return history.spec.but(steps=max(1, min(UPDATES, history.last_step)), stop="budget", keep=(), precision=precision)
