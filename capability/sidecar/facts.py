"""What a policy is told of an HTTP request: raw facts, which its rules map to operations and resources.

| fact | meaning |
| --- | --- |
| `http_method("GET")` | the method, as it came |
| `http_path("/orders/7")` | the path, as it came, without the query |
| `http_path_segment(0, "orders")` | what stands between the slashes, from 0 on |
| `http_query("page", "2")` | a parameter of the query, decoded; one fact for each |
| `http_host("api.example.com")` | the host without the port, in lower case |
| `client_ip("192.0.2.1")` | the client, where the proxy of this listener tells |
| `http_header("x-tenant", "acme")` | a header that was chosen in the configuration, name in lower case |

What the configuration says of a route, `application(...)` and `tenant(...)`, is part of its policy.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from capability.guard import Guard, RequestForm
from capability.sidecar.messages import BadRequest
from capability.sidecar.paths import Target
from capability.sidecar.profiles import Original

Stated: TypeAlias = tuple[Any, ...]
"""The values of a request's facts, in the order in which `form` declares them."""

_ONCE: Final = (("http_method", str), ("http_path", str), ("http_host", str))
_SEVERAL: Final = (
    ("client_ip", str),
    ("http_path_segment", int, str),
    ("http_query", str, str),
    ("http_header", str, str),
)


def form(guard: Guard) -> RequestForm:
    """Returns the form in which requests are asked of a guard; it takes what `state` returns."""
    return guard.form(*_ONCE, several=_SEVERAL)


def state(
    original: Original, target: Target, host: str, found: Mapping[bytes, bytes], chosen: Sequence[bytes]
) -> Stated:
    """Returns the facts of a request; `host` is without the port.

    Raises BadRequest for a chosen header that is no UTF-8.
    """
    method, _, _, client = original
    headers = []
    for name in chosen:
        if name in found:
            try:
                headers.append((name.decode("ascii"), found[name].decode()))
            except UnicodeDecodeError as error:
                raise BadRequest("request.header", "a header of the request is not UTF-8") from error
    path, segments, parameters = target
    return (
        method,
        path,
        host,
        () if client is None else ((client,),),
        segments,
        parameters,
        tuple(headers),
    )
