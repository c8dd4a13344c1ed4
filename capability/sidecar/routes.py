"""Which policy decides about which requests, and what a policy lets the service know.

A policy may derive `header($name, $value)`: these go to the service when a request is allowed. Their names
are constants, so that each can be sent, empty, on every yes: a name that is missing would let a client's own
header of that name through.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from capability.datalog.program import Program
from capability.datalog.terms import STRING
from capability.guard import Guard, RequestForm
from capability.sidecar.facts import Stated, form
from capability.sidecar.messages import BadRequest
from capability.sidecar.needs import Needs

HEADER: Final = "header"
"""The predicate whose facts, where the policy derives them, become headers."""

SUBJECT: Final = b"x-cap-subject"
TENANT: Final = b"x-cap-tenant"
REVOCATION_ID: Final = b"x-cap-revocation-id"
DECISION_ID: Final = b"x-cap-decision-id"
REASON: Final = b"x-cap-reason"
IDENTITY: Final = (SUBJECT, TENANT, REVOCATION_ID, DECISION_ID)
"""What every yes tells the service."""

DEFAULT_POLICY: Final = """
operation("read") <- http_method($method), ["GET", "HEAD", "OPTIONS"].contains($method);
operation("write") <- http_method($method), ["POST", "PUT", "PATCH"].contains($method);
operation("delete") <- http_method($method), $method == "DELETE";
resource($path) <- http_path($path);
allow if operation($operation);
"""
"""The policy when none is configured: a genuine token may do what its own checks let pass.

A method that is none of these is no operation, so it is denied.
"""

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_RESERVED: Final = re.compile(
    r"connection|content-.*|cookie|date|expect|forwarded|host|keep-alive|proxy-.*|set-cookie|te|trailer"
    r"|transfer-encoding|upgrade|via|www-authenticate|x-cap-.*|x-forwarded-.*|x-original-.*|x-real-ip"
)


@dataclass(frozen=True, slots=True)
class Route:
    """The guard for requests to `host` (None: any) at `path` and below it; `name` stands in logs and metrics.

    `headers` are the names that the policy may derive, in lower case; `tells` says that it
    derives headers or a tenant at all; `source` is the policy as Datalog; `needs` tells which operations
    it makes of a request, None where it makes none.
    """

    guard: Guard
    name: str = "default"
    host: str | None = None
    path: str = "/"
    headers: tuple[bytes, ...] = ()
    tells: bool = True
    source: str = ""
    needs: Needs | None = field(default=None, repr=False)
    prefix: str = field(init=False)
    form: RequestForm = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", self.path.rstrip("/") + "/")
        object.__setattr__(self, "form", form(self.guard))

    def fits(self, host: str, path: str) -> bool:
        """True for requests that this route is for; a path ends at a `/`, so /a is not for /ab."""
        if self.host is not None and self.host != host:
            return False
        return self.prefix == "/" or path.startswith(self.prefix) or path == self.path

    def operations(self, stated: Stated) -> tuple[str, ...]:
        """Returns the operations that a request needs here, as far as the policy says so."""
        return () if self.needs is None else self.needs.operations(stated)


class Routes:
    """All routes: one for a host comes before one for any, and among these the longest path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Raises ValueError for two routes with the same host and path, and for none at all."""
        places = [(route.host, route.prefix) for route in routes]
        if len(set(places)) != len(places):
            raise ValueError("two routes have the same host and path")
        if not routes:
            raise ValueError("there is no route")
        self._routes = sorted(routes, key=lambda route: (route.host is None, -len(route.prefix)))
        only = self._routes[0]
        self._only = only if len(routes) == 1 and only.host is None and only.prefix == "/" else None
        """The one route, where that is for all requests."""
        self.by_host = any(route.host is not None for route in routes)
        """True when a request without a host could be for any of several policies."""
        self.by_path = any(route.prefix != "/" for route in routes)
        """True when a path that can be read in several ways could be for several policies, or for none."""
        self.headers = tuple(dict.fromkeys(name for route in self._routes for name in route.headers))
        """The names that any policy may derive: every yes sends all of them."""

    def find(self, host: str, path: str) -> Route | None:
        """Returns the route of a request, None when there is none; then nobody may allow it."""
        if self._only is not None:
            return self._only
        for route in self._routes:
            if route.fits(host, path):
                return route
        return None

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)


@lru_cache(maxsize=256)
def bare_host(host: str) -> str:
    """Returns a Host header's value, in lower case, without its port and the dot of a complete name.

    Raises BadRequest for what is none: a name that servers may understand differently would choose a route.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        raise BadRequest("request.host", "the host of the request cannot be read")
    name, address = found.groups()
    if address is None:
        return name or ""
    try:
        return f"[{IPv6Address(address)}]"
    except ValueError as error:
        raise BadRequest("request.host", "the host of the request cannot be read") from error


def header_names(program: Program) -> tuple[bytes, ...]:
    """Returns the headers that a policy may derive, in lower case.

    Raises ValueError for a name that is no constant, or that no policy may set: one that rules how messages
    are read, and one of the proxies' or of ours.
    """
    heads = [*program.facts, *(rule.head for rule in program.rules)]
    names: dict[bytes, None] = {}
    for head in heads:
        if head.name != HEADER:
            continue
        if len(head.terms) != 2 or head.terms[0][0] != STRING:
            raise ValueError('a header is header("Name", $value), with a name that is written out')
        name = str(head.terms[0][1])
        if _HEADER_NAME.fullmatch(name) is None or _RESERVED.fullmatch(name.lower()):
            raise ValueError(f"a policy cannot set the header {name[:40]!r}")
        names[name.lower().encode()] = None
    return tuple(names)


_HOST: Final = re.compile(r"(?:(?:([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?|\[([0-9a-f:.]+)\])(?::[0-9]{1,5})?)?")
