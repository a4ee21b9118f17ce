"""A run that is cut off goes on where it was: every few minutes a sweep writes the state of its runs into the store's
folder .running.

A file is one run: its history so far, as the store writes them, with its weights and Adam's averages beside. Data,
order and noise need no saving: they are functions of seed and update. So a run that goes on is the run that was never
cut off, to the bit where its company is the same.
"""

import dataclasses
import warnings
from pathlib import Path

import numpy as np

from grok_lib.runs import store

EVERY = 300  # seconds, the most that a kill may cost (SIGTERM and Ctrl-C, which can be waited for, cost nothing)
WORTH = 60  # seconds of training for which a stack is begun that does not end in them


def file(folder, spec):
    """Where a store keeps the run of that very request while it trains."""
    return Path(folder) / ".running" / f"{spec.key}@{spec.steps}-{spec.stop}-{store.names(spec.keep)}.npz"


def save(histories, folder):
    """Write those of `training.stream`'s histories that are running. Where there is no room, a warning says so, and
    training goes on without."""
    try:
        for history in histories:
            if history.stopped_because == "running" and history.state["update"]:
                state = {f"state.{name}": np.asarray(tensor.cpu()) for name, tensor in history.state.items()}
                store.write(dataclasses.replace(history, kept=history.kept | state),
                            file(folder, history.spec), np.savez)
    except OSError as error:
        warnings.warn(f"{error}. Training goes on, but a run that is cut off will begin anew", stacklevel=2)


def load(spec, folder):
    """The history of a run that was cut off, with its `state` as arrays; None where there is none that can be read."""
    history = store.read(file(folder, spec))
    if history is not None:
        history.state = {name.removeprefix("state."): history.kept.pop(name)
                         for name in list(history.kept) if name.startswith("state.")}
    return history


def together(specs, folder):
    """{spec: its history so far, or None} of those that have come as far as the first of them, in one company, and so
    can go on in one stack."""
    begun = {spec: load(spec, folder) for spec in specs}
    stands = {spec: (int(history.state["update"]), history.provenance) if history else None
              for spec, history in begun.items()}
    return {spec: history for spec, history in begun.items() if stands[spec] == stands[specs[0]]}


def drop(spec, folder):
    """Forget a run that has ended."""
    file(folder, spec).unlink(missing_ok=True)
