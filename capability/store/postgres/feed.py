"""What was revoked between two revisions, a page at a time."""

from collections.abc import Callable, Iterator
from typing import Any, Final

Rows = Callable[..., list[tuple[Any, ...]]]
"""Returns the rows of a query with values."""

PAGE: Final = 10_000
"""Ids that are in memory at a time."""


def fed(rows: Rows, since: int, revision: int) -> Iterator[bytes]:
    """Yields the ids that were revoked after `since`, up to and with `revision`; those of rules too."""
    last = (since, 2**63 - 1)
    while True:
        page = rows(
            "SELECT id, revision, serial FROM capability.revocations"
            " WHERE (revision, serial) > (%s, %s) AND revision <= %s ORDER BY revision, serial LIMIT %s",
            *(*last, revision, PAGE),
        )
        for row in page:
            yield row[0]
        if len(page) < PAGE:
            break
        last = page[-1][1], page[-1][2]
    for rule in rows(
        "SELECT owner, tenant, up_to, before FROM capability.rules WHERE revision > %s AND revision <= %s",
        *(since, revision),
    ):
        yield from _meant(rows, *rule)


def _meant(
    rows: Rows, owner: str | None, tenant: str | None, up_to: int, before: int | None
) -> Iterator[bytes]:
    """Yields the roots of the tokens that a rule means."""
    column, whose = ("tenant", tenant) if owner is None else ("owner", owner)
    last = 0
    while True:
        page = rows(
            f"SELECT root, serial FROM capability.tokens WHERE {column} = %s AND serial > %s AND serial <= %s"
            " AND (%s::bigint IS NULL OR created < %s::bigint) ORDER BY serial LIMIT %s",
            *(whose, last, up_to, before, before, PAGE),
        )
        for row in page:
            yield row[0]
        if len(page) < PAGE:
            return
        last = page[-1][1]
