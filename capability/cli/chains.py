"""Revocation ids as commands take them: of a token, or typed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from capability.cli.failures import Exit, Failure
from capability.cli.inputs import Session
from capability.cli.keyfiles import public_keys

if TYPE_CHECKING:
    from capability.store import Store

_ED25519_SIGNATURE: Final = 64
_ANY_P256_KEY: Final = "secp256r1/036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
"""The curve's generator. The canonical form of a signature does not depend on the key."""

id_option = click.option(
    "--id",
    "identifiers",
    multiple=True,
    metavar="ID",
    help="A revocation id, as `cap inspect` shows it, or a record's tok_...; repeatable.",
)


@dataclass(frozen=True, slots=True)
class Chain:
    """The canonical ids of a token's blocks, and until when tokens that hold a block can live.

    `marks` are the other ids by which it can be revoked: that of the root key that verified it.
    `expiries` are None where a block and those before it say nothing, and for a token that was not verified:
    anybody can write an expiry into it.
    """

    ids: tuple[bytes, ...]
    expiries: tuple[datetime | None, ...]
    marks: tuple[bytes, ...]


def chain_of(
    session: Session, token: str | None, public_key: str | None, keys: str | None, *, raw: bool
) -> tuple[Chain, tuple[str, ...]]:
    """Returns the ids of a token, verified if there is a key to verify it by, and notes."""
    from capability.inspection import certain_expiry
    from capability.revocation import key_mark
    from capability.tokens import UnverifiedBiscuit

    unverified = UnverifiedBiscuit.from_base64(session.read_token(token, raw=raw))
    root = public_keys(session, public_key, keys)
    if root is not None:
        verified = unverified.verify(root)
        programs = [block.program for block in verified.blocks]
        expiries = tuple(certain_expiry(programs[: index + 1]) for index in range(len(programs)))
        return Chain(verified.canonical_revocation_ids, expiries, (key_mark(repr(verified.root_key)),)), ()
    ids = tuple(canonical(bytes.fromhex(each)) for each in unverified.revocation_ids)
    return Chain(ids, (None,) * len(ids), ()), ("the token was not verified: no public key is configured",)


def parse_id(text: str) -> bytes:
    """Returns the id that hex means; raises Failure for one that cannot be."""
    try:
        identifier = bytes.fromhex(text.strip())
    except ValueError as error:
        raise _no_id() from error
    if not identifier:
        raise _no_id()
    return canonical(identifier)


def canonical(identifier: bytes) -> bytes:
    """Returns the form under which an id is kept: an ECDSA signature has a twin that means the same."""
    if len(identifier) == _ED25519_SIGNATURE:
        return identifier
    from capability.errors import SignatureError
    from capability.keys import PublicKey

    try:
        return PublicKey(_ANY_P256_KEY).canonical_signature(identifier)
    except SignatureError as error:
        raise _no_id() from error


def shown_id(revocation_id: bytes) -> str:
    """Returns an id as hex; that of a whole root key is plain text."""
    if revocation_id.startswith(b"root-key:"):
        return revocation_id.decode("ascii", "replace")
    return revocation_id.hex()


def record_ids(store: "Store", identifiers: Sequence[str | bytes]) -> tuple[bytes, ...]:
    """Returns the ids, with the root of its token in place of each record's id."""
    from capability.store import Selection

    ids: list[bytes] = []
    for each in identifiers:
        if isinstance(each, bytes):
            ids.append(each)
            continue
        record = next(iter(store.records(Selection(id=each))), None)
        if record is None:
            raise not_registered()
        ids.append(record.root)
    return tuple(ids)


def not_registered() -> Failure:
    """Returns the failure of someone who names a record that is not there."""
    return Failure(
        Exit.TOKEN_OR_KEY,
        "record.unknown",
        "there is no such record in the store",
        "`cap list` shows what is registered",
    )


def _no_id() -> Failure:
    return Failure(
        Exit.TOKEN_OR_KEY,
        "revocation_id.format",
        "that is no revocation id",
        "copy the whole hex from `cap inspect`",
    )
