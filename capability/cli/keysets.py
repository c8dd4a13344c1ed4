"""`cap keys`: the issuer's key set, and the rotation of its keys."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capability.cli.failures import usage
from capability.cli.group import LazyGroup, command
from capability.cli.inputs import Session
from capability.cli.keyfiles import public_key as read_public_key
from capability.cli.keyfiles import read_key_set
from capability.cli.moments import in_words, parse_moment, rfc_3339
from capability.cli.noting import Trail
from capability.cli.options import store_option
from capability.cli.output import Result, one_line, write_file

if TYPE_CHECKING:
    from capability.keyset import KeyEntry, KeySet

_T = TypeVar("_T")

actor_option = click.option("--actor", envvar="CAP_ACTOR", show_envvar=True, help="Who changes it.")
no_store_option = click.option("--no-store", is_flag=True, help="Do not note it in the audit trail.")


@click.group(
    "keys",
    cls=LazyGroup,
    lazy={
        "list": ("keysets", "list_", "List the keys of a set."),
        "add": ("keysets", "add", "Add a public key."),
        "retire": ("keysets", "retire", "Say when a key stops to verify."),
    },
)
def keys() -> None:
    """Rotate root keys: the set of public keys that verifiers go by (--keys, CAP_KEYS), a file of JSON.

    Add the new key and publish the set; mint with the new key and its id; retire the old one for when the
    last of its tokens has expired. A key that got into wrong hands is revoked: `cap revoke --root-key`.
    """


@command("list", "cap keys list keys.json")
@click.argument("file")
def list_(file: str) -> Result:
    """List the keys of FILE, by their ids."""
    found, now = read_key_set(file), datetime.now(UTC)
    rows = [("KEY ID", "STATE", "UNTIL", "ISSUER", "KEY"), *(_row(each, now) for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    text = "\n".join(lines) if len(found) else "no keys"
    return Result(text, {"keys": [_as_data(each, now) for each in found]})


@command(
    "add",
    "cap keys add keys.json root.key.pub",
    "cap keys add keys.json old.key.pub --without-id",
)
@click.argument("file")
@click.argument("key", metavar="KEY|FILE")
@click.option(
    "--key-id",
    type=click.IntRange(0, 2**32 - 1),
    help="Its id, which its tokens name.  [default: the next one]",
)
@click.option("--without-id", is_flag=True, help="It is for the tokens that name no key.")
@click.option("--issuer", help="Whose key it is, for people.")
@actor_option
@no_store_option
@store_option
@click.pass_obj
def add(
    session: Session,
    file: str,
    key: str,
    key_id: int | None,
    without_id: bool,
    issuer: str | None,
    actor: str | None,
    no_store: bool,
    store: str | None,
) -> Result:
    """Add a public key, KEY or a file of it, to the set in FILE, which is made where there is none.

    The id is printed: `cap mint --key-id` names it in tokens of this key.
    """
    from capability.keyset import KeyEntry, KeySet

    if without_id and key_id is not None:
        raise usage("both --key-id and --without-id were given", "leave one of them out")
    _check_issuer(issuer)
    public = read_public_key(key)
    known = read_key_set(file) if Path(file).exists() else KeySet(())
    there = [each.key_id for each in known if each.key == public and each.key_id is not None]
    if there and not without_id:
        raise usage(
            f"the key is in the set already, with the key id {there[0]}",
            f"`cap mint --key-id {there[0]}` names it; a key has one id",
        )
    if not without_id and key_id is None:
        key_id = max((each.key_id for each in known if each.key_id is not None), default=0) + 1
    new = _checked(lambda: KeySet([*known, KeyEntry(public, key_id, issuer)]))
    with Trail(session, store, actor, wanted=not no_store) as trail:
        _write(file, new)
        trail.note("added", public, key_id)
    shown = "for tokens that name no key" if key_id is None else f"with the key id {key_id}"
    return Result(f"added {public!r} {shown}", {"key": repr(public), "key_id": key_id})


@command("retire", "cap keys retire keys.json --key-id 1 --at 90d")
@click.argument("file")
@click.option("--key-id", type=click.IntRange(0, 2**32 - 1), help="Which key.")
@click.option("--without-id", is_flag=True, help="The key for the tokens that name none.")
@click.option(
    "--at", metavar="WHEN", default="0s", help="From when on it is refused: 90d, or a time.  [default: now]"
)
@actor_option
@no_store_option
@store_option
@click.pass_obj
def retire(
    session: Session,
    file: str,
    key_id: int | None,
    without_id: bool,
    at: str,
    actor: str | None,
    no_store: bool,
    store: str | None,
) -> Result:
    """Say from when on verifiers refuse the tokens of a key. It stays in FILE, so that they can say why."""
    from capability.keyset import KeyState

    if without_id == (key_id is not None):
        raise usage("name one key", "pass either --key-id or --without-id")
    now = datetime.now(UTC).replace(microsecond=0)  # guards count whole seconds: "now" is not the next one
    moment = parse_moment(at, "--at")
    until = _checked(lambda: now + moment) if isinstance(moment, timedelta) else moment
    new = _checked(lambda: read_key_set(file).retire(key_id, until))
    notes: tuple[str, ...] = ()
    if all(each.state(until) is not KeyState.ACTIVE for each in new):
        notes = ("no key is left that goes on: add the next one",)
    entry = next(each for each in new if each.key_id == key_id)
    with Trail(session, store, actor, wanted=not no_store) as trail:
        _write(file, new)
        trail.note("retired", entry.key, key_id, until)
    return Result(f"retired {entry.key!r}, from {rfc_3339(until)} on", _as_data(entry, now), notes=notes)


def _checked(make: Callable[[], _T]) -> _T:
    """Returns what is made; raises Failure for what cannot be in a key set."""
    from capability.errors import KeyFormatError, UnknownRootKey

    try:
        return make()
    except (KeyFormatError, UnknownRootKey, OverflowError) as error:
        raise usage(str(error), "`cap keys list` shows what is in the set") from error


def _check_issuer(issuer: str | None) -> None:
    from capability.store.records import check_words

    try:
        check_words(issuer)
    except ValueError as error:
        raise usage(str(error), "write --issuer in UTF-8") from error


def _write(path: str, new: "KeySet") -> None:
    write_file(Path(path), f"{new.to_json()}\n".encode(), mode=0o644, overwrite=True)


def _row(entry: "KeyEntry", now: datetime) -> tuple[str, ...]:
    cells = (
        "-" if entry.key_id is None else str(entry.key_id),
        entry.state(now).value,
        "-" if entry.expires_at is None else in_words(entry.expires_at, now),
        entry.issuer or "-",
        repr(entry.key),
    )
    return tuple(map(one_line, cells))


def _as_data(entry: "KeyEntry", now: datetime) -> dict[str, Any]:
    return {
        "key": repr(entry.key),
        "key_id": entry.key_id,
        "issuer": entry.issuer,
        "state": entry.state(now).value,
        "until": None if entry.expires_at is None else rfc_3339(entry.expires_at),
    }
