"""The commands that work on many runs: sweep, status, verify; and the flags that all commands share."""

import argparse
import contextlib
import os
import sys


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage before it, and which does not guess: --stac is no
    --stack."""

    def __init__(self, **how):
        super().__init__(**how, allow_abbrev=False)

    def error(self, message):
        self.exit(2, f"error: {' '.join(message.split())} (see {self.prog} --help)\n")


def add_device(command):
    """The flags --device and --threads."""
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    command.add_argument("--threads", type=int, help="CPU threads to use (default: all cores)")


def set_threads(threads):
    """Load torch, with that many threads. Raises ValueError for a number that will not do."""
    if threads is not None and not 1 <= threads <= 1024:
        raise ValueError(f"--threads {threads} will not do: use 1 or more, up to 1024")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages: read when torch loads
    import torch

    import grok_lib.device  # here already: a container's quota is the default, not the limit
    if threads:
        torch.set_num_threads(threads)


def add_store(command, text):
    """The flag --store."""
    command.add_argument("--store", metavar="FOLDER", help=text)


def check_store(store):
    """Raises ValueError for what cannot be a folder of runs; one that is not there yet can."""
    where = os.path.expanduser(store or "")
    if store is not None and (not store or os.path.lexists(where) and not os.path.isdir(where)):
        raise ValueError(f"--store {store!r} will not do: name a folder")


def add_sweep(commands):
    """`sweep`: train what is missing."""
    sweep = commands.add_parser("sweep", help="train what the figures lack",
                                description="Train the runs that the figures need and the store lacks; "
                                            "each is stored as it ends.")
    _add_campaign(sweep)
    sweep.add_argument("--time-budget", type=float, metavar="SECONDS",
                       help="go on with what was cut off, train what ends in time; if nothing does, a part of a run")
    sweep.add_argument("--stack", type=int, metavar="R", help="runs trained side by side, at most")
    add_device(sweep)
    sweep.set_defaults(do=_sweep)


def _sweep(options):
    for name in ("time_budget", "stack"):
        _at_least_1(name, getattr(options, name))
    specs = [spec for specs in _campaign(options).values() for spec in specs]  # a mistake ends here, before torch loads
    set_threads(options.threads)
    from grok_lib.device import resolve
    from grok_lib.runs import checkpoint, results, store, sweep
    from grok_lib.runs.progress import count
    resolve(options.device)
    trained = sweep.sweep(specs, options.store, options.time_budget, options.device, at_once=options.stack)
    folder, missing = store.folders(options.store)[0], results.to_train(specs, options.store)
    begun = sum(checkpoint.file(folder, spec).exists() for spec in missing)
    if missing and not trained:
        print("none was trained to its end: there was too little time (a run is begun where a minute is left), "
              "or another sweep trains them")
    print(f"{count(len(trained), 'run')} trained and stored in {folder}, {len(missing):,} still missing"
          f"{f', {begun:,} of them begun' if begun else ''}")
    return 0


def add_status(commands):
    """`status`: what is there."""
    status = commands.add_parser("status", help="what the figures have and lack",
                                 description="Runs needed, done and missing, per experiment, "
                                             "and the time that is left at this device's rate.")
    _add_campaign(status)
    status.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    add_device(status)
    status.set_defaults(do=_status)


def _status(options):
    campaign = _campaign(options)
    set_threads(options.threads)
    from grok_lib.device import resolve
    from grok_lib.runs import sweep
    from grok_lib.runs.progress import duration
    resolve(options.device)
    with contextlib.redirect_stdout(sys.stderr):  # what may be said while it measures is no JSON
        rows = sweep.status(campaign, options.store, options.device)
    if options.json:
        import json
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'experiment':16} {'needed':>7} {'done':>6} {'missing':>8} {'run-steps left':>15} {'at most':>12}")
    for row in rows:
        print(f"{row['experiment']:16} {row['needed']:7,} {row['done']:6,} {row['needed'] - row['done']:8,} "
              f"{row['run_steps_left']:15,} "
              f"{'-' if row['seconds_left'] is None else duration(row['seconds_left']):>12}")
    return 0


def _add_campaign(command):
    from grok_lib.paper.experiments import EXPERIMENTS, PROFILES
    command.add_argument("experiments", nargs="*", metavar="EXPERIMENT",
                         help=f"of {', '.join(EXPERIMENTS)} (default: all)")
    command.add_argument("--profile", choices=PROFILES, default="paper", help="scale (default: paper)")
    add_store(command, "folder of the runs (default: build/results, after those shipped)")


def _campaign(options):
    """{experiment: specs} for the names given, or for all of them."""
    from grok_lib.paper import experiments
    check_store(options.store)
    return {name: experiments.runs(name, options.profile) for name in options.experiments or experiments.EXPERIMENTS}


def add_verify(commands):
    """`verify`: is it true?"""
    from grok_lib.tools.verify import UPDATES
    verify = commands.add_parser("verify", help="train stored runs again, and compare",
                                 description=f"Train a random sample of the stored runs again, for {UPDATES} updates, "
                                             "and compare the losses. Exit code 1 if any run disagrees.")
    verify.add_argument("--sample", type=int, default=5, metavar="N", help="runs to train again (default: 5)")
    verify.add_argument("--seed", type=int, help="decides which ones (default: others each time)")
    add_store(verify, "folder of the runs (default: results, those shipped)")
    add_device(verify)
    verify.set_defaults(do=_verify)


def _verify(options):
    _at_least_1("sample", options.sample)
    check_store(options.store)
    set_threads(options.threads)
    from grok_lib import paths
    from grok_lib.device import device_name, resolve
    from grok_lib.tools import verify
    seed = int.from_bytes(os.urandom(2)) if options.seed is None else options.seed
    files = verify.draw(options.store or paths.RESULTS, options.sample, seed)
    print(f"training {len(files)} stored runs again to update {verify.UPDATES} "
          f"on {device_name(resolve(options.device))} (--seed {seed} draws the same)", flush=True)
    checks = verify.check(files, options.device)
    for check in checks:
        print(f"{'DISAGREES' if check.fault else 'agrees':10} {check.file.name:34} {check.fault or check.agreement}")
    agreeing = sum(not check.fault for check in checks)
    print(f"{agreeing} of {len(checks)} agree")
    return 0 if agreeing == len(checks) else 1


def _at_least_1(name, value):
    if value is not None and not value >= 1:  # nor is nan
        raise ValueError(f"--{name.replace('_', '-')} {value} will not do: use 1 or more")
