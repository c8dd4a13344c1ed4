"""What is around the blocks: signatures, next keys, the proof."""

from typing import Final, TypeAlias

from capability.datalog.immutable import immutable, kept
from capability.errors import FormatError
from capability.keys import PrivateKey, PublicKey
from capability.wire import schema
from capability.wire.messages import parse, read_key, serialize, write_key

MAX_BYTES: Final = 64 * 1024
"""How long a token may be, in bytes, unless told otherwise."""
MAX_BLOCKS: Final = 64
"""How many blocks a token may have, the authority included, unless told otherwise."""


@immutable
class ExternalSignature:
    """A third party's signature of a block, and its key."""

    signature: bytes
    public_key: PublicKey


@immutable
class SignedBlock:
    """A block's bytes, the key that signs the next block, and the signature over both.

    `version` is that of the signed payload (0 or 1), not that of the Datalog in the block. `message` is what
    was written of it before: every token that descends from a block has it.
    """

    payload: bytes
    next_key: PublicKey
    signature: bytes
    external: ExternalSignature | None = None
    version: int = 0
    message: schema.SignedBlock | None = kept()

    def __repr__(self) -> str:
        return f"SignedBlock(next_key={self.next_key!r}, external={self.external!r}, version={self.version})"


@immutable
class NextSecret:
    """The proof of an open token: the private key of its last next key. Whoever has it can append.

    `key` is the key of these very bytes where it was derived already; a token that is read has none.
    """

    secret: bytes
    key: PrivateKey | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NextSecret) and self.secret == other.secret

    def __hash__(self) -> int:
        return hash(self.secret)

    def __repr__(self) -> str:
        return "NextSecret()"


@immutable
class FinalSignature:
    """The proof of a sealed token: the last private key's signature, that key having been thrown away."""

    signature: bytes

    def __repr__(self) -> str:
        return "FinalSignature()"


Proof: TypeAlias = NextSecret | FinalSignature


@immutable
class Envelope:
    """A token, decoded but not verified. Its first block is the authority; nobody signs the `root_key_id`."""

    root_key_id: int | None
    blocks: tuple[SignedBlock, ...]
    proof: Proof


def decode(data: bytes, *, max_bytes: int = MAX_BYTES, max_blocks: int = MAX_BLOCKS) -> Envelope:
    """Reads a token without verifying it; raises FormatError or SignatureError (a key in it is unusable)."""
    if len(data) > max_bytes:
        raise FormatError(f"the token is longer than {max_bytes} bytes", code="format.size")
    message = parse(schema.Biscuit, data)
    if 1 + len(message.blocks) > max_blocks:
        raise FormatError(f"the token has more than {max_blocks} blocks", code="format.size")
    proof: Proof
    match message.proof.WhichOneof("content"):
        case "next_secret":
            proof = NextSecret(message.proof.next_secret)
        case "final_signature":
            proof = FinalSignature(message.proof.final_signature)
        case _:
            raise FormatError("the token has no proof", code="format.missing")
    blocks = (_read_block(message.authority), *map(_read_block, message.blocks))
    return Envelope(message.root_key_id if message.HasField("root_key_id") else None, blocks, proof)


def encode(envelope: Envelope) -> bytes:
    """Returns the bytes of a token."""
    authority, *others = map(_write_block, envelope.blocks)
    message = schema.Biscuit(authority=authority, blocks=others, root_key_id=envelope.root_key_id)
    if isinstance(envelope.proof, NextSecret):
        message.proof.next_secret = envelope.proof.secret
    else:
        message.proof.final_signature = envelope.proof.signature
    return serialize(message)


def read_external(message: schema.ExternalSignature) -> ExternalSignature:
    """Returns a third party's signature; raises SignatureError when its key is unusable."""
    return ExternalSignature(message.signature, read_key(message.public_key))


def write_external(external: ExternalSignature) -> schema.ExternalSignature:
    """Returns the message of a third party's signature."""
    return schema.ExternalSignature(signature=external.signature, public_key=write_key(external.public_key))


def _read_block(message: schema.SignedBlock) -> SignedBlock:
    external = read_external(message.external_signature) if message.HasField("external_signature") else None
    return SignedBlock(
        message.block, read_key(message.next_key), message.signature, external, message.version
    )


def _write_block(block: SignedBlock) -> schema.SignedBlock:
    if block.message is not None:
        return block.message
    message = schema.SignedBlock(
        block=block.payload,
        next_key=write_key(block.next_key),
        signature=block.signature,
        external_signature=None if block.external is None else write_external(block.external),
        # version 0 is left out on the wire
        version=block.version or None,
    )
    object.__setattr__(block, "message", message)
    return message
