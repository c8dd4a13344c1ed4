"""A bounded map that keeps what was used last."""

from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds now (entries, bytes), what it may hold, and how often it knew the answer.

    Hits and misses are counted without a lock: a few may be missing after a busy hour of many threads.
    """

    entries: int
    size: int
    max_entries: int
    max_size: int
    hits: int
    misses: int


class Cache(Generic[K, V]):
    """A map within a number of entries and of bytes, safe to use from several threads.

    Least recently used by halves: what is put in, or found, is young; when the young fill half of the
    bounds they become the old, and what was old and not asked for since is dropped. So a hit on
    a young entry costs one look-up and takes no lock.
    """

    __slots__ = (
        "_half_entries",
        "_half_size",
        "_lock",
        "_old",
        "_old_size",
        "_young",
        "_young_size",
        "hits",
        "misses",
    )

    def __init__(self, max_entries: int, max_size: int) -> None:
        """`max_size` is in bytes, as told by who puts entries in. Fewer than 2 entries are none."""
        self._half_entries = max(0, max_entries // 2)
        self._half_size = max(0, max_size // 2)
        self._lock = Lock()
        self.hits = 0
        self.misses = 0
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._young_size = 0
        self._old_size = 0

    def get(self, key: K) -> V | None:
        """Returns what is known of `key`, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                self.misses += 1
                return None
            self.put(key, *found)
        self.hits += 1
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Remembers `value`, which takes `size` bytes;
        one that is larger than half of the bounds is not kept.
        """
        if size > self._half_size or not self._half_entries:
            return
        with self._lock:
            before = self._young.get(key)
            self._young[key] = (value, size)
            self._young_size += size - (before[1] if before is not None else 0)
            if len(self._young) > self._half_entries or self._young_size > self._half_size:
                last = self._young.pop(key)
                self._old, self._old_size = self._young, self._young_size - last[1]
                self._young, self._young_size = {key: last}, last[1]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._young, self._old = {}, {}
            self._young_size = self._old_size = 0

    def stats(self) -> CacheStats:
        """Returns what the cache holds and how often it helped.

        An entry that is young and old counts twice.
        """
        return CacheStats(
            len(self._young) + len(self._old),
            self._young_size + self._old_size,
            2 * self._half_entries,
            2 * self._half_size,
            self.hits,
            self.misses,
        )
