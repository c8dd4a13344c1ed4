"""The `cap` command, one module for each family of commands.

Nothing is imported here: what a command needs is imported when it runs.
"""

import gc
from collections.abc import Sequence

__all__ = ["main", "run"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `cap` with `arguments` (those of the process, if None) and returns the exit code."""
    from capability.cli import start

    return start.main(arguments)


def run() -> int:
    """Runs `cap` as a process of its own, which ends soon: nothing in it is worth looking for garbage.

    While modules are loaded, and again at the exit, that would take a sixth of a command's time.
    """
    gc.disable()
    try:
        return main()
    finally:
        gc.freeze()
