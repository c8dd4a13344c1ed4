"""What each proxy sends to a check, and what it makes of an answer.

A profile is trusted only on a listener that was declared for that proxy, and only the headers that this proxy
sets itself are read: whatever else a client sends under such a name means nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from capability.sidecar.messages import BadRequest, Headers

AUTHORIZATION: Final = b"authorization"
API_KEY: Final = b"x-api-key"
MIN_REVISION: Final = b"x-cap-min-revision"

_MAPPED: Final = "::ffff:"
"""What a socket of both families writes before an IPv4 address; policies compare texts."""

_MAX_MEANINGS: Final = 1024
_MAX_NAME: Final = 64
"""How many names of headers are remembered, and how long they may be: clients choose them."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the original request stands in a check request; None: in the check request itself.

    `client` holds the address of the client at its end: a proxy appends to what it received.
    `statuses` are answers that the proxy would turn into an error of its own, and what it gets instead.
    """

    name: str
    method: bytes | None = None
    target: bytes | None = None
    host: bytes = b"host"
    client: bytes | None = None
    statuses: dict[int, int] = field(default_factory=dict)


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("plain"),
        # Envoy appends its own address to the X-Forwarded-For of a check
        Profile("envoy", client=b"x-real-ip"),
        # nginx makes 500 of every status but 2xx, 401 and 403
        Profile(
            "nginx",
            method=b"x-original-method",
            target=b"x-original-uri",
            host=b"x-original-host",
            client=b"x-real-ip",
            statuses={400: 401},
        ),
        Profile(
            "traefik",
            method=b"x-forwarded-method",
            target=b"x-forwarded-uri",
            host=b"x-forwarded-host",
            client=b"x-forwarded-for",
        ),
        Profile(
            "caddy",
            method=b"x-forwarded-method",
            target=b"x-forwarded-uri",
            host=b"x-forwarded-host",
            client=b"x-forwarded-for",
        ),
        Profile(
            "haproxy",
            method=b"x-original-method",
            target=b"x-original-uri",
            host=b"x-original-host",
            client=b"x-real-ip",
        ),
    )
}
"""The profiles by the word of `--behind`."""


def _said_by() -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {}
    for profile in PROFILES.values():
        if profile.target is not None:
            found.setdefault(profile.target, []).append(profile.name)
    return found


_SAID_BY: Final = _said_by()
"""Which proxies say the original URI in a header."""


class Original(NamedTuple):
    """The request that a client sent to the proxy. `client` is its address, None where nobody tells."""

    method: str
    target: str
    host: str
    client: str | None


class Reader:
    """Takes the headers apart that mean something, in one pass, and refuses what is said twice.

    `chosen` are more headers, whose values are stated as facts. `answered` are names that the answer sets:
    an alias of one (`x_cap_subject`) would reach the service as if it were ours, and is refused as well.
    `odd` is told of a sign that another proxy asks than the one that was declared, and that all its requests
    are therefore read as one: it may be a client's doing, so it decides nothing.
    """

    def __init__(
        self,
        profile: Profile,
        chosen: frozenset[bytes],
        answered: frozenset[bytes],
        *,
        api_key: bool,
        odd: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self.profile = profile
        self._odd = odd
        own = (profile.method, profile.target, profile.host, profile.client)
        names = {AUTHORIZATION, MIN_REVISION, *chosen, *(each for each in own if each is not None)}
        self._read = frozenset(names | {API_KEY} if api_key else names)
        self._guarded = self._read | answered
        self._meanings: dict[bytes, bytes | None] = {}
        """What a name means, by how it was written: None where it means nothing."""

    def read(self, headers: Headers) -> dict[bytes, bytes]:
        """Returns the headers that mean something by their names in lower case; raises BadRequest."""
        found: dict[bytes, bytes] = {}
        meanings = self._meanings
        for written, value in headers:
            try:
                name = meanings[written]
            except KeyError:
                name = self._meaning(written)
            if name is None:
                continue
            if name in found:
                raise BadRequest("request.header", f"the request has {_shown(name)} twice")
            found[name] = value
        return found

    def _meaning(self, written: bytes) -> bytes | None:
        """Returns the name in lower case if it means something; raises BadRequest for an alias."""
        name = written.lower()
        meaning = name if name in self._read else None
        if meaning is None and b"_" in name and name.replace(b"_", b"-") in self._guarded:
            raise BadRequest("request.alias", f"the request has an alias of {_shown(name)}")
        if self.profile.target is None and name in _SAID_BY:
            asks = " or ".join(_SAID_BY[name])
            self._odd(
                f"a request has {_shown(name)}, which is not read here: if {asks} asks, say so (behind)"
            )
        if len(self._meanings) < _MAX_MEANINGS and len(written) <= _MAX_NAME:
            self._meanings[written] = meaning
        return meaning

    def original(self, method: str, target: str, found: dict[bytes, bytes], peer: str | None) -> Original:
        """Returns the client's request; raises BadRequest when the proxy did not say what it must."""
        profile = self.profile
        try:
            if profile.method is not None:
                method = found[profile.method].decode("ascii")
            if profile.target is not None:
                target = found[profile.target].decode("ascii")
            host = _host(found.get(b"host", b"") if profile.host == b"host" else found[profile.host])
            client = peer
            if profile.client is not None:
                said = found.get(profile.client)
                client = None if said is None else said.rpartition(b",")[2].strip().decode("ascii")
            if client is not None and client.startswith(_MAPPED) and "." in client:
                client = client.removeprefix(_MAPPED)
        except KeyError as error:
            name = _shown(error.args[0])
            raise BadRequest("request.proxy", f"the proxy did not send {name}, see docs/proxies.md") from None
        except UnicodeDecodeError:
            raise BadRequest("request.header", "a header of the request is not ASCII") from None
        # as Original(...) does, in less than half of the time
        return tuple.__new__(Original, (method, target, host, client))


@lru_cache(maxsize=256)
def _host(value: bytes) -> str:
    return value.decode("ascii").lower()


def _shown(name: bytes) -> str:
    return name.decode("ascii", "replace")
