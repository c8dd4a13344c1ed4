"""`cap query`."""

from datetime import datetime
from typing import Any

import click

from capability.cli.group import command
from capability.cli.inputs import Session, edit_datalog
from capability.cli.keyfiles import required_public_keys
from capability.cli.moments import rfc_3339
from capability.cli.options import param_option, raw_option, request_options, root_options
from capability.cli.output import Result, one_line
from capability.cli.parameters import check_used, parse_parameters


@command(
    "query",
    "cap query 'may($what) <- right($what, \"read\")' token",
    "cap query 'seen($o) <- operation($o)' token --operation read --json",
)
@click.argument("rule", required=False)
@click.argument("token", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Ask every block, also those that anybody may have appended."
)
@request_options
@param_option
@root_options
@raw_option
@click.pass_obj
def query(
    session: Session,
    rule: str | None,
    token: str | None,
    everything: bool,
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    facts: tuple[str, ...],
    params: tuple[str, ...],
    public_key: str | None,
    keys: str | None,
    raw: bool,
) -> Result:
    """Print the facts that RULE derives from TOKEN and from what the options state.

    RULE is text, a file, or -; without it, $EDITOR asks for it. TOKEN is a file, - for stdin, or what is
    piped in, or else $CAP_TOKEN. Nothing is decided: checks are not looked at, nor revocations.

    RULE sees what the issuer says and what you state; with --all, what every block says.
    """
    from capability.authorizer_builder import AuthorizerBuilder
    from capability.builders import Fact, Rule
    from capability.datalog.limits import GUARD_LIMITS
    from capability.datalog.parser import parse_rule
    from capability.tokens import Biscuit

    root = required_public_keys(session, public_key, keys)
    parameters = parse_parameters(params)
    source = edit_datalog("a rule") if rule is None else session.read_datalog(rule)
    check_used(parameters, [parse_rule(source)])
    item = Rule(source, parameters.terms, parameters.keys)
    builder = AuthorizerBuilder()
    builder.set_limits(GUARD_LIMITS)
    builder.set_time()
    for each in facts:
        builder.add_fact(Fact(each))
    for name, values in (
        ("application", applications),
        ("operation", operations),
        ("resource", resources),
        ("tenant", tenants),
    ):
        for value in values:
            builder.add_fact(Fact(f"{name}({{value}})", {"value": value}))
    authorizer = builder.build(Biscuit.from_base64(session.read_token(token, raw=raw), root))
    found = authorizer.query_all(item) if everything else authorizer.query(item)
    data = {
        "facts": [
            {"name": fact.name, "terms": [_json(term) for term in fact.terms], "source": repr(fact)}
            for fact in found
        ]
    }
    return Result("\n".join(one_line(f"{fact!r};") for fact in found), data)


def _json(value: Any) -> Any:
    """Returns a term as JSON: bytes in hex, dates in RFC 3339, sets as lists."""
    match value:
        case bytes():
            return value.hex()
        case datetime():
            return rfc_3339(value)
        case list():
            return [_json(each) for each in value]
        case set() | frozenset():
            return sorted((_json(each) for each in value), key=repr)
        case dict():
            return {str(key): _json(each) for key, each in value.items()}
        case _:
            return value
