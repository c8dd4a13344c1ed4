"""Revoked ids in little memory: what a verifier holds that follows a store's feed.

Each id is kept as 16 bytes of its SHA-256. The known ones lie sorted in one blob, with a table of offsets
that says where hashes with the same first bits begin, about four for each; what has come since is a small
set, which is merged into the blob when it has grown. Two ids with the same 128 bits would be taken for one,
in the safe direction: one that is not revoked is refused.
"""

from array import array
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Final

SIZE: Final = 16
"""Bytes of a hash that are kept."""

MERGE_FROM: Final = 4_096
"""Ids in the set from which on it is merged; a larger blob waits for more, so that merging stays rare."""

_SET_BYTES: Final = 91
"""What an id takes in a set, table and object."""


class RevocationIndex:
    """A set of revoked ids that only grows. One thread adds, any number look up.

    >>> index = RevocationIndex()
    >>> index.add([b"some id"])
    >>> b"some id" in index, b"another" in index, len(index)
    (True, False, 1)
    """

    __slots__ = ("_state",)

    def __init__(self) -> None:
        # Swapped as one, so that a look-up never sees a blob and a set that do not belong together.
        self._state: tuple[frozenset[bytes], bytes, array[int], int] = (frozenset(), *_packed([]))

    def add(self, revocation_ids: Iterable[bytes]) -> None:
        """Adds ids; those that are there already change nothing."""
        recent, data, starts, shift = self._state
        recent |= {sha256(each).digest()[:SIZE] for each in revocation_ids if each not in self}
        if len(recent) >= max(MERGE_FROM, len(data) // SIZE // 32):
            old = (data[start : start + SIZE] for start in range(0, len(data), SIZE))
            data, starts, shift = _packed(sorted((*old, *recent)))
            recent = frozenset()
        self._state = recent, data, starts, shift

    def first(self, revocation_ids: Sequence[bytes]) -> bytes | None:
        """Returns the first of `revocation_ids` that is held, or None."""
        for each in revocation_ids:
            if each in self:
                return each
        return None

    def __contains__(self, revocation_id: bytes) -> bool:
        key = sha256(revocation_id).digest()[:SIZE]
        recent, data, starts, shift = self._state
        bucket = int.from_bytes(key[:4], "big") >> shift
        end = starts[bucket + 1] * SIZE
        at = data.find(key, starts[bucket] * SIZE, end)
        while at > 0 and at % SIZE:  # what lies across two hashes is none
            at = data.find(key, at + 1, end)
        return at >= 0 or key in recent

    def __len__(self) -> int:
        recent, data, _, _ = self._state
        return len(data) // SIZE + len(recent)

    def nbytes(self) -> int:
        """Returns about how many bytes the ids take, with all that is needed to find them."""
        recent, data, starts, _ = self._state
        return len(data) + starts.itemsize * len(starts) + len(recent) * _SET_BYTES


def _packed(hashes: Sequence[bytes]) -> "tuple[bytes, array[int], int]":
    """Returns sorted hashes as one blob, where those of each bucket begin, and the shift to a bucket."""
    bits = min(max(len(hashes).bit_length() - 2, 1), 31)
    shift = 32 - bits
    counts = array("I", bytes(4 << bits))
    for each in hashes:
        counts[int.from_bytes(each[:4], "big") >> shift] += 1
    return b"".join(hashes), array("I", accumulate(counts, initial=0)), shift
