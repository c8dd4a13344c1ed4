"""Why a check failed, in words for people. Read off the facts after the decision; nothing is decided here."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Final, TypeAlias

from capability.attenuation import DEFAULT_VOCABULARY
from capability.datalog.origins import AUTHORIZER
from capability.datalog.printer import escape_for_display, print_predicate
from capability.datalog.program import Check, CheckKind, Predicate, Query
from capability.datalog.terms import DATE, DATE_MAX
from capability.inspection import window

_SHOWN: Final = 4
"""How many facts, predicates or branches are named before the rest is only counted."""
_WIDTH: Final = 120
"""How many characters of a fact are shown."""


_Shape: TypeAlias = tuple[str, int]
"""The name and the arity of a fact."""


class Situation:
    """What there is to say about a world: its facts by name and origin, and what its rules may derive.

    Looked up by name and remembered, so that a token full of failing checks costs no more than one.
    """

    __slots__ = ("_derivable", "_facts", "_visible", "now")

    def __init__(self, facts: Iterable[tuple[int, Predicate]], derivable: Iterable[Predicate] = ()) -> None:
        """`derivable` are the heads of all rules."""
        self._facts: dict[_Shape, dict[int, list[Predicate]]] = {}
        for origin, fact in facts:
            self._facts.setdefault(_shape(fact), {}).setdefault(origin, []).append(fact)
        self._derivable = {_shape(head) for head in derivable}
        self._visible: dict[tuple[_Shape, int], list[str]] = {}
        times = [
            fact.terms[0][1]
            for fact in self._facts.get((DEFAULT_VOCABULARY.time, 1), {}).get(AUTHORIZER, ())
            if fact.terms[0][0] == DATE
        ]
        self.now: int | None = max(times, default=None)
        """The time that the authorizer stated, in seconds; the latest of several."""

    def visible(self, predicate: Predicate, trusted: int) -> list[str]:
        """Returns a few facts of this name and arity that are trusted, as Datalog, the caller's first."""
        key = (_shape(predicate), trusted)
        if key not in self._visible:
            groups = self._facts.get(key[0], {})
            seen = [groups[origin] for origin in sorted(groups) if not origin & ~trusted]
            facts = list(islice(chain.from_iterable(seen), _SHOWN))
            more = sum(map(len, seen)) - len(facts)
            texts = [_shortened(print_predicate(fact)) for fact in facts]
            self._visible[key] = [*texts, f"{more} more"] if more else texts
        return self._visible[key]

    def why_missing(self, predicate: Predicate) -> str:
        """Returns why there is no such fact among those that are trusted."""
        shape = _shape(predicate)
        if shape in self._facts:
            return "from a block that it trusts"
        return "which no rule derived" if shape in self._derivable else "which the caller did not supply"


def _shape(predicate: Predicate) -> _Shape:
    return (predicate.name, len(predicate.terms))


def explain(check: Check, trusted: Sequence[int], situation: Situation) -> str:
    """Returns why `check` failed; `trusted` has what each of its queries trusts."""
    if check.kind is not CheckKind.REJECT:
        return explain_no_match(check.queries, trusted, situation)
    branches = zip(check.queries[:_SHOWN], trusted, strict=False)
    named = [text for query, origin in branches for text in _named(query, origin, situation)]
    return f"it rejects {_joined(named)}" if named else "what it rejects holds"


def explain_no_match(queries: Sequence[Query], trusted: Sequence[int], situation: Situation) -> str:
    """Returns why none of `queries`, the branches of a check or policy, holds."""
    branches = zip(queries[:_SHOWN], trusted, strict=False)
    return "; and ".join(
        dict.fromkeys(_explain_query(query, origin, situation) for query, origin in branches)
    )


def expired(check: Check, situation: Situation) -> bool:
    """Returns whether the time that `check` asks for is over."""
    found, now = window(check), situation.now
    return found is not None and found.ended_at is not None and now is not None and now >= found.ended_at


def _explain_query(query: Query, trusted: int, situation: Situation) -> str:
    body = query.body[:_SHOWN]
    missing = [predicate for predicate in body if not situation.visible(predicate, trusted)]
    if missing:
        return _explain_missing(missing, situation)
    when = _explain_time(query, situation.now)
    if when:
        return when
    named = _named(query, trusted, situation)
    return f"it does not hold for {_joined(named)}" if named else "it does not hold"


def _explain_missing(missing: Sequence[Predicate], situation: Situation) -> str:
    reasons: dict[str, list[str]] = {}
    for predicate in missing:
        reasons.setdefault(situation.why_missing(predicate), []).append(f"{predicate.name}(...)")
    return "; ".join(
        f"it needs {_joined(names)}{' ' if why.startswith('from') else ', '}{why}"
        for why, names in reasons.items()
    )


def _explain_time(query: Query, now: int | None) -> str:
    found = window(Check(CheckKind.IF, (query,)))
    if found is None or now is None:
        return ""
    if found.ended_at is not None and now >= found.ended_at:
        return f"it expired at {_time(found.ended_at - 1)}, and it is {_time(now)}"
    if found.begun_at is not None and now < found.begun_at:
        return f"it is not valid before {_time(found.begun_at)}, and it is {_time(now)}"
    return ""


def _time(seconds: int) -> str:
    moment = datetime.fromtimestamp(min(max(seconds, 0), DATE_MAX), UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _named(query: Query, trusted: int, situation: Situation) -> list[str]:
    return [text for predicate in query.body[:_SHOWN] for text in situation.visible(predicate, trusted)]


def _shortened(text: str) -> str:
    return escape_for_display(text if len(text) <= _WIDTH else text[:_WIDTH] + "...")


def _joined(texts: Iterable[str]) -> str:
    *first, last = dict.fromkeys(texts)
    return f"{', '.join(first)} and {last}" if first else last
