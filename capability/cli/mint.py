"""`cap mint`."""

import os
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from capability.cli.failures import usage
from capability.cli.group import command
from capability.cli.inputs import Session, edit_datalog
from capability.cli.keyfiles import private_key as find_private_key
from capability.cli.moments import HINT as MOMENT_HINT
from capability.cli.moments import parse_moment
from capability.cli.options import (
    narrowing,
    param_option,
    private_key_option,
    restriction_options,
    store_option,
)
from capability.cli.output import Result
from capability.cli.parameters import add_datalog
from capability.cli.registering import record_of
from capability.cli.results import token_result
from capability.cli.stores import open_for_writing

DEFAULT_LIFETIME: Final = "90d"
"""How long a token lives when nothing is said."""

NEVER: Final = "never"
"""In place of a time: it does not expire."""


@command(
    "mint",
    'cap mint \'right("orders", "read");\' --expires 90d',
    "cap mint --application orders --operation read --operation write --tenant acme --expires 90d",
    "cap mint rights.datalog --param user=ann --private-key root.key > token",
    'cap mint \'right("orders", "read");\' --name crawler --owner agent:crawler --never-expires',
)
@click.argument("datalog", required=False)
@restriction_options
@private_key_option
@click.option(
    "--key-id",
    type=click.IntRange(0, 2**32 - 1),
    envvar="CAP_KEY_ID",
    show_envvar=True,
    help="The id by which verifiers choose among several keys.",
)
@click.option("--never-expires", is_flag=True, help="Make a token that lives until it is revoked.")
@click.option("--name", help="A name for its record, to find and revoke it by.")
@click.option(
    "--owner",
    metavar="OWNER",
    help="Who holds it: ann, service:billing, agent:crawler. Else its facts say.",
)
@click.option("--actor", envvar="CAP_ACTOR", show_envvar=True, help="Who mints.")
@click.option(
    "--prefix", metavar="PREFIX", help="What stands before its text: sk_live_.  [env var: CAP_PREFIX]"
)
@click.option("--no-store", is_flag=True, help="Do not register it.")
@param_option
@click.option("--raw", is_flag=True, help="Print the bytes of the token, not base64.")
@store_option
@click.pass_obj
def mint(
    session: Session,
    datalog: str | None,
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    expires: str | None,
    not_before: str | None,
    private_key: str | None,
    key_id: int | None,
    never_expires: bool,
    name: str | None,
    owner: str | None,
    actor: str | None,
    prefix: str | None,
    no_store: bool,
    params: tuple[str, ...],
    raw: bool,
    store: str | None,
) -> Result:
    """Make a token that holds DATALOG and allows only what the options say.

    DATALOG is text, a file, or - for stdin: facts such as `right("orders", "read");`, rules and checks.
    Without it and without options, $EDITOR asks for it. The token is printed once and kept nowhere.

    Without --expires, CAP_EXPIRES or `expires` in cap.toml says how long the token lives, or else 90 days.
    --never-expires, or `never` in place of a time, outdoes all of them.

    A prefix (--prefix, CAP_PREFIX, or `prefix` in cap.toml) tells people whose token it is, and no more.
    Who reads the token takes it off where it is configured: `prefix` and `prefixes` in cap.toml, CAP_PREFIX
    and CAP_PREFIXES (with commas), Guard(prefixes=...).

    The token is registered in the store (--store, CAP_STORE, cap.toml, or your own), which is made if it is
    not there yet: who holds it, for what, until when, and under which id it can be revoked, never its text.
    `cap list` shows that. The owner is whom a fact such as `user("alice")` names, unless --owner does.
    """
    from capability.tokens import BiscuitBuilder

    if never_expires and expires not in (None, NEVER):
        raise usage("both --expires and --never-expires were given", "leave one of them out")
    said = bool(applications or operations or resources or tenants or expires or not_before or never_expires)
    source, until = "--expires", expires
    if until is None and not never_expires:
        source, until = _default_lifetime(session)
    if never_expires or until == NEVER:
        until = None
    else:
        _check_to_come(until or "", source)
    narrowed = narrowing(
        applications, operations, resources, tenants, until, not_before, expires_source=source
    )
    put_before = session.minting_prefix(prefix)
    if datalog is None and not said:
        datalog = edit_datalog("the new token")
    builder = BiscuitBuilder()
    if datalog is not None or params:
        add_datalog(builder, [] if datalog is None else [session.read_datalog(datalog)], params)
    builder.add_program(narrowed)
    key_id = session.config.key_id if key_id is None else key_id
    if key_id is not None:
        builder.set_root_key_id(key_id)
    token = builder.build(find_private_key(session, private_key))
    if no_store:
        return token_result(token, raw=raw, prefix=put_before)
    record = record_of(token, name=name, owner=owner, actor=actor)
    with open_for_writing(session, store) as opened:
        opened.register(record, actor=actor)
    return token_result(token, raw=raw, prefix=put_before, record=record.id)


def _default_lifetime(session: Session) -> tuple[str, str]:
    """Returns who says how long a token lives for which nothing was said, and what."""
    if said := os.environ.get("CAP_EXPIRES"):
        return "$CAP_EXPIRES", said
    if session.config.expires:
        return "expires in cap.toml", session.config.expires
    return "the default", DEFAULT_LIFETIME


def _check_to_come(text: str, source: str) -> None:
    """Raises Failure for a time that is over: the token would be dead when it is born."""
    moment = parse_moment(text, source)
    over = not moment if isinstance(moment, timedelta) else moment <= datetime.now(UTC)
    if over:
        raise usage(f"{source}: {text} is over, so nothing would ever be allowed", MOMENT_HINT)
