"""What generated code depends on: the shape of an authorization, and what its table holds."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from capability.datalog.immutable import immutable
from capability.datalog.program import CheckKind, Predicate, Query


class Unsupported(Exception):
    """This shape has no generated form; the engine evaluates it."""


class NotYet(Exception):
    """There is no code for this shape yet; when it was seen a few times, there will be."""


class Unsure(Exception):
    """The generated code met a type that it was not made for; the engine decides."""


@immutable
class RequestFact:
    """A fact of the authorizer with one argument of the request for each term, of these kinds.

    One without kinds is an argument that the request does not have: it states nothing. With `several` there
    is one argument, a tuple of any number of rows, each a tuple of such terms.
    """

    name: str
    kinds: tuple[int, ...]
    several: bool = False


@immutable
class ShapedQuery:
    """A lifted query and what it trusts. A query that the request cannot reach is static:
    only its result is used.
    """

    query: Query
    trusted: int
    static: bool


@immutable
class ShapedRule:
    """A lifted rule that depends on the request.

    `answers`: what it derives is told to the caller. `read`: some rule, check or policy looks at it.
    """

    head: Predicate
    body: ShapedQuery
    origin: int
    answers: bool = False
    read: bool = True


@immutable
class Shape:
    """Everything that the generated code depends on; equal shapes share it."""

    request: tuple[RequestFact, ...]
    stated: tuple[tuple[str, int], ...]
    """Predicates of the request that a block or the policy states or derives without it, too."""
    rules: tuple[ShapedRule, ...]
    """In an order in which each comes after all that derive what it reads."""
    checks: tuple[tuple[CheckKind, tuple[ShapedQuery, ...]], ...]
    policies: tuple[tuple[ShapedQuery, ...], ...]


@immutable
class Constant:
    """A slot of the table: constant `index`, bare or as a term."""

    index: int
    bare: bool


@immutable
class Rows:
    """A slot of the table: what the static part of a body is bound to.

    `owner` names the rule or query. `key` are the variables that are looked up, each with the kind that its
    bare value has, or None for a term; `values` are the others that are needed. With no `values` it is a
    set of keys; with no `key` a tuple of rows; else a dict of tuples of rows.
    """

    owner: tuple[str, int, int]
    key: tuple[tuple[str, int | None], ...]
    values: tuple[str, ...]
    with_origin: bool


@immutable
class Stated:
    """A slot of the table: the facts of one predicate that hold without the request, as `(*terms,
    origin)`.
    """

    name: str
    arity: int


@immutable
class Room:
    """A slot of the table: for how large a request the work was bounded, in characters of text together and
    in rows of one fact.
    """

    of: Literal["text", "rows"]


@immutable
class StaticResult:
    """A slot of the table: whether a query that the request cannot reach holds."""

    owner: tuple[str, int, int]


TableSlot: TypeAlias = Constant | Rows | Stated | StaticResult | Room
Run: TypeAlias = Callable[..., Any]
"""Called with the table and the request's arguments; answers `(policy, failed)`, and where rules of the shape
have answers, a dict whose keys are those as `(name, *terms)`.
"""


@immutable
class Code:
    """A generated function and what its table holds, in order."""

    run: Run
    table: tuple[TableSlot, ...]
    source: str
