"""Requests of one kind, declared once and asked often: the short way to `Guard.check`."""

from typing import TYPE_CHECKING, Any

from capability.clock import seconds
from capability.datalog.terms import DATE_MAX
from capability.deciding import Question
from capability.decision import Decision
from capability.request import TOKEN_TYPES, RequestShape

if TYPE_CHECKING:
    from capability.guard import Guard


class RequestForm:
    """Requests of one kind, asked of one guard: see `Guard.form`."""

    __slots__ = ("_guard", "_several", "_shape")

    def __init__(self, guard: "Guard", shape: RequestShape) -> None:
        self._guard = guard
        self._shape = shape
        self._several = tuple in shape.types

    def check(self, token: str | bytes, *values: Any) -> Decision:
        """Returns the decision about a request with `token`, as `Guard.check` does.

        `values` are the terms of the facts, in the order in which they were declared, and for each of
        `several` a list (or a tuple, which is faster) of tuples of terms. Raises TypeError for values of
        other types or another number, and ValueError for one that does not fit.
        """
        guard, shape = self._guard, self._shape
        setup = guard._setup
        moment = guard._clock()
        now = int(moment) if type(moment) is float and 0 <= moment <= DATE_MAX else seconds(moment)
        if not isinstance(token, TOKEN_TYPES):
            raise TypeError(f"argument 'token' must be str or bytes, not {type(token).__name__}")
        types = tuple(map(type, values))
        if types != shape.types:
            if len(values) != len(shape.types):
                raise TypeError(f"the form takes {len(shape.types)} values, not {len(values)}")
            if self._several:
                # a decision may be read much later, and a list be changed until then
                values = tuple([tuple(value) if type(value) is list else value for value in values])
                types = tuple(map(type, values))
        known = setup.known.get(token)
        if known is not None and types == shape.types:
            decision = guard._at_once(setup, token, known, shape, values, now)
            if decision is not None:
                return decision
        values = shape.normal(values)
        question = Question([shape.predicates(values)], shape, shape, values)
        return guard._long(setup, token, known, question, now)

    def allows_at_once(self, token: str | bytes, values: tuple[Any, ...]) -> bool:
        """Returns True for what `check` allows without the engine; False says nothing: ask `check`.

        For those who answer nearly always yes and need nothing of a decision but that. `values` are those of
        `check`, with tuples for what comes several times.
        """
        guard, shape = self._guard, self._shape
        moment = guard._clock()
        now = int(moment) if type(moment) is float and 0 <= moment <= DATE_MAX else seconds(moment)
        if not isinstance(token, TOKEN_TYPES):
            return False
        cache = guard._setup.known
        known = cache.get(token)
        if known is None:
            cache.misses -= 1  # a look into the cache counts in `check`, which is asked now
            return False
        if tuple(map(type, values)) == shape.types:
            found = guard._found(known, shape, values, now)
            if found is not None:
                form, _, _, derived = found
                if not derived[1] and form.holds[derived[0]]:
                    guard._fast += 1
                    guard._allowed += 1
                    return True
        cache.hits -= 1
        return False

    def require(self, token: str | bytes, *values: Any) -> Decision:
        """Returns the decision of `check` if it is an allow; raises as `Guard.require` does."""
        decision = self.check(token, *values)
        decision.require()
        return decision

    def __repr__(self) -> str:
        facts = ", ".join(fact.name for fact in self._shape.facts)
        return f"<RequestForm of {facts}>"
