"""`cap attenuate` and `cap seal`: what a holder does. They need no key, no network and no configuration."""

from capability.cli.declared import Option, declared
from capability.cli.failures import usage
from capability.cli.inputs import Session, at_terminal, edit_datalog
from capability.cli.options import (
    narrowing,
    param_option,
    raw_option,
    restriction_options,
    token_argument,
)
from capability.cli.output import Result
from capability.cli.results import token_result


@declared(
    "attenuate",
    "cap attenuate --application orders --operation read --expires 1h < token",
    "cap attenuate token --resource /orders/7 | cap inspect",
    "cap attenuate token --block 'check if operation(\"read\")' --block extra.datalog",
    argument=token_argument,
    options=(
        *restriction_options,
        Option(
            "--block",
            name="blocks",
            help="Any Datalog: text, a file, or - for stdin; repeatable, all in one block.",
            metavar="DATALOG",
            multiple=True,
        ),
        param_option,
        raw_option,
    ),
)
def attenuate(
    session: Session,
    token: str | None,
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    expires: str | None,
    not_before: str | None,
    blocks: tuple[str, ...],
    params: tuple[str, ...],
    raw: bool,
) -> Result:
    """Narrow TOKEN: the token that is printed allows only what TOKEN allows and what the options say.

    No key, network or configuration is needed. TOKEN is a file, - for stdin, or what is piped in, or else
    $CAP_TOKEN. It stays valid itself: hand on the narrower one.
    """
    from capability.builders import BlockBuilder
    from capability.tokens import UnverifiedBiscuit

    block = BlockBuilder()
    block.add_program(narrowing(applications, operations, resources, tenants, expires, not_before))
    if not blocks and not block.program.checks:
        if params or not at_terminal():
            raise usage(
                "nothing was named that narrows the token",
                "name --application, --operation, --resource, --tenant, --expires or --block",
            )
        blocks = (edit_datalog("the new block"),)
    if blocks or params:
        from capability.cli.parameters import add_datalog

        add_datalog(block, [session.read_datalog(source) for source in blocks], params)
    text = session.read_token(token, raw=raw)
    return token_result(
        UnverifiedBiscuit.from_base64(text).append(block), raw=raw, prefix=session.token_prefix
    )


@declared(
    "seal",
    "cap seal token > sealed",
    "cap attenuate token --expires 5m | cap seal",
    argument=token_argument,
    options=(raw_option,),
)
def seal(session: Session, token: str | None, raw: bool) -> Result:
    """Seal TOKEN: the token that is printed allows the same, and nobody can narrow it further.

    TOKEN is a file, - for stdin, or what is piped in, or else $CAP_TOKEN.
    """
    from capability.tokens import UnverifiedBiscuit

    sealed = UnverifiedBiscuit.from_base64(session.read_token(token, raw=raw)).seal()
    return token_result(sealed, raw=raw, prefix=session.token_prefix)
