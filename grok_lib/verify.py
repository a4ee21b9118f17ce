"""Are stored runs what this machine, with this version, trains? Some of them, trained again for their first updates.

The loss before any update shows the split and the initial weights, those after it the order of the batches, the noise
and the optimiser; later than that, rounding grows and only distributions can be compared (DESIGN.md's promise).
"""

import dataclasses
import random
from pathlib import Path

import numpy as np

from grok_lib import store
from grok_lib.history import History

UPDATES = 30
TOLERANCE = {"fp32": 1e-4, "float64": 1e-6, "tf32": 1e-2}  # nats; runs in tf32 are trained again in fp32, which is everywhere


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
    common = np.intersect1d(stored.step[stored.step <= UPDATES], again.step)
    if not len(common):
        return Check(file, fault=f"cannot be compared: it was not evaluated in its first {UPDATES} updates")
    theirs, ours = (_losses(history, common) for history in (stored, again))
    with np.errstate(invalid="ignore"):
        apart = np.where((theirs == ours) | (np.isnan(theirs) & np.isnan(ours)), 0, np.abs(theirs - ours))  # (2, E)
    wrong = np.argwhere(~(apart <= TOLERANCE[stored.spec.precision]).T)
    if not len(wrong):
        return Check(file, f"{stored.spec.operation}: at most {apart.max():.0e} apart at {len(common)} evaluations")
    at, curve = wrong[0]
    return Check(file, fault=f"{stored.spec.operation}: {('training', 'validation')[curve]} loss at update {common[at]}: "
                             f"stored {theirs[curve, at]:.6g}, here {ours[curve, at]:.6g}")


def _start(history: History):
    """The run in a history, to its first updates only."""
    precision = "fp32" if history.spec.precision == "tf32" else history.spec.precision
    return history.spec.but(steps=max(1, min(UPDATES, history.last_step)), stop="budget", keep=(), precision=precision)


def _losses(history, steps):
    """Training and validation loss at some steps: float64 (2, E)."""
    return np.array([history.train_loss, history.val_loss], np.float64)[:, np.isin(history.step, steps)]
