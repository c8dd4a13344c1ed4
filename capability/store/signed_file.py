"""Takes each newer list that somebody puts in the place of a file of signed revocations."""

import os
import threading
from typing import Self

from capability.errors import StoreError
from capability.store.signed import SignedRevocations


class FileWatcher:
    """Reloads `source`, which was loaded from a file, within `interval` seconds of the file's replacement.

    As a context manager. What is refused changes nothing, is counted, and is looked at again when the file
    changes; past its valid until the list that is known answers nothing any more.
    """

    def __init__(self, source: SignedRevocations, *, interval: float = 1.0) -> None:
        """Raises ValueError for revocations that were not loaded from a file."""
        if source.path is None:
            raise ValueError("these revocations were not loaded from a file")
        self._source = source
        self._path = source.path
        self._interval = interval
        self._taken: tuple[int, ...] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failures = 0
        """Files that were refused or could not be read so far."""

    def look(self) -> None:
        """Reloads the file if it is another one than before; raises StoreError where it is refused."""
        mark = self._mark()
        if mark is None or mark == self._taken:
            return
        try:
            self._source.reload()
        except StoreError:
            self.failures += 1
            raise
        finally:
            self._taken = mark  # taken before: who replaces it meanwhile makes another mark

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, name="cap-revocations", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self.look()
            except StoreError:
                continue  # counted; what is known stays in force until it ends

    def _mark(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None  # somebody is about to put another there, or never will, and the list ends
        return found.st_ino, found.st_mtime_ns, found.st_size
