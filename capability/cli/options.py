"""Options that several commands have."""

import os
from typing import TYPE_CHECKING, Final

from capability.cli.declared import Argument, Option, Options
from capability.cli.failures import usage
from capability.cli.moments import parse_moment

if TYPE_CHECKING:
    from capability.datalog.program import Program

token_argument: Final = Argument("token")
raw_option: Final = Option(
    "--raw", name="raw", help="The token is bytes, not base64, read and written.", is_flag=True
)
param_option: Final = Option(
    "--param",
    name="params",
    help="A value for {NAME} in the Datalog. TYPE: string, integer, bool, date, bytes, null, key, term.",
    metavar="NAME[:TYPE]=VALUE",
    multiple=True,
)
private_key_option: Final = Option(
    "--private-key",
    name="private_key",
    help="The private key's file.  [env var: CAP_PRIVATE_KEY, the key or its file]",
    metavar="FILE",
)
root_options: Final = Options(
    Option(
        "--public-key",
        name="public_key",
        help="The issuer's public key.  [env var: CAP_PUBLIC_KEY]",
        metavar="KEY|FILE",
    ),
    Option("--keys", name="keys", help="The issuer's key set, as JSON.  [env var: CAP_KEYS]", metavar="FILE"),
)
store_option: Final = Option(
    "--store",
    name="store",
    help="Where revocations are kept: sqlite:///PATH, postgresql://USER@HOST/DATABASE or redis://HOST/NUMBER.",
    metavar="URL",
    envvar="CAP_STORE",
)
revocations_options: Final = Options(
    Option(
        "--revocations",
        name="revocations",
        help="Signed revocations to go by, in place of a store.",
        metavar="FILE",
        envvar="CAP_REVOCATIONS",
    ),
    Option(
        "--revocations-key",
        name="revocations_key",
        help="The key that signs them, if it is not the issuer's.",
        metavar="KEY|FILE",
        envvar="CAP_REVOCATIONS_KEY",
    ),
    Option(
        "--revocations-name",
        name="revocations_name",
        help="Which list of theirs is meant, if the key signs several.",
        metavar="NAME",
        envvar="CAP_REVOCATIONS_NAME",
    ),
)

restriction_options: Final = Options(
    Option(
        "--application",
        "-a",
        name="applications",
        help="Only for this application; repeatable.",
        multiple=True,
    ),
    Option(
        "--operation", "-o", name="operations", help="Only for this operation; repeatable.", multiple=True
    ),
    Option(
        "--resource",
        "-r",
        name="resources",
        help="Only for this resource and what is below it; repeatable.",
        multiple=True,
    ),
    Option("--tenant", "-t", name="tenants", help="Only for this tenant; repeatable.", multiple=True),
    Option(
        "--expires",
        name="expires",
        help="Until then: 90d, 12h, 30m, or 2026-12-01T00:00:00Z.",
        metavar="WHEN",
    ),
    Option("--not-before", name="not_before", help="Not before then.", metavar="WHEN"),
)
request_options: Final = Options(
    Option("--application", "-a", name="applications", help="Which application is asked.", multiple=True),
    Option("--operation", "-o", name="operations", help="What is to be done.", multiple=True),
    Option("--resource", "-r", name="resources", help="With what.", multiple=True),
    Option("--tenant", "-t", name="tenants", help="For which tenant.", multiple=True),
    Option(
        "--fact", name="facts", help="Any other fact, as Datalog; repeatable.", metavar="FACT", multiple=True
    ),
)
"""What states a request. Several values of one are several requests."""


_VARIABLES: Final = {each.name: each.envvar for each in (store_option, *revocations_options) if each.envvar}


def on_command_line(name: str, value: object) -> bool:
    """True for the value of an option that stands on the command line, and is not its variable's.

    The same text in both places counts as the variable's.
    """
    return name not in _VARIABLES or os.environ.get(_VARIABLES[name]) != value


def narrowing(
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    expires: str | None,
    not_before: str | None,
    *,
    expires_source: str = "--expires",
) -> "Program":
    """Returns the checks that the options of `restriction_options` ask for.

    `expires_source` is who says when it expires, if that was not the option.
    """
    from capability.attenuation import restriction

    try:
        return restriction(
            applications=applications or None,
            operations=operations or None,
            resources=resources or None,
            tenants=tenants or None,
            expires=None if expires is None else parse_moment(expires, expires_source),
            not_before=None if not_before is None else parse_moment(not_before, "--not-before"),
        )
    except ValueError as error:
        raise usage(
            str(error).replace("not_before", "--not-before"), "see the examples in `cap attenuate --help`"
        ) from error
