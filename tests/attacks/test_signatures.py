"""Attacks on the chain of signatures, on its keys and on its proof, with bytes made by hand."""

import hashlib
from dataclasses import replace

import pytest

from capability import KeyFormatError, Outcome, PublicKey
from capability.store.memory import MemoryStore
from spec.generate.attacks import ODD_KEYS, odd_key, pad_r, small_order_r
from spec.generate.datalog import Key, Tokens, block, check, p
from spec.generate.protobuf import message
from spec.generate.signing import (
    ED25519_ORDER,
    ROOT,
    SECP256R1,
    Chain,
    External,
    Part,
    block_payload,
    chain,
    ed25519,
    envelope,
    key_text,
    link,
    low_s,
    p256,
    seal_payload,
    twin,
)
from tests.attacks.doors import ALICE, MALLORY, assert_refused, assert_taken, guard, proof

P256_ROOT = p256("root")
ODD_NAMES = sorted(ODD_KEYS)


def three() -> Chain:
    tokens = Tokens()
    return chain(*(tokens.block(p("n", number)) for number in range(3)))


GOOD = three()
A, B, C = GOOD.links
LAST = proof(GOOD.last)


def test_what_is_attacked_is_good() -> None:
    assert_taken(GOOD.open())
    assert_taken(GOOD.sealed())


class TestBlocks:
    """Trailing bytes, truncated, reordered, duplicated, dropped and replaced blocks."""

    @pytest.mark.parametrize("sealed", [False, True])
    def test_truncated_anywhere(self, sealed: bool) -> None:
        """Truncated token: every prefix of its bytes."""
        token = GOOD.sealed() if sealed else GOOD.open()
        for end in range(len(token)):
            decision = guard().check(token[:end])
            assert decision.outcome is Outcome.INVALID_TOKEN, end

    @pytest.mark.parametrize("tail", [b"\0", b"\0\0", b"\n", message((15, b"x")), LAST, b"\x22\0"])
    def test_trailing_bytes(self, tail: bytes) -> None:
        """Trailing bytes, among them whole fields: unknown ones, repeated ones, a second proof."""
        assert_refused(GOOD.open() + tail, "format.wire")

    @pytest.mark.parametrize(
        "blocks",
        [[A, C, B], [B, A, C], [C, B, A], [A, B, B, C], [A, A, B, C], [A, C], [B, C], [C]],
        ids=["acb", "bac", "cba", "abbc", "aabc", "ac", "bc", "c"],
    )
    def test_reordered_duplicated_or_dropped_blocks(self, blocks: list[object]) -> None:
        """Reordered, duplicated and dropped blocks, the proof left as it was."""
        assert_refused(envelope(blocks, LAST), "signature.invalid")  # type: ignore[arg-type]

    @pytest.mark.parametrize("kept", [[A], [A, B]], ids=["a", "ab"])
    def test_last_blocks_cut_off(self, kept: list[object]) -> None:
        """The restriction at the end is cut off, and the proof is what the holder has."""
        assert_refused(envelope(kept, LAST), "signature.proof")  # type: ignore[arg-type]
        seal = message((2, GOOD.last.sign(seal_payload(C))))
        assert_refused(envelope(kept, seal), "signature.proof")  # type: ignore[arg-type]

    def test_payload_swapped_under_known_signatures(self) -> None:
        """Signatures that verified before, over another payload: also right after the good token was seen.

        A cache of verified tokens that is keyed on signatures alone would let it in.
        """
        better = replace(A, payload=block(p("n", 9)))
        watch = guard("allow if n(9)")
        for _ in range(2):
            assert not watch.check(GOOD.open()).allowed
            forged = watch.check(envelope([better, B, C], LAST))
            assert (forged.outcome, forged.code) == (Outcome.INVALID_TOKEN, "signature.invalid")
        other_key = replace(A, next_key=MALLORY.public)
        assert_refused(envelope([other_key], proof(MALLORY)), "signature.invalid")
        assert_refused(envelope([replace(A, version=1), B, C], LAST), "signature.invalid")

    def test_authority_of_another_token_or_issuer(self) -> None:
        """The blocks of one token behind the authority of another, and a token of another issuer."""
        other = chain(Part(block(p("admin", 1)), next=ed25519("other"))).links[0]
        assert_refused(envelope([other, B, C], LAST), "signature.invalid")
        assert_refused(chain(block(), root=MALLORY).open(), "signature.invalid")

    def test_plain_signature_passed_off_as_labelled(self) -> None:
        """A signature of version 0 whose payload is the labelled form of another block, and the reverse."""
        inner = block(p("admin", 1))
        labelled = block_payload(inner, ALICE.public, 1, None, None)
        plain = link(ROOT, labelled, ALICE.public)
        moved = replace(plain, payload=inner, version=1)
        assert_refused(envelope([moved], proof(ALICE)), "signature.invalid")
        assert_refused(envelope([replace(A, version=2), B, C], LAST), "format.version")


class TestProof:
    """Empty proof, foreign proof secret, broken seals."""

    def test_empty_or_missing_proof(self) -> None:
        """Empty proof: no field, a field without content, and secrets and signatures of no bytes."""
        assert_refused(envelope(GOOD.links, None), "format.missing")
        assert_refused(envelope(GOOD.links, b""), "format.missing")
        assert_refused(envelope(GOOD.links, message((1, b""))), "signature.proof")
        assert_refused(envelope(GOOD.links, message((2, b""))), "signature.proof")

    def test_foreign_proof_secret(self) -> None:
        """The proof secret of another key, of the block before, of the root even, or of a wrong length."""
        for signer in (MALLORY, ed25519("next 0"), ed25519("next 1"), ROOT):
            assert_refused(envelope(GOOD.links, proof(signer)), "signature.proof")
        for secret in (GOOD.last.secret[:31], GOOD.last.secret + b"\0", GOOD.last.secret + bytes(32)):
            assert_refused(envelope(GOOD.links, message((1, secret))), "signature.proof")

    def test_two_proofs(self) -> None:
        """A wrong secret and a right final signature at once, in either order: parsers keep the last."""
        seal = message((2, GOOD.last.sign(seal_payload(C))))
        for both in (message((1, MALLORY.secret)) + seal, seal + message((1, MALLORY.secret))):
            assert_refused(envelope(GOOD.links, both), "format.wire")

    def test_seal_of_another_token_key_or_payload(self) -> None:
        """Seals by another key, over another block, or in the labelled form, and blocks put behind a seal."""
        assert_refused(envelope(GOOD.links, message((2, MALLORY.sign(seal_payload(C))))), "signature.proof")
        assert_refused(envelope(GOOD.links, message((2, GOOD.last.sign(seal_payload(B))))), "signature.proof")
        labelled = block_payload(C.payload, C.next_key, 1, B.signature, None)
        assert_refused(envelope(GOOD.links, message((2, GOOD.last.sign(labelled)))), "signature.proof")
        behind = link(MALLORY, block(p("m", 1)), MALLORY.public)
        seal = message((2, GOOD.last.sign(seal_payload(C))))
        assert_refused(envelope([*GOOD.links, behind], seal), "signature.invalid")


class TestKeys:
    """Small-order and non-canonical keys at root, next and external, and keys of another kind."""

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_root_key(self, name: str) -> None:
        """Small-order or non-canonical root key: it is no key, so no verifier can be given it."""
        with pytest.raises(KeyFormatError):
            PublicKey(key_text(odd_key(name)))

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_next_key(self, name: str) -> None:
        """Small-order or non-canonical next key, properly signed, with a seal that would fit any message."""
        signed = link(ROOT, block(), odd_key(name))
        forged = message((2, b"\1" + b"\0" * 63))
        assert_refused(envelope([signed], forged), "signature.key")

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_external_key(self, name: str) -> None:
        """Small-order or non-canonical external key, with a signature that would fit any message."""
        authority = chain(block()).links[0]
        external = External(b"\1" + b"\0" * 63, odd_key(name))
        entry = link(
            ed25519("next 0"), block(p("m", 1), version=5), ALICE.public,
            version=1, previous=authority.signature, external=external,
        )  # fmt: skip
        assert_refused(envelope([authority, entry], proof(ALICE)), "signature.key")

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_trusted_key(self, name: str) -> None:
        """Small-order or non-canonical key behind `trusting`: anybody could sign what it trusts."""
        scoped = block(check((True,), scopes=[odd_key(name)]), version=4)
        assert_refused(chain(scoped).open(), "signature.key")

    @pytest.mark.parametrize(
        "key",
        [
            Key(2, MALLORY.public.encoded),
            Key(SECP256R1, MALLORY.public.encoded),
            Key(0, P256_ROOT.public.encoded),
            Key(SECP256R1, b"\4" + bytes(64)),
            Key(SECP256R1, b"\2" + (1).to_bytes(32, "big")),
            Key(SECP256R1, b"\0"),
            Key(0, b""),
        ],
        ids=[
            "unknown",
            "ed25519 as p256",
            "p256 as ed25519",
            "uncompressed",
            "off curve",
            "infinity",
            "empty",
        ],
    )
    def test_next_key_of_another_kind(self, key: Key) -> None:
        """A key under another algorithm's name, an uncompressed point, one off the curve, infinity."""
        assert_refused(envelope([link(ROOT, block(), key, version=1)], proof(MALLORY)), "signature.key")


class TestSignatures:
    """S >= L, small-order R, loose DER, and the other ECDSA signature."""

    def test_s_at_or_above_the_group_order(self) -> None:
        """S >= L: the other encodings of a good signature's S, which give the block another revocation id."""
        good = chain(block(p("n", 1)))
        entry = good.links[0]
        s = int.from_bytes(entry.signature[32:], "little")
        for factor in (1, 2, 8):
            higher = s + factor * ED25519_ORDER
            signature = entry.signature[:32] + (higher % 2**256).to_bytes(32, "little")
            assert_refused(
                envelope([replace(entry, signature=signature)], proof(good.last)), "signature.invalid"
            )

    def test_small_order_r(self) -> None:
        """Small-order R: a signature whose equation holds with R the identity, by who has the key."""
        entry = small_order_r(ROOT, block(p("n", 1)))
        content = block_payload(entry.payload, entry.next_key, 0, None, None)
        h = hashlib.sha512(entry.signature[:32] + ROOT.public.encoded + content).digest()
        assert int.from_bytes(h, "little") % ED25519_ORDER != 0
        assert_refused(envelope([entry], proof(MALLORY)), "signature.invalid")

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: s + b"\0",
            lambda s: b"\x30\x81" + s[1:],
            pad_r,
            lambda s: bytes(64),
            lambda s: b"\x30\x06\x02\x01\x00\x02\x01\x00",
            lambda s: s[:-1],
            lambda s: b"",
        ],
        ids=["trailing", "long length", "padded", "raw", "zero", "truncated", "empty"],
    )
    def test_loose_der(self, change: object) -> None:
        """ECDSA in loose DER: other bytes for the same r and s are other revocation ids."""
        good = chain(block(p("n", 1)), root=P256_ROOT)
        entry = good.links[0]
        assert_taken(good.open(), P256_ROOT)
        assert callable(change)
        changed = replace(entry, signature=change(entry.signature))
        assert_refused(envelope([changed], proof(good.last)), "signature.invalid", P256_ROOT)

    @pytest.mark.parametrize("revoked_form", ["low", "high"])
    def test_ecdsa_twin_against_a_revocation(self, revoked_form: str) -> None:
        """The ECDSA twin (r, n - s): both are read, and revoking either revokes both."""
        good = chain(block(p("n", 1)), root=P256_ROOT)
        low = good.links[0]
        high = replace(low, signature=twin(low.signature))
        assert low_s(high.signature) == low.signature != high.signature
        tokens = [envelope([entry], proof(good.last)) for entry in (low, high)]
        store = MemoryStore()
        watch = guard(root=P256_ROOT, revocations=store)
        decisions = [watch.check(token) for token in tokens]
        assert all(decision.allowed for decision in decisions)
        shown = decisions[revoked_form == "high"].revocation_ids
        store.revoke([bytes.fromhex(shown[0])])
        assert [watch.check(token).outcome for token in tokens] == [Outcome.REVOKED] * 2
