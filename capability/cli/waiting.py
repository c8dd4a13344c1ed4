"""`cap wait`."""

import time

import click

from capability.cli.audit import open_existing
from capability.cli.failures import Exit, Failure
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.options import store_option
from capability.cli.output import Result

_PAUSE = 0.1


@command("wait", "cap wait --revision 42 --timeout 30 --store postgresql://replica/cap")
@click.option(
    "--revision", type=click.IntRange(0), required=True, metavar="N", help="As `cap revoke` printed it."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait no longer.",
)
@store_option
@click.pass_obj
def wait(session: Session, revision: int, timeout: float, store: str | None) -> Result:
    """Wait until the store has a revision: then it knows what was revoked. The exit code is 5 if it does not.

    It is for copies of a store, and for scripts that go on when a revocation is everywhere.
    """
    until = time.monotonic() + timeout
    with open_existing(session, store) as opened:
        while (found := opened.revision()) < revision:
            left = until - time.monotonic()
            if left <= 0:
                raise Failure(
                    Exit.STORE,
                    "store.behind",
                    f"the store is at revision {found}, not yet at {revision}, after {timeout:g} seconds",
                    "look whether the store is replicated, or wait longer with --timeout",
                )
            time.sleep(min(_PAUSE, left))
    return Result(f"revision {found}", {"revision": found})
