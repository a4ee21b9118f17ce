"""Numbers and sentences from histories: no torch, no drawing.

A run that has not reached a threshold within its budget is *censored*, and is said to be so: never a number.
"""

import numpy as np

from grok_lib.operations import operation

SETS = {"train": "training", "val": "validation"}


def first_step(history, which="val", threshold=0.99):
    """The first evaluated update with `which` ("train" or "val") accuracy >= threshold; None if there is none."""
    reached = history.step[getattr(history, f"{which}_accuracy") >= threshold]
    return int(reached[0]) if len(reached) else None


def when(history, which="val", threshold=0.99):
    """`first_step` in words: 'at update 2,239', or 'not within 3,000 updates (best 47.8%)'."""
    step = first_step(history, which, threshold)
    if step is not None:
        return f"at update {step:,}"
    best = np.nanmax(getattr(history, f"{which}_accuracy"), initial=0)
    budget = history.spec.steps if history.stopped_because == "budget" else history.last_step
    return f"not within {budget:,} updates (best {best:.1%})"


def describe(history):
    """What one run did, a line for each set: when each accuracy first reached 99 %."""
    return "\n".join(f"99 % {SETS[which]} accuracy {when(history, which)}" for which in SETS)


def sentence(history):
    """The same in one line that names the run: for tables and alt texts."""
    spec = history.spec
    label = operation(spec.operation, spec.modulus).label
    return f"{label}, {spec.train_fraction:.0%}: " + describe(history).replace("\n", "; ")


def percent(value):
    """'47.6%', or 'no level' for None, where there was nothing to measure."""
    return "no level" if value is None else f"{value:.1%}"


def waiting_level(history):
    """The median validation accuracy after the training set is known (99 %) and before validation is (60 %).

    None where the run shows no such wait: fewer than three evaluations of it.
    """
    known, rising = first_step(history, "train"), first_step(history, "val", 0.6)
    if known is None:
        return None
    waiting = (history.step >= known) & (history.step < (rising or np.inf))
    return float(np.median(history.val_accuracy[waiting])) if waiting.sum() >= 3 else None


def loss_in_words(history):
    """Where the validation loss was at the start, at its highest, and at the end."""
    loss, top = history.val_loss, int(np.nanargmax(history.val_loss))
    return (f"validation loss: {loss[0]:.2f} at the start, at its highest {loss[top]:.2f} at update "
            f"{history.step[top]:,}, {loss[-1]:.2f} at the end")


def mirrored_share(spec, train):
    """The share of validation equations (x, y) whose mirror (y, x) is among the training equations `train` (indices)."""
    op = operation(spec.operation, spec.modulus)
    seen = np.zeros(op.table.shape, bool)
    seen[op.equations[train, 0], op.equations[train, 1]] = True
    x, y, _ = op.equations.T
    validation = ~seen[x, y]
    return float(seen[y, x][validation].mean())
