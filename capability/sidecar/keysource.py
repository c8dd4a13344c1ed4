"""Where the root keys come from: a key's text, a file, or an issuer's web keys over HTTPS."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from capability.errors import KeyFormatError
from capability.keys import PublicKey
from capability.keyset import KeySet

MAX_BYTES: Final = 1 << 20
TIMEOUT: Final = 5.0
"""Seconds for each step of a download."""


class KeysUnavailable(Exception):
    """The keys could not be read; what was read before still holds."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """Reads the keys at `place`: `ed25519/...`, a path, or an `https://` URL of Biscuit web keys.

    Plain `http://` is taken for the loopback only: whoever could change the answer on its way would choose
    who is let in.
    """

    place: str

    @property
    def is_remote(self) -> bool:
        """True when the keys are fetched, and may change without a file of this host changing."""
        return "://" in self.place

    def read(self) -> KeySet | PublicKey:
        """Returns the keys; raises KeysUnavailable."""
        try:
            if self.is_remote:
                return KeySet.from_json(_fetch(self.place))
            if self.place.startswith(("ed25519/", "secp256r1/")):
                return PublicKey(self.place)
            with open(self.place, "rb") as file:
                return _parse(file.read(MAX_BYTES + 1))
        except KeyFormatError as error:
            raise KeysUnavailable(f"{self._shown}: {error}") from error
        except HTTPException as error:  # a server that speaks no HTTP; the standard library's is no OSError
            raise KeysUnavailable(f"{self._shown} cannot be read: that was no answer") from error
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise KeysUnavailable(f"{self._shown} cannot be read: {str(reason).lower()}") from error

    @property
    def _shown(self) -> str:
        return "the public key" if "/" not in self.place else repr(self.place[:200])


def check_place(place: str) -> None:
    """Raises ValueError for a URL that keys are not fetched from."""
    if "://" not in place:
        return
    url = urlsplit(place)
    if url.username is not None or url.password is not None:
        raise ValueError("the URL of the keys holds a password")
    if url.scheme != "https" and not (
        url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost")
    ):
        raise ValueError("keys are fetched over https, or over http from this host")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Follows nowhere: the keys are where the operator said."""
        raise urllib.error.URLError("the server redirects, which is not followed")


def _fetch(url: str) -> bytes:
    check_place(url)
    # Over plain HTTP the answer comes from this host, and not from a proxy that the environment names.
    direct = () if url.startswith("https:") else (urllib.request.ProxyHandler({}),)
    opener = urllib.request.build_opener(_Redirects, *direct)
    with opener.open(url, timeout=TIMEOUT) as response:
        content: bytes = response.read(MAX_BYTES + 1)
    return content


def _parse(content: bytes) -> KeySet | PublicKey:
    if len(content) > MAX_BYTES:
        raise KeyFormatError("the keys are larger than 1 MiB")
    text = content.strip()
    if text.startswith(b"["):
        return KeySet.from_json(content)
    if text.startswith(b"-----BEGIN"):
        return PublicKey.from_pem(text.decode("ascii", "replace"))
    if text.startswith((b"ed25519/", b"secp256r1/")):
        return PublicKey(text.decode("ascii", "replace"))
    return PublicKey.from_der(content)
