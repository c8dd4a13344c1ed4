"""The token of an HTTP request (RFC 6750 section 2.1): one Authorization header, and one token in it.

Whatever could be read in two ways is refused: of two tokens, one program would check the first, and the next
one use the second.
"""

import re
from collections.abc import Iterable
from typing import Final

AUTHORIZATION: Final = "authorization"
API_KEY: Final = "x-api-key"

_SCHEME: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?: +(.*))?", re.DOTALL)
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class MalformedRequest(Exception):
    """The request's credentials can be read in no way, or in two. The message holds nothing of them."""


def bearer_token(values: Iterable[str]) -> str | None:
    """Returns the token of the `Authorization` headers' `values`, None where there is none.

    Another scheme is no token of ours. Raises MalformedRequest for several headers, also when a proxy joined
    them by a comma, and for a Bearer scheme that is not followed by exactly one token.

    >>> bearer_token(["bearer En0KEwoE"])
    'En0KEwoE'
    """
    headers = list(values)
    if not headers:
        return None
    if len(headers) > 1:
        raise MalformedRequest("there is more than one Authorization header")
    value = headers[0].strip(" \t")
    scheme = _SCHEME.fullmatch(value)
    if scheme is None:
        raise MalformedRequest("the Authorization header is malformed")
    if scheme[1].lower() != "bearer":
        if re.search(r",\s*bearer\s", value, re.IGNORECASE):
            raise MalformedRequest("the Authorization header holds more than one credential")
        return None
    if scheme[2] is None or _TOKEN.fullmatch(scheme[2]) is None:
        raise MalformedRequest("the Authorization header does not hold exactly one token")
    return scheme[2]


def request_token(headers: Iterable[tuple[str, str]], *, api_key: bool = False) -> str | None:
    """Returns the token of a request by all its headers, as `bearer_token`.

    With `api_key` the token may also come in X-API-Key, but not in both. Names are compared as proxies and
    servers do that write `_` for `-`: a second spelling of a header that is read here is refused.
    """
    authorization: list[str] = []
    keys: list[str] = []
    for name, value in headers:
        lower = name.lower()
        if lower == AUTHORIZATION:
            authorization.append(value)
        elif api_key and lower == API_KEY:
            keys.append(value)
        elif api_key and lower.replace("_", "-") == API_KEY:
            raise MalformedRequest("a header's name is another spelling of X-API-Key")
    token = bearer_token(authorization)
    if not keys:
        return token
    if len(keys) > 1 or authorization:
        raise MalformedRequest("there is more than one credential")
    if _TOKEN.fullmatch(keys[0].strip(" \t")) is None:
        raise MalformedRequest("the X-API-Key header does not hold exactly one token")
    return keys[0].strip(" \t")
