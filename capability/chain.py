"""The chain of signatures: each block is signed by a key that the block before it names.

The proof at the end is either the private key for the next block (open) or a last signature (sealed), so
nobody can drop blocks: the private keys that they were signed with are gone.

Two payloads are signed. Version 0 is a plain concatenation; version 1 labels its parts and covers the
previous signature, so that a block belongs to one token. Version 1 is written where the format demands it:
third-party blocks, Datalog from 6 up, keys other than Ed25519, and everything after such a block.
"""

import struct
from collections.abc import Sequence
from typing import Final

from capability.errors import FormatError, KeyFormatError, SealedError, SignatureError, UnsupportedVersion
from capability.keys import Algorithm, PrivateKey, PublicKey, Signer
from capability.wire.envelope import (
    Envelope,
    ExternalSignature,
    FinalSignature,
    NextSecret,
    SignedBlock,
)

FIRST_LABELLED_DATALOG: Final = 6
"""The Datalog version from which a block is signed with payload version 1."""

_ONE: Final = struct.pack("<I", 1)
_ALGORITHMS: Final = {algorithm: struct.pack("<i", algorithm) for algorithm in Algorithm}


def start(
    root: Signer,
    payload: bytes,
    block_version: int,
    root_key_id: int | None = None,
    *,
    next_key: PrivateKey | None = None,
) -> Envelope:
    """Returns a token of one block, the authority, signed by `root`.

    `block_version` is the block's Datalog version. `next_key` signs the next block; it is generated unless
    given, which is for vectors that must come out the same each time.
    """
    block, proof = _sign(root, (), payload, block_version, None, next_key)
    return Envelope(root_key_id, (block,), proof)


def append(
    envelope: Envelope, payload: bytes, block_version: int, *, next_key: PrivateKey | None = None
) -> Envelope:
    """Returns the token with one block more.

    Raises SealedError, or SignatureError for a proof that is not the private key it must be.
    """
    block, proof = _sign(next_signer(envelope), envelope.blocks, payload, block_version, None, next_key)
    return Envelope(envelope.root_key_id, (*envelope.blocks, block), proof)


def append_external(
    envelope: Envelope,
    payload: bytes,
    external: ExternalSignature,
    *,
    next_key: PrivateKey | None = None,
) -> Envelope:
    """Returns the token with a third party's block.

    Raises as `append`, and SignatureError when `external` does not sign `payload` for this token as it is.
    """
    _verify_external(external, payload, envelope.blocks[-1].signature)
    # the external signature alone demands payload version 1
    block, proof = _sign(next_signer(envelope), envelope.blocks, payload, 0, external, next_key)
    return Envelope(envelope.root_key_id, (*envelope.blocks, block), proof)


def seal(envelope: Envelope) -> Envelope:
    """Returns the token with a final signature for its proof, so that nothing can be appended."""
    signature = next_signer(envelope).sign(_seal_payload(envelope.blocks[-1]))
    return Envelope(envelope.root_key_id, envelope.blocks, FinalSignature(signature))


def sign_external(signer: Signer, payload: bytes, previous_signature: bytes) -> ExternalSignature:
    """Returns a third party's signature of a block, for a token whose last one is `previous_signature`."""
    return ExternalSignature(signer.sign(_external_payload(payload, previous_signature)), signer.public_key)


def next_signer(envelope: Envelope) -> PrivateKey:
    """Returns the key that signs the next block, which the proof of an open token holds."""
    proof, expected = envelope.proof, envelope.blocks[-1].next_key
    if isinstance(proof, FinalSignature):
        raise SealedError("the token is sealed")
    key = proof.key
    # INVARIANT: whatever signs was derived from the proof's own bytes, and fits the last block
    if key is None or key.to_bytes() is not proof.secret:
        try:
            key = PrivateKey.from_bytes(proof.secret, expected.algorithm)
        except KeyFormatError as error:
            raise SignatureError("the proof is not a private key", code="signature.proof") from error
    if key.public_key != expected:
        raise SignatureError("the proof is not the private key of the last block", code="signature.proof")
    return key


def verify(envelope: Envelope, root: PublicKey) -> Envelope:
    """Returns the token, the key in its proof derived once for all that is done with it.

    Raises SignatureError or FormatError unless every signature and the proof hold under `root`.
    """
    key = root
    previous: SignedBlock | None = None
    for block in envelope.blocks:
        verify_block(block, key, previous)
        key, previous = block.next_key, block
    return verify_proof(envelope)


def verify_proof(envelope: Envelope) -> Envelope:
    """Returns and raises as `verify` for the proof alone; the last block must be verified by itself."""
    if isinstance(envelope.proof, FinalSignature):
        last = envelope.blocks[-1]
        _verify_as(last.next_key, _seal_payload(last), envelope.proof.signature, "final", "signature.proof")
        return envelope
    signer = next_signer(envelope)
    return Envelope(envelope.root_key_id, envelope.blocks, NextSecret(signer.to_bytes(), signer))


def verify_block(block: SignedBlock, key: PublicKey, previous: SignedBlock | None) -> None:
    """Raises as `verify` unless `key` signed `block`, and its third party did if it has one.

    `key` is the root's, or the next key of the block before, which is `previous`.
    """
    if block.external is not None:
        if previous is None:
            raise FormatError("the authority block has an external signature", code="format.external")
        if block.version == 0:
            raise UnsupportedVersion("a third-party block with signature version 0")
    payload = _payload(block.version, block.payload, block.next_key, previous, block.external)
    _verify_as(key, payload, block.signature, "block", "signature.invalid")
    if block.external is not None and previous is not None:
        _verify_external(block.external, block.payload, previous.signature)


def revocation_ids(envelope: Envelope) -> tuple[bytes, ...]:
    """Returns the blocks' signatures, the authority's first: what other engines show as revocation ids."""
    return tuple(block.signature for block in envelope.blocks)


def canonical_revocation_ids(envelope: Envelope, root: PublicKey) -> tuple[bytes, ...]:
    """Returns the ids under which the blocks are revoked, the authority's first.

    They differ from `revocation_ids` for ECDSA only, where the holder can turn a signature into its twin, and
    would escape a revocation of the other. Raises SignatureError for a signature that is not strict DER.
    """
    signers = (root, *(block.next_key for block in envelope.blocks))
    return tuple(
        signer.canonical_signature(block.signature)
        for signer, block in zip(signers, envelope.blocks, strict=False)
    )


def _sign(
    signer: Signer,
    before: Sequence[SignedBlock],
    payload: bytes,
    block_version: int,
    external: ExternalSignature | None,
    next_key: PrivateKey | None,
) -> tuple[SignedBlock, NextSecret]:
    secret = PrivateKey.generate() if next_key is None else next_key
    public = secret.public_key
    version = _version_to_write(before, block_version, external, (signer.public_key, public))
    message = _payload(version, payload, public, before[-1] if before else None, external)
    block = SignedBlock(payload, public, signer.sign(message), external, version)
    return block, NextSecret(secret.to_bytes(), secret)


def _version_to_write(
    before: Sequence[SignedBlock],
    block_version: int,
    external: ExternalSignature | None,
    keys: Sequence[PublicKey],
) -> int:
    if external is not None or block_version >= FIRST_LABELLED_DATALOG:
        return 1
    for key in keys:
        if key.algorithm is not Algorithm.Ed25519:
            return 1
    return max([block.version for block in before], default=0)


def _payload(
    version: int,
    payload: bytes,
    next_key: PublicKey,
    previous: SignedBlock | None,
    external: ExternalSignature | None,
) -> bytes:
    algorithm = _ALGORITHMS[next_key.algorithm]
    if version == 0:
        # no third-party block gets here, so there is no external signature to cover
        return b"".join((payload, algorithm, next_key.to_bytes()))
    if version != 1:
        raise UnsupportedVersion(f"signature version {version}; 0 and 1 are read")
    parts = [b"\0BLOCK\0\0VERSION\0", _ONE, b"\0PAYLOAD\0", payload]
    parts += [b"\0ALGORITHM\0", algorithm, b"\0NEXTKEY\0", next_key.to_bytes()]
    if previous is not None:
        parts += [b"\0PREVSIG\0", previous.signature]
    if external is not None:
        parts += [b"\0EXTERNALSIG\0", external.signature]
    return b"".join(parts)


def _external_payload(payload: bytes, previous_signature: bytes) -> bytes:
    parts = (b"\0EXTERNAL\0\0VERSION\0", _ONE, b"\0PAYLOAD\0", payload, b"\0PREVSIG\0", previous_signature)
    return b"".join(parts)


def _seal_payload(last: SignedBlock) -> bytes:
    algorithm = _ALGORITHMS[last.next_key.algorithm]
    return b"".join((last.payload, algorithm, last.next_key.to_bytes(), last.signature))


def _verify_external(external: ExternalSignature, payload: bytes, previous_signature: bytes) -> None:
    message = _external_payload(payload, previous_signature)
    _verify_as(external.public_key, message, external.signature, "external", "signature.external")


def _verify_as(key: PublicKey, message: bytes, signature: bytes, what: str, code: str) -> None:
    try:
        key.verify(message, signature)
    except SignatureError as error:
        raise SignatureError(f"{what} signature: {error}", code=code) from error
