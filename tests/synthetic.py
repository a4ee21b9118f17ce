"""Histories with known answers, for tests of what reads histories; and what tests of figures read off a line."""

import numpy as np

from grok_lib.history import History
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec


def history(spec=RunSpec(steps=1000), steps=(0, 1, 10, 100, 1000), train=(0, 0.1, 1, 1, 1), val=(0, 0, 0.4, 0.5, 1),
            stopped_because="budget", kept=None, train_loss=(4, 3, 2, 1, 0.1), val_loss=(4, 4, 6, 5, 0.2)):
    """A history whose curves are what the caller says."""
    curves = [np.array(c, np.float32) for c in (train_loss, train, val_loss, val)]
    return History(spec, np.array(steps, np.int64), *curves, stopped_because=stopped_because, kept=kept or {},
                   provenance={"device": "a test", "torch": "0", "seconds": 1.5})


def results(*histories, missing=()):
    """Those histories, where specs `missing` had been asked for as well."""
    return Results(histories, [h.spec for h in histories] + list(missing))


def points(line):
    """[(x, y)] of a drawn line."""
    return list(zip(*map(list, line.get_data())))


def pace_of(specs, seconds):
    """The `rates` at which all of these together would take so many seconds."""
    from grok_lib import training
    return dict.fromkeys(map(training.shape, specs), seconds / sum(spec.work for spec in specs))
