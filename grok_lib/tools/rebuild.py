"""Run the notebooks, gather their figures, say what was made: `python -m grok_lib.tools.rebuild`.

./run_all.sh sets up the environment and calls this. Executed notebooks, figures and new runs go to
build/{notebooks,figures,results}, those of --retrain to build/PROFILE/; nothing in git is touched unless --publish asks
for it. Its own runs go to build/publish/, empty at first: what is published stands on shipped runs, and notebook 00 on
its live one.
"""

import json
import logging
import os
import platform
import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import papermill
from traitlets.config import Config

from grok_lib import paths
from grok_lib.paper.experiments import PROFILES
from grok_lib.runs.progress import end_as_ctrl_c_does
from grok_lib.tools import readme
from grok_lib.tools.commands import Parser
from grok_lib.tools.publish import literals, own_code, publish, tagged
from grok_lib.tools.summary import write as write_summary

TIME_BUDGET = 60.0  # seconds of training that a notebook may do unasked
HEARTBEAT = 10  # seconds between signs of life where the output is not a terminal
ENCRYPT = Config(KernelManager={"transport_encryption": "auto"})  # else every kernel warns that it is not


@dataclass
class Outcome:
    """One notebook's run: where the executed copy is, how long it took, what it drew, or why it failed."""

    source: Path
    executed: Path
    seconds: float = 0.0
    figures: list[Path] = field(default_factory=list)  # the NAME.json beside each figure it saved
    error: str = ""


def main(argv=None, root: Path = paths.ROOT, build: Path | None = None) -> int:
    arguments = parse(argv)
    sources = choose(root / "notebooks", arguments.only)
    if not sources:
        sys.exit(f"error: no notebooks in {root / 'notebooks'} (is the checkout complete?)")
    folder = build or paths.build()
    parameters = {"profile": arguments.profile, "store": None, "time_budget": TIME_BUDGET}
    if arguments.retrain or arguments.publish:
        folder = folder / ("publish" if arguments.publish else arguments.profile)
    if arguments.retrain:
        parameters |= {"store": str(folder / "results"), "time_budget": None}
    if arguments.publish:  # the live run of notebook 00 is nobody else's: it comes last
        sources.sort(key=lambda source: source.stem.startswith("00"))
    try:
        # Seconds of training: nothing to keep
        if arguments.publish or arguments.retrain and arguments.profile == "smoke":
            shutil.rmtree(folder / "results", ignore_errors=True)
        elif arguments.retrain:
            set_aside(folder / "results")
        prepare_environment(folder)
    except OSError as error:
        sys.exit(f"error: {error} (set GROK_BUILD to a folder that you can write to)")

    begin, outcomes = time.monotonic(), []
    try:
        for source in sources:
            outcomes.append(run(source, folder, parameters, root))
    except KeyboardInterrupt as stop:
        logging.getLogger("asyncio").disabled = True  # it would report the kernel that was cut off
        print(f"\nstopped; finished notebooks are in {folder / 'notebooks'}, "
              f"runs in {parameters['store'] or folder / 'results'}", flush=True)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    print(summary(outcomes, time.monotonic() - begin))
    if any(outcome.error for outcome in outcomes):
        return 1
    if arguments.publish:
        try:
            publish([o.executed for o in outcomes], [path for o in outcomes for path in o.figures], root)
            write_summary(root / "results")
            readme.renew(root)
        except ValueError as error:
            print(f"error: nothing published: {error}", file=sys.stderr)
            return 1
    return 0


def parse(argv):
    parser = Parser(prog="python -m grok_lib.tools.rebuild", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=[*PROFILES, "best"], default="best", help="scale of the runs shown")
    parser.add_argument("--only", action="append", metavar="NN", help="this notebook only; may be given again")
    parser.add_argument("--retrain", action="store_true", help="train from nothing, in a store of its own")
    parser.add_argument("--publish", action="store_true", help="put the results into notebooks/ and figures/")
    arguments = parser.parse_args(argv)
    if arguments.retrain and arguments.profile == "best":
        parser.error("--retrain needs a scale (add --profile smoke, quick, overnight or paper)")
    if arguments.publish and (arguments.retrain or arguments.profile != "best"):
        parser.error("--publish is for the best profile (drop --profile and --retrain)")
    return arguments


def choose(folder: Path, only: list[str] | None) -> list[Path]:
    """The notebooks in order: all, or those named by number or by name."""
    notebooks = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not only:
        return notebooks
    wanted = {Path(name).name.removesuffix(".ipynb") for name in only}
    wanted = {name.zfill(2) if name.isdigit() else name for name in wanted}
    chosen = [path for path in notebooks if wanted & {path.stem, path.stem[:2]}]
    if unknown := wanted - {name for path in chosen for name in (path.stem, path.stem[:2])}:
        sys.exit(f"error: no notebook {', '.join(sorted(unknown))} (look in {folder})")
    return chosen


def set_aside(results: Path):
    """Begin with an empty folder; runs that were trained there before move to a name that is free, and that is said."""
    old, number = results.with_name("results.old"), 1
    while old.exists():
        number += 1
        old = results.with_name(f"results.old{number}")
    if results.exists() and any(results.rglob("*.npz")):
        results.rename(old)
        print(f"set aside: {results}, as {old.name}", flush=True)


def prepare_environment(folder: Path):
    """What every kernel inherits."""
    for name in ("notebooks", "figures", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # One for all profiles
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(paths.build() / "compiled" / platform.node()))
    # Huge pages, as run_all.sh and the command line have them: read when torch loads
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ["GROK_BUILD"] = str(folder)
    os.environ.pop("MPLBACKEND", None)  # figures belong in the notebook
    # A "python3" kernel that the user once registered may be another Python: ours is to be found first.
    kernels = str(Path(sys.prefix) / "share" / "jupyter")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [kernels, os.environ.get("JUPYTER_PATH")]))


def run(source: Path, folder: Path, parameters: dict, root: Path) -> Outcome:
    """Execute one notebook. A copy that stopped at an error is kept too, one that was interrupted is not."""
    outcome = Outcome(source, folder / "notebooks" / source.name)
    part = outcome.executed.with_suffix(".part.ipynb")
    part.unlink(missing_ok=True)  # of a run that was killed
    before = sidecars(folder)
    begin = time.monotonic()
    try:
        known = literals(tagged(nbformat.read(source, as_version=4), "parameters"))
        if missing := parameters.keys() - known.keys():
            print(f"warning: {source.stem} declares no parameter {', '.join(sorted(missing))}", file=sys.stderr)
        given = {name: value for name, value in parameters.items() if name in known}
        with heartbeat(source.stem):
            papermill.execute_notebook(source, part, given, kernel_name="python3", language="python",
                                       progress_bar=False, cwd=root, config=ENCRYPT, shutdown_kernel="immediate")
    except KeyboardInterrupt:
        part.unlink(missing_ok=True)
        raise
    except Exception as error:  # whatever went wrong here, the other notebooks still run
        outcome.error = describe(error, part)
        print(f"{source.stem} failed{outcome.error}", file=sys.stderr, flush=True)
    outcome.seconds = time.monotonic() - begin
    if part.exists():
        os.replace(part, outcome.executed)
    outcome.figures = [path for path, changed in sidecars(folder).items() if before.get(path) != changed]
    return outcome


def sidecars(folder: Path) -> dict[Path, int]:
    """When each figure was last saved, by the JSON file beside it."""
    return {path: path.stat().st_mtime_ns for path in sorted((folder / "figures").glob("*.json"))}


def describe(error: Exception, part: Path) -> str:
    """Where and why a notebook failed, in one line; cells are numbered as Jupyter numbers them."""
    where = ""
    if part.exists():
        cells = own_code(nbformat.read(part, as_version=4))
        started = [(n, cell) for n, cell in enumerate(cells, 1) if cell.metadata.papermill.start_time]
        if started:  # execution stops at the first error, so the last cell that started is the one
            number, cell = started[-1]
            where = f" in cell {number} ({cell.source.strip().partition(chr(10))[0]})"
    name = getattr(error, "ename", type(error).__name__)
    reason = str(getattr(error, "evalue", error)).strip().partition("\n")[0]
    return f"{where}: {name}: {reason}"


@contextmanager
def heartbeat(name: str):
    """Say that a notebook is still running: a line rewritten on a terminal, else a line now and then."""
    terminal, over, begin = sys.stdout.isatty(), threading.Event(), time.monotonic()
    start, end = ("\r", "") if terminal else ("", "\n")

    def beat():
        while not over.wait(1 if terminal else HEARTBEAT):
            print(f"{start}{name} ... {time.monotonic() - begin:.0f} s", end=end, flush=True)

    print(f"{name} ...", end=end, flush=True)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if terminal:
            print()


def summary(outcomes: list[Outcome], seconds: float) -> str:
    """A table of notebooks and figures, each with the number of runs that it stands on."""
    rows = [("notebook", "seconds", "figure", "runs")]
    for outcome in outcomes:
        figures = [json.loads(path.read_text("utf-8")) for path in outcome.figures]
        cells = [(each["name"], f"{each['runs']} of {each['needed']}" if each["needed"] else "-") for each in figures]
        if outcome.error:
            cells.append(("FAILED", ""))
        for row, (figure, runs) in enumerate(cells or [("-", "")]):
            rows.append(("" if row else outcome.source.stem, "" if row else f"{outcome.seconds:.1f}", figure, runs))
    wide = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:<{wide[2]}}  {d}".rstrip() for a, b, c, d in rows]
    good = sum(not outcome.error for outcome in outcomes)
    return "\n".join(["", *lines, "", f"{good} of {len(outcomes)} notebooks ran, {seconds:.0f} s in all"])


if __name__ == "__main__":
    end_as_ctrl_c_does()
    sys.exit(main())
