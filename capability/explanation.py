"""Why a check failed, in words for people. Read off the facts after the decision; nothing is decided here."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

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


class Situation:
    """All facts of a world with their origins, in order, so that many failing checks cost little."""

    __slots__ = ("_facts", "now")

    def __init__(self, facts: Iterable[tuple[int, Predicate]]) -> None:
        self._facts: dict[tuple[str, int], list[tuple[int, Predicate]]] = {}
        for origin, fact in facts:
            self._facts.setdefault((fact.name, len(fact.terms)), []).append((origin, fact))
        times = [
            fact.terms[0][1]
            for origin, fact in self._facts.get((DEFAULT_VOCABULARY.time, 1), ())
            if origin == AUTHORIZER and fact.terms[0][0] == DATE
        ]
        self.now: int | None = max(times, default=None)
        """The time that the authorizer stated, in seconds; the latest of several."""

    def stated(self, predicate: Predicate) -> bool:
        """Returns whether any block states a fact of this name and arity."""
        return (predicate.name, len(predicate.terms)) in self._facts

    def visible(self, predicate: Predicate, trusted: int) -> list[str]:
        """Returns a few facts of this name and arity that are trusted, as Datalog, the caller's first."""
        seen = [
            (origin != AUTHORIZER, fact)
            for origin, fact in self._facts.get((predicate.name, len(predicate.terms)), ())
            if not origin & ~trusted
        ]
        seen.sort(key=lambda pair: pair[0])
        texts = [_shortened(print_predicate(fact)) for _, fact in seen[:_SHOWN]]
        return [*texts, f"{len(seen) - _SHOWN} more"] if len(seen) > _SHOWN else texts


def explain(check: Check, trusted: Sequence[int], situation: Situation) -> str:
    """Returns why `check` failed; `trusted` has what each of its queries trusts."""
    branches = list(zip(check.queries[:_SHOWN], trusted, strict=False))
    if check.kind is CheckKind.REJECT:
        named = [text for query, origin in branches for text in _named(query, origin, situation)]
        return f"it rejects {_joined(named)}" if named else "what it rejects holds"
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
    reasons = []
    unsupplied = [f"{predicate.name}(...)" for predicate in missing if not situation.stated(predicate)]
    untrusted = [f"{predicate.name}(...)" for predicate in missing if situation.stated(predicate)]
    if unsupplied:
        reasons.append(f"it needs {_joined(unsupplied)}, which the caller did not supply")
    if untrusted:
        reasons.append(f"it needs {_joined(untrusted)} from a block that it trusts")
    return "; ".join(reasons)


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
    shown = escape_for_display(text)
    return shown if len(shown) <= _WIDTH else shown[:_WIDTH] + "..."


def _joined(texts: Iterable[str]) -> str:
    *first, last = dict.fromkeys(texts)
    return f"{', '.join(first)} and {last}" if first else last
