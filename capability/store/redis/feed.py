"""What was revoked between two revisions, a page of the stream at a time."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from capability.store.moments import moment
from capability.store.redis.registry import PAGE, of_index
from capability.store.redis.rows import record_of
from capability.store.redis.server import Server

IDS: Final = 5_000
"""Entries that one script reads: some milliseconds, as with a PAGE of records."""


def fed(server: Server, since: int, revision: int) -> Iterator[bytes]:
    """Yields the ids that were revoked after `since`, up to and with `revision`; those of rules too."""
    start, end = f"{since + 1}-0", f"{revision}-{2**64 - 1}"
    while since < revision:
        number, last, ids, rules = server.ask("feed", start, end, IDS)[2:]
        yield from ids
        for rule in rules:
            yield from _meant(server, rule)
        if number < IDS:
            return
        start = f"({last.decode()}"


def _meant(server: Server, rule: bytes) -> Iterator[bytes]:
    """Yields the roots of the tokens that a rule of the feed means."""
    up_to, before, who = rule.decode().split(" ", 2)
    serials = of_index(server, who, 0)
    while page := [each for each in islice(serials, PAGE) if each <= int(up_to)]:
        for row in server.ask("records", *page)[2]:
            record = record_of(row)
            if before == "-" or record.created < moment(int(before)):
                yield record.root
