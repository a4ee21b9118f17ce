"""What was asked for, and what there is of it: `Results`, and what a store lacks. Nothing is trained here. No torch."""

import collections

from grok_lib.runs import store as store_
from grok_lib.runs.progress import count
from grok_lib.specs import RunSpec


class Results(list):
    """The histories that there are, in the order of the specs asked for; `specs` holds all of those."""

    def __init__(self, histories, specs):
        super().__init__(histories)
        self.specs = list(specs)

    @property
    def coverage(self):
        """'12 runs', or '5 of 12 runs': figures carry this line."""
        asked = count(len(self.specs), "run")
        return asked if len(self) == len(self.specs) else f"{len(self)} of {asked}"

    @property
    def seeds(self):
        """'3 seeds', or '1 to 3 seeds' where some settings have fewer than others, whatever their budgets."""
        seeds = collections.defaultdict(set)
        for history in self:
            seeds[history.spec.but(seed=0, steps=1)].add(history.spec.seed)
        fewest, most = (end(map(len, seeds.values()), default=0) for end in (min, max))
        return count(most, "seed") if fewest == most else f"{fewest} to {count(most, 'seed')}"

    def where(self, fits=lambda spec: True, **fields):
        """Those whose specs have these values, and pass the test `fits`:
        results.where(operation="x+y", train_fraction=0.5); gaps stay gaps."""
        def chosen(spec):
            return fits(spec) and all(getattr(spec, name) == value for name, value in fields.items())
        return Results([h for h in self if chosen(h.spec)], filter(chosen, self.specs))


def hardware(histories):
    """What trained them, each device once."""
    devices = {h.provenance.get("device", "unknown device") for h in histories}
    devices |= {device for h in histories for _, device, *_ in h.provenance.get("resumed", [])}
    return "; ".join(sorted({name.replace(" 1 threads", " 1 thread") for name in devices}))  # as older runs have it


def stored(specs, store=None):
    """What the store has of `specs`, as `Results`."""
    specs = list(specs)
    found = [store_.find(spec, store) for spec in specs]
    return Results([history for history in found if history is not None], specs)


def to_train(specs, store=None):
    """The specs that have to be trained so that the store answers all of `specs`, in their order.

    Of several requests for one trajectory, the one that goes furthest is trained, and answers the others.
    """
    missing = [spec for spec in dict.fromkeys(specs) if store_.find(spec, store) is None]
    same = collections.defaultdict(list)
    for spec in missing:
        same[spec.key].append(spec)
    return [spec for spec in missing if not any(other != spec and _covers(other, spec) for other in same[spec.key])]


def _covers(other, spec):
    """Whether a run trained as `other` answers `spec`, of the same trajectory, wherever it ends."""
    if spec.keep:  # weights are kept at the last update only
        return (other.steps, other.stop) == (spec.steps, spec.stop) and set(spec.keep) < set(other.keep)
    return other.steps >= spec.steps and (other.stop == "budget" or spec.stop == "solved")


def tally(specs, store=None, missing=None):
    """How much of these specs is done: {"needed", "done", "run_steps_left"}. `missing`: `to_train`'s answer, if known.

    Run-steps are ordinary ones (the paper's setting, in FLOPs), to the whole budget, though most runs end before it.
    """
    missing, keys = to_train(specs, store) if missing is None else missing, {spec.key for spec in specs}
    done = keys - {spec.key for spec in missing}
    return {"needed": len(keys), "done": len(done),
            "run_steps_left": round(sum(spec.work for spec in missing) / RunSpec().flops)}
