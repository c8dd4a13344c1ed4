"""What an attacker tries with a token, and what stops it."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from spec.generate.datalog import (
    Key,
    Tokens,
    block,
    check,
    p,
)
from spec.generate.formats import high_s_chain
from spec.generate.protobuf import message
from spec.generate.signing import (
    ED25519,
    ED25519_ORDER,
    ROOT,
    SECP256R1,
    Chain,
    Ed25519,
    External,
    Link,
    Part,
    Signer,
    block_payload,
    chain,
    ed25519,
    envelope,
    key_text,
    link,
    low_s,
    p256,
    seal_payload,
    text,
)
from spec.generate.vectors import Vector, refused, token_vector

ALICE = ed25519("alice")
MALLORY = ed25519("mallory")
P256_ROOT = p256("root")
FIELD = 2**255 - 19
MEMBER = block(p("member", 1), version=5)
TRUSTS_ALICE = block(check(p("member", 1), scopes=[ALICE.public]), version=4)

ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
ODD_KEYS = {
    "zero-y": 0,
    "identity": 1,
    "order-two": FIELD - 1,
    "order-eight": ORDER_8_Y,
    "order-eight-negative": ORDER_8_Y | 1 << 255,
    "order-eight-other": FIELD - ORDER_8_Y,
    "identity-with-sign": 1 | 1 << 255,
    "y-equal-to-the-prime": FIELD,
    "y-above-the-prime": FIELD + 3,
}
"""Ed25519 encodings that no key may have: of small order, or not the only encoding of their point."""


def odd_key(name: str) -> Key:
    return Key(ED25519, ODD_KEYS[name].to_bytes(32, "little"))


def proof(signer: Signer) -> bytes:
    """Returns the proof of an open token."""
    return message((1, signer.secret))


def three() -> Chain:
    """Returns a chain of three blocks."""
    tokens = Tokens()
    return chain(*(tokens.block(p("n", number)) for number in range(3)))


def chain_attacks() -> Iterator[Vector]:
    """Yields what can be done to the chain as a whole."""
    good = three()
    a, b, c = good.links
    last = proof(good.last)
    whole = good.open()
    yield refused("other-root-key", "A token of another issuer.", chain(block(), root=MALLORY).open(),
                  "signature.invalid")  # fmt: skip
    yield refused(
        "blocks-reordered", "Two blocks change places.", envelope([a, c, b], last), "signature.invalid"
    )
    yield refused(
        "block-duplicated", "A block stands twice.", envelope([a, b, b, c], last), "signature.invalid"
    )
    yield refused(
        "block-removed", "A block in the middle is left out.", envelope([a, c], last), "signature.invalid"
    )
    yield refused("last-block-removed", "The last block, a restriction perhaps, is left out.",
                  envelope([a, b], last), "signature.proof")  # fmt: skip
    yield refused(
        "authority-replaced",
        "Another token's authority block is put first.",
        envelope([chain(Part(block(p("admin", 1)), next=ed25519("other"))).links[0], b, c], last),
        "signature.invalid",
    )
    yield refused(
        "payload-changed",
        "A block's contents change under a known signature.",
        envelope([replace(a, payload=block(p("n", 9))), b, c], last),
        "signature.invalid",
    )
    yield refused(
        "next-key-changed",
        "A block's next key is replaced by the attacker's.",
        envelope([replace(a, next_key=MALLORY.public)], proof(MALLORY)),
        "signature.invalid",
    )
    yield refused("signature-changed", "One bit of a signature is flipped.",
                  envelope([replace(a, signature=bytes([a.signature[0] ^ 1]) + a.signature[1:]), b, c], last),
                  "signature.invalid")  # fmt: skip
    yield refused("signature-of-another-block", "A block carries the signature of the block before it.",
                  envelope([a, replace(b, signature=a.signature), c], last), "signature.invalid")  # fmt: skip
    yield refused(
        "signature-too-short",
        "A signature of 63 bytes.",
        envelope([replace(a, signature=a.signature[:63]), b, c], last),
        "signature.invalid",
    )
    yield refused("signature-empty", "A signature of no bytes.",
                  envelope([replace(a, signature=b""), b, c], last), "signature.invalid")  # fmt: skip
    yield refused(
        "signature-version-removed",
        "The version of a labelled signature is left out.",
        envelope([replace(chain(Part(block(), version=1)).links[0], version=None)], proof(ed25519("next 0"))),
        "signature.invalid",
    )
    yield refused("signature-version-unknown", "A signature version that nobody has defined.",
                  envelope([replace(a, version=2)], proof(ed25519("next 0"))), "format.version")  # fmt: skip
    yield refused("proof-empty", "A proof without content.", envelope(good.links, b""), "format.missing")
    yield refused("proof-missing", "No proof at all.", envelope(good.links, None), "format.missing")
    yield refused("proof-of-another-key", "The proof is some other private key.",
                  envelope(good.links, proof(MALLORY)), "signature.proof")  # fmt: skip
    yield refused("proof-too-short", "The proof is not a private key.",
                  envelope(good.links, message((1, b"\1" * 31))), "signature.proof")  # fmt: skip
    yield refused(
        "final-signature-of-another-key",
        "The token is sealed with another key.",
        envelope(good.links, message((2, MALLORY.sign(seal_payload(c))))),
        "signature.proof",
    )
    yield refused(
        "final-signature-of-another-token",
        "The seal of one token is put on another.",
        envelope(good.links, message((2, good.last.sign(seal_payload(b))))),
        "signature.proof",
    )
    yield refused(
        "sealed-block-removed",
        "The last block of a sealed token is left out.",
        envelope([a, b], message((2, good.last.sign(seal_payload(c))))),
        "signature.proof",
    )
    appended = link(MALLORY, block(p("more", 1)), MALLORY.public)
    yield refused("block-appended-to-sealed", "A block is put behind a seal.",
                  envelope([*good.links, appended], message((2, good.last.sign(seal_payload(c))))),
                  "signature.invalid")  # fmt: skip
    yield refused("trailing-bytes", "Bytes after the token.", whole + b"\0\0", "format.wire")
    yield refused(
        "trailing-field", "A field that nobody has defined.", whole + message((15, b"x")), "format.wire"
    )
    yield refused("truncated", "The last byte is missing.", whole[:-1], "format.wire")
    yield refused("truncated-to-half", "The second half is missing.", whole[: len(whole) // 2], "format.wire")
    yield refused("not-protobuf", "Bytes that are no message.", b"\xff" * 40, "format.wire")
    yield refused("no-bytes", "A message without fields is no token.", message((1, 1)), "format.missing")
    yield refused(
        "authority-twice",
        "Two authority blocks, of which a parser might keep either.",
        message((2, a.message()), (2, a.message()), (4, proof(ed25519("next 0")))),
        "format.wire",
    )
    yield refused("proof-twice", "A secret and a final signature at once.",
                  message((2, a.message()), (4, message((1, ed25519("next 0").secret), (2, b"\0" * 64)))),
                  "format.wire")  # fmt: skip
    yield refused("number-too-long", "A number with more bytes than it needs.",
                  b"\x08\x81\x00" + chain(block()).open(), "format.wire")  # fmt: skip
    padded = block(p("s", "x" * 70_000))
    yield refused("token-too-long", "More bytes than a token may have.", chain(padded).open(), "format.size")
    yield refused("too-many-blocks", "More blocks than a token may have.", chain(*[block()] * 65).open(),
                  "format.size")  # fmt: skip
    relabelled = chain(block(p("n", 1)))
    yield token_vector(
        "root-key-id-changed", "The holder may change the root key id; what is revoked stays the same.",
        relabelled.open(root_key_id=9), root_key_id=9,
        revocation_ids=[relabelled.signatures[0].hex()],
    )  # fmt: skip


def key_attacks() -> Iterator[Vector]:
    """Yields keys and signatures that a library might accept."""
    for name in ODD_KEYS:
        odd = odd_key(name)
        yield {
            "name": f"root-key-{name}", "about": "An Ed25519 key that is of small order or not canonical.",
            "kind": "key", "text": key_text(odd), "expect": "key.format",
        }  # fmt: skip
    odd = odd_key("identity")
    signed = link(ROOT, block(), odd)
    yield refused("next-key-of-small-order", "With this next key, anybody can append.",
                  envelope([signed], message((2, b"\1" + b"\0" * 63))), "signature.key")  # fmt: skip
    odd = odd_key("y-above-the-prime")
    yield refused("next-key-not-canonical", "A second encoding of a point.",
                  envelope([link(ROOT, block(), odd)], proof(MALLORY)), "signature.key")  # fmt: skip
    authority = chain(block()).links[0]
    small = External(b"\1" + b"\0" * 63, odd_key("order-eight"))
    entry = link(
        ed25519("next 0"), MEMBER, ALICE.public, version=1, previous=authority.signature, external=small
    )
    yield refused("external-key-of-small-order", "A third party whose key fits any message.",
                  envelope([authority, entry], proof(ALICE)), "signature.key")  # fmt: skip
    scope = block(check((True,), scopes=[odd_key("identity")]), version=4)
    yield refused("trusted-key-of-small-order", "A key in a block's table is of small order.",
                  chain(scope).open(), "signature.key")  # fmt: skip
    unknown = Key(2, MALLORY.public.encoded)
    yield refused("unknown-algorithm", "A key of an algorithm that nobody has defined.",
                  envelope([link(ROOT, block(), unknown)], proof(MALLORY)), "signature.key")  # fmt: skip
    uncompressed = Key(SECP256R1, b"\4" + bytes(64))
    yield refused(
        "uncompressed-point",
        "A P-256 key in uncompressed form.",
        envelope([link(ROOT, block(), uncompressed, version=1)], proof(MALLORY)),
        "signature.key",
    )
    off_curve = Key(SECP256R1, b"\2" + (1).to_bytes(32, "big"))
    yield refused(
        "point-off-the-curve",
        "A P-256 key that is no point.",
        envelope([link(ROOT, block(), off_curve, version=1)], proof(MALLORY)),
        "signature.key",
    )
    as_p256 = Key(SECP256R1, ROOT.public.encoded)
    yield refused(
        "key-of-another-algorithm",
        "An Ed25519 key that says it is P-256.",
        envelope([link(ROOT, block(), as_p256, version=1)], proof(MALLORY)),
        "signature.key",
    )
    good = chain(block(p("n", 1)))
    entry = good.links[0]
    s = int.from_bytes(entry.signature[32:], "little") + ED25519_ORDER
    yield refused("s-not-reduced", "An Ed25519 signature whose S is not below the group order.",
                  envelope([replace(entry, signature=entry.signature[:32] + s.to_bytes(32, "little"))],
                           proof(good.last)), "signature.invalid")  # fmt: skip
    yield refused(
        "small-order-r",
        "An Ed25519 signature that its equation accepts with R the identity.",
        envelope([small_order_r(ROOT, block(p("n", 1)))], proof(MALLORY)),
        "signature.invalid",
    )
    yield from ecdsa_attacks()


def small_order_r(signer: Ed25519, payload: bytes) -> Link:
    """Returns a block whose signature has R = identity and S = h * a, for which S * B = R + h * A."""
    digest = bytearray(hashlib.sha512(signer.secret).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    a = int.from_bytes(digest, "little")
    r = b"\1" + bytes(31)
    content = block_payload(payload, MALLORY.public, 0, None, None)
    h = int.from_bytes(hashlib.sha512(r + signer.public.encoded + content).digest(), "little")
    return Link(payload, MALLORY.public, r + (h * a % ED25519_ORDER).to_bytes(32, "little"))


def ecdsa_attacks() -> Iterator[Vector]:
    good = chain(block(p("n", 1)), root=P256_ROOT)
    entry = good.links[0]
    signature = entry.signature
    forms = {
        "ecdsa-trailing-byte": ("a byte after the signature", signature + b"\0"),
        "ecdsa-long-length": ("a length in its long form", b"\x30\x81" + signature[1:]),
        "ecdsa-padded-integer": ("an integer with a leading zero too many", pad_r(signature)),
        "ecdsa-raw-form": ("r and s without DER", bytes(64)),
        "ecdsa-zero": ("r and s zero", b"\x30\x06\x02\x01\x00\x02\x01\x00"),
    }
    for name, (what, wrong) in forms.items():
        yield refused(name, f"An ECDSA signature with {what}.",
                      envelope([replace(entry, signature=wrong)], proof(good.last)), "signature.invalid",
                      root=P256_ROOT)  # fmt: skip
    twin = high_s_chain()
    canonical = low_s(twin.signatures[0])
    yield {
        "name": "revoked-ecdsa-twin",
        "about": "Revoking a block under one form of its ECDSA signature revokes the other form too.",
        "kind": "revocation",
        "root": key_text(P256_ROOT.public),
        "token": text(twin.open()),
        "revoked": [canonical.hex()],
        "expect": "revoked",
    }


def pad_r(signature: bytes) -> bytes:
    """Returns a DER signature with one zero byte more before r."""
    body = signature[2:]
    longer = bytes([2, body[1] + 1, 0]) + body[2:]
    return bytes([0x30, len(longer)]) + longer


def version_attacks() -> Iterator[Vector]:
    """Yields old and unknown block versions (CVE-2022-31053 among them)."""
    for version in (0, 1, 2, 7, 2**32 - 1):
        yield refused(f"block-version-{version}", f"Block version {version} is not read.",
                      chain(block(p("n", 1), version=version)).open(), "format.version")  # fmt: skip
    yield refused("block-version-missing", "A block without a version is one of the oldest.",
                  chain(block(p("n", 1), version=None)).open(), "format.version")  # fmt: skip
    tokens = Tokens()
    yield refused("later-block-version-old", "A later block's version is checked like the first's.",
                  chain(tokens.block(p("n", 1)), tokens.block(p("n", 1), version=2)).open(),
                  "format.version")  # fmt: skip


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for topic in (chain_attacks, key_attacks, version_attacks):
        yield from topic()
