"""The way in: runs a command, prints what it hands back or why it could not."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from capability.cli.declared import JSON_FLAG, Call, Command
from capability.cli.failures import Exit, Failure, failure_of
from capability.cli.inputs import Session
from capability.cli.output import print_failure, print_result, silence_stdout
from capability.datalog.errors import DatalogError
from capability.errors import CapabilityError

COMPLETE: Final = "_CAP_COMPLETE"
"""The variable by which a shell's completion asks; click's name for it."""

_DECLARED: Final = {"attenuate": "narrow", "seal": "narrow", "verify": "decide"}
"""The commands that may run without click, and their modules; in these they have the same names."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `cap` with `arguments` (those of the process, if None) and returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if COMPLETE in os.environ:
        from capability.cli.entry import complete

        return complete(os.environ[COMPLETE])
    try:
        try:
            return _run(words)
        except Failure as failure:
            print_failure(failure, as_json=JSON_FLAG in _own(words))
            return failure.exit
    except BrokenPipeError:
        silence_stdout()
        return Exit.OUTPUT_CLOSED


def _run(words: list[str]) -> int:
    """Runs a command. Raises Failure for whatever keeps it from its result."""
    try:
        plain = _plain(words)
        if plain is None:
            from capability.cli import entry

            return entry.run(words)
        command, call = plain
        result = command.function(Session(), **call.values)
        print_result(result, as_json=call.as_json)
        return result.exit
    except KeyboardInterrupt as stop:
        raise Failure(Exit.INTERRUPTED, "interrupted", "interrupted", "run the command again") from stop
    except (CapabilityError, DatalogError) as error:
        raise failure_of(error) from error
    except (Failure, BrokenPipeError):
        raise
    except Exception as error:
        # Nothing is decided here: whatever it was, the answer is a failure, and never 0 or 1.
        if os.environ.get("CAP_DEBUG"):
            raise
        raise Failure(
            Exit.DEFECT,
            "defect",
            f"a defect of cap: {type(error).__name__}",
            "please report it; CAP_DEBUG=1 shows where it happened",
        ) from error


def _own(words: list[str]) -> list[str]:
    """Returns the words that are cap's own: not those behind `--`, nor those of the command of `cap run`."""
    own = words[: words.index("--")] if "--" in words else words
    at = 2 if own[:1] == ["--config"] else 0
    if own[at : at + 1] != ["run"]:
        return own
    at += 1
    while at < len(own) and own[at].startswith("-"):
        # all options but this have a value: behind a `=`, a letter, or as the next word
        is_whole = own[at] == JSON_FLAG or "=" in own[at] or (len(own[at]) > 2 and own[at][1] != "-")
        at += 1 if is_whole else 2
    return own[:at]


def _plain(words: list[str]) -> tuple[Command, Call] | None:
    """Returns the command that `words` call and how, where click is not needed to tell."""
    name = words[0] if words else ""
    # a configuration that is named by a variable is an option of `cap` itself
    if name not in _DECLARED or os.environ.get("CAP_CONFIG"):
        return None
    command: Command = getattr(importlib.import_module(f"capability.cli.{_DECLARED[name]}"), name)
    call = command.read(words[1:])
    return None if call is None else (command, call)
