"""The last good copy of what a sidecar follows, in a folder, for a start while its sources are down.

What the copies say is believed because of where they lie: a folder and files that nobody but their owner can
write. One that is missing, damaged or of another place is as good as none. One that cannot be written is
counted and warned of, and holds up nothing.
"""

import contextlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

EVERY: Final = 5.0
"""Seconds at least between two writes of the same copy."""

_VERSION: Final = 1
_DIGEST: Final = 64
_HEAD: Final = 1024
"""Bytes that a copy may have beside its content."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What a source said: its `content` at `revision`, `heard` of at this time in seconds since 1970.

    `digest` is that of all of it, by which one copy may name another.
    """

    content: bytes
    revision: int
    heard: float
    digest: str


class Folder:
    """A folder of copies, which is made where it is missing; only with `writes` is anything written there.

    `warn` is told once of each reason why one could not be used.
    """

    def __init__(self, path: str, *, writes: bool, warn: Callable[[str], None]) -> None:
        self.path = Path(path)
        self.writes = writes
        self.failures = 0
        """How often a copy could not be read or written."""
        self._warn = warn
        self._warned: set[str] = set()

    def slot(self, name: str, place: str, max_bytes: int) -> "Slot":
        """Returns where the copy of a source is, of `max_bytes` at most; `place` tells sources apart."""
        return Slot(self, name, place, max_bytes)

    def problem(self) -> str | None:
        """Returns why no copy can be kept in a folder that is there, as far as is seen without trying."""
        try:
            _check_folder(self.path)
        except FileNotFoundError:
            return None  # it is made, or who starts the sidecar makes it
        except (OSError, _Unusable) as error:
            return f"no copy can be kept in {str(self.path)!r}: {_reason(error)}"
        return None

    def failed(self, problem: str) -> None:
        """Counts, and warns of, a copy that could not be used."""
        self.failures += 1
        if problem not in self._warned:
            self._warned.add(problem)
            self._warn(problem)


class Slot:
    """One copy of one source. It is of another source when `place` is another, and then not used."""

    def __init__(self, folder: Folder, name: str, place: str, max_bytes: int) -> None:
        self._folder = folder
        self._path = folder.path / name
        self._of = sha256(place.encode()).hexdigest()
        self._max_bytes = max_bytes

    @property
    def writes(self) -> bool:
        """Whether this process writes it."""
        return self._folder.writes

    def read(self) -> Copy | None:
        """Returns the copy; None where there is none that can be used, of which it warns."""
        try:
            _check_folder(self._folder.path)
            return self._parsed(self._bytes())
        except FileNotFoundError:
            return None
        except (OSError, MemoryError, _Unusable) as error:
            self.refused(_reason(error))
            return None

    def keep(self, content: bytes, revision: int, heard: float) -> str | None:
        """Writes a copy, whole or not at all; returns its digest, None where it was not written."""
        if not self.writes:
            return None
        head = json.dumps({"version": _VERSION, "of": self._of, "revision": revision, "heard": heard})
        body = head.encode() + b"\n" + content
        digest = sha256(body).hexdigest()
        try:
            with contextlib.suppress(FileExistsError):
                self._folder.path.mkdir(mode=0o700)
            _check_folder(self._folder.path)
            _replace(self._path, digest.encode() + b"\n" + body)
        except (OSError, _Unusable) as error:
            self._folder.failed(f"the copy {str(self._path)!r} cannot be written: {_reason(error)}")
            return None
        return digest

    def refused(self, reason: str) -> None:
        """Counts and warns that the copy is not gone by."""
        self._folder.failed(f"the copy {str(self._path)!r} is not used: {reason}")

    def _bytes(self) -> bytes:
        # a link would lead to a file that lies elsewhere, and a pipe would never end
        handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise _Unusable("it is no file")
            _check_owner(found, "it")
            if found.st_size > self._max_bytes + _HEAD:
                raise _Unusable("it is too long")
            return file.read(self._max_bytes + _HEAD)

    def _parsed(self, data: bytes) -> Copy | None:
        digest, body = data[:_DIGEST], data[_DIGEST + 1 :]
        if sha256(body).hexdigest().encode() != digest:
            raise _Unusable("it is damaged")
        line, _, content = body.partition(b"\n")
        try:
            head = json.loads(line)
            if head["version"] != _VERSION:
                raise _Unusable("it is of another version")
            copy = Copy(content, int(head["revision"]), float(head["heard"]), digest.decode())
            if not math.isfinite(copy.heard):
                raise _Unusable("it is damaged")  # no age would be too great
            return copy if head["of"] == self._of else None
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise _Unusable("it is damaged") from error


class _Unusable(Exception):
    """Why a copy is not used."""


def _check_folder(path: Path) -> None:
    found = os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise _Unusable("its folder is none")
    _check_owner(found, "its folder")


def _check_owner(found: os.stat_result, what: str) -> None:
    """Raises _Unusable for what others can write: they would choose who is let in."""
    if found.st_uid not in (os.geteuid(), 0):
        raise _Unusable(f"{what} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _Unusable(f"{what} can be written by others than its owner")


def _replace(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600, also when the machine stops meanwhile the old one or the new."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _reason(error: OSError | MemoryError | _Unusable) -> str:
    if isinstance(error, _Unusable):
        return str(error)
    words = getattr(error, "strerror", None) or type(error).__name__
    return str(words).lower()
