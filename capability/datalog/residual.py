"""What a token and a policy leave to decide once only the request is unknown.

What they derive without the request is derived once; the rest becomes code (codegen.py), shared by all
tokens of one shape, and a table of this token's own. Whatever does not fit is left to the engine: a
residual answers "allowed" or names what failed, or raises Unsure. It never meets a limit: it exists only
where the largest request could not reach one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Final

from capability.datalog.bounds import Signature
from capability.datalog.codegen import Generator
from capability.datalog.errors import DatalogError
from capability.datalog.families import Described, Families, describe
from capability.datalog.limits import Limits
from capability.datalog.preparation import Preparation, Residual
from capability.datalog.program import KeyScope, Program
from capability.datalog.shapes import Code, NotYet, RequestFact, Shape, Unsupported

_MAX_SOURCE: Final = 1024 * 1024
"""How many characters the code of all shapes may have together. With its shape it takes 64 bytes for each."""
_NO_SOURCE: Final = 4096
"""What a shape without code counts as."""
_LAZY_SIGHTS: Final = 4
"""How often a shape that is not among the first is asked for before code is made for it."""


class Residuals:
    """Makes residuals for one policy, and keeps the code that their tokens share.

    The first shapes get code at once. Past those, code is made for a shape that was asked for several times:
    whoever holds a token can narrow it to as many shapes as there are, and a compilation takes longer than
    a decision.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        max_shapes: int = 1024,
        eager_shapes: int = 64,
        answers: Iterable[Signature] = (),
    ) -> None:
        """`answers` are the names and arities of the facts whose derivation by the authorizer is told."""
        self._limits = limits
        self._max_shapes = max_shapes
        self._eager_shapes = eager_shapes
        self._answers = frozenset(answers)
        self._codes: dict[Shape, Code | None] = {}
        self._source = 0
        self._sights: Counter[int] = Counter()
        self._lock = Lock()
        self._families: Families[Residual] = Families()

    def prepare(
        self,
        blocks: Sequence[tuple[Program, KeyScope | None]],
        authorizer: Program,
        request: tuple[RequestFact, ...],
    ) -> Residual | None:
        """Returns the residual of a verified token under a policy, None where the engine must decide each
        request.

        Raises NotYet where it is not known yet.
        """
        described = describe(blocks, authorizer, request)
        known = self._of_family(described)
        if known is not None:
            return known
        try:
            preparation = Preparation(blocks, authorizer, request, self._limits, self._answers)
            residual = preparation.finish(self._code)
        except (DatalogError, Unsupported):
            return None
        if described is not None:
            traits = preparation.traits(residual)
            self._families.learn(described, blocks, authorizer, traits, residual, residual.table)
        return residual

    def at_once(
        self,
        blocks: Sequence[tuple[Program, KeyScope | None]],
        authorizer: Program,
        request: tuple[RequestFact, ...],
    ) -> Residual | None:
        """Returns what `prepare` would, if another token of its family was asked about, else None.

        That takes no evaluation, but for the second token of each family.
        """
        described = describe(blocks, authorizer, request)
        if described is None:
            return None
        known = self._of_family(described)
        if known is None and self._families.seen(described):
            return self.prepare(blocks, authorizer, request)
        return known

    def forget(self) -> None:
        """Forgets what is known of tokens; the code of their shapes stays."""
        self._families.clear()

    def _of_family(self, described: Described | None) -> Residual | None:
        family = None if described is None else self._families.find(described)
        if described is None or family is None:
            return None
        return replace(family.first, table=family.table_of(described.constants))

    def _code(self, shape: Shape) -> Code | None:
        """Returns the code of a shape, None when it has none; of many shapes the least recently used go."""
        with self._lock:
            if shape in self._codes:
                code = self._codes[shape] = self._codes.pop(shape)
                return code
            if len(self._codes) >= self._eager_shapes:
                # by hash: one that is compiled a little early does no harm, and a shape is large
                mark = hash(shape)
                self._sights[mark] += 1
                if self._sights[mark] < _LAZY_SIGHTS:
                    if len(self._sights) > 4 * self._max_shapes:
                        self._sights.clear()
                    raise NotYet
                del self._sights[mark]
        code = _generate(shape)
        with self._lock:
            if shape not in self._codes:
                self._codes[shape] = code
                self._source += _source_size(code)
            while len(self._codes) > self._max_shapes or (
                self._source > _MAX_SOURCE and len(self._codes) > 1
            ):
                self._source -= _source_size(self._codes.pop(next(iter(self._codes))))
        return code


def _source_size(code: Code | None) -> int:
    return len(code.source) if code is not None else _NO_SOURCE


def _generate(shape: Shape) -> Code | None:
    try:
        return Generator(shape).generate()
    except (Unsupported, SyntaxError):
        return None
