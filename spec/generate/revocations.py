"""Files of signed revocations, right and wrong ones."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spec.generate.signing import Signer, ed25519, key_text, p256
from spec.generate.vectors import Vector

ALICE = ed25519("alice")
BOB = p256("bob")
CAROL = ed25519("carol")
NOW = 1_800_000_000
DAY = 86_400
IDS = [hashlib.sha512(b"id %d" % number).digest() for number in range(300)]


@dataclass(frozen=True)
class List:
    """What a part says, and how it is written; the defaults are right."""

    ids: Sequence[bytes] = ()
    name: bytes = b""
    base: int | None = None
    revision: int = 7
    issued: int = NOW
    valid_until: int = NOW + DAY
    signer: Signer = ALICE
    magic: bytes = b"caprev"
    version: int = 1
    kind: int | None = None
    count: int | None = None
    table: bytes | None = None
    context: bytes = b"\0CAPABILITY\0REVOCATIONS\0"


def leb128(number: int) -> bytes:
    """Returns a number, seven bits a byte, the lowest first."""
    out = b""
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def table_and_entries(digests: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Returns how many digests begin with each number, and the digests without the bytes that this tells."""
    bits = max(len(digests).bit_length() - 2, 0)
    counts = [0] * 2**bits
    for each in digests:
        counts[int.from_bytes(each[:8], "big") >> (64 - bits)] += 1
    return b"".join(map(leb128, counts)), b"".join(each[bits // 8 :] for each in digests)


def number(value: int) -> bytes:
    """Returns a number as eight bytes."""
    return value.to_bytes(8, "big")


def part(said: List) -> bytes:
    """Returns a part, signed."""
    digests = sorted({hashlib.blake2s(each, digest_size=16).digest()[:12] for each in said.ids})
    table, entries = table_and_entries(digests)
    kind = (0 if said.base is None else 1) if said.kind is None else said.kind
    count = len(digests) if said.count is None else said.count
    body = bytes([kind]) + number(said.base or 0) + number(said.revision)
    body += number(said.issued) + number(said.valid_until) + number(count)
    body += bytes([len(said.name)]) + said.name
    body += (table if said.table is None else said.table) + entries
    start = said.version.to_bytes(2, "big") + bytes([said.signer.public.algorithm])
    signature = said.signer.sign(said.context + start + hashlib.sha256(body).digest())
    return said.magic + start + bytes([len(signature)]) + number(len(body)) + signature + body


def vector(name: str, about: str, files: Sequence[bytes], expect: str = "ok", **more: Any) -> Vector:
    """Returns the vector of files that are taken one after the other, of which the last has the outcome."""
    out: Vector = {"name": name, "about": about, "kind": "revocations", "key": key_text(ALICE.public)}
    out |= {"now": NOW + 10, "files": [each.hex() for each in files], "expect": expect}
    return {**out, **more}


def taken() -> Iterator[Vector]:
    """Yields files that are taken, and what they say."""
    for count in (0, 1, 3, 4, 300):
        yield vector(
            f"full-{count}",
            f"A full list of {count} ids.",
            [part(List(IDS[:count]))],
            revision=7,
            revoked=[each.hex() for each in IDS[:count][:8]],
            free=[each.hex() for each in IDS[count:][:8]] or [b"another".hex()],
        )
    base, delta = List(IDS[:5]), List(IDS[5:8], base=7, revision=9, issued=NOW + 5)
    said: dict[str, Any] = {
        "revision": 9,
        "revoked": [each.hex() for each in IDS[:8]],
        "free": [IDS[8].hex()],
    }
    yield vector("delta", "A delta that begins where the list ends.", [part(base), part(delta)], **said)
    yield vector("delta-in-one-file", "A list and its delta in one file.", [part(base) + part(delta)], **said)
    yield vector(
        "delta-without-ids",
        "A delta that only prolongs.",
        [part(base), part(List(base=7, revision=7, issued=NOW + 5, valid_until=NOW + 2 * DAY))],
        revision=7,
        revoked=[IDS[0].hex()],
        free=[IDS[5].hex()],
    )
    yield vector(
        "newer-list",
        "A newer list replaces the older one, with what was pruned meanwhile.",
        [part(base), part(List(IDS[2:6], revision=8))],
        revision=8,
        revoked=[each.hex() for each in IDS[2:6]],
        free=[IDS[0].hex()],
    )
    named = replace(base, name="Zürich".encode())
    yield vector(
        "named",
        "A list with a name, and its delta.",
        [part(named), part(replace(delta, name=named.name))],
        **said,
        list="Zürich",
    )
    yield vector("signed-by-p256", "A list that a P-256 key signed.", [part(replace(base, signer=BOB))],
                 key=key_text(BOB.public), revision=7, revoked=[IDS[0].hex()],
                 free=[IDS[5].hex()])  # fmt: skip
    yield vector("clock-a-minute-behind", "A list of the next minute, by a clock that is behind.",
                 [part(replace(base, issued=NOW + 70))], revision=7, revoked=[IDS[0].hex()],
                 free=[IDS[5].hex()])  # fmt: skip


def refused() -> Iterator[Vector]:
    """Yields files that are refused."""
    base = List(IDS[:5])
    good, delta = part(base), List(IDS[5:8], base=7, revision=9, issued=NOW + 5)
    cases: list[tuple[str, str, list[bytes], str]] = [
        ("another-list", "A newer list of the same signer, with another name.",
         [good, part(List(IDS[:4], name=b"other", revision=8))], "name"),
        ("delta-of-another-list", "A delta of the same signer, with another name.",
         [part(replace(base, name=b"one")), part(replace(delta, name=b"other"))], "name"),
        ("two-names-in-one-file", "A list and a delta with another name.",
         [good + part(replace(delta, name=b"other"))], "format"),
        ("name-not-utf8", "A name that is not UTF-8.", [part(replace(base, name=b"\xff"))], "format"),
        ("empty", "No bytes at all.", [b""], "format"),
        ("truncated", "The last byte is missing.", [good[:-1]], "format"),
        ("trailing", "A byte after the last part.", [good + b"\0"], "format"),
        ("another-magic", "Bytes that begin in another way.",
         [part(replace(base, magic=b"caprec"))], "format"),
        ("version-2", "A version that nobody has defined.", [part(replace(base, version=2))], "version"),
        ("another-key", "Signed by a key that is not trusted.",
         [part(replace(base, signer=CAROL))], "signature"),
        ("another-algorithm", "Signed by a trusted key's owner with another one.",
         [part(replace(base, signer=BOB))], "signature"),
        ("another-context", "A signature that was made for something else.",
         [part(replace(base, context=b"\0BLOCK\0"))], "signature"),
        ("without-context", "A signature of the bare bytes.",
         [part(replace(base, context=b""))], "signature"),
        ("altered", "The last byte is another one.", [good[:-1] + bytes([good[-1] ^ 1])], "signature"),
        ("expired", "The time is over.", [part(replace(base, issued=NOW - DAY, valid_until=NOW + 10))],
         "expired"),
        ("early", "Signed more than a minute from now.", [part(replace(base, issued=NOW + 71))], "early"),
        ("older-revision", "A list of an earlier revision.", [good, part(List(IDS[:4], revision=6))],
         "rollback"),
        ("older-time", "A list that was signed earlier.",
         [good, part(List(IDS[:4], revision=8, issued=NOW - 1))], "rollback"),
        ("delta-alone", "A delta, and nothing before it.", [part(delta)], "base"),
        ("delta-of-an-earlier-revision", "A delta that begins before the list.",
         [good, part(replace(delta, base=6))], "base"),
        ("delta-of-a-later-revision", "A delta that begins after the list: something is missing.",
         [good, part(replace(delta, base=8))], "base"),
        ("delta-again", "A delta that was taken already.", [good, part(delta), part(delta)], "base"),
        ("two-lists-in-one-file", "A list where a delta must follow.", [good + good], "base"),
        ("delta-that-goes-back", "A delta from a later revision to an earlier one.",
         [good, part(replace(delta, revision=6))], "format"),
        ("list-with-a-base", "A full list has no base.", [part(replace(delta, kind=0))], "format"),
        ("kind-2", "Neither a list nor a delta.", [part(replace(base, kind=2))], "format"),
        ("ends-before-it-begins", "A time that ends as it begins.",
         [part(replace(base, valid_until=NOW))], "format"),
        ("count-too-large", "More ids than there are bytes.", [part(replace(base, count=2**40))], "format"),
        ("count-too-small", "Bytes after the last id.", [part(replace(base, count=4))], "format"),
        ("table-adds-up-to-less", "A table that names fewer ids.", [part(replace(base, table=b"\2\2"))],
         "format"),
        ("table-of-long-numbers", "A table with a number in a longer form than it needs.",
         [part(replace(base, table=b"\x83\0\2"))], "format"),
    ]  # fmt: skip
    for name, about, files, expect in cases:
        yield vector(f"refused-{name}", about, files, f"revocations.{expect}")


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    yield from taken()
    yield from refused()
