"""Which runs each figure needs, at each profile.

`smoke` is the same code on tiny tables, in seconds; `quick` is the real model on a laptop; `paper` is the
paper's grid on a GPU.
"""

from grok_lib.specs import RunSpec

PROFILES = ("smoke", "quick", "paper", "best")  # best: the largest that there is


def start_here(profile):
    """Notebook 00: {name: spec}. The live run, the same at 30 %, and the two non-commutative cousins."""
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r} is not known: choose from {', '.join(PROFILES)}")
    live = RunSpec(operation="x+y", train_fraction=0.5, steps=3000)
    specs = {"live": live, "less data": live.but(train_fraction=0.3, steps=10_000),
             "x-y": live.but(operation="x-y", steps=6000), "x/y": live.but(operation="x/y", steps=6000)}
    return {name: tiny(spec) for name, spec in specs.items()} if profile == "smoke" else specs


def tiny(spec):
    """The spec on a table of 11 elements (S5 stays itself), with a narrow model and few updates."""
    modulus = {} if spec.operation.endswith("in S5") else {"modulus": 11}
    return spec.but(**modulus, width=32, steps=max(100, spec.steps // 100))
