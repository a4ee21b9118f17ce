"""The command line: `python -m grok_lib run --help`."""

import argparse
import contextlib
import dataclasses
import signal
import sys
import warnings

try:
    from grok_lib.operations import FIELD, GROUP
    from grok_lib.runs.progress import end_as_ctrl_c_does
    from grok_lib.tools.commands import (Parser, add_device, add_status, add_store, add_sweep, add_verify, check_store,
                                         set_threads)
except ModuleNotFoundError as error:  # another Python than that of .venv
    sys.exit(f"error: {error.name} is not installed for {sys.executable}: "
             "call ./run_all.sh --setup once, then .venv/bin/python -m grok_lib")

EXAMPLES = """examples:
  python -m grok_lib run                                    x+y at 50%, the paper's settings, 3,000 updates
  python -m grok_lib run --operation "x/y" --train-fraction 0.4 --steps 20000
  python -m grok_lib run --operation "xy in S5" --weight-decay 0 --seed 3 --steps 100000
  python -m grok_lib run --operation "x-y" --steps 10000 --until solved    stop once validation is at 100%
"""

# The fields of RunSpec that are flags under their own name, and what they are; of the others only `stop` has a flag,
# --until, below.
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
    "batch_size": "equations per update; without it the paper's min(512, half the training set)",
    "full_batch": "all training equations in every update",
    "dropout": "after each block's MLP",
    "update_noise": "standard deviation of noise added to Adam's normalised update",
    "weight_noise": "standard deviation of noise added to the weights in each forward pass",
    "precision": "fp32, tf32 (on GPUs that have it) or float64",
    "positions": "sinusoidal, learned or none",
    "norm": "post or pre: where LayerNorm stands",
    "activation": "relu or gelu",
    "biases": "in every linear layer",
    "embedding_scale": "standard deviation of the initial embedding",
    "eos": "the authors' sequence, with an <eos> at both ends and in the loss, and their 239 tokens",
    "short_last_batch": "what an epoch leaves over is a batch of its own, as in the authors' code",
    "decay_by": "weights or gradient: decoupled, or an L2 penalty",
    "loss_precision": "own or float64, for softmax and cross-entropy alone",
    "steps": "updates",
}


def main(arguments=None):
    """Runs a command; returns its exit code. Mistakes are one line on stderr, exit code 2."""
    try:
        options, unknown = _parser().parse_known_args(arguments)
        if unknown:  # argparse itself would name the help of all commands, which has no flags
            Parser(prog=f"python -m grok_lib {options.command}").error(f"unrecognized arguments: {' '.join(unknown)}")
        return options.do(options)
    except (ValueError, OSError, MemoryError) as error:
        print(f"error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # PyTorch's, of which one kind is the machine's size and no fault of ours
        from grok_lib.device import out_of_memory
        if not out_of_memory(error):
            raise
        print("error: out of memory: use a smaller --stack, or another device", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("\nstopped: what had ended is stored; a sweep's other runs go on where it put them down, "
              "one run alone is kept as far as it had come", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)


def _parser():
    parser = Parser(prog="python -m grok_lib", description="Train the paper's runs.",
                    epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    add_sweep(commands)
    add_status(commands)
    add_verify(commands)
    _add_bench(commands)
    return parser


def _add_run(commands):
    run = commands.add_parser("run", help="train one run, live", epilog=EXAMPLES,
                              description="Train one run, live, and store it.",
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
    add_device(run)
    add_store(run, "folder to store the run in (default: build/results)")
    run.set_defaults(do=_run)


def _run(options):
    from grok_lib.specs import RunSpec
    # A mistake ends here, before torch loads
    spec = RunSpec(**{name: getattr(options, name) for name in (*FLAGS, "stop")})
    check_store(options.store)
    set_threads(options.threads)
    from grok_lib.device import resolve
    from grok_lib.paper import analysis
    from grok_lib.runs import store, sweep
    resolve(options.device)
    with contextlib.closing(sweep.watch(spec, options.store, options.device)) as live:
        history = _follow(spec, live)
    print(analysis.describe(history))
    print(f"stopped at update {history.last_step:,} ({history.stopped_because}) after "
          f"{history.provenance['seconds']:.0f} s on {history.provenance['device']}")
    folder = store.folders(options.store)[0]
    files = store.path(folder, spec), store.path(folder, spec, history.last_step, alone=False)
    file = next((file for file in files
                 if (there := store.read(file)) and there.provenance == history.provenance), None)
    print(f"stored as {file}" if file else f"not stored: {files[0]} answers for this run already")
    return 0


def _add_bench(commands):
    bench = commands.add_parser("bench", help="the engine's speed against a textbook loop",
                                description="The engine against a textbook loop and the device's own matmul rate, "
                                            "in one process.")
    bench.add_argument("--stack", help="stack sizes, such as 1,8,64 (default: 1,8; on a GPU 1,8,64,256)")
    bench.add_argument("--json", help="file to write the rows to as well")
    add_device(bench)
    bench.set_defaults(do=_bench)


def _bench(options):
    try:
        stacks = options.stack and [int(size) for size in options.stack.split(",")]
    except ValueError:
        stacks = [0]
    if options.stack is not None and min(stacks or [0]) < 1:
        raise ValueError(f"--stack {options.stack} will not do: use whole numbers such as 1,8,64")
    set_threads(options.threads)
    import json
    from pathlib import Path

    try:
        if options.json is not None:
            Path(options.json).open("a").close()
    except OSError as error:
        raise ValueError(f"--json {options.json!r} will not do ({error.strerror}): "
                         "name a file that can be written") from None
    from grok_lib import device
    from grok_lib.tools import bench
    print(f"{device.device_name(device.resolve(options.device))}; x+y, 50%, medians of {bench.WINDOWS} windows")
    print(bench.HEADER)
    rows = []

    def report(row):
        print(bench.line(row), flush=True)
        rows.append(dataclasses.asdict(row))
        if options.json:  # each as it comes: the device may be taken away
            Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    bench.measure(stacks, options.device, report)
    return 0


def _follow(spec, live):
    """Follow a run to its end, saying where it is; returns its history."""
    import time

    from grok_lib.operations import operation
    from grok_lib.runs.progress import Progress, duration
    label = operation(spec.operation, spec.modulus).label
    print(f"{label}: {spec.train_size:,} of {spec.equations:,} equations to train on, "
          f"batches of {spec.batch}, seed {spec.seed}")
    began, first = None, 0
    with Progress("training") as progress:
        for step, (history,) in live:
            if not first:  # not timed: the updates up to here may have had to be compiled
                began, first = time.perf_counter(), step
            rate = (step - first) / max(time.perf_counter() - began, 1e-9)
            left = f"{rate:.0f} updates/s, {duration((spec.steps - step) / rate)} left" if step > first else "starting"
            progress.show(f"update {step:,} of {spec.steps:,}, {left}, "
                          f"accuracy: train {history.train_accuracy[-1]:.1%}, "
                          f"validation {history.val_accuracy[-1]:.1%}", now=step == spec.steps)
    return history


if __name__ == "__main__":
    end_as_ctrl_c_does()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # a terminal without µ loses nothing else
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    sys.exit(main())
