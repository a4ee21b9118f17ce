"""What a long job says of itself, and how it is told to stop."""

import contextlib
import io
import os
import signal
import threading

import pytest

from grok_lib.runs import progress
from grok_lib.runs.progress import Progress, put_off

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def handlers():
    before = [signal.getsignal(number) for number in SIGNALS]
    yield lambda *new: [signal.signal(number, handler) for number, handler in zip(SIGNALS, new)]
    for number, handler in zip(SIGNALS, before):
        signal.signal(number, handler)


def test_a_log_gets_a_line_in_ten_seconds_and_what_is_new_at_once(clock):
    with Progress("training", log := io.StringIO()) as line:
        for seconds, urgent in ((0, False), (5, False), (6, True), (11, False), (17, False)):
            clock[0] = 100 + seconds
            line.show(f"after {seconds} s", now=urgent)
    assert log.getvalue().splitlines() == [f"training: after {seconds} s" for seconds in (0, 6, 17)]


def test_a_terminals_line_is_rewritten_never_wraps_and_ends_when_the_work_does(clock, monkeypatch):
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((30, 10)))
    with Progress("training", terminal := Terminal()) as line:
        for seconds, text in ((0, "a text that is far too long for this terminal"), (0.5, "too soon"), (2, "short")):
            clock[0] = 100 + seconds
            line.show(text)
    first, second = terminal.getvalue().rstrip("\n").split("\r")[1:]
    assert len(first) == len(second) == 29 and second.rstrip() == "training: short"  # and none of the first is left
    assert terminal.getvalue().endswith("\n")


def test_work_goes_on_where_nothing_can_be_shown():
    """A log on a disk that is full, a pipe whose reader has gone, a program started without stdout."""
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # closing it fails
        with Progress("training", full) as line:
            line.show("update 1", now=True)
    with contextlib.redirect_stdout(None), Progress("training") as line:
        line.show("update 1", now=True)


def test_a_notebook_keeps_nothing_of_it(monkeypatch):
    shown = []
    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    display = pytest.importorskip("IPython.display")
    handle = type("Handle", (), {"update": lambda self, what: shown.append(what.data)})()
    monkeypatch.setattr(display, "display", lambda what, display_id: shown.append(what.data) or handle)
    with Progress("training") as line:
        line.show("at update 5")
    assert shown == ["training", "training: at update 5", ""]


def test_a_first_signal_waits_and_a_second_does_not_and_one_that_is_ignored_stays_ignored(handlers, capfd):
    handlers(signal.default_int_handler, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt), put_off() as stops:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stops
        os.kill(os.getpid(), signal.SIGINT)
        assert stops == [signal.SIGINT] and "once more stops at once" in capfd.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it waited")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_program_has_chosen_to_do_at_a_signal_is_done_only_later(handlers):
    def leave(number, _):
        raise SystemExit(128 + number)
    handlers(lambda *_: None, leave)
    with pytest.raises(SystemExit, match="143"), put_off() as stops:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stops == [signal.SIGTERM]
    with pytest.raises(KeyboardInterrupt), put_off():  # its work was broken off, so this is no way to go on
        os.kill(os.getpid(), signal.SIGINT)


def test_a_thread_which_no_signal_reaches_works_as_well():
    done = []

    def work():
        with put_off() as stops:
            done.append(list(stops))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert done == [[]]


def test_times_and_counts_are_in_words():
    assert [progress.duration(seconds) for seconds in (40.4, 200, 7500)] == ["40 s", "3 min 20 s", "2 h 05 min"]
    assert [progress.count(number, "run") for number in (1, 2, 1750)] == ["1 run", "2 runs", "1,750 runs"]
