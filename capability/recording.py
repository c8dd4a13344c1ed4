"""Decisions and last uses, written to a store without making a decision wait for it.

A RecordedGuard offers each decision to a Recorder, whose thread brings them to the store, many at once. What
is kept for the store is bounded; what does not fit is counted, or turns an allow into a denial.
"""

import atexit
import contextvars
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, Self, TypeAlias

from capability.decision import Decision, Outcome
from capability.errors import StoreError
from capability.guard import Guard, RequestForm
from capability.request import RequestShape, declared
from capability.settings import Settings
from capability.store import open_store
from capability.store.audit import STORE_WRITER, Event
from capability.store.records import check_text

Which: TypeAlias = Literal["none", "denied", "all"]
WhenFull: TypeAlias = Literal["drop", "deny"]
Details: TypeAlias = Mapping[str, str | int | None]

FULL: Final = "audit.full"
"""The code of the denial of what was allowed and could not be written down."""

MAX_TEXT: Final = 1000
"""Characters that are kept of what a client may choose: a reason, a subject, a request's name, a detail."""

_BATCH: Final = 1000
_NOTHING: Final[Details] = MappingProxyType({})

_request_id: "contextvars.ContextVar[str | None]" = contextvars.ContextVar("request_id", default=None)


@contextmanager
def request_id(identifier: str) -> Iterator[None]:
    """Names the request that decisions within the context are about, for the trail.

    It is no argument of `check`, where every name is a fact; it follows a thread and an asyncio task.
    """
    token = _request_id.set(identifier)
    try:
        yield
    finally:
        _request_id.reset(token)


class Trail(Protocol):
    """What a recorder needs of a store."""

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        """Appends events to the chain of `writer`; raises StoreError."""
        ...

    def touch(self, uses: Mapping[bytes, datetime]) -> None:
        """Notes when tokens, by the ids of their roots, were last used; raises StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class RecorderStats:
    """What became of what was offered: `written`, `dropped`, or still `waiting`. `error` is the store's last.

    `denied` counts the allows that became denials. `uses_dropped` counts last uses that were not kept.
    """

    written: int
    dropped: int
    waiting: int
    denied: int
    uses_dropped: int
    error: str | None


class Recorder:
    """Brings decisions and last-used times to `store` in a thread of its own.

    `decisions` says which are written: "none", "denied" (all that are no allow), or "all". At most `capacity`
    of them wait for the store; what comes then is dropped and counted, or with `when_full="deny"` is not
    allowed either. `writer` names the chain of the trail (by default, this machine's). They are written every
    `interval` seconds, or when half of that many wait, and while the store is down they wait. What a crash of
    the process loses is what waits; what a store took and could not confirm is written twice, with the same
    id of the decision. Make it after a fork.
    """

    def __init__(
        self,
        store: Trail,
        *,
        decisions: Which = "denied",
        capacity: int = 10_000,
        when_full: WhenFull = "drop",
        writer: str | None = None,
        interval: float = 1.0,
    ) -> None:
        if decisions not in ("none", "denied", "all") or when_full not in ("drop", "deny"):
            raise ValueError("decisions are none, denied or all, and when_full is drop or deny")
        if capacity < 1 or interval <= 0:
            raise ValueError("the capacity and the interval of a recorder are more than 0")
        self._store = store
        self._which = decisions
        self._capacity = capacity
        self._deny = when_full == "deny"
        self._writer = f"guard:{socket.gethostname()}" if writer is None else writer
        check_text("the writer of a recorder", self._writer)
        if "\0" in self._writer:
            raise ValueError("the writer of a recorder holds a zero byte")
        self._interval = interval
        self._enough = max(capacity // 2, 1)
        self._wake = threading.Condition()
        self._writing = threading.Lock()
        self._waiting: deque[tuple[Decision, Details, str | None, float]] = deque()
        self._uses: dict[bytes, float] = {}
        self._written = self._dropped = self._denied = self._uses_dropped = 0
        self._error: str | None = None
        self._open = True
        self._thread = threading.Thread(target=self._run, name="capability recorder", daemon=True)
        self._thread.start()

    def offer(self, decision: Decision, root: bytes | None, details: Details = _NOTHING) -> Decision:
        """Takes a decision to be written and returns it, or a denial where it had to be and could not.

        `root` is the id of the token's root, None for a token that is none. `details` are written beside the
        decision. Nothing of that is read but its outcome; the rest is, in the thread that writes.
        """
        allowed = decision.outcome is Outcome.ALLOWED
        now = time.time()
        with self._wake:
            if self._which == "all" or (not allowed and self._which == "denied"):
                if self._open and len(self._waiting) < self._capacity:
                    self._waiting.append((decision, details, _request_id.get(), now))
                    if len(self._waiting) == self._enough:
                        self._wake.notify_all()
                else:
                    self._dropped += 1
                    if allowed and self._deny:
                        self._denied += 1
                        return _full()
            if allowed and root is not None:
                if root in self._uses or (self._open and len(self._uses) < self._capacity):
                    self._uses[root] = now
                else:
                    self._uses_dropped += 1
        return decision

    def stats(self) -> RecorderStats:
        """Returns what became of what was offered so far."""
        with self._wake:
            return RecorderStats(
                self._written,
                self._dropped,
                len(self._waiting),
                self._denied,
                self._uses_dropped,
                self._error,
            )

    def flush(self) -> bool:
        """Writes what waits, in this thread; returns whether all of it was."""
        while self._write():
            with self._wake:
                if not self._waiting and not self._uses:
                    return True
        return False

    def close(self) -> None:
        """Writes what waits, if the store takes it; what it does not take is counted as dropped."""
        with self._wake:
            self._open = False
            self._wake.notify_all()
        self._thread.join()
        self.flush()
        with self._wake:
            self._dropped += len(self._waiting)
            self._uses_dropped += len(self._uses)
            self._waiting.clear()
            self._uses.clear()

    def _run(self) -> None:
        pausing = False
        while True:
            with self._wake:
                self._wake.wait_for(self._is_closed if pausing else self._is_due, self._interval)
                if not self._open:
                    return
            # A store that did not take what waits is not asked again at once.
            pausing = not self.flush()

    def _is_closed(self) -> bool:
        return not self._open

    def _is_due(self) -> bool:
        return not self._open or len(self._waiting) >= self._enough

    def _write(self) -> bool:
        """Writes a batch; returns false when the store does not take it, and then it waits on."""
        with self._writing:
            with self._wake:
                batch = [self._waiting[index] for index in range(min(len(self._waiting), _BATCH))]
                uses = dict(self._uses)
            try:
                if batch:
                    self._store.note([_event(*each) for each in batch], writer=self._writer)
                    with self._wake:
                        for _ in batch:
                            self._waiting.popleft()
                        self._written += len(batch)
                if uses:
                    self._store.touch(
                        {root: datetime.fromtimestamp(used, UTC) for root, used in uses.items()}
                    )
            except StoreError as error:
                self._error = str(error)
                return False
            with self._wake:
                for root, used in uses.items():
                    if self._uses.get(root) == used:
                        del self._uses[root]
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class RecordedGuard(Guard):
    """A Guard that offers its decisions to `recorder`. A Guard without one pays nothing for it.

    Its `stats` count what was decided: an allow that could not be recorded is one, and the recorder counts
    that it was denied.
    """

    __slots__ = ("_recorder",)

    def __init__(self, *arguments: Any, recorder: Recorder, **options: Any) -> None:
        """Takes what Guard takes; raises what it raises."""
        super().__init__(*arguments, **options)
        self._recorder = recorder

    @property
    def recorder(self) -> Recorder:
        """What its decisions are offered to."""
        return self._recorder

    def check(self, token: str | bytes, **request: Any) -> Decision:
        """Returns the decision of Guard.check, or a denial (`audit.full`) when it cannot be recorded."""
        return self._offered(token, super().check(token, **request))

    def form(
        self, *facts: tuple[str | type, ...], several: Iterable[tuple[str | type, ...]] = ()
    ) -> "RecordedForm":
        """Returns a form as Guard.form does; its decisions are recorded too."""
        return RecordedForm(self, declared(facts, several))

    def _offered(self, token: str | bytes, decision: Decision) -> Decision:
        if decision.outcome is not Outcome.ALLOWED:
            return self._recorder.offer(decision, None)
        known = self._setup.known.get(token)
        if known is not None:
            return self._recorder.offer(decision, known.ids[0])
        ids = decision.revocation_ids
        return self._recorder.offer(decision, bytes.fromhex(ids[0]) if ids else None)


class RecordedForm(RequestForm):
    """A RequestForm of a RecordedGuard."""

    __slots__ = ("_recorded",)

    def __init__(self, guard: RecordedGuard, shape: RequestShape) -> None:
        super().__init__(guard, shape)
        self._recorded = guard

    def check(self, token: str | bytes, *values: Any) -> Decision:
        """Returns the decision of RequestForm.check, or a denial when it cannot be recorded."""
        return self._recorded._offered(token, super().check(token, *values))

    def allows_at_once(self, token: str | bytes, values: tuple[Any, ...]) -> bool:
        """Returns False: what is recorded is a decision, so `check` must be asked."""
        return False


def recorded_guard(settings: Settings) -> RecordedGuard:
    """Returns a guard by settings with [audit]; what waits at the end of the process is written then."""
    audit = settings.audit
    assert audit is not None
    recorder = Recorder(
        open_store(settings.store),
        decisions=audit.decisions,
        capacity=audit.capacity,
        when_full=audit.when_full,
    )
    atexit.register(recorder.close)
    return RecordedGuard(
        settings.keys,
        settings.policy,
        settings.revocations,
        prefixes=settings.prefixes,
        recorder=recorder,
    )


def _full() -> Decision:
    reason = "the decision has to be written down, and cannot be now"
    return Decision(outcome=Outcome.STORE_UNAVAILABLE, code=FULL, reason=reason)


def _event(decision: Decision, details: Details, request: str | None, at: float) -> Event:
    return Event(
        "decision",
        revocation_ids=decision.revocation_ids,
        outcome=decision.outcome.value,
        reason=_kept(decision.reason),
        request=_kept(request),
        at=datetime.fromtimestamp(at, UTC),
        details={
            **{name: _kept(value) if isinstance(value, str) else value for name, value in details.items()},
            "decision": decision.decision_id,
            "subject": _kept(decision.subject),
            "code": decision.code,
        },
    )


def _kept(text: str | None) -> str | None:
    """Returns what is kept of a text, so that no request writes more than a few lines' worth."""
    return text if text is None or len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
