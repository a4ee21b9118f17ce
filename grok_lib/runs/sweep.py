"""From specs to histories: `get_results`, the one door for notebooks, and `sweep`, the campaign behind it.

What the store has is loaded, what is missing is trained in stacks, and each run is stored as it ends.
"""

import contextlib
import dataclasses
import fcntl
import os
import time
import warnings
from pathlib import Path

from grok_lib.runs import checkpoint
from grok_lib.runs import store as store_
from grok_lib.runs.estimate import compiling, estimated_seconds, most_of, possible, rates, seconds_an_update
from grok_lib.runs.progress import Progress, count, duration, put_off
from grok_lib.runs.results import stored, tally, to_train
from grok_lib.specs import RunSpec


def get_results(specs, store=None, time_budget=60.0, device="auto"):
    """Histories of `specs`, as `Results`: loaded from the store, and what is missing trained where that fits the time.

    `store`: a folder; None reads this checkout's own runs (`build/results`) and the shipped ones (`results`), and
    writes to the former. `time_budget`: seconds of training that the caller accepts, None for no limit. If the missing
    runs would take longer, nothing is trained: the estimate is printed, and the result says so (`coverage`). Runs are
    stored as they end, and one that was cut off goes on at the next call.
    """
    specs = list(specs)
    missing = possible(to_train(specs, store), device)
    if missing:
        pace = rates(missing, device)
        estimate = estimated_seconds(missing, pace)
        if time_budget is not None and estimate > time_budget:
            print(f"left out: {count(len(missing), 'run')} not in the store, about {duration(estimate)} of training "
                  f"here (accepted: {duration(time_budget)}). To train them, raise time_budget.")
        else:
            sweep(missing, store, None, device, pace)
    return stored(specs, store)


def watch(spec, store=None, device="auto"):
    """Train one run live, from its start whether stored or not: yields (step, [history]), and stores the end: where it
    is stopped, that of a shorter run."""
    from grok_lib import training  # torch is loaded only where something is to be trained

    folder, history = store_.writable(store), None
    try:
        for step, histories in training.stream([spec], device):
            history = histories[0]
            if history.stopped_because != "running":
                store_.save(history, folder)
            yield step, histories
    except (MemoryError, RuntimeError) as error:
        training.half_or_raise([spec], error)
    finally:
        if history and history.stopped_because == "running" and history.last_step:
            shorter = spec.but(steps=history.last_step, stop="budget", keep=())
            store_.save(dataclasses.replace(history, spec=shorter, stopped_because="budget", kept={}, state={}), folder)


def sweep(specs, store=None, time_budget=None, device="auto", pace=None, at_once=None):
    """Train and store what the store lacks of `specs`, first what was cut off, then the rest in order, and return that.

    `time_budget`: seconds, None for no limit; a stack that would not end in time, at the speed seen so far, is not
    begun. Where none would, and a minute is left besides compiling, the first one is begun. What was cut off goes on,
    in this sweep or the next, if there is that minute.
    `pace`: `rates` that a caller has measured already. `at_once`: runs in a stack, at most; None for the device's own.
    A stack for which memory does not suffice is halved, and those like it after it are no larger. Several sweeps of one
    store on one machine share the work: each claims what it trains, and a claim ends with its process.
    """
    from grok_lib import training

    ends = time.perf_counter() + (float("inf") if time_budget is None else time_budget)
    folder, missing = store_.folders(store)[0], to_train(specs, store)
    # Stored since it was cut off, or before it could be forgotten; or not, but another answers for it
    for spec in {*specs} - {*missing}:
        if checkpoint.file(folder, spec).exists() and store_.find(spec, store):
            checkpoint.drop(spec, folder)
    done = {spec: history.state.get("update", 0) for spec in missing if (history := checkpoint.load(spec, folder))}
    missing = sorted(possible(missing, device), key=lambda spec: spec not in done)  # what was begun goes first
    if not missing:
        return []
    for spec in missing:  # all of them, before the first is trained
        training.check(spec, device)
    folder, finished, plan = store_.writable(store), {}, _plan(missing, device, pace, at_once)
    with Progress(f"training {count(len(missing), 'run')}") as progress:
        while stack := _next(missing, done, ends - time.perf_counter(), plan):
            # Before they are claimed: the others are free for whoever comes
            stack = list(checkpoint.together(stack, folder))
            missing = [spec for spec in missing if spec not in stack]
            with _claimed(stack, store) as mine, put_off() as stops:
                # Once more: another process may have trained one of them meanwhile
                begun = checkpoint.together(mine, folder)
                missing, mine = [spec for spec in mine if spec not in begun] + missing, list(begun)
                try:
                    if mine:
                        _train(begun, ends, folder, plan, finished, missing, progress, stops)
                except (MemoryError, RuntimeError) as error:
                    plan.most[training.shape(mine[0])] = training.half_or_raise(mine, error)
                    warnings.warn(f"out of memory with {len(mine)} runs at once: going on with {len(mine) // 2}",
                                  stacklevel=2)
                    missing = [spec for spec in mine if spec not in finished] + missing
    return list(finished.values())


def status(experiments, store=None, device="auto"):
    """A list of {experiment, needed, done, run_steps_left, seconds_left}, and a last one named "all".

    `experiments`: {name: specs}. A run that several experiments need is counted by each, and once in "all". Run-steps
    as in `results.tally`; seconds at the rate that this device shows on a few updates, None where it can train none.
    """
    experiments = experiments | {"all": [spec for specs in experiments.values() for spec in specs]}
    missing = {name: to_train(specs, store) for name, specs in experiments.items()}
    measured = possible(missing["all"], device, say=False)
    pace = rates(measured, device, compiled=True) if measured else {}
    seconds = {name: estimated_seconds(specs, pace) for name, specs in missing.items()}
    return [{"experiment": name} | tally(specs, store, missing[name])
            | {"seconds_left": seconds[name] and round(seconds[name])} for name, specs in experiments.items()]


@dataclasses.dataclass
class _Plan:
    """What a device can do in a time: how fast, and how much of it at once."""

    device: str
    pace: dict  # {shape: seconds per FLOP}
    overhead: float  # seconds that an update takes besides its work, however small the stack
    most: dict  # {shape: runs in a stack, at most}

    def seconds(self, stack, done):
        """What this stack would take to its end, compiling included; `done`: {spec: updates that it has already}."""
        from grok_lib import training

        updates = {spec: spec.steps - done.get(spec, 0) for spec in stack}
        work = sum(spec.flops * more for spec, more in updates.items())
        return (compiling(stack, self.device) + work * self.pace[training.shape(stack[0])]
                + max(updates.values()) * self.overhead)

    def next_stack(self, missing, done, left):
        """The first missing run that ends in the seconds `left`, and those that still do beside it; [] for none."""
        from grok_lib import training

        for first in missing:
            if self.seconds([first], done) > left:
                continue
            shape, stack = training.shape(first), [first]
            for spec in missing:
                if len(stack) == self.most[shape]:
                    break
                if spec != first and training.shape(spec) == shape and self.seconds([*stack, spec], done) <= left:
                    stack.append(spec)
            return stack
        return []


def _plan(missing, device, pace, at_once):
    pace, most = {**pace} if pace else rates(missing, device, at_once, compiled=True), most_of(missing, device, at_once)
    alone = seconds_an_update(device, max(spec.steps for spec in missing))
    return _Plan(device, pace, max(0.0, alone - min(pace.values()) * RunSpec().flops), most)


def _next(missing, done, left, plan):
    """The runs to train next, with the seconds that are left, for `sweep`'s promise; [] for none."""
    if not missing or left <= 0:
        return []
    stack = plan.next_stack(missing, done, 0.95 * left)  # planned with a little to spare
    if missing[0] in done or not stack:
        part = plan.next_stack(missing, done, float("inf"))
        if left >= checkpoint.WORTH + compiling(part, plan.device):
            return part
    return stack


@contextlib.contextmanager
def _claimed(specs, store):
    """Those of the specs that no other process is training or has just stored; they are ours inside the block."""
    folder = store_.folders(store)[0] / ".claims"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as claims:
        mine = []
        for spec in specs:
            file = claims.enter_context(
                open(folder / f"{spec.key}-{spec.steps}-{spec.stop}-{store_.names(spec.keep)}", "w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when its process dies
            except BlockingIOError:
                continue
            # Else its owner removed it just now, and a third process may hold a new one
            if os.fstat(file.fileno()).st_nlink:
                claims.callback(Path(file.name).unlink, missing_ok=True)
                if store_.find(spec, store) is None:
                    mine.append(spec)
        yield mine


def _train(begun, until, folder, plan, finished, missing, progress, stops):
    """Train one stack, {spec: its history so far, or None}, to time `until` or until something is in `stops`, storing
    each run as it ends and saving all every few minutes, and at the end. The plan learns how fast it went."""
    from grok_lib import training

    stack, written = list(begun), time.perf_counter()
    done, meter = dict.fromkeys(stack, 0), _Meter(plan, training.shape(stack[0]))
    then = ", then its sharpness, which takes a while" if any("sharpness" in spec.keep for spec in stack) else ""
    if compiling(stack, plan.device):
        progress.show(f"compiling for {count(len(stack), 'run')}, which at first takes half a minute or more", now=True)
    for step, histories in training.stream(stack, plan.device, begun=[*filter(None, begun.values())]):
        for history in histories:
            if history.spec not in finished:
                done[history.spec] = step
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
        meter.look(step, sum(spec.flops * steps for spec, steps in done.items()))
        running = [spec for spec in stack if spec not in finished]
        seconds = (estimated_seconds(missing, plan.pace)
                   + sum(spec.flops * (spec.steps - done[spec]) for spec in running) * meter.rate)
        progress.show(f"{len(running)} at update {step:,} of {max(spec.steps for spec in stack):,}, "
                      f"{count(len(missing), 'run')} to follow, at most {duration(seconds)} left" + then)


class _Meter:
    """How fast a stack goes, and what that says of those to come."""

    def __init__(self, plan, shape):
        self.plan, self.shape = plan, shape
        self.rate = plan.pace[shape]  # seconds that a FLOP takes in this stack, with all that its updates take besides
        self.since = None

    def look(self, step, flops):
        """After `step` updates, `flops` of work over all runs: the first updates may have to be compiled, and are
        evaluated often, so they tell nothing."""
        now = time.perf_counter()
        if self.since is None or step <= 100:
            self.since = now, step, flops
            return
        took, updates, work = now - self.since[0], step - self.since[1], flops - self.since[2]
        if work > 0:
            self.rate, working = took / work, took - self.plan.overhead * updates
            if working > took / 2:  # else it is the small difference of two large numbers
                self.plan.pace[self.shape] = working / work
