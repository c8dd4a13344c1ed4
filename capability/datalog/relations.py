"""Facts of one name and arity, and the hash indexes that joins look them up by.

A row is `(origin, term, term, ...)`: the origin is part of the row, so the same fact with two origins is
two rows, and no block can hide another's derivation by stating it first.

The life of a row: `add` appends it to `rows`, beyond `known`; it is then news to every rule. When a round
begins, the engine takes the news (`rows[known:]`) and moves `known` to the end; rows derived in that round
are added after it, and are the news of the next.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]
RelationKey: TypeAlias = tuple[str, int]
Columns: TypeAlias = tuple[int, ...]
Index: TypeAlias = dict[Any, list[Row]]


class Relation:
    """The rows of one name and arity; `origins` unites theirs, `weight` is what their size adds to a step."""

    __slots__ = ("indexes", "known", "origins", "owner", "rows", "seen", "weight")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.rows: list[Row] = []
        self.seen: set[Row] = set()
        self.known = 0
        self.origins = 0
        self.weight = 0
        self.indexes: dict[Columns, tuple[Callable[[Row], Any], Index]] = {}

    def add(self, row: Row) -> None:
        """Appends a row that is not in `seen` yet."""
        self.seen.add(row)
        self.rows.append(row)
        self.origins |= row[0]
        for key_of, index in self.indexes.values():
            index.setdefault(key_of(row), []).append(row)

    def index(self, columns: Columns) -> Index:
        """Returns the rows by their values in `columns` (a bare value for one column, else a tuple)."""
        known = self.indexes.get(columns)
        if known is not None:
            return known[1]
        key_of = itemgetter(*columns)
        index: Index = {}
        for row in self.rows:
            index.setdefault(key_of(row), []).append(row)
        self.indexes[columns] = (key_of, index)
        return index

    def copy(self, owner: object) -> "Relation":
        """Returns a relation of `owner` with the same rows; its indexes are built when they are asked for."""
        copy = Relation(owner)
        copy.rows = self.rows.copy()
        copy.seen = self.seen.copy()
        copy.known = self.known
        copy.origins = self.origins
        copy.weight = self.weight
        return copy
