"""`cap list` and `cap show`."""

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from capability.cli.chains import chain_of, not_registered
from capability.cli.failures import Failure, usage
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.moments import in_words, parse_moment, rfc_3339
from capability.cli.options import raw_option, root_options, store_option
from capability.cli.output import Result, one_line, print_lines
from capability.cli.progress import is_json, progress
from capability.cli.registering import parse_owner
from capability.cli.stores import url_for_listing

if TYPE_CHECKING:
    from capability.store import Record, Selection, Store

LIMIT: Final = 1000
"""Records that are listed unless more are asked for."""

_HEADINGS: Final = ("ID", "NAME", "OWNER", "TENANT", "APPLICATIONS", "EXPIRES", "STATE")


@command(
    "list",
    "cap list",
    "cap list --owner ann --application orders",
    "cap list --expiring 7d --json",
)
@click.option("--owner", metavar="OWNER", help="Only of this owner: ann, service:billing, agent:crawler.")
@click.option("--tenant", "-t", help="Only of this tenant.")
@click.option("--name", help="Only with this name.")
@click.option("--application", "-a", help="Only what may be used for this application.")
@click.option("--expiring", metavar="WITHIN", help="Only what expires within 7d, 12h, or before a time.")
@click.option(
    "--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="List no more than that."
)
@click.option("--all", "everything", is_flag=True, help="List all of them, however many, as they are read.")
@click.option("--after", metavar="ID", help="Go on behind this record.")
@store_option
@click.pass_obj
def list_(
    session: Session,
    owner: str | None,
    tenant: str | None,
    name: str | None,
    application: str | None,
    expiring: str | None,
    limit: int,
    everything: bool,
    after: str | None,
    store: str | None,
) -> Result:
    """List the tokens that were minted, oldest first: who holds which, and whether it still holds.

    A token itself is not kept, so none is shown.
    """
    from capability.store import Selection, open_store

    now = datetime.now(UTC)
    until = None if expiring is None else parse_moment(expiring, "--expiring")
    selection = Selection(
        owner=None if owner is None else parse_owner(owner),
        tenant=tenant,
        name=name,
        application=application,
        expires_after=None if until is None else now,
        expires_before=now + until if isinstance(until, timedelta) else until,
    )
    url = url_for_listing(session, store)
    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()
    if url is None:
        notes = ("there is no store yet, and none is configured",)
    else:
        with open_store(url) as opened:
            if everything:
                # what is read is at most a page ahead of what is printed: memory does not grow with the store
                found = progress(_pages(opened, selection, after), None, "listing", printing=True)
                print_lines((_json_lines if is_json() else _text_lines)(found, now))
                return Result("", {}, printed=True)
            records = opened.records(selection, limit=limit + 1, after=after)
    if len(records) > limit:
        records = records[:limit]
        notes = (f"there are more: --after {records[-1].id} lists those behind",)
    data = {"tokens": [as_data(each, now) for each in records]}
    return Result("\n".join(_table(records, now)) or "no tokens", data, notes=notes)


@command("show", "cap show tok_...", "cap show token", "cap attenuate token -o read | cap show -")
@click.argument("token")
@root_options
@raw_option
@store_option
@click.pass_obj
def show(
    session: Session,
    token: str,
    public_key: str | None,
    keys: str | None,
    raw: bool,
    store: str | None,
) -> Result:
    """Show what is registered of TOKEN: the id of its record, a file, or - for stdin.

    A token that was narrowed has the record of the one that was minted.
    """
    from capability.store import Selection, open_store
    from capability.store.records import ID_PREFIX

    notes: tuple[str, ...] = ()
    root: bytes | None = None
    if not token.startswith(ID_PREFIX):
        try:
            chain, notes = chain_of(session, token, public_key, keys, raw=raw)
        except Failure as failure:
            if failure.code != "file.missing":
                raise
            hint = f"name a file or a record's id; `cap list --name {shlex.quote(token)}` finds ids by name"
            raise usage(failure.message, hint, failure.code) from failure
        root = chain.ids[0]
    url = url_for_listing(session, store)
    found: Record | None = None
    if url is not None:
        with open_store(url) as opened:
            found = (
                opened.registered(root)
                if root is not None
                else next(iter(opened.records(Selection(id=token))), None)
            )
    if found is None:
        raise not_registered()
    now = datetime.now(UTC)
    return Result("\n".join(_lines(found, now)), as_data(found, now), notes=notes)


def as_data(record: "Record", now: datetime) -> dict[str, Any]:
    """Returns a record as JSON has it."""
    return {
        "id": record.id,
        "name": record.name,
        "owner": None if record.owner is None else str(record.owner),
        "tenant": record.tenant,
        "applications": record.applications,
        "operations": record.scopes,
        "root_key": record.root_key,
        "key_id": record.key_id,
        "created": rfc_3339(record.created),
        "created_by": record.created_by,
        "expires": None if record.expires is None else rfc_3339(record.expires),
        "last_used": None if record.last_used is None else rfc_3339(record.last_used),
        "state": state(record, now),
        "revocation_id": record.root.hex(),
    }


def state(record: "Record", now: datetime) -> str:
    """Returns in one word whether a token still holds."""
    if record.revoked:
        return "revoked"
    return "expired" if record.expires is not None and record.expires < now else "active"


def _pages(store: "Store", selection: "Selection", after: str | None) -> "Iterator[Record]":
    while page := store.records(selection, limit=LIMIT, after=after):
        yield from page
        after = page[-1].id


def _text_lines(records: "Iterable[Record]", now: datetime) -> Iterator[bytes]:
    """Yields a table whose columns are as wide as its first page needs."""
    rest = iter(records)
    first = tuple(islice(rest, LIMIT))
    if not first:
        yield b"no tokens\n"
        return
    yield from (f"{line}\n".encode() for line in _table(first, now))
    widths = _widths([_HEADINGS, *(_row(each, now) for each in first)])
    for record in rest:
        yield f"{_line(_row(record, now), widths)}\n".encode()


def _json_lines(records: "Iterable[Record]", now: datetime) -> Iterator[bytes]:
    """Yields the document that --json prints, a record on each line."""
    yield b'{"tokens": ['
    for at, record in enumerate(records):
        text = json.dumps(as_data(record, now), ensure_ascii=False)
        yield (",\n" if at else "\n").encode() + text.encode("utf-8", "surrogatepass")
    yield b"\n]}\n"


def _table(records: "tuple[Record, ...]", now: datetime) -> list[str]:
    if not records:
        return []
    rows = [_HEADINGS, *(_row(each, now) for each in records)]
    widths = _widths(rows)
    return [_line(row, widths) for row in rows]


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(record: "Record", now: datetime) -> tuple[str, ...]:
    cells = (
        record.id,
        record.name or "-",
        "-" if record.owner is None else str(record.owner),
        record.tenant or "-",
        _listed(record.applications),
        "never" if record.expires is None else in_words(record.expires, now),
        state(record, now),
    )
    return tuple(one_line(each) for each in cells)


def _lines(record: "Record", now: datetime) -> list[str]:
    def when(moment: datetime | None) -> str:
        return "never" if moment is None else f"{in_words(moment, now)} ({rfc_3339(moment)})"

    rows = (
        ("id", record.id),
        ("name", record.name or "none"),
        ("owner", "unknown" if record.owner is None else str(record.owner)),
        ("tenant", record.tenant or "any"),
        ("applications", _listed(record.applications)),
        ("operations", _listed(record.scopes)),
        ("root key", record.root_key or "unknown"),
        ("key id", "none" if record.key_id is None else str(record.key_id)),
        ("created", when(record.created) + (f" by {record.created_by}" if record.created_by else "")),
        ("expires", when(record.expires)),
        ("last used", when(record.last_used)),
        ("state", state(record, now)),
        ("revocation id", record.root.hex()),
    )
    return [f"{label:<14}{one_line(value)}" for label, value in rows]


def _listed(values: tuple[str, ...] | None) -> str:
    return "any" if values is None else ", ".join(values) or "none"
