"""What a run may do otherwise than the paper's usual one: Figure 2 (left)'s variants, and the board of notebook 08."""

import dataclasses

from grok_lib.specs import RunSpec

# Figure 2 (left)'s nine variants of the optimiser, in the order of the paper's legend (A.1.2 and the authors' code).
VARIANTS = {
    "Adam, full batch": {"weight_decay": 0, "full_batch": True},
    "Adam": {"weight_decay": 0},
    "Adam, full batch, update noise": {"weight_decay": 0, "full_batch": True, "update_noise": 1},
    "Adam, dropout 0.1": {"weight_decay": 0, "dropout": 0.1},
    "AdamW, weight decay 1": {},
    "AdamW, decay to init": {"decay_to": "init"},
    "Adam, lr × 0.3": {"weight_decay": 0, "learning_rate": 3e-4},
    "Adam, lr × 3": {"weight_decay": 0, "learning_rate": 3e-3},
    "Adam, weight noise 0.01": {"weight_decay": 0, "weight_noise": 0.01},
}

# The fidelity board: how others build it, one choice at a time. The first row is what all others are measured against.
BOARD = {
    "as here": {},
    "learned positions": {"positions": "learned"},
    "no positions": {"positions": "none"},
    "LayerNorm before (pre-LN)": {"norm": "pre"},
    "GELU": {"activation": "gelu"},
    "biases": {"biases": True},
    "embedding start × 0.02": {"embedding_scale": 0.02},
    "<eos>, 239 tokens": {"eos": True},
    "short last batch": {"short_last_batch": True},
    "<eos> and short batch": {"eos": True, "short_last_batch": True},
    "L2 in the gradient": {"decay_by": "gradient"},
    "one split for all seeds": {"split_seed": 0},
    "float64": {"precision": "float64"},
    "TF32": {"precision": "tf32"},
    "weight decay 0.01, torch's": {"weight_decay": 0.01},
    "one layer": {"layers": 1},
    "batches of 128": {"batch_size": 128},
}


def variant_of(spec, variants=VARIANTS):
    """The name in `variants` (`VARIANTS` or `BOARD`) of what a spec does otherwise. ValueError where none fits."""
    names = [f.name for f in dataclasses.fields(spec) if any(f.name in changes for changes in variants.values())]
    for name, changes in variants.items():
        if all(getattr(spec, field) == getattr(RunSpec(**changes), field) for field in names):
            return name
    raise ValueError(f"no variant has the settings of {spec}")
