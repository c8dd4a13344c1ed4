"""Residuals of tokens that have one structure, made from that of the first of them.

Two tokens are of one family under a policy when their statements are equal but for constants, and those of
the constants are equal, too, on which anything depends that is worked out beforehand: what is derived without
the request, and the bounds (bounds.py). The residual of one is then that of the other with some constants
of its own in the table: nothing is evaluated, generated or bounded again.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

from capability.datalog.lifting import raw_value
from capability.datalog.program import Closure, KeyScope, Op, Program, Query, Value
from capability.datalog.shapes import Constant, RequestFact, TableSlot
from capability.datalog.skeletons import Statement, lifted
from capability.datalog.terms import VARIABLE, Term

Blocks: TypeAlias = Sequence[tuple[Program, KeyScope | None]]
Signature: TypeAlias = tuple[str, int]
Member = TypeVar("Member")

_MAX_STATEMENTS: Final = 128
"""A token with more of them is not compared with others."""
_MAX_STRUCTURES: Final = 1024
_MAX_FAMILIES: Final = 4096
_MAX_SIGHTS: Final = 16384
_MAX_SIZE: Final = 32 * 1024 * 1024
"""How many bytes all families may take together, about; a holder can narrow a token to any number of them."""
_MAX_FAMILY: Final = 256 * 1024
"""How many bytes one may take, with what it is found by."""
_NODE: Final = 160
"""What a term or an operation takes in what a family is found by, in bytes, about."""


@dataclass(frozen=True, slots=True)
class Described:
    """A token, a policy and a form of request as families are found by: their structure, and the token's
    constants in order.
    """

    key: Hashable
    constants: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Traits:
    """What a residual that was made in full tells of its family.

    `changing` are the predicates that depend on the request. `lifted` tells for each block, check and query
    that does the index of its first constant among those of the code, `table` what the code's table holds.
    """

    changing: frozenset[Signature]
    lifted: Mapping[tuple[int | None, int, int], int]
    table: tuple[TableSlot, ...]


@dataclass(frozen=True, slots=True)
class Family(Generic[Member]):
    """A member of a family, and where the tables of the others differ: the slot, the place of the constant
    that it has, and whether it is bare.
    """

    first: Member
    table: tuple[Any, ...]
    own: tuple[tuple[int, int, bool], ...]

    def table_of(self, constants: tuple[Term, ...]) -> tuple[Any, ...]:
        """Returns the table of the token with these constants."""
        table = list(self.table)
        for slot, place, bare in self.own:
            term = constants[place]
            table[slot] = raw_value(term) if bare else term
        return tuple(table)


@dataclass(frozen=True, slots=True)
class _Structure(Generic[Member]):
    """All tokens whose statements are equal but for constants. `deciding` picks those constants that must be
    equal, too. It holds its policy, whose `id` is in its key.
    """

    authorizer: Program
    deciding: Callable[[tuple[Term, ...]], Hashable]
    own: tuple[tuple[int, int, bool], ...]
    families: dict[Hashable, Family[Member]]


class Families(Generic[Member]):
    """The families that are known; bounded, and safe to use from several threads."""

    __slots__ = ("_count", "_sights", "_size", "_structures")

    def __init__(self) -> None:
        self._structures: dict[Hashable, _Structure[Member]] = {}
        self._sights: set[int] = set()
        self._count = 0
        self._size = 0

    def find(self, described: Described) -> Family[Member] | None:
        """Returns the family of what was described, None when it is not known."""
        structure = self._structures.get(described.key)
        return None if structure is None else structure.families.get(structure.deciding(described.constants))

    def seen(self, described: Described) -> bool:
        """Returns whether this was asked before about what was described, or of another of its family.

        By hash: a family that is learned a little early does no harm.
        """
        structure = self._structures.get(described.key)
        mark = hash((described.key, structure and structure.deciding(described.constants)))
        if mark in self._sights:
            return True
        if len(self._sights) >= _MAX_SIGHTS:
            self._sights.clear()
        self._sights.add(mark)
        return False

    def clear(self) -> None:
        """Forgets all families."""
        self._sights.clear()
        self._forget()

    def _forget(self) -> None:
        self._structures.clear()
        self._count = self._size = 0

    def learn(
        self,
        described: Described,
        blocks: Blocks,
        authorizer: Program,
        traits: Traits,
        member: Member,
        table: tuple[Any, ...],
    ) -> None:
        """Keeps `member`, with its table, as the first of its family, unless they are large."""
        structure = self._structures.get(described.key)
        size = size_of(described.constants) + size_of(table)
        if structure is None:
            size += _NODE * sum(found.skeleton.size for found in map(lifted, _statements(blocks)) if found)
        if size > _MAX_FAMILY:
            return
        self._count += 1
        self._size += size
        if (
            self._count > _MAX_FAMILIES
            or self._size > _MAX_SIZE
            or (structure is None and len(self._structures) >= _MAX_STRUCTURES)
        ):
            self._forget()
            structure, self._count, self._size = None, 1, size
        if structure is None:
            structure = self._structures[described.key] = _structure(described, blocks, authorizer, traits)
        structure.families[structure.deciding(described.constants)] = Family(member, table, structure.own)


def size_of(value: object) -> int:
    """Returns about how many bytes the tables of a residual, or the terms in them, take."""
    match value:
        case str() | bytes():
            return 64 + len(value)
        case dict():
            return 64 + sum(size_of(key) + size_of(found) for key, found in value.items())
        case tuple() | frozenset():
            return 64 + sum(map(size_of, value))
    return 32


def _statements(blocks: Blocks) -> Iterator[Statement]:
    for program, _ in blocks:
        yield from program.facts
        yield from program.rules
        yield from program.checks


def describe(blocks: Blocks, authorizer: Program, request: tuple[RequestFact, ...]) -> Described | None:
    """Returns what a family is found by, None for a token that is too large to be compared with others."""
    key: list[Any] = [id(authorizer), request]
    constants: list[Term] = []
    statements = 0
    for program, signer in blocks:
        lengths = (len(program.facts), len(program.rules), len(program.checks))
        key += (signer, program.scopes, lengths)
        statements += sum(lengths)
        if statements > _MAX_STATEMENTS:
            return None
        whole: tuple[Statement, ...] = (*program.facts, *program.rules, *program.checks)
        for statement in whole:
            found = lifted(statement)
            if found is None:
                return None
            key += (found.skeleton, found.sizes)
            constants += found.constants
    return Described(tuple(key), tuple(constants))


def _structure(
    described: Described, blocks: Blocks, authorizer: Program, traits: Traits
) -> "_Structure[Any]":
    programs = [authorizer, *(program for program, _ in blocks)]
    silent = _silent_columns(programs, traits.changing)
    places: dict[int, int] = {}
    free: set[int] = set()
    base = 0
    for block, (program, _) in enumerate(blocks):
        for fact in program.facts:
            key = (fact.name, len(fact.terms))
            free |= {base + column for column in range(len(fact.terms)) if (*key, column) in silent}
            base += len(fact.terms)
        for index, check in enumerate(program.checks):
            for number, query in enumerate(check.queries):
                start = traits.lifted.get((block, index, number))
                for offset, changes in enumerate(_constants(query, traits.changing)):
                    if start is not None and changes:
                        places[start + offset] = base
                        free.add(base)
                    base += 1
    own = tuple(
        (slot, places[kind.index], kind.bare)
        for slot, kind in enumerate(traits.table)
        if isinstance(kind, Constant) and kind.index in places
    )
    deciding = [place for place in range(base) if place not in free]
    # INVARIANT: a constant is either compared or a token's own; one that is neither is read by nothing
    pick: Callable[[tuple[Term, ...]], Hashable] = itemgetter(*deciding) if deciding else _nothing
    return _Structure(authorizer, pick, own, {})


def _nothing(_: tuple[Term, ...]) -> Hashable:
    return None


def _constants(query: Query, changing: frozenset[Signature]) -> Iterator[bool]:
    """Yields for each constant of `query`, as they are lifted, whether nothing was worked out from it: it
    stands in an expression, or in a predicate that depends on the request.
    """
    for atom in query.body:
        yield from [(atom.name, len(atom.terms)) in changing] * sum(
            kind != VARIABLE for kind, _ in atom.terms
        )
    for expression in query.expressions:
        yield from _true_for_constants(expression.ops)


def _true_for_constants(ops: Iterable[Op]) -> Iterator[bool]:
    for op in ops:
        if isinstance(op, Closure):
            yield from _true_for_constants(op.ops)
        elif isinstance(op, Value) and op.term[0] != VARIABLE:
            yield True


def _silent_columns(programs: Sequence[Program], changing: frozenset[Signature]) -> set[tuple[str, int, int]]:
    """Returns the columns of which nothing but that they are there is ever asked.

    Of predicates that are stated once and never derived: then the number of facts does not depend on them.
    """
    facts = Counter((fact.name, len(fact.terms)) for program in programs for fact in program.facts)
    heads = {(rule.head.name, len(rule.head.terms)) for program in programs for rule in program.rules}
    silent = {
        (*key, column)
        for key, count in facts.items()
        if count == 1 and key not in heads and key not in changing
        for column in range(key[1])
    }
    for program in programs:
        queries = [query for check in program.checks for query in check.queries]
        queries += [query for policy in program.policies for query in policy.queries]
        queries += [Query((*rule.body, rule.head), rule.expressions) for rule in program.rules]
        for query in queries:
            silent -= _asked(query)
    return silent


def _asked(query: Query) -> set[tuple[str, int, int]]:
    """Returns the columns in which `query` has anything but a variable that stands nowhere else."""
    names = Counter(value for atom in query.body for kind, value in atom.terms if kind == VARIABLE)
    names.update(_names(op for expression in query.expressions for op in expression.ops))
    return {
        (atom.name, len(atom.terms), column)
        for atom in query.body
        for column, (kind, value) in enumerate(atom.terms)
        if kind != VARIABLE or names[value] != 1
    }


def _names(ops: Iterable[Op]) -> Iterator[str]:
    for op in ops:
        if isinstance(op, Closure):
            yield from op.params
            yield from _names(op.ops)
        elif isinstance(op, Value) and op.term[0] == VARIABLE:
            yield op.term[1]
