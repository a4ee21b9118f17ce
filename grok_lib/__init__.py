"""A reproducible companion to "Grokking" (Power et al. 2022): datasets, model, training, and the paper's figures.

    from grok_lib import OPERATIONS, RunSpec, train
    history, = train([RunSpec(operation="x+y", train_fraction=0.5, steps=3000)])

Names load what they need when they are first used: `import grok_lib` itself is instant and loads no torch.
"""

import importlib

_HOME = {"OPERATIONS": "operations", "RunSpec": "specs", "History": "history", "get_results": "runs.sweep"}
__all__ = [*_HOME, "train"]


def train(specs, device="auto", evaluate_at=None):
    """Train every spec; returns their histories in the order of `specs`, and stores nothing. `grok_lib.training.train`,
    which loads torch, says more."""
    from grok_lib import training
    return training.train(specs, device, evaluate_at)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"grok_lib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'grok_lib' has no attribute {name!r}")


def __dir__():
    return __all__
