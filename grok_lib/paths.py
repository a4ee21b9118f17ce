"""Where things are: found from this file, never from the working directory."""

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Installed without its checkout, it has no shipped runs, and builds where it is called
HOME = ROOT if (ROOT / "pyproject.toml").exists() else Path.cwd()
NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"  # published figures, in git
RESULTS = ROOT / "results"  # shipped runs, in git


def build() -> Path:
    """The folder for whatever a run makes and git ignores: $GROK_BUILD, or build/ in the checkout."""
    return Path(os.environ.get("GROK_BUILD") or HOME / "build").expanduser().absolute()


@cache
def git_revision() -> str:
    """The checkout's short commit hash, with a "+" if tracked files differ from it, or "unknown".

    Never raises: a checkout without git, or a copy without .git, can still train.
    """
    if not (ROOT / ".git").exists():  # else git would answer for whatever repository lies around this folder
        return "unknown"
    # safe.directory: root in a container may look at its owner's checkout
    command = ["git", "-c", "safe.directory=*", "--no-optional-locks", "-C", str(ROOT),
               "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
