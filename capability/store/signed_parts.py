"""The bytes of signed revocations: written, and read back only after the signature was verified.

spec/REVOCATIONS.md says what each byte is. A file is one part or several: a full list, and after it deltas,
each of which begins at the revision where the one before ends.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from capability.errors import SignatureError, SignedRevocationsError
from capability.keys import Algorithm, PublicKey, Signer
from capability.keyset import KeySet, KeyState
from capability.store.index import Packed, bits_for

WIDTH: Final = 12
"""Bytes of an id's digest in a file. Fewer would do against chance; against somebody who looks for an id that
takes one of a million others with it, 96 bits leave 2 ** 76 to try.
"""

VERSION: Final = 1
_MAGIC: Final = b"caprev"
_CONTEXT: Final = b"\0CAPABILITY\0REVOCATIONS\0"
"""What a signature begins with: no payload of a token does, so neither can pass for the other."""

_FRAME: Final = struct.Struct(">6sHBBQ")
_BODY: Final = struct.Struct(">BQQQQQ")
_FULL: Final = 0
_DELTA: Final = 1
_MAX_NUMBER: Final = 2**63 - 1
_MAX_NAME: Final = 255
"""Bytes of a list's name, which is UTF-8."""


@dataclass(frozen=True, slots=True)
class Part:
    """A full list of what is revoked at `revision`, or with `base` what came after that revision.

    `name` tells the lists of several stores apart that one key signs. `issued` and `valid_until` are in whole
    seconds since 1970. `digests` are the first 12 bytes of each.
    """

    name: str
    base: int | None
    revision: int
    issued: int
    valid_until: int
    digests: Packed


def write(part: Part, signer: Signer) -> bytes:
    """Returns the bytes of a part, signed. Raises ValueError for numbers or a name that cannot be."""
    name = part.name.encode()
    if len(name) > _MAX_NAME:
        raise ValueError(f"the name of a list has at most {_MAX_NAME} bytes")
    numbers = (part.base or 0, part.revision, part.issued, part.valid_until)
    if not all(0 <= number <= _MAX_NUMBER for number in numbers):
        raise ValueError("a revision or a time is out of range")
    if part.valid_until <= part.issued or (part.base or 0) > part.revision:
        raise ValueError("a list ends after it begins, and a delta does not go back")
    if (part.digests.width, part.digests.compact) != (WIDTH, True):
        raise ValueError(f"a file holds compact digests of {WIDTH} bytes")
    kind = _FULL if part.base is None else _DELTA
    body = b"".join(
        (
            _BODY.pack(kind, *numbers, len(part.digests)),
            bytes([len(name)]),
            name,
            _table(part.digests),
            part.digests.data,
        )
    )
    algorithm = signer.public_key.algorithm
    signature = signer.sign(_message(algorithm, body))
    return _FRAME.pack(_MAGIC, VERSION, algorithm, len(signature), len(body)) + signature + body


def read(data: bytes, keys: PublicKey | KeySet, *, now: float) -> list[Part]:
    """Returns the parts of a file, each signed by one of `keys`, and each fit to follow the one before.

    Until a signature was verified nothing is done with its part but to hash it. Keys of a set that are
    retired by `now` sign nothing. Raises SignedRevocationsError.
    """
    trusted = _trusted(keys, now)
    parts: list[Part] = []
    for algorithm, signature, body in _frames(data):
        message = _message(algorithm, body)
        if not any(_signed(key, message, signature) for key in trusted if key.algorithm == algorithm):
            raise SignedRevocationsError(
                "the revocations are not signed by a key that is trusted, or were altered",
                code="revocations.signature",
            )
        part = _part(body)
        if parts and part.name != parts[0].name:
            raise _malformed("the parts of the file are of several lists")
        if parts and not follows(part, parts[-1].revision, parts[-1].issued):
            raise SignedRevocationsError(
                "a part of the file does not fit the one before it", code="revocations.base"
            )
        parts.append(part)
    return parts


def follows(part: Part, revision: int, issued: int) -> bool:
    """Returns whether a part is a delta that begins at `revision`, and was not issued earlier."""
    return part.base == revision and part.issued >= issued


def is_full(data: bytes) -> bool:
    """Returns whether a file, which was read before, begins with a full list."""
    _, _, _, signature_length, _ = _FRAME.unpack_from(data)
    kind: int = data[_FRAME.size + signature_length]
    return kind == _FULL


def _frames(data: bytes) -> Iterator[tuple[int, bytes, memoryview]]:
    view, at = memoryview(data), 0
    if not data:
        raise _malformed("the file is empty")
    while at < len(data):
        if len(data) - at < _FRAME.size:
            raise _malformed("the file ends within a part")
        magic, version, algorithm, signature_length, body_length = _FRAME.unpack_from(data, at)
        if magic != _MAGIC:
            raise _malformed("these are no signed revocations")
        if version != VERSION:
            raise SignedRevocationsError(
                f"signed revocations of version {version} are not read", code="revocations.version"
            )
        if algorithm not in tuple(Algorithm):
            raise _malformed("the signature has an unknown algorithm")
        start = at + _FRAME.size
        body_start = start + signature_length
        end = body_start + body_length
        if end > len(data):
            raise _malformed("the file ends within a part")
        yield algorithm, data[start:body_start], view[body_start:end]
        at = end


def _message(algorithm: int, body: bytes | memoryview) -> bytes:
    """Returns what is signed: short, so that a key in a KMS can sign a file of any size."""
    return _CONTEXT + struct.pack(">HB", VERSION, algorithm) + sha256(body).digest()


def _signed(key: PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except SignatureError:
        return False
    return True


def _trusted(keys: PublicKey | KeySet, now: float) -> list[PublicKey]:
    if isinstance(keys, PublicKey):
        return [keys]
    at = datetime.fromtimestamp(now, UTC)
    return list(dict.fromkeys(entry.key for entry in keys if entry.state(at) is not KeyState.RETIRED))


def _part(body: memoryview) -> Part:
    if len(body) <= _BODY.size:
        raise _malformed("a part is too short")
    kind, base, revision, issued, valid_until, count = _BODY.unpack_from(body)
    if kind not in (_FULL, _DELTA) or (kind == _FULL and base):
        raise _malformed("a part is of an unknown kind")
    if max(revision, issued, valid_until) > _MAX_NUMBER or valid_until <= issued or base > revision:
        raise _malformed("the numbers of a part cannot be")
    start = _BODY.size + 1 + body[_BODY.size]
    try:
        name = str(body[_BODY.size + 1 : start], "utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("the name of a part is not UTF-8") from error
    bits = bits_for(count)
    table_end = len(body) - count * (WIDTH - bits // 8)
    # one byte at least for each count: so what is allocated below is never more than a part's own length
    if table_end - start < 1 << bits:
        raise _malformed("a part is shorter than the ids that it names")
    counts = _read_counts(bytes(body[start:table_end]))
    if len(counts) != 1 << bits or sum(counts) != count:
        raise _malformed("the table of a part is wrong")
    packed = Packed(counts, bytes(body[table_end:]), bits, WIDTH, compact=True)
    return Part(name, base if kind == _DELTA else None, revision, issued, valid_until, packed)


def _read_counts(table: bytes) -> Sequence[int]:
    """Returns numbers in LEB128, which are single bytes unless somebody made ids to crowd one place."""
    if table.isascii():
        return table
    counts, number, shift = array("Q"), 0, 0
    for byte in table:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            if byte == 0 and shift > 7:
                break  # a number has one form
            counts.append(number)
            number = shift = 0
        elif shift > 56:
            break
    else:
        if not shift:
            return counts
    raise _malformed("the table of a part is wrong")


def _table(digests: Packed) -> bytes:
    """Returns how many digests there are for each value of the first bits, in LEB128."""
    counts = array("Q", digests.counts())
    return bytes(counts.tolist()) if max(counts) < 128 else b"".join(map(_leb128, counts))


def _leb128(number: int) -> bytes:
    """Returns a number in groups of seven bits, the lowest first, the last of them below 128."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _malformed(message: str) -> SignedRevocationsError:
    return SignedRevocationsError(message, code="revocations.format")
