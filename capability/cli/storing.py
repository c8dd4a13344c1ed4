"""`cap store`: the care of a store."""

import click

from capability.cli.audit import open_existing
from capability.cli.failures import Exit, Failure
from capability.cli.group import LazyGroup, command
from capability.cli.inputs import Session
from capability.cli.options import store_option
from capability.cli.output import Result, one_line
from capability.cli.stores import open_for_writing


@click.group(
    "store",
    cls=LazyGroup,
    lazy={
        "init": ("storing", "init", "Make an empty store."),
        "migrate": ("storing", "migrate", "Bring a store to the version of this program."),
        "prune": ("storing", "prune", "Drop revocations of tokens that have expired anyway."),
        "check": ("storing", "check", "Look for damage."),
        "export": ("transfer", "export", "Print all that a store holds, to move it to another one."),
        "import": ("transfer", "import_", "Put what was exported into an empty store."),
    },
)
def store() -> None:
    """Make, check and move the store of tokens and revocations."""


@command("init", "cap store init --store sqlite:///cap.db")
@store_option
@click.pass_obj
def init(session: Session, store: str | None) -> Result:
    """Make an empty store where there is none. What is there stays as it is."""
    with open_for_writing(session, store) as opened:
        revision = opened.revision()
    return Result(f"the store is ready, at revision {revision}", {"revision": revision})


@command("migrate", "cap store migrate")
@store_option
@click.pass_obj
def migrate(session: Session, store: str | None) -> Result:
    """Bring a store of an earlier version to that of this program; every command does so when it opens one.

    Programs of the earlier version can then no longer open it. Take a copy first.
    """
    with open_existing(session, store) as opened:
        revision = opened.revision()
    return Result(
        f"the store has this program's version, and is at revision {revision}", {"revision": revision}
    )


@command("prune", "cap store prune")
@click.option("--actor", envvar="CAP_ACTOR", show_envvar=True, help="Who prunes.")
@store_option
@click.pass_obj
def prune(session: Session, actor: str | None, store: str | None) -> Result:
    """Drop revocations of tokens that expired a day ago or earlier. Nothing else is ever dropped."""
    with open_existing(session, store) as opened:
        count = opened.prune(actor=actor)
    noun = "revocation" if count == 1 else "revocations"
    return Result(f"dropped {count} {noun}", {"dropped": count})


@command("check", "cap store check")
@store_option
@click.pass_obj
def check(session: Session, store: str | None) -> Result:
    """Look for damage of the file and of the audit trail. The exit code is 5 when there is any."""
    with open_existing(session, store) as opened:
        problems = opened.problems()
        revision = opened.revision()
    failure = None
    if problems:
        failure = Failure(
            Exit.STORE,
            "store.damaged",
            f"the store is damaged: {one_line(problems[0])}",
            "stop using it, keep the file, and restore the newest copy",
        )
    return Result(
        "\n".join(map(one_line, problems)) or f"the store is sound, at revision {revision}",
        {"sound": not problems, "problems": list(problems), "revision": revision},
        exit=Exit.STORE if problems else Exit.DONE,
        failure=failure,
    )
