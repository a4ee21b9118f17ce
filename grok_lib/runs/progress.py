"""Saying how far a long job is: on a terminal, in a notebook, or in a log, without flooding any of them."""

import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import time


ENDS = signal.SIGTERM, signal.SIGHUP  # what a machine that is taken away sends first, and a terminal that goes


def duration(seconds):
    """'40 s', '3 min 20 s', '2 h 05 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def count(number, thing):
    """'1 run', '2 runs', '1,750 runs'."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


class Progress:
    """One line that is rewritten at most once a second; plain lines, one in ten seconds, where it cannot be.

    In a notebook the line is gone when the work is done: nothing of it is left in the saved outputs.
    """

    def __init__(self, title, file=None):
        self.title, self.file = title, file or sys.stdout or io.StringIO()  # a program may have been started without
        self.notebook = file is None and _in_notebook()
        self.terminal = not self.notebook and self.file.isatty()
        self.shown, self.width = float("-inf"), 0

    def __enter__(self):
        if self.notebook:
            from IPython.display import Markdown, display
            self.handle = display(Markdown(self.title), display_id=True)
        return self

    def show(self, text, now=False):
        """Show where the work stands, unless that was just shown. Where it cannot be shown, as on a full disk, the work
        goes on."""
        if time.monotonic() - self.shown < (1 if self.notebook or self.terminal else 10) and not now:
            return
        self.shown, line = time.monotonic(), f"{self.title}: {text}"
        if self.notebook:
            from IPython.display import Markdown
            self.handle.update(Markdown(line))
        elif self.terminal:
            line = line[:shutil.get_terminal_size().columns - 1]  # a line that wraps could not be rewritten
            self._print(f"\r{line.ljust(self.width)}", end="")
            self.width = len(line)
        else:
            self._print(line)

    def _print(self, text, end="\n"):
        with contextlib.suppress(OSError):
            print(text, end=end, file=self.file, flush=True)

    def __exit__(self, *_):
        if self.notebook:
            from IPython.display import Markdown
            self.handle.update(Markdown(""))
        elif self.terminal and self.width:
            self._print("")


def _in_notebook():
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


@contextlib.contextmanager
def put_off():
    """Inside, a first Ctrl-C, SIGTERM or SIGHUP waits (where this program handles it at all): yields a list that holds
    its number then, for work that can end by itself.

    What it would have done it does at the end of the block, or at once at a second one; KeyboardInterrupt(number) if
    that is nothing.
    """
    stops, before = [], {}

    def wait(number, frame):
        stops.append(number)
        if len(stops) > 1:
            before[number](number, frame)
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping after this update and what belongs to it; once more stops at once\n")
    if threading.current_thread() is threading.main_thread():  # no other one may
        before = {number: signal.signal(number, wait)
                  for number in (signal.SIGINT, *ENDS) if callable(signal.getsignal(number))}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stops:
        before[stops[0]](stops[0], None)
        raise KeyboardInterrupt(stops[0])


def end_as_ctrl_c_does():
    """From here on what is in `ENDS` raises KeyboardInterrupt(number), but for what is ignored, as SIGHUP is under
    nohup."""
    def stop(number, _):
        raise KeyboardInterrupt(number)
    for number in ENDS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
