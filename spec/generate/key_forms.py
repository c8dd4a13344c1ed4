"""Keys in all their forms, and sets of root keys."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from spec.generate.datalog import Key
from spec.generate.signing import ED25519, P256_ORDER, Signer, ed25519, key_text, p256
from spec.generate.vectors import Vector

ALICE, BOB = ed25519("alice"), p256("bob")
SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")
PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")
NAMES = ("ed25519", "secp256r1")


def private_text(signer: Signer) -> str:
    """Returns the text form of a private key."""
    return f"{NAMES[signer.public.algorithm]}-private/{signer.secret.hex()}"


def pem(label: str, der: bytes) -> str:
    """Returns the PEM form of a key."""
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n"


def key(name: str, about: str, expect: str = "ok", **more: Any) -> Vector:
    """Returns the vector of a key."""
    return {"name": name, "about": about, "kind": "key", "expect": expect, **more}


def keys() -> Iterator[Vector]:
    """Yields keys that are good and keys that are not."""
    for signer, algorithm in ((ALICE, "ed25519"), (BOB, "secp256r1")):
        public = key_text(signer.public)
        yield key(f"{algorithm}-text", "The text form of a public key.", text=public, public=public)
        yield key(f"{algorithm}-private", "A private key gives its public key, and signs deterministically.",
                  private=private_text(signer), public=public, message="capability",
                  signature=signer.sign(b"capability").hex())  # fmt: skip
    public = key_text(ALICE.public)
    spki = SPKI_ED25519 + ALICE.public.encoded
    yield key("ed25519-upper-case", "Hexadecimal digits may be upper case.", public=public,
              text="ed25519/" + ALICE.public.encoded.hex().upper())  # fmt: skip
    yield key("ed25519-der", "SubjectPublicKeyInfo of an Ed25519 key.", der=spki.hex(), public=public)
    yield key("ed25519-pem", "The same in PEM.", pem=pem("PUBLIC KEY", spki), public=public)
    pkcs8 = PKCS8_ED25519 + ALICE.secret
    yield key("ed25519-private-pem", "PKCS#8 of an Ed25519 key.", private_pem=pem("PRIVATE KEY", pkcs8),
              public=public)  # fmt: skip
    wrong: list[tuple[str, str, str]] = [
        ("no-algorithm", "A key without the name of its algorithm.", ALICE.public.encoded.hex()),
        ("unknown-algorithm", "An algorithm that nobody has defined.", "rsa/" + "00" * 32),
        ("upper-case-algorithm", "Names of algorithms are lower case.", public.replace("ed", "ED")),
        ("short", "A key with a byte too few.", public[:-2]),
        ("long", "A key with a byte too many.", public + "00"),
        ("odd-digits", "Half a byte.", public[:-1]),
        ("not-hexadecimal", "A letter that is no digit.", public[:-1] + "g"),
        ("white-space", "White space among the digits.", public[:20] + " " + public[21:]),
        ("private-for-public", "A private key where a public one must stand.", private_text(ALICE)),
        ("uncompressed", "A P-256 point in uncompressed form.", "secp256r1/04" + "11" * 64),
        ("off-the-curve", "A P-256 point that is not on the curve.", "secp256r1/02" + "00" * 31 + "01"),
        ("infinity", "The P-256 point at infinity.", "secp256r1/00"),
        ("ed25519-off-the-curve", "An Ed25519 key that is no point of the curve.",
         key_text(Key(ED25519, (2).to_bytes(32, "little")))),
        ("empty", "No text.", ""),
    ]  # fmt: skip
    for name, about, text in wrong:
        yield key(f"key-{name}", about, "key.format", text=text)
    scalars = {"zero": 0, "the-group-order": P256_ORDER}
    for name, scalar in scalars.items():
        yield key(f"private-key-{name}", "A P-256 private key out of range.", "key.format",
                  private="secp256r1-private/" + scalar.to_bytes(32, "big").hex())  # fmt: skip
    yield key("private-key-short", "A private key with a byte too few.", "key.format",
              private=private_text(ALICE)[:-2])  # fmt: skip


def web_key(signer: Signer, key_id: int | None = None, **more: Any) -> dict[str, Any]:
    """Returns a Biscuit web key."""
    out: dict[str, Any] = {
        "algorithm": NAMES[signer.public.algorithm],
        "key_bytes": signer.public.encoded.hex(),
    }
    if key_id is not None:
        out["key_id"] = key_id
    return {**out, **more}


def key_sets() -> Iterator[Vector]:
    """Yields sets of root keys, and which key a token's id selects."""
    carol = ed25519("carol")
    two = [web_key(ALICE, 1), web_key(BOB, 2, issuer="https://issuer.example")]
    retiring = [web_key(ALICE, 1, expires_at="2030-01-01T00:00:00Z"), web_key(carol, 2)]
    cases: list[tuple[str, str, Any, int | None, str, Signer | None]] = [
        ("select-first", "The key with the token's id.", two, 1, "ok", ALICE),
        ("select-second", "A key of another algorithm.", two, 2, "ok", BOB),
        ("unknown-id", "An id that no key has.", two, 3, "key.unknown", None),
        (
            "no-id-among-several",
            "A token that names no key, and several keys.",
            two,
            None,
            "key.ambiguous",
            None,
        ),
        ("no-id-and-one-key", "A token that names no key is for the only one.", two[:1], None, "ok", ALICE),
        (
            "no-id-and-a-key-without-id",
            "A key without an id is for tokens that name none.",
            [*two, web_key(carol)],
            None,
            "ok",
            carol,
        ),
        ("empty-set", "No keys at all.", [], 1, "key.unknown", None),
        ("retiring", "A key that expires later is used.", retiring, 1, "ok", ALICE),
        (
            "retired",
            "A key that has expired is refused by a name of its own.",
            [web_key(ALICE, 1, expires_at="2020-01-01T00:00:00Z"), *two[1:]],
            1,
            "key.retired",
            None,
        ),
        (
            "retired-this-second",
            "A key is retired from the second of its expiry.",
            [web_key(ALICE, 1, expires_at="2025-01-01T00:00:00Z")],
            1,
            "key.retired",
            None,
        ),
        (
            "same-id-twice",
            "Two keys under one id.",
            [web_key(ALICE, 1), web_key(BOB, 1)],
            1,
            "key.format",
            None,
        ),
        (
            "one-key-under-two-ids",
            "Retiring one of two ids would not retire the key.",
            [web_key(ALICE, 1), web_key(ALICE, 2)],
            1,
            "key.format",
            None,
        ),
        (
            "unknown-member",
            "A misspelt expiry would be a key that never expires.",
            [web_key(ALICE, 1, expire_at="2020-01-01T00:00:00Z")],
            1,
            "key.format",
            None,
        ),
        (
            "expiry-without-zone",
            "An expiry without a time zone.",
            [web_key(ALICE, 1, expires_at="2030-01-01T00:00:00")],
            1,
            "key.format",
            None,
        ),
        ("id-as-text", "A key id is a number.", [{**web_key(ALICE), "key_id": "1"}], 1, "key.format", None),
        ("id-negative", "A key id is not negative.", [web_key(ALICE, -1)], 1, "key.format", None),
        ("id-too-large", "A key id has 32 bits.", [web_key(ALICE, 2**32)], 1, "key.format", None),
        ("id-boolean", "true is not 1.", [web_key(ALICE, True)], 1, "key.format", None),
        ("not-a-list", "A single web key is not a set.", web_key(ALICE, 1), 1, "key.format", None),
        (
            "odd-key",
            "A key of small order.",
            [{"algorithm": "ed25519", "key_bytes": "01" + "00" * 31, "key_id": 1}],
            1,
            "key.format",
            None,
        ),
    ]
    for name, about, value, key_id, expect, selected in cases:
        yield key_set(name, about, json.dumps(value), key_id, expect, selected)
    yield key_set("not-json", "Text that is not JSON.", "[", 1, "key.format", None)
    member_twice = json.dumps([web_key(ALICE, 1)]).replace('"key_id": 1', '"key_id": 1, "key_id": 2')
    yield key_set("member-twice", "A member that stands twice.", member_twice, 1, "key.format", None)


def key_set(
    name: str, about: str, text: str, key_id: int | None, expect: str, selected: Signer | None
) -> Vector:
    """Returns the vector of a set of root keys, at the start of 2025."""
    out: Vector = {"name": f"set-{name}", "about": about, "kind": "keyset", "keys": text, "key_id": key_id}
    out |= {"at": "2025-01-01T00:00:00Z", "expect": expect}
    if selected is not None:
        out["public"] = key_text(selected.public)
    return out


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    yield from keys()
    yield from key_sets()
