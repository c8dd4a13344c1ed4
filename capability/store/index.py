"""Revoked ids in little memory: what a verifier holds that does not ask a store.

Of each id its digest is kept (`capability.revocation.digest`), or the first bytes of that. The known ones
lie sorted in one blob, with a table of where those with the same first bits begin, two to four for each. What
has come since is a small set, which is merged into the blob when it has grown. Two ids with the same digest
would be taken for one, in the safe direction: one that is not revoked is refused.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, pairwise
from typing import Final

from capability.revocation import DIGEST_SIZE, RevocationIds, digest, empty_digest

MERGE_FROM: Final = 4_096
"""Digests in the set from which on it is merged; a larger blob waits for more, so that merging stays rare."""

_AT_ONCE: Final = 1 << 18
"""Digests that are taken before they are merged, where many come at once."""

_number: Final = int.from_bytes

_SET_BYTES: Final = 91
"""What a digest takes in a set, table and object."""


class Packed:
    """Sorted digests of `width` bytes as one blob, without their first `skip` bytes. It never changes.

    `starts[n]` is where in `data` those begin whose first `bits` bits are the number n: so whole bytes of
    these bits need not be there again. Leaving them out saves two bytes an id and costs a look-up 60 ns.
    """

    __slots__ = ("bits", "compact", "data", "part", "shift", "skip", "starts", "width")

    def __init__(self, counts: Iterable[int], data: bytes, bits: int, width: int, *, compact: bool) -> None:
        """`counts` are how many digests there are for each value of the first `bits` bits.

        A compact one leaves out the bytes that the table tells.
        """
        self.data = data
        self.bits = bits
        self.width = width
        self.compact = compact
        self.skip = skip = bits // 8 if compact else 0
        self.shift = 8 * DIGEST_SIZE - bits
        self.part = None if (skip, width) == (0, DIGEST_SIZE) else slice(skip, width)
        unit = width - skip
        code = "I" if len(data) < 1 << 32 else "Q"
        self.starts = array(code, accumulate((count * unit for count in counts), initial=0))

    @classmethod
    def of(cls, digests: Sequence[bytes], width: int, *, compact: bool) -> "Packed":
        """Packs digests of `width` bytes, which are sorted and all different."""
        bits = bits_for(len(digests))
        counts, shift, skip = array("I", bytes(4 << bits)), 8 * width - bits, bits // 8 if compact else 0
        for each in digests:
            counts[_number(each) >> shift] += 1
        return cls(counts, b"".join([each[skip:] for each in digests]), bits, width, compact=compact)

    @property
    def unit(self) -> int:
        """What a digest takes in `data`, in bytes."""
        return self.width - self.skip

    def counts(self) -> Iterator[int]:
        """Yields how many digests there are for each value of the first bits."""
        return ((end - start) // self.unit for start, end in pairwise(self.starts))

    def __contains__(self, digest: bytes) -> bool:
        bucket = _number(digest) >> 8 * self.width - self.bits
        start, end = self.starts[bucket], self.starts[bucket + 1]
        needle = digest[self.skip :]
        at = self.data.find(needle, start, end)
        while at >= 0 and (at - start) % self.unit:  # it lies across two: not this one
            at = self.data.find(needle, at + 1, end)
        return at >= 0

    def __iter__(self) -> Iterator[bytes]:
        drop = self.bits - 8 * self.skip
        for number, (start, end) in enumerate(pairwise(self.starts)):
            head = (number >> drop).to_bytes(self.skip) if self.skip else b""
            for at in range(start, end, self.unit):
                yield head + self.data[at : at + self.unit]

    def __len__(self) -> int:
        return len(self.data) // self.unit


def bits_for(count: int) -> int:
    """Returns by how many first bits `count` digests are told apart, so that two to four have the same."""
    return max(count.bit_length() - 2, 0)


class RevocationIndex:
    """A set of revoked ids that only grows. One thread adds, any number look up.

    >>> index = RevocationIndex()
    >>> index.add([b"some id"])
    >>> b"some id" in index, b"another" in index, len(index)
    (True, False, 1)
    """

    __slots__ = ("_look", "_packed", "_recent")

    def __init__(self, packed: Packed | None = None) -> None:
        """Begins with what is `packed`, and goes on in its way."""
        self._set(frozenset(), packed or Packed.of([], DIGEST_SIZE, compact=False))

    def add(self, revocation_ids: Iterable[bytes]) -> None:
        """Adds ids; those that are there already change nothing."""
        width = self._packed.width
        self.add_digests(digest(each)[:width] for each in revocation_ids)

    def add_digests(self, digests: Iterable[bytes]) -> None:
        """Adds ids by their digests, of as many bytes as this index keeps."""
        packed, recent = self._packed, self._recent
        source = iter(digests)
        while more := set(islice(source, max(_AT_ONCE, len(packed)))):
            recent |= {each for each in more if each not in packed}
            if len(recent) >= max(MERGE_FROM, len(packed) // 32):
                packed = Packed.of(sorted(chain(packed, recent)), packed.width, compact=packed.compact)
                recent = frozenset()
        self._set(recent, packed)

    def copy(self) -> "RevocationIndex":
        """Returns an index that holds the same, and goes its own way from there."""
        copied = RevocationIndex(self._packed)
        copied._set(self._recent, self._packed)
        return copied

    def covers(self, packed: Packed) -> bool:
        """Returns whether all of these digests are held, which are of as many bytes as this index keeps."""
        mine = self._packed
        if packed.data == mine.data and packed.starts == mine.starts:
            return True
        return all(each in mine or each in self._recent for each in packed)

    def holds(self, other: "RevocationIndex") -> bool:
        """Returns whether all that `other` holds is held here; both keep digests of the same width."""
        mine, recent = self._packed, self._recent
        return self.covers(other._packed) and all(each in mine or each in recent for each in other._recent)

    def digests(self) -> bytes:
        """Returns the digests, one after another, in no order that means anything."""
        packed = self._packed
        known = b"".join(packed) if packed.skip else packed.data
        return known + b"".join(self._recent)

    def first(self, revocation_ids: Sequence[bytes]) -> bytes | None:
        """Returns the first of `revocation_ids` that is held, or None."""
        # Bound in one go, and written out for both: this is what every look-up costs.
        recent, find, starts, shift, part, width = self._look
        if type(revocation_ids) is RevocationIds:
            for at, key in enumerate(revocation_ids.digests):
                bucket = _number(key) >> shift
                needle = key if part is None else key[part]
                if find(needle, starts[bucket], starts[bucket + 1]) >= 0 or (
                    recent and key[:width] in recent
                ):
                    return revocation_ids[at]
            return None
        for each in revocation_ids:
            state = empty_digest()
            state.update(each)
            key = state.digest()
            bucket = _number(key) >> shift
            needle = key if part is None else key[part]
            if find(needle, starts[bucket], starts[bucket + 1]) >= 0 or (recent and key[:width] in recent):
                return each
        return None

    def __contains__(self, revocation_id: bytes) -> bool:
        return self.first((revocation_id,)) is not None

    def __len__(self) -> int:
        return len(self._packed) + len(self._recent)

    def nbytes(self) -> int:
        """Returns about how many bytes the ids take, with all that is needed to find them."""
        packed = self._packed
        table = packed.starts.itemsize * len(packed.starts)
        return len(packed.data) + table + len(self._recent) * _SET_BYTES

    def _set(self, recent: frozenset[bytes], packed: Packed) -> None:
        self._recent, self._packed = recent, packed
        # One tuple, swapped as one: no look-up sees a blob and a set that do not belong together. What is
        # found across two digests refuses one id in 2 ** 64 that is not revoked, or fewer; none is missed.
        self._look = recent, packed.data.find, packed.starts, packed.shift, packed.part, packed.width
