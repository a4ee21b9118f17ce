"""How hard the tests try: a little in every run, for long where asked for: GROK_LONG=1 .venv/bin/python -m pytest."""

import os

LONG = os.environ.get("GROK_LONG") == "1"


def effort(short, long):
    """The number of tries."""
    return long if LONG else short
