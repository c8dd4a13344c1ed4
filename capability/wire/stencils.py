"""Statements read by those that were read before, where only dates and strings differ.

A token's expiry and user are its own, so its statements are new as bytes, but not as anything else. A stencil
is what was read once, with holes for the dates and strings; filling it takes a tenth of reading. Bytes fit a
stencil when they are the same but for numbers of five bytes where the stencil has a date, so they are read in
the same way; names and keys must be the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from capability.datalog.program import Check, KeyScope, Predicate
from capability.datalog.skeletons import Lifted, Sizes, Skeleton, lifted, remember, sizes_of, small
from capability.datalog.terms import ARRAY, DATE, MAP, NULL, NULL_TERM, SET, STRING, Term, make_set
from capability.wire.dates import FIRST, join, split

Statement = TypeVar("Statement", Predicate, Check)
Read: TypeAlias = Callable[
    [bytes, Callable[[int], str], Callable[[int], str], Callable[[int], KeyScope]], Any
]
"""Reads a statement, given what tells strings, names and keys by their numbers."""

_MARK: Final = "\0"


class _Unfit(Exception):
    """These bytes make no stencil."""


@dataclass(frozen=True, slots=True)
class _Hole:
    """Where a constant of a statement comes from: a date, a string, strings that make a set, else `term`."""

    kind: int
    sources: tuple[int, ...] = ()
    known: tuple[str, ...] = ()
    term: Term = NULL_TERM

    def fill(self, strings: Sequence[str], dates: Sequence[int]) -> Term:
        if self.kind == DATE:
            return (DATE, dates[self.sources[0]])
        if self.kind == STRING:
            return (STRING, strings[self.sources[0]])
        if self.kind != SET:
            return self.term
        members = tuple([strings[source] for source in self.sources])
        # the same few words in most tokens: then one object for all of them
        if members == self.known:
            return self.term
        return make_set([(STRING, member) for member in members])


@dataclass(frozen=True, slots=True)
class Stencil(Generic[Statement]):
    """A statement with holes. `strings` are the numbers of those that it refers to as terms, each as often as
    it does; `names` and `keys` what else it refers to, which was found under the numbers beside it. `sizes`
    are those of its constants where they do not depend on strings.
    """

    skeleton: Skeleton
    holes: tuple[_Hole, ...]
    strings: tuple[int, ...]
    name_numbers: tuple[int, ...]
    names: tuple[str, ...]
    key_numbers: tuple[int, ...]
    keys: tuple[KeyScope, ...]
    version: int
    name_size: int
    sizes: Sizes | None
    only_date: bool

    def fill(self, strings: Sequence[str], dates: Sequence[int]) -> Statement:
        """Returns the statement with these strings and dates."""
        skeleton = self.skeleton
        if self.only_date:
            constants: tuple[Term, ...] = ((DATE, dates[0]),)
        else:
            constants = tuple([hole.fill(strings, dates) for hole in self.holes])
        statement: Statement = skeleton.fill(constants)
        if self.sizes is not None:
            remember(statement, Lifted(skeleton, constants, self.sizes))
        elif small(constants):
            remember(statement, Lifted(skeleton, constants, sizes_of(skeleton, constants)))
        return statement


def make(
    form: bytes, statement: Statement, version: int, read: Read, symbol: Callable[[int], str], key: Any
) -> Stencil[Statement] | None:
    """Returns the stencil of `form`, which was read as `statement`; None where there is none.

    INVARIANT: it is found by trying. With other dates in the bytes and marks for strings, the statement must
    come out with exactly these in its constants, each date once: then it is they that the bytes stand for.
    """
    known = lifted(statement)
    literals, dates = split(form)
    if known is None:
        return None
    probes = [FIRST + 1 + place for place in range(len(dates))]
    strings: list[int] = []
    names: dict[int, str] = {}
    keys: dict[int, KeyScope] = {}

    def mark(number: int) -> str:
        strings.append(number)
        return f"{_MARK}{number}"

    def name(number: int) -> str:
        return names.setdefault(number, symbol(number))

    def scope(number: int) -> KeyScope:
        return keys.setdefault(number, key(number))

    marked = lifted(read(join(literals, probes), mark, name, scope))
    if marked is None or marked.skeleton is not known.skeleton:
        return None
    by_mark = {f"{_MARK}{number}": place for place, number in enumerate(strings)}
    by_probe = {probe: place for place, probe in enumerate(probes)}
    meant = [symbol(number) for number in strings]
    try:
        holes = tuple(_hole(term, by_mark, by_probe, meant) for term in marked.constants)
    except _Unfit:
        return None
    found = [hole.sources[0] for hole in holes if hole.kind == DATE]
    stencil: Stencil[Statement] = Stencil(
        known.skeleton,
        holes,
        tuple(strings),
        tuple(names),
        tuple(names.values()),
        tuple(keys),
        tuple(keys.values()),
        version,
        sum(map(len, names.values())),
        None if strings else known.sizes,
        [hole.kind for hole in holes] == [DATE],
    )
    if sorted(found) != list(range(len(dates))) or stencil.fill(meant, dates) != statement:
        return None
    return stencil


def _hole(term: Term, by_mark: Mapping[str, int], by_probe: Mapping[int, int], meant: Sequence[str]) -> _Hole:
    kind, value = term
    if kind == STRING:
        return _Hole(STRING, (by_mark[value],))
    if kind == DATE and value in by_probe:
        return _Hole(DATE, (by_probe[value],))
    if kind == SET and value and value[0][0] == STRING:
        sources = tuple(by_mark[member] for _, member in value)
        known = tuple(meant[source] for source in sources)
        return _Hole(SET, sources, known, make_set([(STRING, member) for member in known]))
    if kind in (SET, ARRAY, MAP) and value:
        raise _Unfit
    return _Hole(NULL, term=term)
