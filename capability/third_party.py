"""Blocks that somebody else signs: the request that goes out, and the signed block that comes back.

The holder of a token sends a ThirdPartyRequest, which says only what the token's last signature is; the
third party answers with a ThirdPartyBlock, signed over that signature, so that it fits no other token.
Symbols and keys of the block are tables of its own: nothing that the holder sends can change what the
signed bytes mean.
"""

from typing import Self

from capability import chain
from capability.builders import BlockBuilder
from capability.errors import BiscuitBuildError, FormatError, SignatureError
from capability.keys import PrivateKey, PublicKey, Signer
from capability.wire import schema
from capability.wire.block import encode_block
from capability.wire.envelope import ExternalSignature, read_external, write_external
from capability.wire.messages import parse, serialize
from capability.wire.symbols import KeyTable, SymbolTable
from capability.wire.text import from_text, to_text


class ThirdPartyRequest:
    """Asks a third party for a block: names the signature that the block is to follow.

    It holds nothing else of the token. It can be answered more than once; each answer fits the token as it
    was when it asked.
    """

    __slots__ = ("_previous_signature",)

    def __init__(self, previous_signature: bytes) -> None:
        self._previous_signature = previous_signature

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` writes.

        Raises FormatError, also for a request with the fields of older formats: with them a holder could
        choose what the keys of the signed block mean.
        """
        message = parse(schema.ThirdPartyBlockRequest, data)
        if message.HasField("legacy_previous_key") or message.legacy_public_keys:
            raise FormatError(
                "the request has the fields of an older, unsafe exchange", code="format.legacy_request"
            )
        return cls(message.previous_signature)

    @classmethod
    def from_base64(cls, data: str) -> Self:
        """Reads what `to_base64` writes; raises FormatError."""
        return cls.from_bytes(from_text(data))

    @property
    def previous_signature(self) -> bytes:
        """The signature of the token's last block."""
        return self._previous_signature

    def to_bytes(self) -> bytes:
        """Returns the request for the third party; it lets nobody use the token."""
        return serialize(schema.ThirdPartyBlockRequest(previous_signature=self._previous_signature))

    def to_base64(self) -> str:
        """Returns `to_bytes` as URL-safe base64."""
        return to_text(self.to_bytes())

    def create_block(self, private_key: Signer, block: BlockBuilder) -> "ThirdPartyBlock":
        """Returns `block`, signed by the third party for the token that asked."""
        signer = checked_signer("private_key", private_key)
        if not isinstance(block, BlockBuilder):
            raise TypeError(f"argument 'block' must be a BlockBuilder, not {type(block).__name__}")
        encoded = encode_block(block.program, block.context, SymbolTable(), KeyTable(), third_party=True)
        return ThirdPartyBlock(
            encoded.payload, chain.sign_external(signer, encoded.payload, self._previous_signature)
        )


class ThirdPartyBlock:
    """A block and a third party's signature of it, for the token that asked for it."""

    __slots__ = ("_external", "_payload")

    def __init__(self, payload: bytes, external: ExternalSignature) -> None:
        self._payload = payload
        self._external = external

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` writes; raises FormatError or SignatureError. Nothing is verified by it."""
        message = parse(schema.ThirdPartyBlockContents, data)
        return cls(message.payload, read_external(message.external_signature))

    @classmethod
    def from_base64(cls, data: str) -> Self:
        """Reads what `to_base64` writes; raises FormatError or SignatureError. Nothing is verified by it."""
        return cls.from_bytes(from_text(data))

    @property
    def payload(self) -> bytes:
        """The block as it is signed."""
        return self._payload

    @property
    def external(self) -> ExternalSignature:
        """The third party's signature and key."""
        return self._external

    @property
    def external_key(self) -> PublicKey:
        """The key that the block says it is signed by."""
        return self._external.public_key

    def to_bytes(self) -> bytes:
        """Returns the block for the token's holder."""
        message = schema.ThirdPartyBlockContents(
            payload=self._payload, external_signature=write_external(self._external)
        )
        return serialize(message)

    def to_base64(self) -> str:
        """Returns `to_bytes` as URL-safe base64."""
        return to_text(self.to_bytes())


class _CheckedSigner:
    """A signer outside this process, each of whose signatures is verified before anybody else gets to."""

    __slots__ = ("_signer", "public_key")

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.public_key: PublicKey = signer.public_key

    def sign(self, message: bytes) -> bytes:
        signature = self._signer.sign(message)
        try:
            self.public_key.verify(message, signature)
        except SignatureError as error:
            raise BiscuitBuildError(f"the signer's signature is not its key's: {error}") from error
        return signature


def checked_signer(name: str, signer: Signer) -> Signer:
    """Returns what signs for `signer`, or raises TypeError.

    When it signs, a signature that is not the key's is a BiscuitBuildError.
    """
    if isinstance(signer, PrivateKey):
        return signer
    if not (callable(getattr(signer, "sign", None)) and isinstance(signer.public_key, PublicKey)):
        raise TypeError(f"argument {name!r} must be a PrivateKey or a Signer, not {type(signer).__name__}")
    return _CheckedSigner(signer)
