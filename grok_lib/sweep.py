"""The one door for notebooks: `get_results` loads what the store has and trains what is missing."""

import time

from grok_lib import store as store_
from grok_lib.history import evaluation_steps
from grok_lib.progress import Progress, count, duration


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

    def where(self, **fields):
        """Those whose specs have these values: results.where(operation="x+y", train_fraction=0.5); gaps stay gaps."""
        def fits(spec):
            return all(getattr(spec, name) == value for name, value in fields.items())
        return Results([h for h in self if fits(h.spec)], [spec for spec in self.specs if fits(spec)])


def get_results(specs, store=None, time_budget=60.0, device="auto"):
    """Histories of `specs`: loaded from the store, and what is missing trained where that fits the time.

    `store`: a folder; None reads this checkout's own runs (`build/results`) and the shipped ones (`results`),
    and writes to the former. `time_budget`: seconds of training that the caller accepts, None for no limit. If
    the missing runs would take longer, nothing is trained: the estimate is printed, and the result says so
    (`coverage`). Finished runs are stored at once, so an interrupted call loses only those in flight.
    """
    specs = list(specs)
    found = {spec: store_.find(spec, store) for spec in dict.fromkeys(specs)}
    longest = {}  # of several requests for one run, the one with the largest budget answers the others
    for spec in sorted((spec for spec, history in found.items() if history is None), key=lambda spec: -spec.steps):
        longest.setdefault(spec if spec.keep else (spec.key, spec.stop), spec)
    if longest:
        trained = _train_missing(list(longest.values()), store, time_budget, device)
        for spec in (spec for spec, history in found.items() if history is None):
            found[spec] = next(filter(None, (history.answer(spec) for history in trained)), None)
    return Results([found[spec] for spec in specs if found[spec] is not None], specs)


def watch(spec, store=None, device="auto"):
    """Train one run live, from its start whether stored or not: yields (step, [history]), and stores the end."""
    from grok_lib import training  # torch is loaded only where something is to be trained

    for step, histories in training.stream([spec], device):
        if histories[0].stopped_because != "running":
            store_.save(histories[0], store_.folders(store)[0])
        yield step, histories


def _train_missing(missing, store, time_budget, device):
    """Train and store the missing runs, if there is time for them; returns their histories."""
    from grok_lib import training

    stacks = training.into_stacks(missing, device)
    estimate = estimated_seconds(stacks, device)
    if time_budget is not None and estimate > time_budget:
        print(f"left out: {count(len(missing), 'run')} not in the store, about {duration(estimate)} of training here "
              f"(accepted: {duration(time_budget)}). To train them, raise time_budget.")
        return []
    total, done, began = sum(s.flops * s.steps for s in missing), 0, time.perf_counter()
    finished = {}
    with Progress(f"training {count(len(missing), 'run')}") as progress:
        for i, stack in enumerate(stacks):
            for step, histories in training.stream(stack, device):
                for history in histories:
                    if history.stopped_because != "running" and history.spec not in finished:
                        store_.save(history, store_.folders(store)[0])
                        finished[history.spec] = history
                work = done + sum(s.flops * (s.steps if s in finished else step) for s in stack)
                left = estimate if not step else (total - work) * (time.perf_counter() - began) / work
                progress.show(f"stack {i + 1} of {len(stacks)} ({count(len(stack), 'run')}), update {step:,} "
                              f"of {max(s.steps for s in stack):,}, about {duration(left)} left")
            done += sum(s.flops * s.steps for s in stack)
    return list(finished.values())


def estimated_seconds(stacks, device):
    """Seconds that training these stacks to their budgets would take, from a few updates and an evaluation of the first."""
    from grok_lib import training
    from grok_lib.device import resolve

    stack = training.open_stack(stacks[0], resolve(device))
    training.advance(stack, 1, 2)
    training.evaluate(stack)
    began = time.perf_counter()
    training.advance(stack, 3, 5)
    updated = time.perf_counter()
    training.evaluate(stack)
    evaluation = (time.perf_counter() - updated) / len(stacks[0])
    operation = (updated - began) / sum(3 * spec.flops for spec in stacks[0])
    return sum(spec.flops * spec.steps * operation + len(evaluation_steps(spec.steps)) * evaluation
               for stack in stacks for spec in stack)
