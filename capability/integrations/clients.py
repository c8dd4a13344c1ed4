"""Clients: httpx and requests send a token of its own with each request.

    httpx.Client(auth=CapAuth(token, attenuate={"operation": "read"}))
    requests.get(url, auth=CapAuth(token, attenuate=to_request))

Both take any function that changes a request, so this module imports neither.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from capability.http.requests import operations_of
from capability.integrations.narrowing import AnyToken, Narrowing, TokenSource, narrowed, read
from capability.tokens import Biscuit, UnverifiedBiscuit

__all__ = ["CapAuth", "Narrowing", "to_request"]

_R = TypeVar("_R")

Attenuate: TypeAlias = Narrowing | Callable[[str, str], Narrowing]
"""What each token is narrowed to, or a function of a request's method and path that says so."""

SECONDS = 60


def to_request(method: str, path: str) -> Narrowing:
    """Narrows to one request: the operation of its method, and its path with what is below it.

    That is what the integrations for servers state unless they are told otherwise.
    """
    return {"operation": operations_of(method), "resource": path}


class CapAuth:
    """Sends with each request a token that is narrowed for it, offline, and lives for `expires` seconds.

    A server's log, or a proxy on the way, then holds nothing that is good for long. `token` is a token, or a
    function that is asked for one each time. With `origins` ("https://orders.example") a request to
    anywhere else raises ValueError instead of taking the token there: name them where the auth is a client's
    and not a request's. A sealed token cannot be narrowed: `expires=None` sends it as it is.
    """

    def __init__(
        self,
        token: TokenSource,
        *,
        attenuate: Attenuate | None = None,
        expires: float | None = SECONDS,
        origins: Iterable[str] = (),
    ) -> None:
        if isinstance(origins, str):
            raise TypeError("argument 'origins' is a list; write [...] around a single one")
        self._token = token
        self._attenuate: Attenuate = {} if attenuate is None else attenuate
        self._expires = expires
        self._origins = frozenset(_origin(each) for each in origins)
        self._last: tuple[str, Biscuit | UnverifiedBiscuit] | None = None
        if not callable(token) and not callable(self._attenuate):
            narrowed(self._read(), self._attenuate)  # a mistake is told now, not at the first request

    def __call__(self, request: _R) -> _R:
        """Puts the token of this request into its Authorization header, in place of any other."""
        sent: Any = request
        sent.headers["Authorization"] = f"Bearer {self.token_for(sent.method, str(sent.url))}"
        return request

    def token_for(self, method: str, url: str) -> str:
        """Returns the text of the token for a request; raises what `narrowed` raises."""
        if self._origins and _origin(url) not in self._origins:
            raise ValueError(
                f"a token is not taken to {_origin(url)}: it is none of the origins that were named"
            )
        words = self._attenuate
        if callable(words):
            words = words(method.upper(), unquote(urlsplit(url).path) or "/")
        if self._expires is not None and "expires" not in words:
            words = {**words, "expires": self._expires}
        return narrowed(self._read(), words).to_base64()

    def __repr__(self) -> str:
        return "<CapAuth>"

    def _read(self) -> Biscuit | UnverifiedBiscuit:
        token: AnyToken = self._token() if callable(self._token) else self._token
        if not isinstance(token, str):
            return token
        last = self._last
        if last is None or last[0] != token:
            last = self._last = (token, read(token))
        return last[1]


def _origin(url: str) -> str:
    """Returns scheme, host and port (RFC 6454); the port that the scheme implies is left out."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.hostname:
        raise ValueError(f"an origin is like https://orders.example, and {url!r} is not")
    implied = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in (None, implied) else f":{parts.port}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"
