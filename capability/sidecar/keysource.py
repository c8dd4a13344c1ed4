"""Where the root keys come from: a key's text, a file, or an issuer's web keys over HTTPS."""

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from capability.errors import KeyFormatError
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.sidecar.fetch import FetchFailed, check_url, fetch, shown
from capability.sidecar.kept import EVERY, Slot

MAX_BYTES: Final = 1 << 20
"""Bytes that are read of a file, or of an answer, that holds keys."""

LONGEST: Final = 15.0
"""Seconds for all of a download: reloads wait for it, and stricter policies with them."""


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
                check_place(self.place)
                return KeySet.from_json(fetch(self.place, MAX_BYTES, longest=LONGEST).content or b"")
            if self.place.startswith(("ed25519/", "secp256r1/")):
                return PublicKey(self.place)
            with open(self.place, "rb") as file:
                return _parse(file.read(MAX_BYTES + 1))
        except KeyFormatError as error:
            raise KeysUnavailable(f"{self._quoted}: {error}") from error
        except FetchFailed as error:
            raise KeysUnavailable(f"{self._quoted} cannot be read: {error}") from error
        except ValueError as error:  # a URL that nothing is fetched from, or a zero byte in a path
            raise KeysUnavailable(f"{self._quoted} cannot be read: it is no place of keys") from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise KeysUnavailable(f"{self._quoted} cannot be read: {reason.lower()}") from error

    @property
    def shown(self) -> str:
        """The place, as it may be told to others."""
        return shown(self.place) if self.is_remote else self.place

    @property
    def _quoted(self) -> str:
        return repr(self.shown[:200]) if "/" in self.place else "the public key"


class OldKeys(NamedTuple):
    """Keys as they were fetched by an earlier process, `age` seconds ago."""

    keys: KeySet
    age: float


class KeptKeys:
    """The copy on disk of keys that are fetched."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._kept: KeySet | PublicKey | None = None
        self._kept_at = 0.0

    def recall(self) -> OldKeys | None:
        """Returns what was kept; None where there is nothing that can be used.

        By a clock that is behind the time of the copy it is as old as the epoch: nobody knows.
        """
        copy = self._slot.read()
        if copy is None:
            return None
        now = time.time()
        try:
            return OldKeys(KeySet.from_json(copy.content), now - copy.heard if copy.heard <= now else now)
        except KeyFormatError as error:
            self._slot.refused(str(error))
            return None

    def keep(self, keys: KeySet | PublicKey) -> None:
        """Keeps keys that were just fetched: at once where they changed, else EVERY seconds at most."""
        now = time.monotonic()
        if isinstance(keys, KeySet) and (keys != self._kept or now - self._kept_at >= EVERY):
            self._slot.keep(keys.to_json().encode(), 0, time.time())
            self._kept, self._kept_at = keys, now


def check_place(place: str) -> None:
    """Raises ValueError for a URL that keys are not fetched from."""
    if "://" in place:
        check_url(place, "keys")


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
