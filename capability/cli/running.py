"""`cap run`: a command with a narrower token than one's own."""

import os
import signal
import sys

import click

from capability.cli.failures import usage
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.options import narrowing, restriction_options
from capability.cli.output import Result, print_error_line
from capability.cli.results import size_notes


@command(
    "run",
    "cap run --operation read --expires 10m -- ./report.sh",
    "cap run --application orders --token alice.token -- env python agent.py",
    context_settings={"allow_interspersed_args": False},
)
@restriction_options
@click.option("--token", metavar="FILE", help="The token to narrow.  [env var: CAP_TOKEN]")
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(
    session: Session,
    token: str | None,
    words: tuple[str, ...],
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    expires: str | None,
    not_before: str | None,
) -> Result:
    """Run COMMAND with a $CAP_TOKEN that allows only what the options say.

    What is narrowed is $CAP_TOKEN, or the token in a file. The command gets it by its environment, where
    other users cannot read it, and takes the place of `cap`: signals and its exit code are its own. Stdin is
    the command's too. CAP_PRIVATE_KEY is taken out of its environment, and a CAP_STORE with a password.

    Something must be narrowed: a command that may have the whole token needs no `cap run`.
    """
    from capability.builders import BlockBuilder
    from capability.tokens import UnverifiedBiscuit

    block = BlockBuilder()
    block.add_program(narrowing(applications, operations, resources, tenants, expires, not_before))
    if not block.program.checks:
        raise usage(
            "nothing was named that narrows the token",
            "name --application, --operation, --resource, --tenant or --expires",
        )
    text = session.environment_token() if token is None else session.read_token(token)
    narrow = session.token_prefix + UnverifiedBiscuit.from_base64(text).append(block).to_base64()
    for note in size_notes(narrow):
        print_error_line("warning", note)
    environment = {name: value for name, value in os.environ.items() if not _is_secret(name, value)}
    environment["CAP_TOKEN"] = narrow
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # Python ignores these, and a command would go on ignoring them
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        os.execvpe(words[0], words, environment)
    except (OSError, ValueError) as error:
        for each, handler in before.items():
            signal.signal(each, handler)
        reason = (getattr(error, "strerror", None) or "not a name").lower()
        raise usage(
            f"cannot run {words[0]!r}: {reason}", "name a program that is there, behind --", "run.command"
        ) from error


def _is_secret(name: str, value: str) -> bool:
    """True for what would let a command do more than its token: make tokens, or undo a revocation."""
    from capability.configuration import has_password

    return name == "CAP_PRIVATE_KEY" or (name == "CAP_STORE" and has_password(value))
