"""What a holder tries with blocks that others sign: forged requests; blocks moved, renamed or stripped."""

import base64
from dataclasses import replace

import pytest

from capability import (
    AuthorizerBuilder,
    Biscuit,
    BiscuitBuildError,
    BlockBuilder,
    FormatError,
    PrivateKey,
    SealedError,
    ThirdPartyBlock,
    ThirdPartyRequest,
)
from spec.generate.datalog import RawTerm, Tokens, block, check, p
from spec.generate.protobuf import message
from spec.generate.signing import ROOT, External, chain, ed25519, envelope, link, sign_external
from tests.attacks.doors import ALICE, MALLORY, ask, assert_refused, assert_taken, guard, proof, public

MEMBER = block(p("member", 1), version=5)
TRUSTS_ALICE = block(check(p("member", 1), scopes=[ALICE.public]), version=4)
FIRST = chain(TRUSTS_ALICE)
AUTHORITY = FIRST.links[0]
SIGNED = sign_external(ALICE, MEMBER, AUTHORITY.signature)
GENUINE = link(FIRST.last, MEMBER, MALLORY.public, version=1, previous=AUTHORITY.signature, external=SIGNED)


def followed_by(payload: bytes, external: External | None, version: int = 1) -> bytes:
    """The token with a block that its holder, who has the next secret, signs correctly."""
    entry = link(
        FIRST.last, payload, MALLORY.public, version=version, previous=AUTHORITY.signature, external=external
    )
    return envelope([AUTHORITY, entry], proof(MALLORY))


def token() -> Biscuit:
    return Biscuit.from_bytes(FIRST.open(), public(ROOT.public))


def answer(payload: bytes, external: External) -> ThirdPartyBlock:
    signed = message((1, external.signature), (2, external.key.message()))
    return ThirdPartyBlock.from_bytes(message((1, payload), (2, signed)))


def test_what_is_attacked_is_good() -> None:
    assert not guard().check(FIRST.open()).allowed
    assert_taken(followed_by(MEMBER, SIGNED))


class TestKeyTables:
    """Public-key confusion (CVE-2024-41949): a scope of a signed block that resolves to the holder's key."""

    def request(self, *fields: tuple[int, bytes]) -> bytes:
        return message(*fields)

    @pytest.mark.parametrize("table", [1, 2, 3])
    def test_request_with_a_key_table(self, table: int) -> None:
        """Legacy request fields: a key table that the third party would write indexes into."""
        keys = [(2, MALLORY.public.message())] * table
        data = self.request(*keys, (3, AUTHORITY.signature))
        with pytest.raises(FormatError) as by_bytes:
            ThirdPartyRequest.from_bytes(data)
        with pytest.raises(FormatError) as by_text:
            ThirdPartyRequest.from_base64(base64.urlsafe_b64encode(data).decode())
        assert by_bytes.value.code == by_text.value.code == "format.legacy_request"

    def test_request_with_a_previous_key(self) -> None:
        """Legacy request fields: the previous key, by which older versions bound the block to the token."""
        data = self.request((1, MALLORY.public.message()), (3, AUTHORITY.signature))
        with pytest.raises(FormatError) as refused:
            ThirdPartyRequest.from_bytes(data)
        assert refused.value.code == "format.legacy_request"
        with pytest.raises(FormatError):
            ThirdPartyRequest.from_bytes(self.request((1, MALLORY.public.message())))

    def test_scope_of_a_signed_block_in_the_holders_table(self) -> None:
        """Key-table confusion: an index that the signed block did not declare, and the holder did."""
        bare = block(check(p("member", 1), scopes=[RawTerm(message((2, 0)))]), version=5)
        first = chain(block(check((True,), scopes=[MALLORY.public]), version=4))
        external = sign_external(ALICE, bare, first.signatures[0])
        entry = link(
            first.last, bare, MALLORY.public, version=1, previous=first.signatures[0], external=external
        )
        assert_refused(envelope([first.links[0], entry], proof(MALLORY)), "format.key_table")
        with pytest.raises(BiscuitBuildError):
            Biscuit.from_bytes(first.open(), public(ROOT.public)).append_third_party(
                public(ALICE.public), answer(bare, external)
            )

    def test_scope_keeps_its_key_whatever_the_holder_declared(self) -> None:
        """Key-table confusion: the holder declares its key first; the signed block's stays ALICE's."""
        tokens = Tokens()
        crowded = chain(
            tokens.block(check((True,), scopes=[MALLORY.public]), version=4),
            tokens.block(check((True,), scopes=[ed25519("other").public]), version=4),
        )
        held = Biscuit.from_bytes(crowded.open(), public(ROOT.public))
        request = ThirdPartyRequest.from_bytes(held.third_party_request().to_bytes())
        bob = PrivateKey.generate()
        written = BlockBuilder("check if member(1) trusting {key}", None, {"key": public(ALICE.public)})
        done = held.append_third_party(bob.public_key, request.create_block(bob, written))
        read = Biscuit.from_bytes(done.to_bytes(), public(ROOT.public))
        assert f"trusting {public(ALICE.public)!r}" in read.block_source(2)
        assert repr(public(MALLORY.public)) not in read.block_source(2)

    def test_symbol_of_a_signed_block_in_the_holders_table(self) -> None:
        """Symbol confusion: a symbol that the signed block did not declare, and the holder did."""
        borrowed = block(p("member", RawTerm(message((3, 1024)))), version=5)
        first = chain(block(p("holder", "text")))
        external = sign_external(ALICE, borrowed, first.signatures[0])
        entry = link(
            first.last, borrowed, MALLORY.public, version=1, previous=first.signatures[0], external=external
        )
        assert_refused(envelope([first.links[0], entry], proof(MALLORY)), "format.symbol")


class TestSignedBlocks:
    """Third-party blocks replayed, re-declared under another key, stripped of signature or version."""

    def test_replayed_on_another_token(self) -> None:
        """A third-party block signed for one token is put on another, or later on the same one."""
        for other in (chain(block(p("other", 1))), chain(TRUSTS_ALICE, root=MALLORY)):
            moved = sign_external(ALICE, MEMBER, other.signatures[0])
            assert_refused(followed_by(MEMBER, moved), "signature.external")
            with pytest.raises(BiscuitBuildError) as refused:
                token().append_third_party(public(ALICE.public), answer(MEMBER, moved))
            assert refused.value.code == "signature.external"
        with pytest.raises(BiscuitBuildError) as late:
            token().append(BlockBuilder("check if true")).append_third_party(
                public(ALICE.public), answer(MEMBER, SIGNED)
            )
        assert late.value.code == "signature.external"

    def test_twice_on_one_token(self) -> None:
        """The very block that was appended is appended again, behind itself."""
        done = token().append_third_party(public(ALICE.public), answer(MEMBER, SIGNED))
        with pytest.raises(BiscuitBuildError):
            done.append_third_party(public(ALICE.public), answer(MEMBER, SIGNED))
        again = link(MALLORY, MEMBER, MALLORY.public, version=1, previous=GENUINE.signature, external=SIGNED)
        assert_refused(envelope([AUTHORITY, GENUINE, again], proof(MALLORY)), "signature.external")

    def test_redeclared_under_another_key(self) -> None:
        """A third-party block under the holder's key, or the holder's signature under the third party's."""
        assert_refused(followed_by(MEMBER, External(SIGNED.signature, MALLORY.public)), "signature.external")
        forged = sign_external(MALLORY, MEMBER, AUTHORITY.signature)
        assert_refused(followed_by(MEMBER, External(forged.signature, ALICE.public)), "signature.external")
        with pytest.raises(BiscuitBuildError):
            token().append_third_party(public(ALICE.public), answer(MEMBER, forged))
        own = ask(followed_by(MEMBER, forged))
        assert [(failed.block, failed.index) for failed in own.failed_checks] == [(0, 0)]

    def test_stripped_of_its_external_signature(self) -> None:
        """The external signature taken off a finished block; signed anew, nobody believes it."""
        stripped = envelope([AUTHORITY, replace(GENUINE, external=None)], proof(MALLORY))
        assert_refused(stripped, "signature.invalid")
        decision = ask(followed_by(MEMBER, None))
        assert [(failed.block, failed.index) for failed in decision.failed_checks] == [(0, 0)]

    def test_a_check_of_a_third_party_stripped_off(self) -> None:
        """A restriction that a third party signed is cut off, with the proof that the holder has."""
        restriction = block(check(p("operation", "read")), version=5)
        external = sign_external(ALICE, restriction, AUTHORITY.signature)
        entry = link(
            FIRST.last,
            restriction,
            MALLORY.public,
            version=1,
            previous=AUTHORITY.signature,
            external=external,
        )
        assert_refused(envelope([AUTHORITY], proof(MALLORY)), "signature.proof")
        assert_refused(
            envelope([AUTHORITY, replace(entry, payload=MEMBER)], proof(MALLORY)), "signature.invalid"
        )

    def test_stripped_of_its_version(self) -> None:
        """The signature version of a third-party block left out, or 0, or one that nobody has defined."""
        assert_refused(
            envelope([AUTHORITY, replace(GENUINE, version=None)], proof(MALLORY)), "format.version"
        )
        assert_refused(followed_by(MEMBER, SIGNED, version=0), "format.version")
        assert_refused(envelope([AUTHORITY, replace(GENUINE, version=2)], proof(MALLORY)), "format.version")

    def test_external_signature_on_the_authority(self) -> None:
        """An authority block that passes for a third party's, so that `trusting` a key would reach it."""
        external = External(ALICE.sign(b""), ALICE.public)
        entry = link(ROOT, MEMBER, MALLORY.public, version=1, external=external)
        assert_refused(envelope([entry], proof(MALLORY)), "format.external")

    def test_appended_to_a_sealed_token(self) -> None:
        """A third-party block for a sealed token, asked for before it was sealed."""
        with pytest.raises(SealedError):
            token().seal().append_third_party(public(ALICE.public), answer(MEMBER, SIGNED))
        with pytest.raises(SealedError):
            token().seal().third_party_request()

    def test_words_of_a_third_party_that_nobody_trusts(self) -> None:
        """A holder signs as a third party what the authority or the service should have said."""
        admin = block(p("admin", 1), p("member", 1), version=5)
        held = followed_by(admin, sign_external(MALLORY, admin, AUTHORITY.signature))
        assert not ask(held, "allow if admin(1)").allowed
        biscuit = Biscuit.from_bytes(held, public(ROOT.public))
        trusting = AuthorizerBuilder("allow if admin(1) trusting {key}", None, {"key": public(ALICE.public)})
        assert not trusting.build(biscuit).decide().allowed
