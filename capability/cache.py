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

    Least recently used by halves: what is put in is young. When the young fill half of the bounds they become
    the last of the old; an old entry that is found is young again. Dropped are the first of the old, one by
    one, and only when the bounds are used up: nobody asked for those while half of the bounds came and went.
    So a hit on a young entry costs one look-up and takes no lock.
    """

    __slots__ = (
        "_last",
        "_lock",
        "_max_entries",
        "_max_size",
        "_old",
        "_order",
        "_size",
        "_young",
        "_young_size",
        "hits",
        "misses",
    )

    def __init__(self, max_entries: int, max_size: int) -> None:
        """`max_size` is in bytes, as told by who puts entries in. Fewer than 2 entries are none."""
        self._max_entries = max_entries if max_entries > 1 else 0
        self._max_size = max(0, max_size)
        self._lock = Lock()
        self.hits = 0
        self.misses = 0
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        # the keys of the old, the first of them last; those that became young again are in it still
        self._order: list[K] = []
        self._size = 0
        self._young_size = 0
        self._last: tuple[V, int] | None = None

    def get(self, key: K) -> V | None:
        """Returns what is known of `key`, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._rejuvenated(key)
            if found is None:
                self.misses += 1
                return None
        self.hits += 1
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Remembers `value`, which takes `size` bytes;
        one that is larger than half of the bounds is not kept.
        """
        if size > self._max_size // 2 or not self._max_entries:
            return
        entry = (value, size)
        with self._lock:
            # of entries that are all alike there is one
            if self._last is not None and value is self._last[0] and size == self._last[1]:
                entry = self._last
            self._last = entry
            before = self._young.pop(key, None)
            if before is not None:
                self._young_size -= before[1]
            else:
                before = self._old.pop(key, None)
            if before is not None:
                self._size -= before[1]
            self._size += size
            while self._size > self._max_size or len(self._young) + len(self._old) >= self._max_entries:
                self._drop_one()
            self._add(key, entry)

    def _rejuvenated(self, key: K) -> tuple[V, int] | None:
        """Returns the entry of a `key` that is old, which makes it young."""
        if key not in self._old:
            return None
        with self._lock:
            found = self._old.pop(key, None)
            if found is None:
                return self._young.get(key)
            self._add(key, found)
            return found

    def _add(self, key: K, entry: tuple[V, int]) -> None:
        self._young[key] = entry
        self._young_size += entry[1]
        if 2 * len(self._young) > self._max_entries or 2 * self._young_size > self._max_size:
            self._age()

    def _age(self) -> None:
        # a new dict, so that one which is being read is never without an entry that it has
        self._old = {**self._old, **self._young}
        self._young, self._young_size = {}, 0
        self._order = list(self._old)
        self._order.reverse()

    def _drop_one(self) -> None:
        if not self._old:
            self._age()
        dropped = self._old.pop(self._order.pop(), None)
        if dropped is not None:
            self._size -= dropped[1]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._young, self._old, self._order = {}, {}, []
            self._size = self._young_size = 0
            self._last = None

    def stats(self) -> CacheStats:
        """Returns what the cache holds and how often it helped."""
        return CacheStats(
            len(self._young) + len(self._old),
            self._size,
            self._max_entries,
            self._max_size,
            self.hits,
            self.misses,
        )
