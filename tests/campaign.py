"""`python -m grok_lib` with one more experiment, "tiny", for tests that start real sweeps and kill them.

As a module it has the runs and a function that starts the program; as a program it is the command line itself.
"""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

from grok_lib.paper import experiments
from grok_lib.runs import checkpoint
from grok_lib.specs import RunSpec

SPECS = [RunSpec(modulus=7, width=16, heads=2, seed=seed, steps=70 - 20 * (seed % 3), **more)
         for seed in range(5) for more in ({}, {"operation": "x*y", "weight_noise": 0.01, "keep": ("output",)})]

STARTED = []


def start(*arguments, environment=None, cwd=None, before=()):
    """The program, started; `before`: a command that runs it, such as unshare."""
    command = [*before, sys.executable, __file__, *map(str, arguments)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                               cwd=cwd)
    STARTED.append(program)
    return program


def end_all():
    """End what a test that failed has left running, or stopped."""
    while STARTED:
        with STARTED.pop() as program:
            program.kill()


def sweep(store, *flags, **how):
    """A sweep of the tiny runs into a store, started."""
    return start("sweep", "tiny", "--store", store, "--device", "cpu", "--threads", 1, *flags, **how)


def wait_for_the_signal(folder):
    """Loads what takes long to load, then waits until the file `go` is there: so that two programs begin together."""
    import grok_lib.training  # noqa: F401
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is off where tests run in the background
    experiments.EXPERIMENTS["tiny"] = experiments.Experiment("-", "-", lambda profile: SPECS)
    checkpoint.EVERY = float(os.environ.get("GROK_EVERY", checkpoint.EVERY))
    if "GROK_TOGETHER" in os.environ:
        wait_for_the_signal(Path(os.environ["GROK_TOGETHER"]))
    runpy.run_module("grok_lib", run_name="__main__", alter_sys=True)
