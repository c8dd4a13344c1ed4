"""Where a listener listens: `unix:/run/cap/cap.sock`, `tcp:127.0.0.1:8181`, or `fd:NAME` from systemd."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

FORMS: Final = "write unix:/PATH, tcp:PORT, tcp:ADDRESS:PORT, or fd:NAME"
_TCP: Final = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost):)?([0-9]{1,5})")
_MAX_PATH: Final = 107


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket file; `mode` is who may connect."""

    path: str
    mode: int = 0o660

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Tcp:
    """An address and a port; 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True when only this host can connect."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A socket that systemd opened, by its FileDescriptorName."""

    name: str

    def __str__(self) -> str:
        return f"fd:{self.name}"


def parse_address(text: str, mode: int = 0o660) -> Unix | Tcp | Inherited:
    """Returns the address that `text` means; without an ADDRESS it is the loopback. Raises ValueError."""
    kind, separator, rest = text.partition(":")
    if separator and rest:
        if kind == "unix":
            if not rest.startswith("/"):
                raise ValueError(f"the path of a socket is absolute: {FORMS}")
            if len(rest.encode()) > _MAX_PATH or "\0" in rest:
                raise ValueError(f"the path of a socket has at most {_MAX_PATH} bytes")
            return Unix(rest, mode)
        if kind == "fd":
            return Inherited(rest)
        found = _TCP.fullmatch(rest) if kind == "tcp" else None
        if found is not None and int(found[2]) < 65536:
            host = (found[1] or "127.0.0.1").strip("[]")
            try:
                address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
            except ValueError as error:
                raise ValueError(f"{host!r} is no address: {FORMS}") from error
            return Tcp(str(address), int(found[2]))
    raise ValueError(f"{text[:60]!r} is no address: {FORMS}")
