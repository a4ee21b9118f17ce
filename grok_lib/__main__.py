"""The command line: `python -m grok_lib run --help`."""

import argparse
import dataclasses
import os
import sys

from grok_lib.operations import FIELD, GROUP

EXAMPLES = """examples:
  python -m grok_lib run                                    x+y at 50 %, the paper's settings, 3,000 updates
  python -m grok_lib run --operation "x/y" --train-fraction 0.4 --steps 20000
  python -m grok_lib run --operation "xy in S5" --weight-decay 0 --seed 3 --steps 100000
  python -m grok_lib run --operation "x-y" --steps 10000 --until solved    stop once validation is at 100 %
"""

# The fields of RunSpec that are flags under their own name, and what they are; the others have flags of their own below.
FLAGS = {
    "operation": "one of: " + ", ".join((*FIELD, *GROUP)),
    "modulus": "number of elements, for all operations but those in S5",
    "train_fraction": "share of the table that is trained on, in (0, 1)",
    "outliers": "training equations that get the answer of another one",
    "seed": "decides split, initial weights, order and noise",
    "width": "width of the model",
    "learning_rate": "",
    "weight_decay": "decoupled, as in AdamW; 0 is plain Adam",
    "decay_to": "origin or init: what the weights decay towards",
    "batch_size": "equations an update; None is the paper's min(512, half the training set)",
    "full_batch": "all training equations in every update",
    "dropout": "after each block's MLP",
    "update_noise": "standard deviation of noise added to Adam's normalised update",
    "weight_noise": "standard deviation of noise added to the weights in each forward pass",
    "precision": "fp32, tf32 (on GPUs that have it) or float64",
    "steps": "updates",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage before it."""

    def error(self, message):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def main(arguments=None):
    """Runs a command; returns its exit code. Mistakes are one line on stderr, exit code 2."""
    parser = Parser(prog="python -m grok_lib", description="Train the paper's runs.",
                    epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_sweep(commands)
    _add_status(commands)
    _add_bench(commands)
    options = parser.parse_args(arguments)
    try:
        return options.do(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: what was not finished is not stored", file=sys.stderr)
        return 130


def _add_run(commands):
    run = commands.add_parser("run", help="train one run, live", epilog=EXAMPLES, description="Train one run, live, and store it.",
                              formatter_class=argparse.RawDescriptionHelpFormatter)
    from grok_lib.specs import RunSpec
    for field in dataclasses.fields(RunSpec):
        if field.name in FLAGS:
            default = 3000 if field.name == "steps" else field.default
            text = f"{FLAGS[field.name]} (default: {default})".strip()
            if field.type is bool:
                kind = {"action": "store_true"}
            else:
                kind = {"type": int if field.type == int | None else field.type, "metavar": field.name.upper()}
            run.add_argument(f"--{field.name.replace('_', '-')}", default=default, help=text, **kind)
    run.add_argument("--until", dest="stop", choices=("budget", "solved"), default="budget",
                     help="train for all --steps, or stop when solved (default: budget)")
    _add_device(run)
    run.add_argument("--store", help="folder to store the run in (default: build/results)")
    run.set_defaults(do=_run)


def _add_device(command):
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    command.add_argument("--threads", type=int, help="CPU threads to use (default: all cores)")


def _set_threads(threads):
    if threads is not None and threads < 1:
        raise ValueError(f"--threads {threads} will not do: use 1 or more")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages: read when torch loads
    import torch
    if threads:
        torch.set_num_threads(threads)


def _run(options):
    from grok_lib.specs import RunSpec
    spec = RunSpec(**{name: getattr(options, name) for name in (*FLAGS, "stop")})  # a mistake ends here, before torch loads
    _set_threads(options.threads)
    from grok_lib import analysis, store, sweep
    from grok_lib.device import resolve
    folder = store.folders(options.store)[0]
    folder.mkdir(parents=True, exist_ok=True)  # finds out now whether it may write there
    resolve(options.device)  # and whether there is such a device
    history = _follow(spec, sweep.watch(spec, options.store, options.device))
    print(analysis.describe(history))
    print(f"stopped at update {history.last_step:,} ({history.stopped_because}) after "
          f"{history.provenance['seconds']:.0f} s on {history.provenance['device']}")
    print(f"stored as {store.path(folder, spec)}")
    return 0


def _add_campaign(command):
    from grok_lib.experiments import EXPERIMENTS, PROFILES
    command.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=f"of {', '.join(EXPERIMENTS)} (default: all)")
    command.add_argument("--profile", choices=[p for p in PROFILES if p != "best"], default="paper", help="scale (default: paper)")
    command.add_argument("--store", help="folder of the runs (default: build/results, after those shipped)")


def _campaign(options):
    """{experiment: specs} for the names given, or for all of them."""
    from grok_lib import experiments
    return {name: experiments.runs(name, options.profile) for name in options.experiments or experiments.EXPERIMENTS}


def _add_sweep(commands):
    sweep = commands.add_parser("sweep", help="train what the figures lack",
                                description="Train the runs that the figures need and the store lacks; each is stored as it ends.")
    _add_campaign(sweep)
    sweep.add_argument("--time-budget", type=float, metavar="SECONDS", help="begin nothing that would not end in time")
    sweep.add_argument("--stack", type=int, metavar="R", help="runs trained side by side, at most")
    _add_device(sweep)
    sweep.set_defaults(do=_sweep)


def _sweep(options):
    for name in ("time_budget", "stack"):
        value = getattr(options, name)
        if value is not None and not value >= 1:
            raise ValueError(f"--{name.replace('_', '-')} {value} will not do: use 1 or more")
    campaign = _campaign(options)  # a mistake ends here, before torch loads
    _set_threads(options.threads)
    from grok_lib import store, sweep
    from grok_lib.device import resolve
    from grok_lib.progress import count
    store.folders(options.store)[0].mkdir(parents=True, exist_ok=True)  # finds out now whether it may write there
    resolve(options.device)
    specs = [spec for specs in campaign.values() for spec in specs]
    trained = sweep.sweep(specs, options.store, options.time_budget, options.device, at_once=options.stack)
    print(f"{count(len(trained), 'run')} trained and stored, {len(sweep.to_train(specs, options.store)):,} still missing")
    return 0


def _add_status(commands):
    status = commands.add_parser("status", help="what the figures have and lack",
                                 description="Runs needed, done and missing, per experiment, and the time that is left at this device's rate.")
    _add_campaign(status)
    status.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    _add_device(status)
    status.set_defaults(do=_status)


def _status(options):
    campaign = _campaign(options)
    _set_threads(options.threads)
    from grok_lib import sweep
    from grok_lib.progress import duration
    rows = sweep.status(campaign, options.store, options.device)
    if options.json:
        import json
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'experiment':16} {'needed':>7} {'done':>6} {'run-steps left':>15} {'at most':>12}")
    for row in rows:
        print(f"{row['experiment']:16} {row['needed']:7,} {row['done']:6,} {row['run_steps_left']:15,} {duration(row['seconds_left']):>12}")
    return 0


def _add_bench(commands):
    bench = commands.add_parser("bench", help="the engine's speed against a textbook loop",
                                description="The engine against a textbook loop and the device's own matmul rate, in one process.")
    bench.add_argument("--stack", default="1,8", help="stack sizes, such as 1,8,64 (default: 1,8)")
    bench.add_argument("--json", help="file to write the rows to as well")
    _add_device(bench)
    bench.set_defaults(do=_bench)


def _bench(options):
    try:
        stacks = [int(size) for size in options.stack.split(",")]
    except ValueError:
        stacks = [0]
    if min(stacks) < 1:
        raise ValueError(f"--stack {options.stack} will not do: use whole numbers such as 1,8,64")
    _set_threads(options.threads)
    import json
    from pathlib import Path

    from grok_lib import bench, device
    print(f"{device.device_name(device.resolve(options.device))}; x+y, 50 %, fp32, medians of {bench.WINDOWS} windows")
    print(bench.HEADER)
    rows = bench.measure(stacks, options.device, report=lambda row: print(bench.line(row), flush=True))
    if options.json:
        Path(options.json).write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    return 0


def _follow(spec, live):
    """Follow a run to its end, saying where it is; returns its history."""
    import time

    from grok_lib.operations import operation
    from grok_lib.progress import Progress, duration
    label = operation(spec.operation, spec.modulus).label
    print(f"{label}: {spec.train_size:,} of {spec.equations:,} equations to train on, batches of {spec.batch}, seed {spec.seed}")
    began = None
    with Progress("training") as progress:
        for step, (history,) in live:
            began = began or time.perf_counter()  # the first yield is the evaluation before any update
            rate = step / max(time.perf_counter() - began, 1e-9)
            left = f"{rate:.0f} updates/s, {duration((spec.steps - step) / rate)} left" if step else "starting"
            progress.show(f"update {step:,} of {spec.steps:,}, {left}, accuracy: train {history.train_accuracy[-1]:.1%}, "
                          f"validation {history.val_accuracy[-1]:.1%}", now=step == spec.steps)
    return history


if __name__ == "__main__":
    sys.exit(main())
