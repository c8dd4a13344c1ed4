"""All that a store holds, on its way to another one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from capability.errors import StoreDumpError
from capability.store.audit import Entry, Head
from capability.store.records import Record, Revocation, Rule

Item: TypeAlias = Record | Rule | Revocation | Entry
"""What a store holds: one of these after the other."""


@dataclass(frozen=True, slots=True)
class Dump:
    """What a store held at one moment.

    `items` can be read once. Records come in the order in which they were registered; a rule means those that
    stand before it. Revocations come in the order in which they were made, lines of the trail in the order of
    their numbers for each writer. `heads` are the ends of the chains as the store knows them, so that a
    trail that was cut off is found in the copy too. `count` is the number of items.
    """

    revision: int
    count: int
    heads: Mapping[str, Head]
    items: Iterator[Item]


def checked(dump: Dump) -> Iterator[Item]:
    """Yields the items of a dump; raises StoreDumpError for what no store could have held.

    A broken chain is none of that: it is evidence, and goes over as it is.
    """
    if type(dump.revision) is not int or dump.revision < 0:
        raise StoreDumpError("a revision is a number from 0 up")
    numbers = dict.fromkeys(dump.heads, 0)
    ruled = 0
    count = 0
    for item in dump.items:
        count += 1
        if isinstance(item, Entry):
            if item.writer not in numbers:
                raise StoreDumpError(f"the chain of {item.writer!r} has no end")
            if not numbers[item.writer] < item.number <= dump.heads[item.writer].number:
                raise StoreDumpError(f"line {item.number} of {item.writer!r} is out of its place")
            numbers[item.writer] = item.number
        elif isinstance(item, Rule | Revocation):
            if not 0 < item.revision <= dump.revision:
                raise StoreDumpError("something was revoked at a revision that the store never had")
            if isinstance(item, Rule):
                if item.revision < ruled:
                    raise StoreDumpError("the rules are out of order")
                ruled = item.revision
        yield item
    if count != dump.count:
        raise StoreDumpError(f"{dump.count} items were announced, and {count} came")
