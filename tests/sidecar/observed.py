"""Runs `cap` as it is, and notes in the file $NOTES how each collection of garbage went, as JSON lines.

The words of the command are those of `python -m capability.cli ...`, with this before them.
"""

import gc
import json
import os
import sys

from capability.cli import run


def note(phase: str, about: dict[str, int]) -> None:
    """Notes a collection that has ended: whose it was, and how many states there are in what it looked at."""
    if phase != "stop":
        return
    line = {
        **about,
        "process": os.getpid(),
        "frozen": gc.get_freeze_count(),
    }
    if about["generation"] == 2:
        line["states"] = sum(type(each).__qualname__ == "State" for each in gc.get_objects())
    handle = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND)
    os.write(handle, json.dumps(line).encode() + b"\n")
    os.close(handle)


gc.callbacks.append(note)  # before the command's own, which sets aside what is left
sys.argv = ["cap", *sys.argv[4:]]
sys.exit(run())
