"""Kill it anywhere: what was stored stays, nothing half-written is read, and a sweep that goes on ends where it would
have."""

import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import campaign
import numpy as np
import pytest
from campaign import SPECS
from effort import LONG, effort

from grok_lib import get_results
from grok_lib.runs import store
from grok_lib.specs import RunSpec

TINY = RunSpec(modulus=7, width=16, heads=2, steps=12)


def ended(program, timeout=120):
    """Exit code, stdout and stderr of a program that was started."""
    said, complained = program.communicate(timeout=timeout)
    return program.returncode, said, complained


def whole(folder):
    """{name: bytes} of the runs in a store; fails if one of them cannot be read."""
    for file in folder.glob("*.npz"):
        store.load(file)
    return {file.name: file.read_bytes() for file in folder.glob("*.npz")}


def assert_same_histories(folder, other):
    for spec in SPECS:
        one, two = store.find(spec, folder), store.find(spec, other)
        assert one.stopped_because == two.stopped_because and one.kept.keys() == two.kept.keys()
        for name in one.CURVES:
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        for name in one.kept:
            np.testing.assert_array_equal(one.kept[name], two.kept[name])


@pytest.fixture(autouse=True)
def no_survivors():
    yield
    campaign.end_all()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(store, seconds to start, seconds to train) of a sweep that nobody killed."""
    folder, began = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    program = campaign.sweep(folder, "--stack", 1)
    program.stdout.readline()
    started = time.monotonic()
    assert ended(program)[0] == 0
    return folder, started - began, time.monotonic() - started


def killed(folder, number, early, after, *flags, **how):
    """Start a sweep, send a signal some seconds after its start, or after it begins to train, and look at the store all
    the while."""
    program = campaign.sweep(folder, *flags, **how)
    first = "" if early else program.stdout.readline()
    until = time.monotonic() + after
    while time.monotonic() < until:
        whole(folder)
    program.send_signal(number)
    return first, *ended(program)


@pytest.mark.parametrize("stack, every", [
    (1, 300), (1, 0), pytest.param(5, 0, marks=pytest.mark.skipif(not LONG, reason="long: see tests/README.md"))])
def test_a_sweep_killed_at_any_moment_has_lost_nothing_and_ends_where_it_would_have(tmp_path, undisturbed, stack,
                                                                                    every):
    """Alone in their stacks the runs are the same to the bit; beside others than before, within 1e-4 over their first
    30 updates.

    `every`: seconds between two writings of what trains, so that a run is cut off before any, and while they are
    written.
    """
    environment = os.environ | {"GROK_EVERY": str(every)}
    aim, to_start, to_train = undisturbed
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, hits, rounds, folder = random.Random(seed), 0, 0, tmp_path / "0"
    signals = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]
    while hits < effort(3, 20):
        number, early, before = signals[hits % 3], LONG and chance.random() < 0.2, whole(folder)
        after = chance.uniform(0, to_start if early else to_train / (3 if stack == 5 else effort(3, 2)))
        first, code, said, complained = killed(folder, number, early, after, "--stack", stack, environment=environment)
        now = whole(folder)
        assert now.items() >= before.items(), "a stored run is gone or changed"
        assert {file.name for file in folder.glob("*")} - now.keys() <= {".lock", ".claims", ".writing", ".running"}
        if "trained and stored" in said:  # it was done before the signal came: the next one begins anew
            rounds += 1
            folder = tmp_path / str(rounds)
            continue
        hits += 1
        print(f"{number.name}, {'training' if first else 'starting'}: exit code {code}, "
              f"{len(before)} runs before, {len(now)} after")
        if number == signal.SIGKILL:
            assert code == -signal.SIGKILL
        elif first:
            assert code == 128 + number and "stopped: what had ended is stored" in complained
            assert "Traceback" not in complained and "Exception" not in complained
    code, said, complained = ended(campaign.sweep(folder, "--stack", stack))
    assert code == 0 and not complained and ", 0 still missing" in said
    assert not list((folder / ".running").glob("*.npz"))
    if stack == 1:
        return assert_same_histories(folder, aim)
    for spec in SPECS:
        one, two = store.find(spec, folder), store.find(spec, aim)
        early = one.step <= 30
        np.testing.assert_allclose(one.train_loss[early], two.train_loss[early], rtol=0, atol=1e-4)


LINE_BY_LINE = """
import os, signal, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from grok_lib.runs import store
from grok_lib.specs import RunSpec
from synthetic import history

SPEC = RunSpec(steps=1000)
short, long = history(SPEC.but(steps=100), steps=(0, 1, 10, 50, 100)), history(SPEC)
kills, stride = 0, int(sys.argv[4])

def saved_but_killed_at(line, folder):
    '''Whether `store.save`, in a process of its own, was killed before that line of it and pathlib, counted as
    they are run.'''
    child = os.fork()
    if child == 0:
        left = [line]
        def trace(frame, event, _):
            if frame.f_code.co_filename != store.__file__ and "pathlib" not in frame.f_code.co_filename:
                return None
            left[0] -= event == "line"
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        warnings.simplefilter("ignore")
        sys.settrace(trace)
        store.save(long, folder)
        sys.settrace(None)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

while True:
    folder = Path(sys.argv[1]) / str(kills)
    file = store.save(short, folder)
    if sys.argv[3] == "broken":
        file.write_bytes(b"damage")
    if not saved_but_killed_at(kills, folder):
        break
    kills += stride
    pieces = [p for p in folder.iterdir() if p.name not in (".lock", ".writing", file.name)]
    if sys.argv[3] == "broken":
        assert pieces or file.read_bytes() == b"damage", "the damage is lost"
        assert not file.exists() or file.read_bytes() == b"damage" or store.load(file).last_step == 1000
        warnings.simplefilter("ignore")
    else:
        assert store.load(file).last_step in (100, 1000) and not pieces
    store.save(long, folder)
    assert store.load(file).last_step == 1000
print(kills)
"""


@pytest.mark.parametrize("before", ["whole", "broken"])
def test_saving_killed_before_any_of_its_lines_leaves_the_old_file_or_the_new_one(tmp_path, before):
    done = subprocess.run([sys.executable, "-c", LINE_BY_LINE, tmp_path, os.path.dirname(__file__), before,
                           str(effort(10, 1))], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40, "fewer lines than there are"


def test_the_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_the_run_is_said_to_be_done(
        tmp_path, monkeypatch):
    """Power cuts cannot be had here; the order of the calls can."""
    from synthetic import history
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (
        calls.append("folder" if stat.S_ISDIR(os.fstat(f).st_mode) else "file"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("named"), replace(a, b)))
    store.save(history(), tmp_path)
    assert calls == ["file", "named", "folder"]


def together(tmp_path, number, *flags):
    """Sweeps of one store that begin at the same moment."""
    environment = os.environ | {"GROK_TOGETHER": str(tmp_path)}
    programs = [campaign.sweep(tmp_path / "runs", *flags, environment=environment) for _ in range(number)]
    while len(list(tmp_path.glob("ready-*"))) < number:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    return programs


def trained(said):
    return int(said.splitlines()[-1].split(" run")[0])


def test_two_sweeps_at_once_split_the_work_and_train_each_run_once(tmp_path, undisturbed):
    done = [ended(program) for program in together(tmp_path, effort(2, 4), "--stack", 1)]
    assert all(code == 0 and not complained for code, _, complained in done)
    shares = [trained(said) for _, said, _ in done]
    assert sum(shares) == len(SPECS) and min(shares) > 0, shares
    whole(tmp_path / "runs")
    assert_same_histories(tmp_path / "runs", undisturbed[0])
    assert not list((tmp_path / "runs" / ".claims").iterdir())


def test_a_killed_sweep_trained_in_vain_no_more_than_the_stack_in_flight_and_the_next_one_trains_that(tmp_path):
    one, two = together(tmp_path, 2, "--stack", 2)
    one.stdout.readline()
    one.send_signal(signal.SIGSTOP)  # in the middle of its first stack
    code, said, _ = ended(two)
    claims = tmp_path / "runs" / ".claims"
    in_flight = len(list(claims.iterdir()))
    assert code == 0 and in_flight in (1, 2) and trained(said) == len(SPECS) - in_flight
    one.kill()
    ended(one)
    code, said, _ = ended(campaign.sweep(tmp_path / "runs"))
    assert code == 0 and ", 0 still missing" in said and trained(said) == in_flight
    assert not list(claims.iterdir())


REFUSED = []  # what the hook below has stopped
BLOCKED = threading.Event()


def _refuse(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__" and BLOCKED.is_set():
        REFUSED.append(event)
        raise OSError(f"{event} {arguments}: there is no network in this test")


@pytest.fixture
def no_network():
    sys.addaudithook(_refuse)  # sees every call of Python's to the system's sockets; hooks stay, so it is switched
    BLOCKED.set()
    yield
    BLOCKED.clear()
    REFUSED.clear()


def test_nothing_that_trains_loads_or_draws_asks_for_the_network(no_network, tmp_path, capsys):
    from grok_lib.__main__ import main
    from grok_lib.paper import figures
    get_results([TINY], tmp_path, time_budget=None)
    assert main(["run", "--modulus", "7", "--width", "16", "--steps", "12", "--seed", "1",
                 "--store", str(tmp_path)]) == 0
    assert main(["verify", "--store", str(tmp_path), "--sample", "1"]) == 0
    assert main(["sweep", "start_here", "--profile", "smoke", "--time-budget", "1", "--store", str(tmp_path)]) == 0
    assert figures and not REFUSED
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("127.0.0.1", 9))
    assert REFUSED
