"""The audit trail in Redis: ends of chains, and lines in and out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from capability.errors import StoreSchemaError
from capability.store.audit import STORE_WRITER, Entry, Event, Head, link
from capability.store.redis.registry import PAGE
from capability.store.redis.server import Server


def chain(server: Server, writer: str, last: int) -> Iterator[Entry]:
    """Yields the lines of a writer's chain up to the number `last`."""
    start, end = "-", f"{last}-{2**64 - 1}"
    while True:
        rows = server.ask("audit", writer, start, end, PAGE)[2]
        for place, line, hash_ in rows:
            try:
                yield Entry(writer, _number(place), line.decode(), bytes.fromhex(hash_.decode()))
            except (ValueError, AttributeError) as error:
                raise StoreSchemaError("the audit trail holds a line that cannot be read") from error
        if len(rows) < PAGE:
            return
        start = f"({rows[-1][0].decode()}"


def ends_of(rows: Iterable[Sequence[bytes]]) -> dict[str, tuple[Head, int]]:
    """Returns, for each writer, the end of the chain as noted, and the last number that is there."""
    ends: dict[str, tuple[Head, int]] = {}
    for writer, head, last in rows:
        try:
            number, _, hash_ = head.decode().partition(" ")
            ends[writer.decode()] = Head(int(number), bytes.fromhex(hash_)), _number(last)
        except ValueError as error:
            raise StoreSchemaError("the store holds the end of a chain that cannot be read") from error
    return ends


def _number(place: bytes) -> int:
    return int(place.partition(b"-")[0])


def lines_of(events: Iterable[Event], head: str, writer: str = STORE_WRITER) -> list[Any]:
    """Returns the texts and hashes of the lines that events become behind `head`, by turns."""
    number, _, hash_ = head.partition(" ")
    end = Head(int(number), bytes.fromhex(hash_)) if head else None
    lines: list[Any] = []
    for event in events:
        entry = link(event, writer, end)
        end = Head(entry.number, entry.hash)
        lines += [entry.text, entry.hash.hex()]
    return lines


def either(head: str, revision: int, event: Callable[[int], Event]) -> list[Any]:
    """Returns the line for when something is new, and the line for when all was revoked before."""
    return lines_of([event(revision + 1)], head) + lines_of([event(revision)], head)
