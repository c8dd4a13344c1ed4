"""`cap revoke` and `cap revoked`."""

from typing import TYPE_CHECKING, Any, Final

import click

from capability.cli.failures import Exit, Failure, usage
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.keyfiles import public_keys
from capability.cli.moments import rfc_3339
from capability.cli.options import raw_option, root_options, store_option, token_argument
from capability.cli.output import Result, one_line
from capability.cli.stores import open_for_writing, url_for_reading

if TYPE_CHECKING:
    from capability.store import Revocation

_ED25519_SIGNATURE: Final = 64
_ANY_P256_KEY: Final = "secp256r1/036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
"""The curve's generator. The canonical form of a signature does not depend on the key."""

id_option = click.option(
    "--id",
    "identifiers",
    multiple=True,
    metavar="HEX",
    help="A revocation id, as `cap inspect` shows it; repeatable.",
)


@command(
    "revoke",
    "cap revoke token --reason 'laptop lost'",
    "cap revoke --id 5f2c... --actor ann",
    "cap revoke token --block 1",
)
@token_argument
@id_option
@click.option(
    "--block",
    type=click.IntRange(0),
    help="Revoke what descends from this block of TOKEN, not all.  [default: 0]",
)
@click.option("--reason", help="Why, for those who look later.")
@click.option("--actor", envvar="CAP_ACTOR", show_envvar=True, help="Who revokes.")
@root_options
@raw_option
@store_option
@click.pass_obj
def revoke(
    session: Session,
    token: str | None,
    identifiers: tuple[str, ...],
    block: int | None,
    reason: str | None,
    actor: str | None,
    public_key: str | None,
    keys: str | None,
    raw: bool,
    store: str | None,
) -> Result:
    """Revoke TOKEN, and with it every token that was narrowed from it.

    With --block N only the tokens that hold this block N are revoked: --block 0, the root, is all of them.
    With --id nothing is read. Revoking again changes nothing.

    If a public key is configured, TOKEN must be one of its tokens.
    """
    if identifiers:
        if token is not None or block is not None:
            raise usage("both a token and --id were given", "leave one of them out")
        ids = [_parse_id(each) for each in identifiers]
        notes: tuple[str, ...] = ()
    else:
        chain, notes = _chain(session, token, public_key, keys, raw=raw)
        index = block or 0
        if index >= len(chain):
            raise Failure(
                Exit.TOKEN_OR_KEY,
                "token.block",
                f"there is no block {index}: the last one of the token is {len(chain) - 1}",
                "`cap inspect` shows the blocks of a token",
            )
        ids = [chain[index]]
    with open_for_writing(session, store) as opened:
        try:
            revision = opened.revoke(ids, reason=reason, actor=actor)
        except ValueError as error:
            raise usage(str(error), "write --reason and --actor in UTF-8") from error
    hexes = [each.hex() for each in ids]
    text = "\n".join(f"revoked {each}" for each in hexes) + f"\nrevision {revision}"
    return Result(text, {"revoked": hexes, "revision": revision}, notes=notes)


@command("revoked", "cap revoked", "cap revoked token", "cap revoked --id 5f2c...")
@token_argument
@id_option
@root_options
@raw_option
@store_option
@click.pass_obj
def revoked(
    session: Session,
    token: str | None,
    identifiers: tuple[str, ...],
    public_key: str | None,
    keys: str | None,
    raw: bool,
    store: str | None,
) -> Result:
    """List what is revoked; or say whether TOKEN, or an id, is.

    TOKEN is a file, or - for stdin; without it and without --id, all revocations are listed. The exit code
    is 1 when TOKEN or one of the ids is revoked.
    """
    if token is not None and identifiers:
        raise usage("both a token and --id were given", "leave one of them out")
    ids: tuple[bytes, ...] | None = None
    notes: tuple[str, ...] = ()
    if identifiers:
        ids = tuple(_parse_id(each) for each in identifiers)
    elif token is not None:
        ids, notes = _chain(session, token, public_key, keys, raw=raw)
    url = url_for_reading(session, store)
    listed: tuple[Revocation, ...] = ()
    if url is None:
        notes = (*notes, "there is no store yet, and none is configured")
    else:
        from capability.store import open_store

        with open_store(url) as opened:
            listed = opened.revocations()
    if ids is not None:
        listed = tuple(each for each in listed if each.id in ids)
    data = {"revocations": [_as_data(each) for each in listed]}
    text = "\n".join(_as_line(each) for each in listed) or (
        "nothing is revoked" if ids is None else "not revoked"
    )
    return Result(text, data, exit=Exit.DENIED if ids is not None and listed else Exit.DONE, notes=notes)


def _chain(
    session: Session, token: str | None, public_key: str | None, keys: str | None, *, raw: bool
) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Returns the canonical ids of a token, verified if there is a key to verify it by, and notes."""
    from capability.tokens import UnverifiedBiscuit

    unverified = UnverifiedBiscuit.from_base64(session.read_token(token, raw=raw))
    root = public_keys(session, public_key, keys)
    if root is not None:
        return unverified.verify(root).canonical_revocation_ids, ()
    ids = tuple(_canonical(bytes.fromhex(each)) for each in unverified.revocation_ids)
    return ids, ("the token was not verified: no public key is configured",)


def _parse_id(text: str) -> bytes:
    try:
        identifier = bytes.fromhex(text.strip())
    except ValueError as error:
        raise _no_id() from error
    if not identifier:
        raise _no_id()
    return _canonical(identifier)


def _canonical(identifier: bytes) -> bytes:
    """Returns the form under which an id is kept: an ECDSA signature has a twin that means the same."""
    if len(identifier) == _ED25519_SIGNATURE:
        return identifier
    from capability.errors import SignatureError
    from capability.keys import PublicKey

    try:
        return PublicKey(_ANY_P256_KEY).canonical_signature(identifier)
    except SignatureError as error:
        raise _no_id() from error


def _no_id() -> Failure:
    return Failure(
        Exit.TOKEN_OR_KEY,
        "revocation_id.format",
        "that is no revocation id",
        "copy the whole hex from `cap inspect`",
    )


def _as_data(revocation: "Revocation") -> dict[str, Any]:
    return {
        "id": revocation.id.hex(),
        "reason": revocation.reason,
        "actor": revocation.actor,
        "at": rfc_3339(revocation.at),
        "revision": revocation.revision,
    }


def _as_line(revocation: "Revocation") -> str:
    line = f"{rfc_3339(revocation.at)}  {revocation.id.hex()}"
    if revocation.actor:
        line += f"  by {revocation.actor}"
    if revocation.reason:
        line += f"  {revocation.reason}"
    return one_line(line)
