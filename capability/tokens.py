"""Tokens: built, verified, narrowed and sealed.

Verified or not is a type. A Biscuit exists only where its signatures were verified, or where it was made by
the root key at hand; an UnverifiedBiscuit can be looked at and narrowed, and nothing can be authorized by
it. Both are immutable.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeAlias

from capability import chain
from capability.attenuation import DEFAULT_VOCABULARY, Vocabulary, filled_restriction
from capability.builders import BlockBuilder, Parameters, ScopeParameters, StatementBuilder
from capability.datalog.parameters import Filled
from capability.datalog.program import Program
from capability.errors import (
    BiscuitBlockError,
    BiscuitBuildError,
    BiscuitSerializationError,
    BiscuitValidationError,
    FormatError,
    SealedError,
    StoreError,
    UnknownRootKey,
)
from capability.keys import PublicKey, Signer
from capability.third_party import ThirdPartyBlock, ThirdPartyRequest, checked_signer
from capability.wire import envelope as wire
from capability.wire.block import Block, Encoded, decode_block, encode_block
from capability.wire.envelope import MAX_BLOCKS, MAX_BYTES, Envelope, FinalSignature
from capability.wire.symbols import KeyTable, SymbolTable
from capability.wire.text import PREFIX, from_text, to_text

if TYPE_CHECKING:
    from capability.keyset import KeySet

RootKey: TypeAlias = "PublicKey | KeySet | Callable[[int | None], PublicKey]"
"""Where the root key comes from: the key, a key set, or a function of the token's root key id."""

_Contents: TypeAlias = tuple[tuple[Block, ...], Encoded | None]
"""The decoded blocks, and behind them the one that was just made, if nobody has looked at it yet."""

MAX_ROOT_KEY_ID: Final = 2**32 - 1


class BiscuitBuilder(StatementBuilder):
    """Collects the statements of an authority block, and signs it."""

    __slots__ = ("_root_key_id",)

    def __init__(
        self,
        source: str | None = None,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
    ) -> None:
        super().__init__(source, parameters, scope_parameters)
        self._root_key_id: int | None = None

    def set_root_key_id(self, root_key_id: int) -> None:
        """Sets the id by which verifiers choose the root key; it is a hint, and not signed."""
        if not isinstance(root_key_id, int):
            raise TypeError(f"a root key id is an int, not {type(root_key_id).__name__}")
        if not 0 <= root_key_id <= MAX_ROOT_KEY_ID:
            raise OverflowError(f"a root key id is between 0 and {MAX_ROOT_KEY_ID}")
        self._root_key_id = int(root_key_id)

    def build(self, root: Signer) -> "Biscuit":
        """Returns the token, its authority block signed by `root`."""
        signer = checked_signer("root", root)
        symbols, keys = SymbolTable(), KeyTable()
        encoded = encode_block(self.filled, self.context, symbols, keys)
        envelope = chain.start(signer, encoded.payload, encoded.version, self._root_key_id)
        return Biscuit._verified(envelope, ((), encoded), symbols, keys, signer.public_key)

    def __repr__(self) -> str:
        key_id = "no root key id set" if self._root_key_id is None else f"root key id: {self._root_key_id}"
        return f"// {key_id}\n{super().__repr__()}"


class _Token:
    """What can be read of a token, and how it is narrowed, verified or not."""

    __slots__ = ("_contents", "_envelope", "_keys", "_symbols")
    _envelope: Envelope
    _contents: _Contents
    _symbols: SymbolTable
    _keys: KeyTable

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is made by from_base64, from_bytes or a builder")

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The decoded blocks, the authority first."""
        blocks, made = self._contents
        if made is not None:
            blocks = (*blocks, made.block)
            # one assignment: another thread sees the block in one of the two places
            self._contents = (blocks, None)
        return blocks

    @property
    def external_keys(self) -> tuple[PublicKey | None, ...]:
        """For each block the key of the third party that signed it, or None."""
        return tuple(
            None if block.external is None else block.external.public_key for block in self._envelope.blocks
        )

    @property
    def revocation_ids(self) -> list[str]:
        """The signature of each block, in hex: who revokes one revokes every token that descends from it."""
        return [identifier.hex() for identifier in chain.revocation_ids(self._envelope)]

    @property
    def sealed(self) -> bool:
        """Whether nothing can be appended any more."""
        return isinstance(self._envelope.proof, FinalSignature)

    def root_key_id(self) -> int | None:
        """Returns the id by which the root key is chosen; it is a hint, and not signed."""
        return self._envelope.root_key_id

    def block_count(self) -> int:
        """Returns the number of blocks, the authority included."""
        return len(self._envelope.blocks)

    def block(self, index: int) -> Block:
        """Returns a decoded block; raises BiscuitBlockError when there is none of that index."""
        if not 0 <= index < self.block_count():
            raise BiscuitBlockError(f"there is no block {index}: the token has {self.block_count()}")
        return self.blocks[index]

    def block_source(self, index: int) -> str:
        """Returns a block as Datalog, one statement a line; raises BiscuitBlockError for a wrong index."""
        from capability.datalog.printer import print_program

        return print_program(self.block(index).program)

    def block_external_key(self, index: int) -> PublicKey | None:
        """Returns the key of the third party that signed a block, or None; raises as `block`."""
        self.block(index)
        return self.external_keys[index]

    def context(self, index: int) -> str | None:
        """Returns the free text that goes with a block; raises BiscuitBlockError for a wrong index."""
        return self.block(index).context

    def append(self, block: BlockBuilder) -> Self:
        """Returns a narrower token, with `block` at its end; raises SealedError if this one is sealed.

        A block can only restrict: what it states is trusted by nothing but itself, unless a statement
        names its scope.
        """
        if not isinstance(block, BlockBuilder):
            raise TypeError(f"argument 'block' must be a BlockBuilder, not {type(block).__name__}")
        return self._append(block.filled, block.context)

    def attenuate(
        self,
        *,
        applications: Iterable[str] | None = None,
        operations: Iterable[str] | None = None,
        tenants: Iterable[str] | None = None,
        resources: Iterable[str] | None = None,
        expires: timedelta | datetime | None = None,
        not_before: timedelta | datetime | None = None,
        source: str | None = None,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
        now: datetime | None = None,
        vocabulary: Vocabulary = DEFAULT_VOCABULARY,
    ) -> Self:
        """Returns a token that allows only what this one allows and what is named here.

        The arguments are those of `capability.attenuation.restriction`, each None leaving its kind open;
        `source` adds any Datalog, with values for its parameters. Raises ValueError when nothing is named,
        SealedError if this token is sealed.
        """
        filled = filled_restriction(
            applications=applications,
            operations=operations,
            tenants=tenants,
            resources=resources,
            expires=expires,
            not_before=not_before,
            now=now,
            vocabulary=vocabulary,
        )
        if source is not None:
            block = BlockBuilder()
            block.add_program(filled.program)
            block.add_code(source, parameters, scope_parameters)
            filled = block.filled
        if filled.template == Program():
            raise ValueError("nothing was named that narrows the token")
        return self._append(filled, None)

    def seal(self) -> Self:
        """Returns the same token, to which nothing can be appended; raises SealedError if it is sealed."""
        return self._derived(chain.seal(self._envelope), self._contents, self._symbols, self._keys)

    def third_party_request(self) -> ThirdPartyRequest:
        """Returns what a third party needs to sign a block for this token; raises SealedError."""
        if self.sealed:
            raise SealedError("the token is sealed")
        return ThirdPartyRequest(self._envelope.blocks[-1].signature)

    def append_third_party(self, external_key: PublicKey, block: ThirdPartyBlock) -> Self:
        """Returns a token with the block that `external_key` signed for this very token at its end.

        Raises BiscuitBuildError when the block was signed by another key or for another token, or is no
        block, and SealedError if this token is sealed.
        """
        if not isinstance(external_key, PublicKey):
            raise TypeError(f"argument 'external_key' must be a PublicKey, not {type(external_key).__name__}")
        if not isinstance(block, ThirdPartyBlock):
            raise TypeError(f"argument 'block' must be a ThirdPartyBlock, not {type(block).__name__}")
        if block.external_key != external_key:
            raise BiscuitBuildError("the block was signed by another key than the one given")
        chain.next_signer(self._envelope)
        try:
            envelope = chain.append_external(self._envelope, block.payload, block.external)
            decoded = decode_block(block.payload, self._symbols.copy(), self._keys, external=True)
        except BiscuitValidationError as error:
            raise BiscuitBuildError(
                f"the third-party block does not fit this token: {error}", code=error.code
            ) from error
        return self._derived(envelope, ((*self.blocks, decoded), None), self._symbols, self._keys)

    def to_bytes(self, *, max_bytes: int = MAX_BYTES, max_blocks: int = MAX_BLOCKS) -> bytes:
        """Returns the token, its proof included: who has these bytes has the token.

        Raises BiscuitSerializationError for more than readers take, unless told that they take more.
        """
        data = wire.encode(self._envelope)
        if len(data) > max_bytes or self.block_count() > max_blocks:
            raise BiscuitSerializationError(
                f"a token has at most {max_bytes} bytes and {max_blocks} blocks; "
                f"this one has {len(data)} and {self.block_count()}"
            )
        return data

    def to_base64(self, *, max_bytes: int = MAX_BYTES, max_blocks: int = MAX_BLOCKS) -> str:
        """Returns `to_bytes` as URL-safe base64: who has this text has the token."""
        return to_text(self.to_bytes(max_bytes=max_bytes, max_blocks=max_blocks))

    def __repr__(self) -> str:
        from capability.wire.describe import describe

        return f"{type(self).__name__} {describe(self.blocks, self.external_keys)}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not pickled: it would come back unverified; use to_bytes and from_bytes")

    def _append(self, filled: Filled, context: str | None) -> Self:
        symbols, keys = self._symbols.copy(), self._keys.copy()
        encoded = encode_block(filled, context, symbols, keys)
        envelope = chain.append(self._envelope, encoded.payload, encoded.version)
        return self._derived(envelope, (self.blocks, encoded), symbols, keys)

    @classmethod
    def _of(cls, envelope: Envelope, contents: _Contents, symbols: SymbolTable, keys: KeyTable) -> Self:
        token = cls.__new__(cls)
        token._envelope = envelope
        token._contents = contents
        token._symbols = symbols
        token._keys = keys
        return token

    def _derived(self, envelope: Envelope, contents: _Contents, symbols: SymbolTable, keys: KeyTable) -> Self:
        """Returns a token that this one was turned into; it is as verified as this one is."""
        return self._of(envelope, contents, symbols, keys)


class Biscuit(_Token):
    """A token whose every signature was verified, down from `root_key`.

    It is not thereby allowed anything: that is for an authorizer or a Guard to say, after asking whether
    one of its ids is revoked.
    """

    __slots__ = ("_memory", "_root_key")
    _memory: dict[object, Any]
    _root_key: PublicKey

    @staticmethod
    def builder() -> BiscuitBuilder:
        """Returns an empty BiscuitBuilder."""
        return BiscuitBuilder()

    @classmethod
    def from_bytes(
        cls, data: bytes, root: RootKey, *, max_bytes: int = MAX_BYTES, max_blocks: int = MAX_BLOCKS
    ) -> "Biscuit":
        """Returns the token of `data`, verified.

        `root` is the root key, a KeySet, or a function from the token's root key id (or None) to the key.
        Raises BiscuitValidationError, in one of its forms, for anything that is not a token of that key. A
        token with more bytes or blocks than allowed is refused before any signature is looked at.
        """
        envelope = wire.decode(_octets(data), max_bytes=max_bytes, max_blocks=max_blocks)
        root_key = _select(root, envelope.root_key_id)
        envelope = chain.verify(envelope, root_key)
        return cls._verified(envelope, *_decode_blocks(envelope), root_key)

    @classmethod
    def from_base64(
        cls, data: str, root: RootKey, *, max_bytes: int = MAX_BYTES, max_blocks: int = MAX_BLOCKS
    ) -> "Biscuit":
        """Returns the token of URL-safe base64, as `from_bytes`; a `biscuit:` prefix is allowed."""
        return cls.from_bytes(_from_text(data, max_bytes), root, max_bytes=max_bytes, max_blocks=max_blocks)

    @property
    def root_key(self) -> PublicKey:
        """The key from which the signatures were verified."""
        return self._root_key

    @property
    def memory(self) -> dict[object, Any]:
        """For authorizers: where they keep what they made of this very token, which never changes."""
        return self._memory

    @property
    def canonical_revocation_ids(self) -> tuple[bytes, ...]:
        """The ids by which revocation compares: `revocation_ids`, in the one form of each signature."""
        return chain.canonical_revocation_ids(self._envelope, self._root_key)

    @classmethod
    def _verified(
        cls,
        envelope: Envelope,
        contents: _Contents,
        symbols: SymbolTable,
        keys: KeyTable,
        root_key: PublicKey,
    ) -> "Biscuit":
        # INVARIANT: the only way to a Biscuit; the caller verified `envelope` against `root_key`, or made it
        token = cls._of(envelope, contents, symbols, keys)
        token._root_key = root_key
        token._memory = {}
        return token

    def _derived(self, envelope: Envelope, contents: _Contents, symbols: SymbolTable, keys: KeyTable) -> Self:
        token = super()._derived(envelope, contents, symbols, keys)
        token._root_key = self._root_key
        token._memory = {}
        return token


class UnverifiedBiscuit(_Token):
    """A token whose signatures nobody looked at: what it says may be anybody's words."""

    __slots__ = ()

    @classmethod
    def from_bytes(
        cls, data: bytes, *, max_bytes: int = MAX_BYTES, max_blocks: int = MAX_BLOCKS
    ) -> "UnverifiedBiscuit":
        """Returns the token of `data`; raises BiscuitValidationError when it is not one."""
        envelope = wire.decode(_octets(data), max_bytes=max_bytes, max_blocks=max_blocks)
        return cls._of(envelope, *_decode_blocks(envelope))

    @classmethod
    def from_base64(
        cls, data: str, *, max_bytes: int = MAX_BYTES, max_blocks: int = MAX_BLOCKS
    ) -> "UnverifiedBiscuit":
        """Returns the token of URL-safe base64; a `biscuit:` prefix is allowed."""
        return cls.from_bytes(_from_text(data, max_bytes), max_bytes=max_bytes, max_blocks=max_blocks)

    def verify(self, root: RootKey) -> Biscuit:
        """Returns the token as a Biscuit; raises BiscuitValidationError as `Biscuit.from_bytes` does."""
        root_key = _select(root, self._envelope.root_key_id)
        envelope = chain.verify(self._envelope, root_key)
        return Biscuit._verified(envelope, self._contents, self._symbols, self._keys, root_key)


def _select(root: RootKey, key_id: int | None) -> PublicKey:
    """Returns the root key for `key_id`.

    A function that fails does not know the key, as in biscuit-python; one that cannot tell now raises
    StoreUnavailable, which reaches the caller.
    """
    if isinstance(root, PublicKey):
        return root
    from capability.keyset import KeySet

    if isinstance(root, KeySet):
        return root.select(key_id)
    if not callable(root):
        raise TypeError(
            f"argument 'root' must be a PublicKey, a KeySet or a function, not {type(root).__name__}"
        )
    try:
        key: object = root(key_id)
    except (BiscuitValidationError, StoreError):
        raise
    except Exception as error:  # whatever it was, the token is refused
        raise UnknownRootKey(f"the function gave no root key for the key id {key_id}") from error
    if not isinstance(key, PublicKey):
        raise UnknownRootKey(f"the function gave no root key for the key id {key_id}")
    return key


def _decode_blocks(envelope: Envelope) -> tuple[_Contents, SymbolTable, KeyTable]:
    """Returns the blocks, and the tables that the next first-party block continues."""
    symbols, keys = SymbolTable(), KeyTable()
    blocks = tuple(
        decode_block(block.payload, symbols, keys, external=block.external is not None)
        for block in envelope.blocks
    )
    return (blocks, None), symbols, keys


def _octets(data: object) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError(f"argument 'data' must be bytes, not {type(data).__name__}")
    return data


def _from_text(data: object, max_bytes: int) -> bytes:
    if not isinstance(data, str):
        raise TypeError(f"argument 'data' must be a str, not {type(data).__name__}")
    if len(data) > len(PREFIX) + (max_bytes + 2) // 3 * 4:
        raise FormatError(f"the token is longer than {max_bytes} bytes", code="format.size")
    return from_text(data)
