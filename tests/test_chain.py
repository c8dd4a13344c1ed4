"""The chain of signatures: what verifies, what does not, beside biscuit-python and under flipped bits."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import biscuit_auth as _biscuit_auth
import pytest

from capability import chain
from capability.errors import (
    BiscuitValidationError,
    SealedError,
    SignatureError,
    UnsupportedVersion,
)
from capability.keys import Algorithm, KeyPair, PrivateKey, PublicKey
from capability.wire.block import decode_block
from capability.wire.envelope import (
    Envelope,
    ExternalSignature,
    FinalSignature,
    NextSecret,
    SignedBlock,
    decode,
    encode,
)
from capability.wire.symbols import KeyTable, SymbolTable
from tests.chains import (
    NEXT,
    P256,
    PARTY,
    ROOT,
    SOURCES,
    TOKEN,
    TOKENS,
    Tables,
    external_payload,
    first_party,
    root_of,
)

biscuit_auth: Any = _biscuit_auth


def refusal(envelope: Envelope, root: PublicKey = ROOT.public_key) -> str:
    with pytest.raises(BiscuitValidationError) as caught:
        chain.verify(envelope, root)
    return caught.value.code


def with_block(envelope: Envelope, at: int, **changes: Any) -> Envelope:
    blocks = list(envelope.blocks)
    blocks[at] = replace(blocks[at], **changes)
    return replace(envelope, blocks=tuple(blocks))


@pytest.mark.parametrize("name", TOKENS)
def test_what_is_signed_verifies_under_its_root_only(name: str) -> None:
    chain.verify(TOKENS[name], root_of(name))
    for other in (KeyPair().public_key, KeyPair(Algorithm.Secp256r1).public_key, NEXT[0].public_key):
        assert refusal(TOKENS[name], other) == "signature.invalid"


@pytest.mark.parametrize("name", TOKENS)
def test_biscuit_python_reads_what_we_write(name: str) -> None:
    ours = TOKENS[name]
    theirs = biscuit_auth.Biscuit.from_bytes(encode(ours), biscuit_auth.PublicKey(repr(root_of(name))))
    assert theirs.block_count() == len(ours.blocks)
    assert theirs.revocation_ids == [id_.hex() for id_ in chain.revocation_ids(ours)]
    assert theirs.to_bytes() == encode(ours)


@pytest.mark.parametrize("root", [ROOT, P256], ids=["ed25519", "secp256r1"])
@pytest.mark.parametrize("version_6", [False, True])
def test_we_read_what_biscuit_python_writes(root: PrivateKey, version_6: bool) -> None:
    builder = biscuit_auth.BiscuitBuilder(SOURCES[0] + ("f(null);" if version_6 else ""))
    builder.set_root_key_id(9)
    token = builder.build(biscuit_auth.PrivateKey(root.text()))
    token = token.append(biscuit_auth.BlockBuilder(SOURCES[1]))
    party = biscuit_auth.PrivateKey(PARTY.text())
    request = token.third_party_request()
    token = token.append_third_party(
        biscuit_auth.KeyPair.from_private_key(party).public_key,
        request.create_block(party, biscuit_auth.BlockBuilder("g(1);")),
    )
    token = token.append(biscuit_auth.BlockBuilder(SOURCES[2]))
    envelope = decode(token.to_bytes())
    chain.verify(envelope, root.public_key)
    assert envelope.root_key_id == 9
    assert [block.version for block in envelope.blocks[2:]] == [1, 1]
    assert [block.external is not None for block in envelope.blocks] == [False, False, True, False]
    assert [id_.hex() for id_ in chain.revocation_ids(envelope)] == token.revocation_ids
    sealed = chain.seal(envelope)
    chain.verify(sealed, root.public_key)
    again = biscuit_auth.Biscuit.from_bytes(encode(sealed), biscuit_auth.PublicKey(repr(root.public_key)))
    assert again.block_count() == 4


@pytest.mark.parametrize(
    "source",
    [
        'a1("b1", "c1"); h2($v3) <- b2($v3, "s2"), $v3 == "e2"; check if ["x1"].any($p -> $p == "w1");',
        'f({"read", "a", "zz", "right"}); m({"read": 1, "a": 2, 3: 4, -1: 0}); d({hex:02, hex:01});',
        'check if z("k") trusting previous, authority or y("q1"), $n1.extern::foo($m1) || true, u($n1, $m1);',
        'trailing("x"); head($a, "y") <- body($a), $a.starts_with("z") trusting authority; reject if r("s");',
        "check all t($t), $t <= 2026-12-01T00:00:00Z; b(true, -9223372036854775808, 9223372036854775807);",
    ],
)
def test_the_same_source_becomes_the_same_bytes_as_in_biscuit_python(source: str) -> None:
    theirs = biscuit_auth.BiscuitBuilder(source).build(biscuit_auth.PrivateKey(ROOT.text()))
    blocks = decode(theirs.to_bytes()).blocks
    payload = blocks[0].payload
    version = decode_block(payload, SymbolTable(), KeyTable(), external=False).version
    ours, our_version = Tables().encode(source)
    assert our_version >= version
    # arrays and maps alone do not raise the version there
    assert ours == payload.replace(bytes([0x18, version]), bytes([0x18, our_version]), 1)


def test_without_a_key_given_each_next_key_is_new() -> None:
    one, other = (chain.start(ROOT, b"", 3) for _ in range(2))
    assert one.blocks[0].next_key != other.blocks[0].next_key
    assert one.blocks[0].next_key.algorithm is Algorithm.Ed25519
    assert chain.append(one, b"", 3).blocks[1].next_key != one.blocks[0].next_key


def test_signing_goes_through_the_signer() -> None:
    class Vault:
        """A key that stays elsewhere."""

        public_key = ROOT.public_key

        def sign(self, message: bytes) -> bytes:
            return ROOT.sign(message)

    assert chain.start(Vault(), b"payload", 3, next_key=NEXT[0]) == chain.start(
        ROOT, b"payload", 3, next_key=NEXT[0]
    )
    signature = TOKEN.blocks[-1].signature
    assert chain.sign_external(Vault(), b"x", signature) == chain.sign_external(ROOT, b"x", signature)


# ---- which payload is signed


def test_the_version_of_the_payload_is_0_unless_something_asks_for_1() -> None:
    versions = {name: [block.version for block in token.blocks] for name, token in TOKENS.items()}
    assert versions == {
        "one block": [0],
        "three blocks": [0, 0, 0],
        "sealed": [0, 0, 0],
        "third party": [0, 0, 1],
        "third party by P-256": [0, 0, 1],
        "sealed third party": [0, 1],
        "version 6 first": [1, 1, 1, 1],
        "version 6 later": [0, 1, 1],
        "P-256 root": [1, 1, 1],
        "P-256 in the middle": [0, 1, 1],
        "P-256 at the end": [0, 0, 1],
        "P-256 at the end, sealed": [0, 0, 1],
    }


def test_payloads_are_those_of_the_format() -> None:
    algorithm, next_key = struct.pack("<i", 0), NEXT[0].public_key.to_bytes()
    block = chain.start(ROOT, b"payload", 3, next_key=NEXT[0]).blocks[0]
    ROOT.public_key.verify(b"payload" + algorithm + next_key, block.signature)
    block = chain.start(ROOT, b"payload", 6, next_key=NEXT[0]).blocks[0]
    labelled = (
        b"\0BLOCK\0\0VERSION\0\1\0\0\0\0PAYLOAD\0payload\0ALGORITHM\0" + algorithm + b"\0NEXTKEY\0" + next_key
    )
    ROOT.public_key.verify(labelled, block.signature)
    envelope = chain.start(ROOT, b"authority", 3, next_key=NEXT[1])
    before = envelope.blocks[0].signature
    external = chain.sign_external(PARTY, b"payload", before)
    PARTY.public_key.verify(
        b"\0EXTERNAL\0\0VERSION\0\1\0\0\0\0PAYLOAD\0payload\0PREVSIG\0" + before, external.signature
    )
    block = chain.append_external(envelope, b"payload", external, next_key=NEXT[0]).blocks[1]
    NEXT[1].public_key.verify(
        labelled + b"\0PREVSIG\0" + before + b"\0EXTERNALSIG\0" + external.signature, block.signature
    )
    sealed = chain.seal(chain.start(ROOT, b"payload", 6, next_key=NEXT[0]))
    assert isinstance(sealed.proof, FinalSignature)
    NEXT[0].public_key.verify(
        b"payload" + algorithm + next_key + sealed.blocks[0].signature, sealed.proof.signature
    )


@pytest.mark.parametrize("version", [2, 3, 2**32 - 1])
def test_an_unknown_payload_version_is_refused(version: int) -> None:
    assert refusal(with_block(TOKEN, 1, version=version)) == "format.version"


@pytest.mark.parametrize("name", ["three blocks", "version 6 first"])
def test_a_payload_version_cannot_be_swapped(name: str) -> None:
    token = TOKENS[name]
    for at, block in enumerate(token.blocks):
        assert refusal(with_block(token, at, version=1 - block.version)) == "signature.invalid"


# ---- the proof


def test_an_open_token_has_the_private_key_of_its_last_next_key() -> None:
    for secret in (NEXT[0].to_bytes(), ROOT.to_bytes(), bytes(32)):
        wrong = replace(TOKEN, proof=NextSecret(secret))
        assert refusal(wrong) == "signature.proof"
        for use in (lambda token: chain.append(token, b"", 3), chain.seal):
            with pytest.raises(SignatureError) as caught:
                use(wrong)
            assert caught.value.code == "signature.proof"


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_proof_of_another_length_is_refused(length: int) -> None:
    assert refusal(replace(TOKEN, proof=NextSecret(bytes(length)))) == "signature.proof"
    assert refusal(replace(TOKEN, proof=FinalSignature(bytes(length)))) == "signature.proof"


def test_a_p256_proof_out_of_range_is_refused() -> None:
    token = TOKENS["P-256 at the end"]
    for secret in (bytes(32), b"\xff" * 32):
        assert refusal(replace(token, proof=NextSecret(secret))) == "signature.proof"


def test_a_sealed_token_cannot_grow() -> None:
    sealed = chain.seal(TOKEN)
    external = chain.sign_external(PARTY, b"x", sealed.blocks[-1].signature)
    uses: list[Callable[[], object]] = [
        lambda: chain.append(sealed, b"x", 3),
        lambda: chain.append_external(sealed, b"x", external),
        lambda: chain.seal(sealed),
    ]
    for use in uses:
        with pytest.raises(SealedError) as caught:
            use()
        assert caught.value.code == "token.sealed"


def test_the_seal_of_another_token_is_refused() -> None:
    other = first_party([*SOURCES[:2], "other(1);"])
    assert refusal(replace(TOKEN, proof=chain.seal(other).proof)) == "signature.proof"
    shorter = replace(TOKEN, blocks=TOKEN.blocks[:2], proof=chain.seal(TOKEN).proof)
    assert refusal(shorter) == "signature.proof"


# ---- blocks dropped, moved, repeated, swapped


def test_blocks_cannot_be_dropped_moved_repeated_or_swapped() -> None:
    for name in ("three blocks", "sealed", "third party", "version 6 first"):
        token = TOKENS[name]
        a, b, c, *rest = token.blocks
        for blocks in ((a, b), (a, c), (a,), (b, c), (a, c, b), (a, b, b, c), (b, a, c), (a, b, c, c)):
            changed = blocks if blocks[-1] is not c or not rest else (*blocks, *rest)
            if changed != token.blocks:
                assert refusal(replace(token, blocks=changed)).startswith("signature.")


def test_nothing_of_a_block_can_be_swapped() -> None:
    other = first_party(["a(1);", "b(1);", "c(1);"], PARTY, NEXT[1:] + NEXT[:1])
    for at in range(3):
        for part in ("payload", "next_key", "signature"):
            swapped = with_block(TOKEN, at, **{part: getattr(other.blocks[at], part)})
            assert refusal(swapped).startswith("signature.")


@pytest.mark.parametrize("root_key_id", [None, 0, 1])
def test_the_root_key_id_is_signed_by_nobody(root_key_id: int | None) -> None:
    changed = replace(TOKEN, root_key_id=root_key_id)
    chain.verify(changed, ROOT.public_key)
    assert chain.revocation_ids(changed) == chain.revocation_ids(TOKEN)


# ---- third parties


def test_the_authority_has_no_external_signature() -> None:
    external = chain.sign_external(PARTY, TOKEN.blocks[0].payload, b"")
    assert refusal(with_block(TOKEN, 0, external=external)) == "format.external"


def test_a_third_party_block_is_for_one_token_at_one_moment() -> None:
    payload = external_payload("g(1);")
    external = chain.sign_external(PARTY, payload, TOKEN.blocks[-1].signature)
    chain.append_external(TOKEN, payload, external)
    for other in (first_party(SOURCES[:2]), first_party(SOURCES[::-1]), chain.append(TOKEN, b"", 3)):
        with pytest.raises(SignatureError) as caught:
            chain.append_external(other, payload, external)
        assert caught.value.code == "signature.external"


def forged(external: ExternalSignature | None, version: int = 1, payload: bytes | None = None) -> Envelope:
    """A third-party block that the holder signs as the chain demands, whatever the external signature is."""
    token = first_party(SOURCES[:2])
    content = external_payload("g(1);") if payload is None else payload
    next_key = NEXT[2].public_key
    message = chain._payload(version, content, next_key, token.blocks[-1], external)
    block = SignedBlock(content, next_key, chain.next_signer(token).sign(message), external, version)
    return Envelope(None, (*token.blocks, block), NextSecret(NEXT[2].to_bytes()))


def test_the_holder_cannot_state_a_third_party_block_himself() -> None:
    payload = external_payload("g(1);")
    previous = first_party(SOURCES[:2]).blocks[-1].signature
    good = chain.sign_external(PARTY, payload, previous)
    chain.verify(forged(good), ROOT.public_key)
    for bad in (
        replace(good, public_key=NEXT[0].public_key),  # re-declared under another key
        replace(good, public_key=P256.public_key),
        chain.sign_external(PARTY, payload, b""),  # for no token
        chain.sign_external(PARTY, payload, TOKEN.blocks[-1].signature),  # for another one
        chain.sign_external(PARTY, b"", previous),  # another block
        replace(good, signature=PARTY.sign(payload)),
        replace(good, signature=b""),
    ):
        assert refusal(forged(bad)) == "signature.external"
    assert refusal(forged(good, payload=external_payload("g(2);"))) == "signature.external"


def test_a_third_party_block_has_payload_version_1() -> None:
    payload = external_payload("g(1);")
    external = chain.sign_external(PARTY, payload, first_party(SOURCES[:2]).blocks[-1].signature)
    with pytest.raises(UnsupportedVersion):
        chain.verify(forged(external, version=0), ROOT.public_key)


def test_an_external_signature_cannot_be_stripped_or_changed() -> None:
    token = TOKENS["third party"]
    assert refusal(with_block(token, 2, external=None)) == "signature.invalid"
    stripped = with_block(token, 2, external=None, version=0)
    assert refusal(stripped) == "signature.invalid"
    external = token.blocks[2].external
    assert external is not None
    changed = replace(external, signature=external.signature[:-1] + b"\0")
    assert refusal(with_block(token, 2, external=changed)) == "signature.invalid"
    renamed = replace(external, public_key=NEXT[0].public_key)
    assert refusal(with_block(token, 2, external=renamed)) == "signature.external"


# ---- revocation ids


def test_revocation_ids_are_the_signatures() -> None:
    assert chain.revocation_ids(TOKEN) == tuple(block.signature for block in TOKEN.blocks)
    assert chain.canonical_revocation_ids(TOKEN, ROOT.public_key) == chain.revocation_ids(TOKEN)
    assert chain.revocation_ids(chain.append(TOKEN, b"", 3))[:3] == chain.revocation_ids(TOKEN)
    assert chain.revocation_ids(chain.seal(TOKEN)) == chain.revocation_ids(TOKEN)


def twin(signature: bytes) -> bytes:
    """The other ECDSA signature of the same message, DER by hand."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r_end = 4 + signature[3]
    s = order - int.from_bytes(signature[r_end + 2 :], "big")
    content = s.to_bytes(s.bit_length() // 8 + 1, "big")
    body = signature[2:r_end] + b"\x02" + bytes([len(content)]) + content
    return b"\x30" + bytes([len(body)]) + body


def test_the_twin_of_an_ecdsa_signature_has_the_same_canonical_revocation_id() -> None:
    for token, at, root in (
        (first_party(SOURCES[:1], P256), 0, P256.public_key),
        (first_party(SOURCES[:2], ROOT, [P256, NEXT[0]]), 1, ROOT.public_key),
    ):
        twisted = with_block(token, at, signature=twin(token.blocks[at].signature))
        chain.verify(twisted, root)
        assert chain.revocation_ids(twisted) != chain.revocation_ids(token)
        assert chain.canonical_revocation_ids(twisted, root) == chain.canonical_revocation_ids(token, root)
        # ours are canonical from the start
        assert chain.canonical_revocation_ids(token, root) == chain.revocation_ids(token)


def test_a_twin_does_not_fit_a_token_that_went_on_with_version_1() -> None:
    token = first_party(SOURCES, P256)
    assert refusal(with_block(token, 0, signature=twin(token.blocks[0].signature)), P256.public_key) == (
        "signature.invalid"
    )


def test_a_proof_whose_key_is_known_is_still_held_against_the_last_block() -> None:
    """A key that came with another proof, or with other bytes, signs nothing."""
    first, second = (chain.start(ROOT, b"authority", 3) for _ in range(2))
    assert isinstance(first.proof, NextSecret)
    assert isinstance(second.proof, NextSecret)
    assert refusal(replace(first, proof=second.proof)) == "signature.proof"
    with pytest.raises(SignatureError, match="not the private key of the last block"):
        chain.append(replace(first, proof=second.proof), b"block", 3)
    swapped = replace(first, proof=replace(first.proof, secret=second.proof.secret))
    with pytest.raises(SignatureError, match="not the private key of the last block"):
        chain.append(swapped, b"block", 3)


def test_a_verified_token_derives_the_key_of_its_proof_once() -> None:
    read = decode(encode(chain.start(ROOT, b"authority", 3)))
    assert isinstance(read.proof, NextSecret)
    assert read.proof.key is None
    proven = chain.verify(read, ROOT.public_key)
    assert proven == read
    assert chain.next_signer(proven) is chain.next_signer(proven)
