"""`cap mint`."""

import os

import click

from capability.cli.group import command
from capability.cli.inputs import Session, edit_datalog
from capability.cli.keyfiles import private_key as find_private_key
from capability.cli.options import (
    narrowing,
    param_option,
    private_key_option,
    restriction_options,
    store_option,
)
from capability.cli.output import Result
from capability.cli.parameters import add_datalog
from capability.cli.results import token_result
from capability.cli.stores import ensure_configured


@command(
    "mint",
    'cap mint \'right("orders", "read");\' --expires 90d',
    "cap mint --application orders --operation read --operation write --tenant acme --expires 90d",
    "cap mint rights.datalog --param user=ann --private-key root.key > token",
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
    params: tuple[str, ...],
    raw: bool,
    store: str | None,
) -> Result:
    """Make a token that holds DATALOG and allows only what the options say.

    DATALOG is text, a file, or - for stdin: facts such as `right("orders", "read");`, rules and checks.
    Without it and without options, $EDITOR asks for it. The token is printed once and kept nowhere.

    Without --expires, CAP_EXPIRES or `expires` in cap.toml says how long the token lives; --expires never
    outdoes both.

    Where a store is configured (--store, CAP_STORE or cap.toml), it is made if it is not there yet, so that
    `cap verify` finds it.
    """
    from capability.tokens import BiscuitBuilder

    if expires is None:
        expires = os.environ.get("CAP_EXPIRES") or session.config.expires
    until = None if expires == "never" else expires
    narrowed = narrowing(applications, operations, resources, tenants, until, not_before)
    if datalog is None and not narrowed.checks:
        datalog = edit_datalog("the new token")
    builder = BiscuitBuilder()
    if datalog is not None or params:
        add_datalog(builder, [] if datalog is None else [session.read_datalog(datalog)], params)
    builder.add_program(narrowed)
    key_id = session.config.key_id if key_id is None else key_id
    if key_id is not None:
        builder.set_root_key_id(key_id)
    token = builder.build(find_private_key(session, private_key))
    ensure_configured(session, store)
    return token_result(token, raw=raw)
