"""What has been verified and read before, prefix by prefix, so that nothing is verified twice.

A prefix of a chain is known by a hash over all that was signed or that signs: the root key, and of each
block its payload, next key, signature and version, and its third party's signature and key. Never by
less: an attacker may keep known signatures and swap what they stand for. What nobody signs (the root key
id, the proof) is not in it; the proof is checked each time.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from capability import chain
from capability.cache import Cache, CacheStats
from capability.keys import PublicKey
from capability.tokens import Biscuit
from capability.wire.block import Block, decode_block
from capability.wire.envelope import Envelope, SignedBlock
from capability.wire.symbols import KeyTable, SymbolTable

DIGEST_SIZE: Final = 192
"""What one remembered prefix takes, in bytes: a digest as an object, its entry, its place in the map."""
READ_FACTOR: Final = 24
"""How many times the bytes of its payload a decoded block takes, about."""
TABLE_FACTOR: Final = 64
"""What a symbol or key takes in the tables of each prefix that has it, in bytes."""

_Frame: Final = struct.Struct("<IiIIIi")


@dataclass(frozen=True, slots=True)
class _Read:
    """A verified prefix, decoded, with the tables that the next block continues."""

    blocks: tuple[Block, ...]
    symbols: SymbolTable
    keys: KeyTable


class VerifiedChains:
    """Remembers verified prefixes (many, by their hashes) and what they say (fewer, decoded)."""

    __slots__ = ("_read", "_verified")

    def __init__(self, max_prefixes: int, max_read_size: int) -> None:
        """`max_read_size` is in bytes, for what is kept decoded."""
        self._verified: Cache[bytes, bool] = Cache(max_prefixes, max_prefixes * DIGEST_SIZE)
        self._read: Cache[bytes, _Read] = Cache(max_prefixes, max_read_size)

    def load(self, envelope: Envelope, root: PublicKey) -> Biscuit:
        """Returns the token of `envelope`, verified from `root` down; only what is new is verified and read.

        Raises BiscuitValidationError as `Biscuit.from_bytes` does, and then remembers nothing new.
        """
        digests = prefix_digests(envelope, root)
        known = self._known(digests)
        blocks = envelope.blocks
        for index in range(known, len(blocks)):
            previous = blocks[index - 1] if index else None
            chain.verify_block(blocks[index], root if previous is None else previous.next_key, previous)
        envelope = chain.verify_proof(envelope)
        read = self._decode(envelope, digests)
        # INVARIANT: remembered only here, after every signature of the prefix was verified.
        for digest in digests[known:]:
            self._verified.put(digest, True, DIGEST_SIZE)
        return Biscuit._verified(envelope, (read.blocks, None), read.symbols.copy(), read.keys.copy(), root)

    def clear(self) -> None:
        """Forgets everything."""
        self._verified.clear()
        self._read.clear()

    def stats(self) -> tuple[CacheStats, CacheStats]:
        """Returns what is remembered: of verified prefixes, and of decoded ones."""
        return self._verified.stats(), self._read.stats()

    def _known(self, digests: list[bytes]) -> int:
        """Returns how many blocks of the chain are verified already."""
        for count in range(len(digests), 0, -1):
            if self._verified.get(digests[count - 1]):
                return count
        return 0

    def _decode(self, envelope: Envelope, digests: list[bytes]) -> _Read:
        for count in range(len(digests), 0, -1):
            read = self._read.get(digests[count - 1])
            if read is not None:
                break
        else:
            count, read = 0, _Read((), SymbolTable(), KeyTable())
        if count == len(digests):
            return read
        # only whole tokens are kept: what descends from one has it as its prefix
        symbols, keys = read.symbols.copy(), read.keys.copy()
        blocks = list(read.blocks)
        size = 0
        for block in envelope.blocks[count:]:
            blocks.append(decode_block(block.payload, symbols, keys, external=block.external is not None))
            size += READ_FACTOR * len(block.payload)
        read = _Read(tuple(blocks), symbols, keys)
        self._read.put(digests[-1], read, size + TABLE_FACTOR * (len(symbols) + len(keys)))
        return read


def prefix_digests(envelope: Envelope, root: PublicKey) -> list[bytes]:
    """Returns for each block a hash over all that was signed up to it, and over `root`."""
    state = hashlib.sha256(struct.pack("<i", root.algorithm))
    state.update(root.to_bytes())
    digests = []
    for block in envelope.blocks:
        state.update(_framed(block))
        digests.append(state.digest())
    return digests


def _framed(block: SignedBlock) -> bytes:
    """Returns a block's parts with their lengths, so that no two blocks have the same bytes."""
    next_key, external = block.next_key, block.external
    signature, algorithm, key = b"", -1, b""
    if external is not None:
        signature, algorithm = external.signature, external.public_key.algorithm
        key = external.public_key.to_bytes()
    lengths = _Frame.pack(
        block.version,
        next_key.algorithm,
        len(block.payload),
        len(block.signature),
        len(signature),
        algorithm,
    )
    return b"".join((lengths, block.payload, next_key.to_bytes(), block.signature, signature, key))
