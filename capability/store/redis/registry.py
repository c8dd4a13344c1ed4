"""Reads records by the smallest index that holds all that are meant, a page at a time."""

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Any, Final

from capability.store.moments import micros
from capability.store.records import Record, Selection
from capability.store.redis.rows import indexes_for, record_of
from capability.store.redis.server import Server

PAGE: Final = 1000
"""How much one script reads: some milliseconds, in which the server does nothing else."""


def selected(server: Server, selection: Selection, after: str | None) -> Iterator[Record]:
    """Yields the records that are meant, oldest first, from behind the public id `after`."""
    serials = _serials(server, selection, _serial_of(server, after))
    while page := list(islice(serials, PAGE)):
        rows = server.ask("records", *page)[2]
        yield from filter(selection.fits, map(record_of, rows))


def one(server: Server, table: str, key: bytes | str) -> Record | None:
    """Returns the record with this key in `roots` or `ids`."""
    row = server.ask("record", table, key)[2]
    return record_of(row) if row else None


def of_index(server: Server, index: str, after: int) -> Iterator[int]:
    """Yields the serials of an index, in order, from behind `after`; those of all records for no name."""
    while True:
        page = [int(each) for each in server.ask("serials", index, after, PAGE)[2]]
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]


def _serial_of(server: Server, public_id: str | None) -> int:
    row: Any = [] if public_id is None else server.ask("record", "ids", public_id)[2]
    return int(row[3]) if row else 0


def _serials(server: Server, selection: Selection, after: int) -> Iterator[int]:
    if selection.id is not None:
        found = _serial_of(server, selection.id)
        return iter([found] if found > after else [])
    choices = indexes_for(selection)
    if choices:
        names = [name for choice in choices for name in choice]
        sizes = dict(zip(names, server.ask("sizes", *names)[2], strict=True))
        best = min(choices, key=lambda choice: sum(sizes[name] for name in choice))
        return merge(*(of_index(server, name, after) for name in best))
    if selection.expires_before is not None:
        lowest = "-inf" if selection.expires_after is None else micros(selection.expires_after)
        found_serials = server.ask("expiring", lowest, micros(selection.expires_before))[2]
        return iter(sorted(serial for serial in map(int, found_serials) if serial > after))
    return of_index(server, "", after)
