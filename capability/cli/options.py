"""Options that several commands have."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capability.cli.failures import usage
from capability.cli.moments import parse_moment

if TYPE_CHECKING:
    from capability.datalog.program import Program

_Function = TypeVar("_Function", bound=Callable[..., Any])


def stacked(*options: Callable[[Any], Any]) -> Callable[[_Function], _Function]:
    """Joins options into one decorator, in the order in which help lists them."""

    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


token_argument = click.argument("token", required=False)
raw_option = click.option("--raw", is_flag=True, help="The token is bytes, not base64, read and written.")
param_option = click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME[:TYPE]=VALUE",
    help="A value for {NAME} in the Datalog. TYPE: string, integer, bool, date, bytes, null, key, term.",
)
private_key_option = click.option(
    "--private-key",
    metavar="FILE",
    help="The private key's file.  [env var: CAP_PRIVATE_KEY, the key or its file]",
)
root_options = stacked(
    click.option(
        "--public-key", metavar="KEY|FILE", help="The issuer's public key.  [env var: CAP_PUBLIC_KEY]"
    ),
    click.option("--keys", metavar="FILE", help="The issuer's key set, as JSON.  [env var: CAP_KEYS]"),
)
store_option = click.option(
    "--store",
    metavar="URL",
    envvar="CAP_STORE",
    show_envvar=True,
    help="Where revocations are kept: sqlite:///PATH.",
)

restriction_options = stacked(
    click.option(
        "--application", "-a", "applications", multiple=True, help="Only for this application; repeatable."
    ),
    click.option(
        "--operation", "-o", "operations", multiple=True, help="Only for this operation; repeatable."
    ),
    click.option(
        "--resource",
        "-r",
        "resources",
        multiple=True,
        help="Only for this resource and what is below it; repeatable.",
    ),
    click.option("--tenant", "-t", "tenants", multiple=True, help="Only for this tenant; repeatable."),
    click.option("--expires", metavar="WHEN", help="Until then: 90d, 12h, 30m, or 2026-12-01T00:00:00Z."),
    click.option("--not-before", metavar="WHEN", help="Not before then."),
)


def request_options(command: _Function) -> _Function:
    """Adds the options that state a request. Several values of one are several requests."""
    return stacked(
        click.option(
            "--application", "-a", "applications", multiple=True, help="Which application is asked."
        ),
        click.option("--operation", "-o", "operations", multiple=True, help="What is to be done."),
        click.option("--resource", "-r", "resources", multiple=True, help="With what."),
        click.option("--tenant", "-t", "tenants", multiple=True, help="For which tenant."),
        click.option(
            "--fact", "facts", multiple=True, metavar="FACT", help="Any other fact, as Datalog; repeatable."
        ),
    )(command)


def narrowing(
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    expires: str | None,
    not_before: str | None,
) -> "Program":
    """Returns the checks that the options of `restriction_options` ask for."""
    from capability.attenuation import restriction

    try:
        return restriction(
            applications=applications or None,
            operations=operations or None,
            resources=resources or None,
            tenants=tenants or None,
            expires=None if expires is None else parse_moment(expires, "--expires"),
            not_before=None if not_before is None else parse_moment(not_before, "--not-before"),
        )
    except ValueError as error:
        raise usage(
            str(error).replace("not_before", "--not-before"), "see the examples in `cap attenuate --help`"
        ) from error
