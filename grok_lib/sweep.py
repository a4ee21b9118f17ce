"""From specs to histories: `get_results`, the one door for notebooks, and `sweep`, the campaign behind it.

What the store has is loaded, what is missing is trained in stacks, and each run is stored as it ends.
"""

import collections
import contextlib
import fcntl
import os
import time
import warnings
from pathlib import Path

from grok_lib import checkpoint
from grok_lib import store as store_
from grok_lib.estimate import compiling, estimated_seconds, most_of, possible, rates, seconds_an_update, smaller
from grok_lib.progress import Progress, count, duration, put_off
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
        """'3 seeds', or '1 to 3 seeds' where some settings have fewer than others."""
        each = sorted(collections.Counter(h.spec.but(seed=0) for h in self).values()) or [0]
        return f"{each[0]} to " * (each[0] < each[-1]) + count(each[-1], "seed")

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
    (`coverage`). Runs are stored as they end, and one that was cut off goes on at the next call.
    """
    specs = list(specs)
    missing = possible(to_train(specs, store), device)
    trained = []
    if missing:
        pace = rates(missing, device)
        estimate = estimated_seconds(missing, pace)
        if time_budget is not None and estimate > time_budget:
            print(f"left out: {count(len(missing), 'run')} not in the store, about {duration(estimate)} of training here "
                  f"(accepted: {duration(time_budget)}). To train them, raise time_budget.")
        else:
            trained = sweep(missing, store, None, device, pace)
    found = [store_.find(spec, store) or next(filter(None, (h.answer(spec) for h in trained)), None) for spec in specs]
    return Results([history for history in found if history is not None], specs)


def watch(spec, store=None, device="auto"):
    """Train one run live, from its start whether stored or not: yields (step, [history]), and stores the end."""
    from grok_lib import training  # torch is loaded only where something is to be trained

    folder = store_.writable(store)
    try:
        for step, histories in training.stream([spec], device):
            if histories[0].stopped_because != "running":
                store_.save(histories[0], folder)
            yield step, histories
    except (MemoryError, RuntimeError) as error:
        smaller([spec], error)


def to_train(specs, store=None):
    """The specs that have to be trained so that the store answers all of `specs`, in their order.

    Of several requests for one trajectory, the one that goes furthest is trained, and answers the others.
    """
    missing = [spec for spec in dict.fromkeys(specs) if store_.find(spec, store) is None]
    same = {}
    for spec in missing:
        same.setdefault(spec.key, []).append(spec)
    return [spec for spec in missing if not any(other != spec and _covers(other, spec) for other in same[spec.key])]


def _covers(other, spec):
    """Whether a run trained as `other` answers `spec`, of the same trajectory, wherever it ends."""
    if spec.keep:  # weights are kept at the last update only
        return (other.steps, other.stop) == (spec.steps, spec.stop) and set(spec.keep) < set(other.keep)
    return other.steps >= spec.steps and (other.stop == "budget" or spec.stop == "solved")


def sweep(specs, store=None, time_budget=None, device="auto", pace=None, at_once=None):
    """Train and store what the store lacks of `specs`, first what was cut off, then the rest in order; returns the histories trained.

    `time_budget`: seconds, None for no limit; a stack that would not end in time, at the speed seen so far, is not begun. Where none
    would, and a minute is left besides compiling, the first one is begun. What was cut off goes on, in this sweep or the next, if there is that minute.
    `pace`: `rates` that a caller has measured already. `at_once`: runs in a stack, at most; None for the device's own.
    A stack for which memory does not suffice is halved, and those like it after it are no larger.
    Several sweeps of one store on one machine share the work: each claims what it trains, and a claim ends with its process.
    """
    from grok_lib import training

    budget = float("inf") if time_budget is None else time_budget
    ends = time.perf_counter() + budget
    folder, missing = store_.folders(store)[0], to_train(specs, store)
    for spec in {*specs} - {*missing}:  # stored since it was cut off, or before it could be forgotten; or not, but another answers for it
        if checkpoint.file(folder, spec).exists() and store_.find(spec, store):
            checkpoint.drop(spec, folder)
    done = {spec: history.state.get("update", 0) for spec in missing if (history := checkpoint.load(spec, folder))}
    missing = sorted(possible(missing, device), key=lambda spec: spec not in done)  # what was begun goes first
    if not missing:
        return []
    folder, finished, most = store_.writable(store), {}, most_of(missing, device, at_once)
    pace = {**pace} if pace else rates(missing, device, at_once, compiled=True)
    idle = max(0.0, seconds_an_update(device, max(spec.steps for spec in missing)) - min(pace.values()) * RunSpec().flops)  # besides its work
    with Progress(f"training {count(len(missing), 'run')}") as progress:
        while (left := ends - time.perf_counter()) > 0:
            stack = _next_stack(missing, done, most, 0.95 * left, pace, idle, device)  # planned with a little to spare
            if missing and left >= checkpoint.WORTH and (missing[0] in done or not stack):
                part = _next_stack(missing, done, most, float("inf"), pace, idle, device)
                stack = part if left >= checkpoint.WORTH + compiling(part, device) else stack
            if not stack:
                break
            stack = list(checkpoint.together(stack, folder))  # before they are claimed: the others are free for whoever comes
            missing = [spec for spec in missing if spec not in stack]
            with _claimed(stack, store) as mine, put_off() as stops:
                begun = checkpoint.together(mine, folder)  # once more: another process may have trained one of them meanwhile
                missing, mine = [spec for spec in mine if spec not in begun] + missing, list(begun)
                try:
                    _train(begun, ends, folder, device, finished, missing, pace, idle, progress, stops)
                except (MemoryError, RuntimeError) as error:
                    most[training.shape(mine[0])] = smaller(mine, error)
                    warnings.warn(f"out of memory with {len(mine)} runs at once: going on with {len(mine) // 2}", stacklevel=2)
                    missing = [spec for spec in mine if spec not in finished] + missing
    return list(finished.values())


def status(experiments, store=None, device="auto"):
    """A list of {experiment, needed, done, run_steps_left, seconds_left}, and a last one named "all".

    `experiments`: {name: specs}. A run that several experiments need is counted by each, and once in "all". Run-steps are
    ordinary ones (the paper's setting, in FLOPs), to the whole budget, though most runs end before it; seconds at the rate
    that this device shows on a few updates, None where it can train none of them.
    """
    experiments = experiments | {"all": [spec for specs in experiments.values() for spec in specs]}
    missing = {name: to_train(specs, store) for name, specs in experiments.items()}
    measured = possible(missing["all"], device, say=False)
    pace = rates(measured, device, compiled=True) if measured else {}
    seconds = {name: estimated_seconds(specs, pace) for name, specs in missing.items()}
    return [{"experiment": name} | left(specs, store, missing[name]) | {"seconds_left": seconds[name] and round(seconds[name])}
            for name, specs in experiments.items()]


def left(specs, store=None, missing=None):
    """What `status` says of these specs, without its seconds: {"needed", "done", "run_steps_left"}. `missing`: `to_train`'s answer, if known."""
    missing, keys = to_train(specs, store) if missing is None else missing, {spec.key for spec in specs}
    return {"needed": len(keys), "done": len(keys - {spec.key for spec in missing}), "run_steps_left": round(_work(missing) / RunSpec().flops)}


def _work(specs):
    return sum(spec.work for spec in specs)


def _next_stack(missing, done, most, left, pace, idle, device):
    """The first missing run that ends in the seconds `left`, and those that can train beside it and still end in time. `done`: {spec: updates}."""
    from grok_lib import training

    def fits(stack):
        rest = {spec: spec.steps - done.get(spec, 0) for spec in stack}
        return compiling(stack, device) + sum(spec.flops * steps for spec, steps in rest.items()) * pace[training.shape(stack[0])] + max(rest.values()) * idle <= left
    for first in missing:
        if fits([first]):
            stack = [first]
            for spec in missing:
                if len(stack) < most[training.shape(first)] and spec != first and training.shape(spec) == training.shape(first) and fits([*stack, spec]):
                    stack.append(spec)
            return stack
    return []


@contextlib.contextmanager
def _claimed(specs, store):
    """Those of the specs that no other process is training or has just stored; they are ours inside the block."""
    folder = store_.folders(store)[0] / ".claims"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as claims:
        mine = []
        for spec in specs:
            file = claims.enter_context(open(folder / f"{spec.key}-{spec.steps}-{spec.stop}-{store_.names(spec.keep)}", "w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when its process dies
            except BlockingIOError:
                continue
            if os.fstat(file.fileno()).st_nlink:  # else its owner removed it just now, and a third process may hold a new one
                claims.callback(Path(file.name).unlink, missing_ok=True)
                if store_.find(spec, store) is None:
                    mine.append(spec)
        yield mine


def _train(begun, until, folder, device, finished, missing, pace, idle, progress, stops):
    """Train one stack, {spec: its history so far, or None}, to time `until` at most, storing each run as it ends and saving all every few minutes,
    and at the end: then, or when something is in `stops`.

    Puts into `pace` the seconds per FLOP that it took after its first updates, without the `idle` seconds of each.
    """
    from grok_lib import training

    stack, began, before, written = list(begun), None, (0, 0), time.perf_counter()
    done, shape = {spec: 0 for spec in stack}, training.shape(stack[0]) if stack else None
    own, then = pace.get(shape), ", then its sharpness, which takes a while" * any("sharpness" in spec.keep for spec in stack)
    if stack and compiling(stack, device):
        progress.show(f"compiling for {count(len(stack), 'run')}, which at first takes half a minute or more", now=True)
    for step, histories in training.stream(stack, device, begun=[*filter(None, begun.values())]) if stack else ():
        for history in histories:
            if history.spec not in finished:
                done[history.spec] = history.last_step if history.stopped_because != "running" else step
                if history.stopped_because != "running":
                    store_.save(history, folder)
                    checkpoint.drop(history.spec, folder)
                    finished[history.spec] = history
        now = time.perf_counter()
        if stops or now >= min(written + checkpoint.EVERY, until):
            checkpoint.save(histories, folder)
            written = time.perf_counter()
        if stops or now >= until:
            break
        flops = sum(spec.flops * steps for spec, steps in done.items())
        if began is None or step <= 100:  # the first updates may have to be compiled, and are evaluated often: they tell nothing of the others
            began, before = time.perf_counter(), (flops, step)
        elif flops > before[0]:
            took = time.perf_counter() - began
            own, working = took / (flops - before[0]), took - idle * (step - before[1])
            if working > took / 2:  # else it is the small difference of two large numbers
                pace[shape] = working / (flops - before[0])
        running = [spec for spec in stack if spec not in finished]
        left = estimated_seconds(missing, pace) + (_work(running) - sum(spec.flops * done[spec] for spec in running)) * own
        progress.show(f"{len(running)} at update {step:,} of {max(s.steps for s in stack):,}, "
                      f"{count(len(missing), 'run')} to follow, at most {duration(left)} left" + then)
