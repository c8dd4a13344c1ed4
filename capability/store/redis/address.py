"""Where a store in Redis is, read from a URL. A password is in no text that this module makes."""

from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from capability.errors import StoreURLError

SCHEMES: Final = frozenset(
    {"redis", "rediss", "redis+unix", "valkey", "valkeys", "valkey+unix"},
)
"""The schemes of the URLs; those with an s before the colon use TLS."""

FORM: Final = "write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?prefix=...&durability=disk|memory]"

_PORT: Final = 6379
_OPTIONS: Final = frozenset({"prefix", "durability", "timeout", "ca", "cert", "key"})


@dataclass(frozen=True, slots=True)
class Address:
    """A server, a database of it, the prefix of the store's keys, and what is asked of its disk.

    `durable` says that a change counts only when it is on disk. `timeout` is in seconds. `ca`, `certificate`
    and `key` are files in PEM form: whom to trust, and who we are.
    """

    host: str = "localhost"
    port: int = _PORT
    socket: str | None = None
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    prefix: str = "cap:"
    durable: bool = True
    timeout: float = 5.0

    @classmethod
    def parse(cls, url: str) -> Self:
        """Returns what `url` means; raises StoreURLError, which shows nothing of it but the scheme."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise StoreURLError(f"the URL of the Redis store cannot be read: {FORM}") from None
        if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
            raise StoreURLError(f"this is no URL of a Redis store: {FORM}")
        if parts.fragment or "#" in url:
            raise StoreURLError(
                "a # in a password is written %23, and a URL of a Redis store has no fragment"
            )
        options = _options(parts.query)
        unix = parts.scheme.endswith("+unix")
        if unix and (parts.hostname or len(parts.path) < 2):
            raise StoreURLError(f"a {parts.scheme} URL has the socket's absolute path: redis+unix:///PATH")
        durability = options.get("durability", "disk")
        if durability not in ("disk", "memory"):
            raise StoreURLError("the durability of a Redis store is disk or memory")
        prefix = options.get("prefix", "cap:")
        if not prefix.isprintable() or not prefix:
            raise StoreURLError("the prefix of a Redis store is printable text")
        tls = parts.scheme in ("rediss", "valkeys")
        if not tls and options.keys() & {"ca", "cert", "key"}:
            raise StoreURLError("ca, cert and key are for TLS: write rediss://")
        return cls(
            host=parts.hostname or "localhost",
            port=_PORT if port is None else port,
            socket=unquote(parts.path) if unix else None,
            database=0 if unix else _database(parts.path),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=tls,
            ca=options.get("ca"),
            certificate=options.get("cert"),
            key=options.get("key"),
            prefix=prefix,
            durable=durability == "disk",
            timeout=_timeout(options.get("timeout", "5")),
        )

    def __str__(self) -> str:
        """Returns which server is meant, for messages: no user, no password."""
        if self.socket is not None:
            return f"the Redis server at {self.socket!r}"
        return f"the Redis server at {self.host}:{self.port}"


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise StoreURLError(f"the parameters of the Redis URL cannot be read: {FORM}") from None
    options = dict(pairs)
    # Not even the name of an unknown one is shown: it may be the rest of a password with a ? in it.
    if len(options) != len(pairs) or not options.keys() <= _OPTIONS:
        raise StoreURLError(f"a Redis URL has only these parameters: {', '.join(sorted(_OPTIONS))}")
    return options


def _database(path: str) -> int:
    text = path.removeprefix("/")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise StoreURLError(f"the database of a Redis URL is a number: {FORM}")
    return int(text)


def _timeout(text: str) -> float:
    try:
        timeout = float(text)
    except ValueError:
        timeout = 0.0
    if not 0.1 <= timeout <= 600:
        raise StoreURLError("the timeout of a Redis store is between 0.1 and 600 seconds")
    return timeout
