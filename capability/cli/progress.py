"""How far a long command is: a bar on stderr, for people at a terminal only."""

import sys
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import click

from capability.cli.group import JSON

SHOWN_FROM: Final = 5_000
"""Things to do that take long enough for a bar."""

_UPDATES: Final = 200

T = TypeVar("T")


def progress(things: Iterable[T], length: int | None, what: str, *, printing: bool = False) -> Iterator[T]:
    """Yields `things`, of which there are about `length` (None: nobody knows), and shows how many are done.

    No bar is shown with --json, nor where stderr is no terminal; nor, if the command is `printing`
    meanwhile, where that goes to a terminal too.
    """
    if (length is not None and length < SHOWN_FROM) or not _is_wanted(printing):
        yield from things
        return
    steps = _UPDATES if length is None else max(1, length // _UPDATES)
    with click.progressbar(
        things,
        length=length,
        label=what,
        file=sys.stderr,
        show_pos=length is None,
        update_min_steps=steps,
    ) as bar:
        yield from bar


def is_json() -> bool:
    """True when the command that runs was called with --json."""
    return bool(click.get_current_context().meta.get(JSON, False))


def _is_wanted(printing: bool) -> bool:
    if is_json() or sys.stderr is None or not sys.stderr.isatty():
        return False
    return not (printing and sys.stdout is not None and sys.stdout.isatty())
