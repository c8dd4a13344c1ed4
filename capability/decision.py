"""What was decided about one request, and why, as a value that services keep, log and hand on.

Outcome         one word for what happened; only "allowed" is a yes
MatchedPolicy   the policy that matched first
FailedCheck     a check that did not hold
Answer          a fact that the policy derived for the service
Decision        all of it, with what a service needs next
"""

import json
import os
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from threading import RLock
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from capability.datalog.limits import Limits
from capability.datalog.printer import print_predicate
from capability.datalog.program import Predicate
from capability.datalog.terms import Term
from capability.datalog.values import from_term
from capability.errors import AuthorizationError, Denied, ExecutionFailed, LimitReached, Revoked


class Outcome(StrEnum):
    """What happened to a request. Everything but ALLOWED is a no."""

    ALLOWED = "allowed"
    DENIED = "denied"
    REVOKED = "revoked"
    INVALID_TOKEN = "invalid_token"
    EXPIRED = "expired"
    EXECUTION_ERROR = "execution_error"
    LIMIT_REACHED = "limit_reached"
    STORE_UNAVAILABLE = "store_unavailable"


EXIT_CODES: Final = {
    Outcome.ALLOWED: 0,
    Outcome.DENIED: 1,
    Outcome.REVOKED: 1,
    Outcome.EXPIRED: 1,
    Outcome.INVALID_TOKEN: 3,
    Outcome.EXECUTION_ERROR: 4,
    Outcome.STORE_UNAVAILABLE: 5,
    Outcome.LIMIT_REACHED: 6,
}
"""What `cap` exits with, by outcome."""

_ERRORS: Final = {
    Outcome.DENIED: Denied,
    Outcome.EXPIRED: Denied,
    Outcome.REVOKED: Revoked,
    Outcome.EXECUTION_ERROR: ExecutionFailed,
    Outcome.LIMIT_REACHED: LimitReached,
}


@dataclass(frozen=True, slots=True)
class MatchedPolicy:
    """The first policy that matched: "allow" or "deny", its place among the policies, its source."""

    kind: str
    index: int
    source: str


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check that failed: its block (None: the authorizer), its place there, its source, and why.

    `why` is for people. It is empty until someone asks why, as looking for the reason costs time.
    """

    block: int | None
    index: int
    source: str
    why: str = ""

    def __str__(self) -> str:
        where = "authorizer" if self.block is None else f"block n°{self.block}"
        return f"Check n°{self.index} in {where}: {self.source}"


class Answer(NamedTuple):
    """A fact that the policy derived for the service, as in `header("X-User", "alice")`.

    `values` has what most callers want of it; `terms` say of which type of the language each of them is.
    """

    name: str
    terms: tuple[Term, ...]

    @property
    def values(self) -> tuple[Any, ...]:
        """The terms as Python values."""
        return tuple([from_term(term) for term in self.terms])

    def __str__(self) -> str:
        return print_predicate(Predicate(self.name, self.terms))


def denial_text(policy: MatchedPolicy | None, failed_checks: tuple[FailedCheck, ...]) -> str:
    """Returns the sentence that programs of the ecosystem know a denial by."""
    if policy is None:
        text = "no matching policy was found"
    else:
        article = "an" if policy.kind == "allow" else "a"
        text = f"{article} {policy.kind} policy matched (policy index: {policy.index})"
    listed = ", ".join(str(check) for check in failed_checks)
    return f"authorization failed: {text}, and the following checks failed: {listed}"


def new_decision_id() -> str:
    """Returns an id for one decision, 128 bits in hex: 80 random ones of this process, and a number.

    No two decisions have the same, and that is all an id is for: who has one can guess the next.
    """
    return _id_format % next(_id_numbers)


def _begin_ids() -> None:
    """Chooses what the ids of this process begin with: one that was forked must not go on as its parent.

    The numbers go on, so that what was numbered before the fork is not numbered again.
    """
    global _id_format
    _id_format = f"{os.urandom(10).hex()}%012x"


_id_numbers: "Final[count[int]]" = count()
_id_format: str
_begin_ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_ids)


class Details(Protocol):
    """Who can tell what a deferred decision has not been asked yet, with the arguments that it kept."""

    def brief(self, name: str, *arguments: Any) -> Any:
        """Returns the field `name`, one of BRIEF, without deciding anything again."""

    def full(self, *arguments: Any) -> "Decision":
        """Returns the decision in full."""


class _Deferred:
    """Where a decision keeps the way to what has not been asked of it yet; apart, as it is no field.

    The third member is its number, of which its id is made.
    """

    __slots__ = ("_details",)
    _details: tuple[Details, tuple[Any, ...], int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(_Deferred):
    """The answer to one request: what was decided, what decided it, and what a service needs next.

    A decision has no truth value, so that `if guard.check(...):` cannot let everyone in: ask `.allowed`.

    | field | meaning |
    | --- | --- |
    | code | a stable word for machines: the outcome, or more precise, as in "signature.invalid" |
    | reason | one line for people |
    | error | the text of the error that `require` raises |
    | request | the facts that were stated for the request, as Datalog |
    | policy, failed_checks | what decided; both are kept whatever the outcome |
    | revoked_id | the id that is revoked (hex) |
    | subject | whom the authority block names: see `capability.inspection.subject` |
    | expires_at | the earliest expiry that any block asks for |
    | key_id, revocation_ids | of the token: the root key's id, and an id for each block (hex) |
    | revocation_revision, revocation_age | which revocation data was asked, and its age in seconds |
    | limits, facts, iterations, steps | what evaluation was allowed to use, and what it used |
    | answers | what the policy derived for the service, for an allow: see `Guard` |

    The fields of BRIEF, and `allowed`, cost next to nothing to read; any other one may take as long as a
    decision by the engine.
    """

    outcome: Outcome
    code: str
    reason: str
    error: str = ""
    request: tuple[str, ...] = ()
    policy: MatchedPolicy | None = None
    failed_checks: tuple[FailedCheck, ...] = ()
    revoked_id: str | None = None
    subject: str | None = None
    expires_at: datetime | None = None
    key_id: int | None = None
    revocation_ids: tuple[str, ...] = ()
    revocation_revision: int | None = None
    revocation_age: float | None = None
    limits: Limits | None = None
    facts: int = 0
    iterations: int = 0
    steps: int = 0
    decided_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    decision_id: str = field(default_factory=new_decision_id)
    answers: tuple[Answer, ...] = ()

    @classmethod
    def deferred(cls, outcome: Outcome, details: Details, arguments: tuple[Any, ...]) -> "Decision":
        """Returns a decision whose outcome is known; `details` tells the rest when it is read.

        `code` is the outcome's word. INVARIANT: neither the outcome nor an answer is asked of a later
        evaluation; what was decided stays decided.
        """
        decision = _new(cls)
        _set_outcome(decision, outcome)
        _set_details(decision, (details, arguments, next(_id_numbers)))
        return decision

    def __getattr__(self, name: str) -> Any:
        """Fills in what was deferred; Python asks this only for what is not there yet."""
        if name not in _DEFERRED:
            raise AttributeError(f"a decision has no {name!r}")
        waiting = self._details
        if waiting is not None and name in BRIEF:
            # two threads may both come here, with the same value
            details, arguments, number = waiting
            value: Any
            if name == "decision_id":
                value = _id_format % number
            elif name == "code":
                value = self.outcome.value
            else:
                value = details.brief(name, *arguments)
            _set(self, name, value)
            return value
        with _filling:
            self._fill()
        return object.__getattribute__(self, name)

    def _fill(self) -> None:
        waiting = self._details
        if waiting is None:
            return
        details, arguments, _ = waiting
        for brief in BRIEF:
            getattr(self, brief)
        known = details.full(*arguments)
        for deferred in _DEFERRED - BRIEF:
            _set(self, deferred, getattr(known, deferred))
        _set(self, "_details", None)

    @property
    def allowed(self) -> bool:
        """True only when an allow policy matched and nothing stood against it."""
        return self.outcome is _ALLOWED

    def __bool__(self) -> NoReturn:
        raise TypeError("a decision is neither true nor false: ask decision.allowed")

    @property
    def exit_code(self) -> int:
        """What `cap` exits with."""
        return EXIT_CODES[self.outcome]

    def require(self) -> None:
        """Raises the AuthorizationError that says why, with this decision on it, unless allowed."""
        if self.outcome is Outcome.ALLOWED:
            return
        kind = _ERRORS.get(self.outcome, AuthorizationError)
        raise kind(self.error or self.reason, code=self.code, decision=self)

    def to_dict(self) -> dict[str, Any]:
        """Returns the decision as JSON values, as `Decision.json_schema()` describes them."""
        return {
            "outcome": self.outcome.value,
            "allowed": self.allowed,
            "code": self.code,
            "reason": self.reason,
            "request": list(self.request),
            "policy": None
            if self.policy is None
            else {"kind": self.policy.kind, "index": self.policy.index, "source": self.policy.source},
            "failed_checks": [
                {"block": check.block, "index": check.index, "source": check.source, "why": check.why}
                for check in self.failed_checks
            ],
            "revoked_id": self.revoked_id,
            "subject": self.subject,
            "expires_at": None if self.expires_at is None else _timestamp(self.expires_at),
            "key_id": self.key_id,
            "revocation_ids": list(self.revocation_ids),
            "revocation_revision": self.revocation_revision,
            "revocation_age": self.revocation_age,
            "limits": None
            if self.limits is None
            else {
                "max_facts": self.limits.max_facts,
                "max_iterations": self.limits.max_iterations,
                "max_steps": self.limits.max_steps,
                "max_time": self.limits.max_time,
            },
            "used": {"facts": self.facts, "iterations": self.iterations, "steps": self.steps},
            "decided_at": _timestamp(self.decided_at),
            "decision_id": self.decision_id,
            "answers": [str(answer) for answer in self.answers],
        }

    def to_json(self) -> str:
        """Returns the decision as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Returns the JSON schema (draft 2020-12) of `to_dict()`; adding a property is compatible."""
        return _schema()


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _schema() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    text = {"type": "string"}
    moment = {"type": "string", "format": "date-time"}
    identifier = {"type": "string", "pattern": "^([0-9a-f]{2})+$"}
    number = {"type": "number", "minimum": 0}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Decision",
        **_object(
            {
                "outcome": {"enum": [outcome.value for outcome in Outcome]},
                "allowed": {"type": "boolean"},
                "code": text,
                "reason": text,
                "request": {"type": "array", "items": text},
                "policy": _nullable(
                    _object({"kind": {"enum": ["allow", "deny"]}, "index": count, "source": text})
                ),
                "failed_checks": {
                    "type": "array",
                    "items": _object(
                        {"block": _nullable(count), "index": count, "source": text, "why": text}
                    ),
                },
                "revoked_id": _nullable(identifier),
                "subject": _nullable(text),
                "expires_at": _nullable(moment),
                "key_id": _nullable(count),
                "revocation_ids": {"type": "array", "items": identifier},
                "revocation_revision": _nullable(count),
                "revocation_age": _nullable(number),
                "limits": _nullable(
                    _object(
                        {
                            "max_facts": count,
                            "max_iterations": count,
                            "max_steps": count,
                            "max_time": _nullable(number),
                        }
                    )
                ),
                "used": _object({"facts": count, "iterations": count, "steps": count}),
                "decided_at": moment,
                "decision_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "answers": {"type": "array", "items": text},
            }
        ),
    }


BRIEF: Final = frozenset(
    {
        "answers",
        "code",
        "decided_at",
        "decision_id",
        "expires_at",
        "key_id",
        "limits",
        "revocation_age",
        "revocation_ids",
        "revocation_revision",
        "subject",
    }
)
"""The fields that a decision can tell at once, however it was made."""
_DEFERRED: Final = frozenset(entry.name for entry in fields(Decision) if entry.name != "outcome")
_ALLOWED: Final = Outcome.ALLOWED
_set: Final = object.__setattr__
_new: Final = object.__new__
_set_outcome: Final = Decision.__dict__["outcome"].__set__
_set_details: Final = _Deferred.__dict__["_details"].__set__
_filling: Final = RLock()
