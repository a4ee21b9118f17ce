"""The one door for notebooks: `get_results` loads what the store has and trains what is missing."""

import time

from grok_lib import store as store_
from grok_lib.progress import Progress, duration


class Results(list):
    """The histories that there are, in the order of the specs asked for; `needed` specs were asked for."""

    def __init__(self, histories, needed, store=None):
        super().__init__(histories)
        self.needed, self.store = needed, store

    @property
    def coverage(self):
        """'12 runs', or '5 of 12 runs': figures carry this line."""
        runs = f"{self.needed} run{'s' if self.needed != 1 else ''}"
        return runs if len(self) == self.needed else f"{len(self)} of {runs}"

    def where(self, **fields):
        """Those whose specs have these values: results.where(operation="x+y", train_fraction=0.5)."""
        chosen = [h for h in self if all(getattr(h.spec, name) == value for name, value in fields.items())]
        return Results(chosen, len(chosen), self.store)


def get_results(specs, store=None, time_budget=60.0, device="auto"):
    """Histories of `specs`: loaded from the store, and what is missing trained where that fits the time.

    `store`: a folder; None reads this checkout's own runs (`build/results`) and the shipped ones (`results`),
    and writes to the former. `time_budget`: seconds of training that the caller accepts, None for no limit. If
    the missing runs would take longer, nothing is trained: the estimate is printed, and the result says so
    (`coverage`). Finished runs are stored at once, so an interrupted call loses only those in flight.
    """
    specs = list(specs)
    missing = [spec for spec in dict.fromkeys(specs) if store_.find(spec, store) is None]
    if missing:
        _train_missing(missing, store, time_budget, device)
    found = [store_.find(spec, store) for spec in specs]
    return Results([h for h in found if h is not None], len(specs), store)


def watch(spec, store=None, device="auto"):
    """Train one run live, from its start whether stored or not: yields (step, [history]), and stores the end."""
    from grok_lib import training  # torch is loaded only where something is to be trained

    for step, histories in training.stream([spec], device):
        if histories[0].stopped_because != "running":
            store_.save(histories[0], store_.folders(store)[0])
        yield step, histories


def _train_missing(missing, store, time_budget, device):
    from grok_lib import training  # torch is loaded only where something is to be trained

    stacks = training.into_stacks(missing, device)
    estimate = estimated_seconds(stacks, device)
    if time_budget is not None and estimate > time_budget:
        print(f"{len(missing)} runs are not in the store and would take about {duration(estimate)} here "
              f"(accepted: {duration(time_budget)}), so they are left out. To train them, raise time_budget.")
        return
    total, done, began = sum(s.flops * s.steps for s in missing), 0, time.perf_counter()
    with Progress(f"training {len(missing)} run{'s' if len(missing) > 1 else ''}") as progress:
        for i, stack in enumerate(stacks):
            stored = set()
            for step, histories in training.stream(stack, device):
                for history in histories:
                    if history.stopped_because != "running" and history.spec not in stored:
                        store_.save(history, store_.folders(store)[0])
                        stored.add(history.spec)
                work = done + sum(s.flops * (s.steps if s in stored else step) for s in stack)
                left = estimate if not step else (total - work) * (time.perf_counter() - began) / work
                progress.show(f"stack {i + 1} of {len(stacks)}, {len(stack)} runs, update {step:,} "
                              f"of {max(s.steps for s in stack):,}, about {duration(left)} left")
            done += sum(s.flops * s.steps for s in stack)


def estimated_seconds(stacks, device):
    """Seconds that training these stacks to their budgets would take, from a few updates of the first one."""
    from grok_lib import training
    from grok_lib.device import resolve

    stack = training.open_stack(stacks[0], resolve(device))
    training.advance(stack, 1, 2)
    began = time.perf_counter()
    training.advance(stack, 3, 5)
    training.evaluate(stack)  # one evaluation to three updates: more than in a real run, so no run takes longer
    rate = 3 * sum(s.flops for s in stacks[0]) / (time.perf_counter() - began)
    return sum(s.flops * s.steps for stack in stacks for s in stack) / rate
