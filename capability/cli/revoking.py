"""`cap revoke`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from capability.cli.chains import Chain, chain_of, id_option, not_registered, parse_id, record_ids, shown_id
from capability.cli.failures import Exit, Failure, usage
from capability.cli.group import command
from capability.cli.inputs import Session, at_terminal
from capability.cli.keyfiles import public_key as read_public_key
from capability.cli.keyfiles import public_keys
from capability.cli.moments import parse_moment, rfc_3339
from capability.cli.options import raw_option, root_options, store_option, token_argument
from capability.cli.output import Result, one_line
from capability.cli.registering import parse_owner
from capability.cli.stores import open_for_writing

if TYPE_CHECKING:
    from capability.store import Owner, Record, Store

_NAMED_AT_MOST: Final = 1000
"""Tokens of one name that are told one by one; of more, only that they are."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be revoked: one of ids, records, all of an owner, or all of a tenant.

    `meaning` says what it does, for who is asked. `many` is true where it may hit more than one expects.
    """

    meaning: str
    ids: tuple[bytes, ...] = ()
    expires: datetime | None = None
    name: str | None = None
    owner: "Owner | None" = None
    tenant: str | None = None
    before: datetime | None = None
    many: bool = False
    data: dict[str, Any] = field(default_factory=dict)


@command(
    "revoke",
    "cap revoke token --reason 'laptop lost'",
    "cap revoke --id tok_... --actor ann",
    "cap revoke --owner ann --reason 'left the company' --yes",
    "cap revoke --tenant acme --before 2026-12-01T00:00:00Z --yes",
)
@token_argument
@id_option
@click.option(
    "--block",
    type=click.IntRange(0),
    help="Revoke what descends from this block of TOKEN, not all.  [default: 0]",
)
@click.option("--name", help="Revoke every token that was minted with this name.")
@click.option("--owner", metavar="OWNER", help="Revoke every token of an owner: ann, service:billing.")
@click.option("--tenant", help="Revoke every token of a tenant.")
@click.option("--root-key", metavar="KEY|FILE", help="Revoke every token of this root key.")
@click.option(
    "--key-id", type=click.IntRange(0, 2**32 - 1), help="The same, by the key's id in the issuer's key set."
)
@click.option(
    "--before",
    metavar="WHEN",
    help="With --owner or --tenant: only what was minted before a time, or 7d ago.",
)
@click.option("--reason", help="Why, for those who look later.")
@click.option("--actor", envvar="CAP_ACTOR", show_envvar=True, help="Who revokes.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@root_options
@raw_option
@store_option
@click.pass_obj
def revoke(
    session: Session,
    token: str | None,
    identifiers: tuple[str, ...],
    block: int | None,
    name: str | None,
    owner: str | None,
    tenant: str | None,
    root_key: str | None,
    key_id: int | None,
    before: str | None,
    reason: str | None,
    actor: str | None,
    yes: bool,
    public_key: str | None,
    keys: str | None,
    raw: bool,
    store: str | None,
) -> Result:
    """Revoke TOKEN, and with it every token that was narrowed from it. There is no way back.

    With --block N only the tokens that hold this block N are revoked: --block 0, the root, is all of them.
    With --id, --name, --owner, --tenant, --root-key or --key-id no token is read. --owner and --tenant mean
    what is registered now, not what is minted later; --root-key means every token of the key, also later
    and unregistered ones. Revoking again changes nothing.

    At a terminal you are asked first. Elsewhere, what may mean many tokens needs --yes.

    If a public key is configured, TOKEN must be one of its tokens. The revision that is printed is the one
    from which on a verifier of this store refuses what was revoked.
    """
    given = [bool(identifiers), *(each is not None for each in (name, owner, tenant, root_key, key_id))]
    if sum(given) > 1 or (any(given) and (token is not None or block is not None)):
        raise usage("several ways to say what to revoke were given", "leave all but one of them out")
    if before is not None and owner is None and tenant is None:
        raise usage("--before goes with --owner or --tenant", "say whose tokens are meant")
    notes: tuple[str, ...] = ()
    chain: Chain | None = None
    if not any(given):
        chain, notes = chain_of(session, token, public_key, keys, raw=raw)
        _check_block(chain, block or 0)
    raw_ids = [each if each.startswith("tok_") else parse_id(each) for each in identifiers]
    whose = None if owner is None else parse_owner(owner)
    limit = None if before is None else _past(before)
    key = _root_key(session, root_key, key_id, public_key, keys)
    if reason is not None or actor is not None:
        _check_words(reason, actor, name, tenant)
    with open_for_writing(session, store) as opened:
        if chain is not None:
            target = _of_chain(opened, chain, block or 0)
        elif identifiers:
            target = _of_ids(opened, raw_ids)
        elif name is not None:
            target = _of_name(opened, name)
        elif key is not None:
            target = _of_key(key)
        else:
            target = _of_all(opened, whose, tenant, limit)
        _confirm(target, yes=yes)
        revision = _apply(opened, target, reason, actor)
    revoked = [shown_id(each) for each in target.ids]
    said = [f"revoked {each}" for each in revoked] or [f"revoked {one_line(target.meaning)}"]
    data: dict[str, Any] = {"revoked": revoked, "revision": revision, **target.data}
    return Result("\n".join([*said, f"revision {revision}"]), data, notes=notes)


def _check_block(chain: Chain, index: int) -> None:
    if index >= len(chain.ids):
        raise Failure(
            Exit.TOKEN_OR_KEY,
            "token.block",
            f"there is no block {index}: the last one of the token is {len(chain.ids) - 1}",
            "`cap inspect` shows the blocks of a token",
        )


def _check_words(*words: str | None) -> None:
    from capability.store.records import check_words

    try:
        check_words(*words)
    except ValueError as error:
        raise usage(str(error), "write --reason and --actor in UTF-8") from error


def _past(text: str) -> datetime:
    moment = parse_moment(text, "--before")
    return datetime.now(UTC) - moment if isinstance(moment, timedelta) else moment


def _of_chain(store: "Store", chain: Chain, index: int) -> Target:
    record = store.registered(chain.ids[0])
    what = "the token" if record is None else _named(record)
    meaning = (
        f"{what} and every token that was narrowed from it"
        if index == 0
        else f"every token that holds block {index} of {what}, and what was narrowed from them"
    )
    return Target(meaning, ids=(chain.ids[index],), expires=chain.expiries[index])


def _of_ids(store: "Store", identifiers: list[str | bytes]) -> Target:
    ids = record_ids(store, identifiers)
    count = "1 id" if len(ids) == 1 else f"{len(ids)} ids"
    return Target(f"{count}, and every token that was narrowed from what holds them", ids=ids)


def _of_name(store: "Store", name: str) -> Target:
    from capability.store import Selection

    records = store.records(Selection(name=name), limit=_NAMED_AT_MOST + 1)
    if not records:
        raise not_registered()
    several = len(records) > _NAMED_AT_MOST
    count = f"more than {_NAMED_AT_MOST} tokens" if several else _count(len(records))
    return Target(
        f"{count} with the name {name!r}, and every token that was narrowed from them",
        ids=() if several else tuple(each.root for each in records),
        name=name,
        many=len(records) > 1,
        data={"name": name} if several else {},
    )


def _root_key(
    session: Session, text: str | None, key_id: int | None, public_key: str | None, keys: str | None
) -> str | None:
    """Returns the root key whose tokens are meant, None when no key is."""
    if text is not None:
        return repr(read_public_key(text))
    if key_id is None:
        return None
    found = public_keys(session, public_key, keys)
    entries = found if isinstance(found, Iterable) else ()
    key = next((entry.key for entry in entries if entry.key_id == key_id), None)
    if key is None:
        raise usage(
            f"no key set says which key has the id {key_id}",
            "name the key set with --keys, or pass --root-key",
        )
    return repr(key)


def _of_key(key: str) -> Target:
    from capability.revocation import key_mark

    return Target(
        f"every token of the root key {key}, whenever it was or will be minted",
        ids=(key_mark(key),),
        many=True,
    )


def _of_all(store: "Store", owner: "Owner | None", tenant: str | None, before: datetime | None) -> Target:
    from capability.store import Selection

    if not store.records(Selection(owner=owner, tenant=tenant), limit=1):
        raise not_registered()
    whose = f"of {owner}" if owner is not None else f"of the tenant {tenant!r}"
    when = "so far" if before is None else f"before {rfc_3339(before)}"
    return Target(
        f"every token {whose} that was minted {when}, and what was narrowed from them",
        owner=owner,
        tenant=tenant,
        before=before,
        many=True,
        data={
            "owner": None if owner is None else str(owner),
            "tenant": tenant,
            "before": None if before is None else rfc_3339(before),
        },
    )


def _confirm(target: Target, *, yes: bool) -> None:
    if yes:
        return
    if at_terminal():
        click.echo(f"this revokes {one_line(target.meaning)}; there is no way back", err=True)
        click.confirm("go on?", abort=True, err=True)
    elif target.many:
        raise usage(f"this revokes {one_line(target.meaning)}", "pass --yes if that is meant", "usage.yes")


def _apply(store: "Store", target: Target, reason: str | None, actor: str | None) -> int:
    from capability.store import Selection

    try:
        if target.name is not None:
            return store.revoke_selected(Selection(name=target.name), reason=reason, actor=actor)
        if target.ids:
            return store.revoke(target.ids, reason=reason, actor=actor, expires=target.expires)
        return store.revoke_all_of(
            target.owner, target.tenant, before=target.before, reason=reason, actor=actor
        )
    except ValueError as error:
        raise usage(str(error), "write --reason and --actor in UTF-8") from error


def _named(record: "Record") -> str:
    parts = [record.id, *([] if record.name is None else [repr(record.name)])]
    return " ".join(parts) + ("" if record.owner is None else f" of {record.owner}")


def _count(number: int) -> str:
    return "1 token" if number == 1 else f"{number} tokens"
