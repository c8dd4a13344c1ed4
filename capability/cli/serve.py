"""`cap serve`: the check beside a service in any language."""

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from capability.cli.failures import Exit, Failure, usage
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.options import root_options, store_option
from capability.cli.output import Result, one_line, print_error_line
from capability.cli.stores import url_for_reading
from capability.configuration import NO_STORE

if TYPE_CHECKING:
    from capability.sidecar.settings import Settings

_NEVER: Final = "--store none"
"""How one says that nothing is ever revoked."""

_ELSEWHERE: Final = "choose another address"
_PLACES: Final[Mapping[int | None, str]] = {
    errno.ENOENT: "make its folder first: see docs/proxies.md for one that a proxy may enter",
    errno.EADDRINUSE: "choose another address, or stop what listens there",
}
"""What to try where a socket cannot be opened."""

_HINT: Final = "see the example in docs/sidecar.md"


@command(
    "serve",
    "cap serve --public-key root.key.pub --listen tcp:8181",
    "cap serve --listen unix:/run/cap/cap.sock --behind nginx --policy policy.datalog --admin tcp:9901",
    "cap serve --revocations https://issuer.example/revoked.signed --revocations-key revoked.key.pub",
    "cap serve --check",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    envvar="CAP_LISTEN",
    show_envvar=True,
    help="Where the check listens: unix:/PATH, tcp:PORT or tcp:ADDRESS:PORT; repeatable.",
)
@click.option(
    "--behind",
    metavar="PROXY",
    envvar="CAP_BEHIND",
    show_envvar=True,
    help="Who asks there: envoy, nginx, traefik, caddy, haproxy, or plain.",
)
@click.option(
    "--admin",
    metavar="ADDRESS",
    envvar="CAP_ADMIN",
    show_envvar=True,
    help="Where /livez, /readyz, /metrics and /status are served.",
)
@click.option(
    "--api",
    metavar="ADDRESS",
    envvar="CAP_API",
    show_envvar=True,
    help="Where AuthZEN, introspection, revocation, token exchange and keys are served.",
)
@click.option(
    "--grpc",
    metavar="ADDRESS",
    envvar="CAP_GRPC",
    show_envvar=True,
    help="Where Envoy's ext_authz over gRPC is served.",
)
@click.option("--public", is_flag=True, help="Let other hosts connect to a tcp: address.")
@click.option(
    "--policy",
    metavar="DATALOG",
    help="Who is let in: text, or a file.  [env var: CAP_POLICY; default: methods are read, write, delete]",
)
@click.option("--application", "-a", help="Which application the requests are for.")
@root_options
@store_option
@click.option(
    "--revocations",
    metavar="FILE|URL",
    envvar="CAP_REVOCATIONS",
    show_envvar=True,
    help="Signed revocations to follow, alone or beside a store.",
)
@click.option(
    "--revocations-key",
    metavar="KEY|FILE",
    envvar="CAP_REVOCATIONS_KEY",
    show_envvar=True,
    help="The key that signs them, if it is not the issuer's.",
)
@click.option(
    "--revocations-name",
    metavar="NAME",
    envvar="CAP_REVOCATIONS_NAME",
    show_envvar=True,
    help="Which list of theirs is meant, if the key signs several.",
)
@click.option(
    "--max-stale",
    type=float,
    metavar="SECONDS",
    help="How old revocations may be.  [env var: CAP_MAX_STALE; default: 30 for a store, and what signed"
    " ones say themselves]",
)
@click.option(
    "--on-stale",
    metavar="deny|allow",
    envvar="CAP_ON_STALE",
    show_envvar=True,
    help="What holds once they are older.  [default: deny]",
)
@click.option(
    "--decisions",
    metavar="none|denied|all",
    envvar="CAP_DECISIONS",
    show_envvar=True,
    help="Which decisions are logged.  [default: denied]",
)
@click.option(
    "--log",
    metavar="FILE|stderr|store",
    envvar="CAP_LOG",
    show_envvar=True,
    help="Where to.  [default: stderr]",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    envvar="CAP_WORKERS",
    show_envvar=True,
    help="Processes that decide.  [default: 1]",
)
@click.option("--check", is_flag=True, help="Only say what would be served, and what is odd about it.")
@click.pass_obj
def serve(session: Session, /, check: bool, **flags: Any) -> Result:
    """Serve the check that proxies and applications ask on every request, until SIGTERM.

    What is said by [serve] of cap.toml holds where no option says otherwise. Without a policy a genuine
    token may do what its own checks let pass: GET, HEAD and OPTIONS are the operation read; POST, PUT and
    PATCH are write, DELETE is delete, and the path is the resource.

    Policies, keys and cap.toml are read again when they change, and on SIGHUP. What cannot be used is
    refused, and what held before goes on.
    """
    from capability.sidecar.settings import SettingsError

    settings = _settings(session, flags)
    _check_packages(settings)
    if check:
        from capability.cli.explained import explained

        try:
            return explained(settings, _NEVER)
        except SettingsError as error:
            raise _refused(error) from error
    from capability.sidecar.configured import unrevoked
    from capability.sidecar.server import Server

    warning = unrevoked(settings, _NEVER)
    if warning is not None:
        print_error_line("warning", warning)
    files = [] if session.config.file is None else [str(session.config.file)]
    try:
        server = Server(
            settings,
            reread=lambda: _reread(session, flags),
            files=files,
            warn=lambda warning: print_error_line("warning", one_line(warning)),
        )
        server.run(lambda addresses: print_error_line("serving", ", ".join(addresses)))
    except SettingsError as error:
        raise _refused(error) from error
    except OSError as error:
        raise usage(
            f"cannot serve: {error.strerror or error}", _PLACES.get(error.errno, _ELSEWHERE), "serve.address"
        ) from error
    return Result("", {})


def _settings(session: Session, flags: Mapping[str, Any]) -> "Settings":
    from capability.sidecar.settings import SettingsError

    try:
        return _read(session, flags)
    except SettingsError as error:
        raise _refused(error) from error


def _reread(session: Session, flags: Mapping[str, Any]) -> "Settings":
    """Returns what the files say now; raises SettingsError for whatever is wrong with them."""
    from capability.sidecar.settings import SettingsError

    try:
        return _read(session.anew(), flags)
    except Failure as error:
        raise SettingsError(error.message) from error


def _read(session: Session, flags: Mapping[str, Any]) -> "Settings":
    from capability.errors import ConfigurationError
    from capability.sidecar.configured import Flags, configured

    if flags["store"] not in (None, NO_STORE):
        url_for_reading(session, flags["store"])
    try:
        return configured(os.environ, session.config, session.prefixes, Flags(**flags))
    except ConfigurationError as error:
        raise usage(str(error), error.hint, error.code) from error


def _check_packages(settings: "Settings") -> None:
    """Raises Failure where a package is missing without which what is configured cannot be served."""
    from capability.sidecar.packages import missing, needed

    package = missing(needed(settings))
    if package is not None:
        raise usage(package.lack, package.hint, "sidecar.missing")


def _refused(error: Exception) -> Failure:
    return Failure(Exit.USAGE, "serve.settings", str(error), _HINT)
