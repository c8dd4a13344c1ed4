"""Blocks signed by third parties: across processes, beside biscuit-python, and under attack."""

from typing import Any

import biscuit_auth
import pytest

from capability.builders import BlockBuilder
from capability.errors import BiscuitBuildError, FormatError, SealedError, SignatureError
from capability.keys import Algorithm, KeyPair, PrivateKey, PublicKey
from capability.third_party import ThirdPartyBlock, ThirdPartyRequest
from capability.tokens import Biscuit, BiscuitBuilder, UnverifiedBiscuit
from capability.wire import schema

ROOT = KeyPair.from_private_key(PrivateKey("ed25519-private/" + "11" * 32))
PARTY = KeyPair.from_private_key(PrivateKey("ed25519-private/" + "22" * 32))
HOLDER = KeyPair.from_private_key(PrivateKey("ed25519-private/" + "33" * 32))
P256 = KeyPair(Algorithm.Secp256r1)
PEER_ROOT = biscuit_auth.PublicKey(repr(ROOT.public_key))


@pytest.fixture
def token() -> Biscuit:
    return BiscuitBuilder('owner("alice", "file1")').build(ROOT.private_key)


def answer(
    token: Biscuit, source: str = 'group("alice", "admins")', party: KeyPair = PARTY
) -> ThirdPartyBlock:
    return token.third_party_request().create_block(party.private_key, BlockBuilder(source))


@pytest.mark.parametrize("party", [PARTY, P256], ids=["ed25519", "secp256r1"])
def test_a_block_signed_elsewhere_joins_the_token_it_was_made_for(token: Biscuit, party: KeyPair) -> None:
    request = ThirdPartyRequest.from_base64(token.third_party_request().to_base64())
    source = (
        'group("alice", "admins");\ncheck if owner("alice", $x) trusting ' + repr(ROOT.public_key) + ";\n"
    )
    block = ThirdPartyBlock.from_base64(
        request.create_block(party.private_key, BlockBuilder(source)).to_base64()
    )
    signed = token.append_third_party(party.public_key, block)
    again = Biscuit.from_bytes(signed.to_bytes(), ROOT.public_key)
    for result in (signed, again, UnverifiedBiscuit.from_bytes(signed.to_bytes())):
        assert result.external_keys == (None, party.public_key)
        assert result.block_external_key(1) == party.public_key
        assert result.block_source(1) == source
        assert result.block(1).version == 5
    peer = biscuit_auth.Biscuit.from_bytes(signed.to_bytes(), PEER_ROOT)
    assert peer.block_source(1) == source
    assert repr(peer.block_external_key(1)) == repr(party.public_key)


def test_later_blocks_of_ours_and_of_the_peer_do_not_see_its_tables(token: Biscuit) -> None:
    party = repr(PARTY.public_key)
    signed = token.append_third_party(
        PARTY.public_key, answer(token, f"shared_name(1); check if true trusting {party}")
    )
    source = f"shared_name(2);\ncheck if shared_name(1) trusting {party};\n"
    deeper = signed.append(BlockBuilder(source))
    assert deeper.block(2).symbols == ("shared_name",)
    assert deeper.block(2).public_keys == (PARTY.public_key.scope,)
    peer = biscuit_auth.Biscuit.from_bytes(deeper.to_bytes(), PEER_ROOT)
    assert peer.block_source(2) == source
    theirs = peer.append(biscuit_auth.BlockBuilder("another(3); shared_name(4)"))
    ours = Biscuit.from_base64(theirs.to_base64(), ROOT.public_key)
    assert ours.block_source(3) == "another(3);\nshared_name(4);\n"


def test_the_peer_s_third_party_blocks_are_read() -> None:
    party = biscuit_auth.KeyPair()
    root = biscuit_auth.KeyPair()
    token = biscuit_auth.BiscuitBuilder("f(1)").build(root.private_key)
    block = token.third_party_request().create_block(
        party.private_key,
        biscuit_auth.BlockBuilder("g(1); check if f(1) trusting {k}", {}, {"k": root.public_key}),
    )
    token = token.append_third_party(party.public_key, block)
    ours = Biscuit.from_base64(token.to_base64(), PublicKey(repr(root.public_key)))
    assert repr(ours.external_keys[1]) == repr(party.public_key)
    assert ours.block_source(1) == token.block_source(1)


def test_a_request_says_only_the_last_signature(token: Biscuit) -> None:
    request = token.append(BlockBuilder("check if true")).third_party_request()
    message = schema.ThirdPartyBlockRequest.FromString(request.to_bytes())
    assert [field.name for field, _ in message.ListFields()] == ["previous_signature"]
    assert message.previous_signature == request.previous_signature
    assert len(message.previous_signature) == 64


def test_a_request_can_be_answered_by_several_parties(token: Biscuit) -> None:
    request = token.third_party_request()
    for party in (PARTY, HOLDER):
        block = request.create_block(party.private_key, BlockBuilder("f(1)"))
        assert token.append_third_party(party.public_key, block).external_keys[1] == party.public_key


def test_a_request_with_legacy_fields_is_refused(token: Biscuit) -> None:
    key = schema.PublicKey(algorithm=0, key=HOLDER.public_key.to_bytes())
    for fields in ({"legacy_previous_key": key}, {"legacy_public_keys": [key]}):
        message = schema.ThirdPartyBlockRequest(
            previous_signature=token.third_party_request().previous_signature,
            **fields,
        )
        with pytest.raises(FormatError) as caught:
            ThirdPartyRequest.from_bytes(message.SerializeToString())
        assert caught.value.code == "format.legacy_request"


def test_the_holder_s_keys_never_enter_the_signed_block(token: Biscuit) -> None:
    # the scope in the third party's block must not resolve in the key table of the holder's token
    crowded = token.append(BlockBuilder(f"check if true trusting {HOLDER.public_key!r}"))
    signed = crowded.append_third_party(
        PARTY.public_key, answer(crowded, f"check if true trusting {PARTY.public_key!r}")
    )
    again = Biscuit.from_bytes(signed.to_bytes(), ROOT.public_key)
    assert again.block_source(2) == f"check if true trusting {PARTY.public_key!r};\n"
    assert again.block(2).public_keys == (PARTY.public_key.scope,)


def test_a_block_fits_no_other_token_and_no_other_place(token: Biscuit) -> None:
    block = answer(token)
    signed = token.append_third_party(PARTY.public_key, block)
    others = [
        BiscuitBuilder('owner("alice", "file1")').build(ROOT.private_key),
        token.append(BlockBuilder("check if true")),
        signed,
    ]
    for other in others:
        with pytest.raises(BiscuitBuildError, match="does not fit this token") as caught:
            other.append_third_party(PARTY.public_key, block)
        assert caught.value.code.startswith("signature.")
        assert isinstance(caught.value.__cause__, SignatureError)


def test_a_block_is_not_taken_under_another_key(token: Biscuit) -> None:
    block = answer(token)
    with pytest.raises(BiscuitBuildError, match="another key"):
        token.append_third_party(HOLDER.public_key, block)
    message = schema.ThirdPartyBlockContents.FromString(block.to_bytes())
    message.external_signature.public_key.key = HOLDER.public_key.to_bytes()
    redeclared = ThirdPartyBlock.from_bytes(message.SerializeToString())
    with pytest.raises(BiscuitBuildError, match="does not fit this token"):
        token.append_third_party(HOLDER.public_key, redeclared)


def test_a_changed_payload_is_not_taken(token: Biscuit) -> None:
    block = answer(token)
    message = schema.ThirdPartyBlockContents.FromString(block.to_bytes())
    for at in range(len(block.payload)):
        changed = bytearray(block.payload)
        changed[at] ^= 1
        message.payload = bytes(changed)
        with pytest.raises(BiscuitBuildError, match="does not fit this token"):
            token.append_third_party(
                PARTY.public_key, ThirdPartyBlock.from_bytes(message.SerializeToString())
            )


@pytest.mark.parametrize("kind", [ThirdPartyRequest, ThirdPartyBlock])
def test_what_is_no_message_is_a_format_error(
    token: Biscuit, kind: type[ThirdPartyRequest] | type[ThirdPartyBlock]
) -> None:
    good = (token.third_party_request() if kind is ThirdPartyRequest else answer(token)).to_bytes()
    for data in (b"", b"\xff", good[:-1], good + b"\x00", good + good):
        with pytest.raises(FormatError):
            kind.from_bytes(data)
    for text in ("", "!", " AAAA"):
        with pytest.raises(FormatError):
            kind.from_base64(text)


def test_messages_survive_both_forms(token: Biscuit) -> None:
    request, block = token.third_party_request(), answer(token)
    assert ThirdPartyRequest.from_bytes(request.to_bytes()).to_base64() == request.to_base64()
    assert ThirdPartyBlock.from_bytes(block.to_bytes()).to_base64() == block.to_base64()
    assert ThirdPartyBlock.from_base64(block.to_base64()).external_key == PARTY.public_key


def test_a_block_that_nobody_can_read_is_not_taken(token: Biscuit) -> None:
    from capability import chain

    payload = schema.Block(version=3, context=b"too old for a third party").SerializeToString()
    request = token.third_party_request()
    external = chain.sign_external(PARTY.private_key, payload, request.previous_signature)
    with pytest.raises(BiscuitBuildError, match="does not fit") as caught:
        token.append_third_party(PARTY.public_key, ThirdPartyBlock(payload, external))
    assert caught.value.code == "format.version"


def test_a_sealed_token_asks_for_nothing_and_takes_nothing(token: Biscuit) -> None:
    block, sealed = answer(token), token.seal()
    with pytest.raises(SealedError):
        sealed.third_party_request()
    with pytest.raises(SealedError):
        sealed.append_third_party(PARTY.public_key, block)


def test_an_unverified_token_can_ask_and_take(token: Biscuit) -> None:
    offline = UnverifiedBiscuit.from_base64(token.to_base64())
    block = offline.third_party_request().create_block(PARTY.private_key, BlockBuilder("f(1)"))
    signed = offline.append_third_party(PARTY.public_key, block)
    assert type(signed) is UnverifiedBiscuit
    assert signed.verify(ROOT.public_key).external_keys == (None, PARTY.public_key)


class Vault:
    """A key that stays elsewhere."""

    def __init__(self, pair: KeyPair, signature: bytes | None = None) -> None:
        self._pair = pair
        self._signature = signature

    @property
    def public_key(self) -> PublicKey:
        return self._pair.public_key

    def sign(self, message: bytes) -> bytes:
        return self._pair.private_key.sign(message) if self._signature is None else self._signature


def test_any_signer_can_be_the_third_party(token: Biscuit) -> None:
    block = token.third_party_request().create_block(Vault(PARTY), BlockBuilder("f(1)"))
    assert token.append_third_party(PARTY.public_key, block).external_keys[1] == PARTY.public_key


@pytest.mark.parametrize("signer", [None, PARTY, PARTY.public_key, "ed25519-private/" + "22" * 32])
def test_what_cannot_sign_is_a_type_error(token: Biscuit, signer: Any) -> None:
    with pytest.raises(TypeError, match="Signer"):
        token.third_party_request().create_block(signer, BlockBuilder("f(1)"))


def test_a_third_party_block_has_a_context(token: Biscuit) -> None:
    builder = BlockBuilder("f(1)")
    builder.set_context("hr, 2026")
    block = token.third_party_request().create_block(PARTY.private_key, builder)
    signed = token.append_third_party(PARTY.public_key, block)
    assert Biscuit.from_bytes(signed.to_bytes(), ROOT.public_key).context(1) == "hr, 2026"
