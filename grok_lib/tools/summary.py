"""results/summary.csv: one row for each stored run, generated from the histories, never edited."""

import dataclasses

from grok_lib import paths
from grok_lib.paper.analysis import best_accuracy, first_step
from grok_lib.runs import store as store_
from grok_lib.specs import RunSpec

KNOBS = [field.name for field in dataclasses.fields(RunSpec) if field.name != "keep"]


def row(history, file):
    """A run as a dictionary: its file, every knob, what it did, why it ended, and what trained it."""
    facts = history.provenance
    return {"file": file, "key": history.spec.key, **{name: getattr(history.spec, name) for name in KNOBS},
            "keep": " ".join(history.kept), "train_size": history.spec.train_size, "last_step": history.last_step,
            "stopped_because": history.stopped_because,
            "updates_to_99_train": first_step(history, "train"), "updates_to_99_val": first_step(history),
            "best_train_accuracy": best_accuracy(history, "train"), "best_val_accuracy": best_accuracy(history),
            **{f"trained_{name}": facts[name] for name in sorted(facts)}}


def table(folder=paths.RESULTS):
    """A pandas table of all whole histories in a folder, in the order of operation, fraction, seed and file."""
    import pandas as pd
    rows = [row(history, file.name) for file in sorted(folder.glob("*.npz")) if (history := store_.read(file))]
    if not rows:
        return pd.DataFrame()
    whole = {name: "Int64" for name in ("updates_to_99_train", "updates_to_99_val")}  # whole numbers, with gaps
    return pd.DataFrame(rows).astype(whole).sort_values(["operation", "train_fraction", "seed", "file"],
                                                        ignore_index=True)


def write(folder=paths.RESULTS):
    """Write summary.csv beside the runs."""
    table(folder).to_csv(folder / "summary.csv", index=False, lineterminator="\n")
