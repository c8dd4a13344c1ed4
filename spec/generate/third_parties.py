"""Blocks that a third party signs: the exchange, and what the holder can do to it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from spec.generate.datalog import (
    RawTerm,
    Tokens,
    block,
    check,
    p,
)
from spec.generate.protobuf import message
from spec.generate.signing import (
    ROOT,
    Chain,
    External,
    Part,
    Signer,
    chain,
    ed25519,
    envelope,
    key_text,
    link,
    p256,
    sign_external,
    text,
)
from spec.generate.vectors import Vector, refused, token_vector

ALICE = ed25519("alice")
BOB = p256("bob")
MALLORY = ed25519("mallory")
MEMBER = block(p("member", 1), version=5)
TRUSTS_ALICE = block(check(p("member", 1), scopes=[ALICE.public]), version=4)


def proof(signer: Signer) -> bytes:
    """Returns the proof of an open token."""
    return message((1, signer.secret))


def third_party_attacks() -> Iterator[Vector]:
    """Yields what the holder can do with a third party's block."""
    first = chain(TRUSTS_ALICE)
    authority = first.links[0]
    external = sign_external(ALICE, MEMBER, authority.signature)

    def followed_by(payload: bytes, given: External | None, version: int = 1) -> bytes:
        """Returns the token with a block that the holder, who has the next secret, signs correctly."""
        entry = link(
            first.last, payload, MALLORY.public, version=version, previous=authority.signature, external=given
        )
        return envelope([authority, entry], proof(MALLORY))

    yield token_vector("third-party-block-genuine", "The block on which the attacks below are made.",
                       followed_by(MEMBER, external))  # fmt: skip
    other = chain(block(p("other", 1))).links[0]
    replayed = sign_external(ALICE, MEMBER, other.signature)
    yield refused("third-party-block-replayed", "A third party's block is put on another token.",
                  followed_by(MEMBER, replayed), "signature.external")  # fmt: skip
    yield refused(
        "third-party-block-under-another-key",
        "A third party's block is declared under the holder's key.",
        followed_by(MEMBER, External(external.signature, MALLORY.public)),
        "signature.external",
    )
    forged = External(MALLORY.sign(b"anything"), ALICE.public)
    yield refused("third-party-signature-forged", "The holder signs in the third party's name.",
                  followed_by(MEMBER, forged), "signature.external")  # fmt: skip
    changed = block(p("member", 2), version=5)
    yield refused("third-party-payload-changed", "The holder changes what the third party signed.",
                  followed_by(changed, external), "signature.external")  # fmt: skip
    genuine = link(
        first.last, MEMBER, MALLORY.public, version=1, previous=authority.signature, external=external
    )
    yield refused(
        "third-party-signature-stripped",
        "The external signature is taken off a finished token.",
        envelope([authority, replace(genuine, external=None)], proof(MALLORY)),
        "signature.invalid",
    )
    yield refused("third-party-signature-moved", "The external signature is put on another block.",
                  envelope([authority, replace(genuine, external=replayed)], proof(MALLORY)),
                  "signature.invalid")  # fmt: skip
    yield token_vector(
        "third-party-block-as-own",
        "The holder signs the third party's words as its own: nobody trusts them.",
        followed_by(MEMBER, None),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield refused(
        "third-party-version-stripped",
        "The signature version of a third-party block is left out.",
        envelope([authority, replace(genuine, version=None)], proof(MALLORY)),
        "format.version",
    )
    yield refused("third-party-signature-version-zero", "A third-party block signed in the old form.",
                  followed_by(MEMBER, external, version=0), "format.version")  # fmt: skip
    root_external = External(ALICE.sign(b""), ALICE.public)
    entry = link(ROOT, MEMBER, MALLORY.public, version=1, external=root_external)
    yield refused("authority-with-external-signature", "An authority block that a third party signs.",
                  envelope([entry], proof(MALLORY)), "format.external")  # fmt: skip
    yield refused("third-party-datalog-too-old", "A third-party block that declares version 4.",
                  with_external(block(p("member", 1), version=4)), "format.version")  # fmt: skip
    no_table = block(check(p("member", 1), scopes=[RawTerm(message((2, 0)))]), version=5)
    yield refused(
        "public-key-confusion",
        "A scope of a signed block must not resolve to a key of the holder's table.",
        with_external(no_table),
        "format.key_table",
    )
    symbols = block(p("member", RawTerm(message((3, 1024)))), version=5, extra_symbols=())
    yield refused("symbol-confusion", "A symbol of a signed block must not resolve to the holder's table.",
                  with_external(symbols.replace(b"\x0a\x06member", b"")), "format.symbol")  # fmt: skip
    sealed_link = link(first.last, MEMBER, MALLORY.public, version=1, previous=b"\0" * 64, external=external)
    yield refused("previous-signature-not-covered", "A labelled signature over another previous signature.",
                  envelope([authority, sealed_link], proof(MALLORY)), "signature.invalid")  # fmt: skip


def with_external(payload: bytes) -> bytes:
    """Returns a token whose authority declares a symbol and a key, followed by `payload`, signed by ALICE."""
    first = block(p("holder", "text"), check((True,), scopes=[MALLORY.public]), version=4)
    return chain(first, Part(payload, external=ALICE)).open()


def request_vector(name: str, about: str, data: bytes, expect: str = "ok", **more: Any) -> Vector:
    """Returns the vector of a serialised request."""
    return {"name": name, "about": about, "kind": "request", "request": text(data), "expect": expect, **more}


def requests() -> Iterator[Vector]:
    """Yields serialised requests, and who may not have written them."""
    token = chain(TRUSTS_ALICE)
    previous = token.signatures[0]
    yield request_vector(
        "request", "A request holds the last signature of the token, and nothing else.",
        message((3, previous)), previous_signature=previous.hex(), token=text(token.open()),
        root=key_text(ROOT.public),
    )  # fmt: skip
    yield request_vector(
        "request-with-legacy-key", "A request that names the previous key is of an older, unsafe exchange.",
        message((1, MALLORY.public.message()), (3, previous)), "format.legacy_request",
    )  # fmt: skip
    yield request_vector(
        "request-with-legacy-key-table", "A request that brings a key table could choose what scopes mean.",
        message((2, MALLORY.public.message()), (3, previous)), "format.legacy_request",
    )  # fmt: skip
    yield request_vector(
        "request-without-signature", "A request must say what the block is to follow.",
        b"", "format.missing",
    )  # fmt: skip
    yield request_vector(
        "request-with-unknown-field", "Fields that nobody has defined are refused.",
        message((3, previous), (9, b"x")), "format.wire",
    )  # fmt: skip


def answer(payload: bytes, external: External) -> bytes:
    """Returns a serialised third-party block."""
    signed = message((1, external.signature), (2, external.key.message()))
    return message((1, payload), (2, signed))


def answers() -> Iterator[Vector]:
    """Yields serialised third-party blocks, to be appended to one token."""
    token = chain(TRUSTS_ALICE)
    previous = token.signatures[0]
    other = chain(block(p("other", 1))).signatures[0]
    tokens = Tokens()
    later = chain(
        tokens.block(check(p("member", 1), scopes=[ALICE.public]), version=4), tokens.block(p("n", 1))
    )
    good = sign_external(ALICE, MEMBER, previous)
    cases: list[tuple[str, str, bytes, Signer, str, Chain]] = [
        ("answer", "A block that the third party signed for this token.", answer(MEMBER, good), ALICE,
         "allowed", token),
        ("answer-of-another-key", "The caller expects another third party.", answer(MEMBER, good), BOB,
         "token.build", token),
        ("answer-for-another-token", "The block was signed for another token.",
         answer(MEMBER, sign_external(ALICE, MEMBER, other)), ALICE, "signature.external", token),
        ("answer-after-another-block", "The token has grown since the request.", answer(MEMBER, good), ALICE,
         "signature.external", later),
        ("answer-with-changed-payload", "The block was changed on its way.",
         answer(block(p("member", 2), version=5), good), ALICE, "signature.external", token),
        ("answer-too-old", "The block declares version 4.",
         answer(old := block(p("member", 1), version=4), sign_external(ALICE, old, previous)), ALICE,
         "format.version", token),
        ("answer-without-signature", "The external signature is missing.", message((1, MEMBER)), ALICE,
         "format.missing", token),
    ]  # fmt: skip
    for name, about, data, key, expect, target in cases:
        yield {
            "name": name,
            "about": about,
            "kind": "answer",
            "token": text(target.open()),
            "root": key_text(ROOT.public),
            "external_key": key_text(key.public),
            "block": text(data),
            "expect": expect,
        }


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for topic in (third_party_attacks, requests, answers):
        yield from topic()
