"""Traces, as OpenTelemetry has them: a span for each request, which says what was decided about it.

What is exported, where to and how often, is said by the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER, OTEL_BSP_MAX_QUEUE_SIZE ...). No decision waits for an exporter: ended spans wait in a
queue that holds so many and no more, and what does not fit, or is not taken, is counted and gone.

A span's parent is the client's, by W3C Trace Context, if it can be read: whatever else stands there begins a
trace of its own, and nothing of it is logged. A span holds no token, no query and no subject.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from capability.decision import Decision
from capability.sidecar.check import DecisionLog
from capability.sidecar.messages import Answer, Handler, Headers
from capability.sidecar.paths import shown
from capability.sidecar.profiles import Original
from capability.sidecar.settings import SettingsError
from capability.sidecar.tally import Answers, Tally

CLOSING_TIME: Final = 2.0
"""Seconds that an exporter has to take what is waiting, when the process ends."""

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER: Final = re.compile(
    rb"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    rb"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
"""A member of a `tracestate`, as the SDK takes it: of any other it would log what the client sent."""
_MAX_STATE: Final = 512
_MAX_MEMBERS: Final = 32
"""Bytes of a `tracestate` that is handed on, and its members (W3C Trace Context, 3.3)."""

_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
_PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""The names of OTLP's exporters, by OTEL_EXPORTER_OTLP_PROTOCOL."""


class Noted(NamedTuple):
    """Why a request was answered as it was, in a word of the metrics, and the decision if there was one."""

    reason: str
    decision: Decision | None


class _OfThread(threading.local):
    noted: list[Noted] | None = None
    decision: Decision | None = None


class Notes:
    """Stands between a handler and what it counts and logs by, and keeps what passes for the span.

    Each thread answers one request at a time, and has notes of its own.
    """

    takes_allowed = True

    def __init__(self, tally: Answers, log: DecisionLog | None) -> None:
        self._tally = tally
        self._log = log
        self._mine = _OfThread()

    def begin(self) -> None:
        """Begins to keep what this thread hands on."""
        self._mine.noted, self._mine.decision = [], None

    def end(self) -> Sequence[Noted]:
        """Returns what was kept since `begin`."""
        noted, self._mine.noted, self._mine.decision = self._mine.noted, None, None
        return noted or ()

    def offer(self, decision: Decision, original: Original, route: str) -> bool:
        """Hands a decision on to the log, if it takes such; returns what the log says."""
        if self._mine.noted is not None:
            self._mine.decision = decision
        log = self._log
        if log is None or (decision.allowed and not log.takes_allowed):
            return True
        return log.offer(decision, original, route)

    def answered(self, reason: str, nanoseconds: int) -> None:
        """Hands an answer on to be counted; it is about the decision that was offered last, if one was."""
        self._note(reason)
        self._tally.answered(reason, nanoseconds)

    def answered_in_loop(self, reason: str, nanoseconds: int) -> None:
        """Does as `answered`, for the thread of the event loop."""
        self._note(reason)
        self._tally.answered_in_loop(reason, nanoseconds)

    def _note(self, reason: str) -> None:
        mine = self._mine
        if mine.noted is not None:
            mine.noted.append(Noted(reason, mine.decision))
            mine.decision = None


class Traced:
    """Answers as `handler` does, with a span around it. `endpoints` are paths that name the span."""

    def __init__(
        self, handler: Handler, notes: Notes, tracer: Tracer, revision: str | None, endpoints: frozenset[str]
    ) -> None:
        self.blocking = handler.blocking
        self.max_body = handler.max_body
        self._handler = handler
        self._notes = notes
        self._tracer = tracer
        self._of_all = {} if revision is None else {"cap.policy.revision": revision}
        self._endpoints = endpoints

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns the handler's answer."""
        span = self._begin(method, target, headers)
        if not span.is_recording():
            return self._handler.handle(method, target, headers, body, peer)
        status = 500
        self._notes.begin()
        try:
            answer = self._handler.handle(method, target, headers, body, peer)
            status = answer.status
            return answer
        finally:
            self._end(span, status, self._notes.end())

    def _begin(self, method: str, target: str, headers: Headers) -> Span:
        path = target.partition("?")[0]
        known = method in _METHODS
        name = method if known else "HTTP"
        asked = {"http.request.method": method if known else "_OTHER", "url.scheme": "http"}
        if path.startswith("/"):
            asked["url.path"] = shown(target)
        if path in self._endpoints:
            asked["http.route"] = path
            name = f"{name} {path}"
        return self._tracer.start_span(
            name, context=parent_of(headers), kind=SpanKind.SERVER, attributes={**asked, **self._of_all}
        )

    def _end(self, span: Span, status: int, noted: Sequence[Noted]) -> None:
        """Ends a span. It tells the last decision; where there were several, each is an event of it."""
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)
        for each in noted if len(noted) > 1 else ():
            span.add_event("cap.decision", _told(each))
        if noted:
            span.set_attributes(_told(noted[-1]))
        span.end()


class Tracing:
    """Makes spans and hands them to `exporters`, until `close`; made in the process that answers.

    Raises SettingsError for variables that mean nothing.
    """

    def __init__(self, tally: Tally, exporters: Sequence[SpanExporter]) -> None:
        try:
            resource = Resource.create()
            if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
                resource = resource.merge(Resource({SERVICE_NAME: "cap"}))
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            for each in exporters:
                self._provider.add_span_processor(_Bounded(each, _capacity(), tally))
        except ValueError as error:
            raise SettingsError(f"telemetry: {error}") from error
        self._tracer = self._provider.get_tracer("capability.sidecar")

    def traced(
        self, handler: Handler, notes: Notes, revision: str | None, endpoints: Iterable[str] = ()
    ) -> Traced:
        """Returns a handler that answers as `handler` does; that has to count and log by `notes`."""
        return Traced(handler, notes, self._tracer, revision, frozenset(endpoints))

    def close(self, seconds: float = CLOSING_TIME) -> None:
        """Exports what is waiting, in so many seconds at most, and stops."""
        closing = threading.Thread(target=self._provider.shutdown, name="cap-tracing-end", daemon=True)
        closing.start()
        closing.join(seconds)


def tracing_of_environment(tally: Tally, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Returns what the standard variables describe, None where they want none; raises SettingsError.

    The SDK reads its own variables in the process's environment.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    names = [name.strip() for name in named.split(",")]
    if names == ["none"]:
        return None
    return Tracing(tally, [_exporter(name, environment) for name in names])


def parent_of(headers: Headers) -> Context:
    """Returns the context of who asks, by its headers `traceparent` and `tracestate`; empty if there is none.

    What stands there twice, or is not as W3C Trace Context has it, is none.
    """
    parents = [value for name, value in headers if name.lower() == b"traceparent"]
    found = _TRACEPARENT.fullmatch(parents[0].strip(b" \t")) if len(parents) == 1 else None
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return Context()
    context = SpanContext(
        trace_id=int(found[2], 16),
        span_id=int(found[3], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found[4], 16)),
        trace_state=_state([value for name, value in headers if name.lower() == b"tracestate"]),
    )
    return set_span_in_context(NonRecordingSpan(context), Context()) if context.is_valid else Context()


def _state(values: Sequence[bytes]) -> TraceState:
    """Returns a `tracestate`, empty where it cannot be read: then it is not handed on."""
    text = b",".join(values)
    if len(text) > _MAX_STATE:
        return TraceState()
    members = [member.strip(b" \t") for member in text.split(b",")]
    found = [_MEMBER.fullmatch(member) for member in members if member]
    pairs = [(each[1].decode(), each[2].decode()) for each in found if each is not None]
    if len(pairs) != len(found) or len(dict(pairs)) != len(pairs) or len(pairs) > _MAX_MEMBERS:
        return TraceState()
    return TraceState(pairs)


def _told(noted: Noted) -> dict[str, str | int]:
    """Returns what is told of a decision; nothing that the engine would have to work out."""
    told: dict[str, str | int] = {
        "cap.decision.result": "allow" if noted.reason == "allowed" else "deny",
        "cap.decision.reason": noted.reason,
    }
    decision = noted.decision
    if decision is not None:
        told["cap.decision.id"] = decision.decision_id
        if decision.revocation_revision is not None:
            told["cap.revocation.revision"] = decision.revocation_revision
        if decision.revocation_ids:
            told["cap.token.blocks"] = len(decision.revocation_ids)
    return told


class _Bounded(SpanProcessor):
    """Hands spans to an exporter in batches, from a thread of its own, as long as there is room for them."""

    def __init__(self, exporter: SpanExporter, capacity: int, tally: Tally) -> None:
        self._capacity = capacity
        self._tally = tally
        self._counting = threading.Lock()
        self._waiting = 0
        self._batches = BatchSpanProcessor(_Counted(exporter, self._taken, tally), max_queue_size=capacity)

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a span that is to be exported, or counts that it does not."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with self._counting:
            fits = self._waiting < self._capacity
            self._waiting += fits
        if fits:
            self._batches.on_end(span)
        else:
            self._tally.happened("spans_dropped")

    def shutdown(self) -> None:
        """Exports what is waiting, and stops."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Exports what is waiting."""
        return self._batches.force_flush(timeout_millis)

    def _taken(self, count: int) -> None:
        with self._counting:
            self._waiting -= count


class _Counted(SpanExporter):
    """Exports as another exporter does, and counts what that one loses."""

    def __init__(self, exporter: SpanExporter, taken: Callable[[int], None], tally: Tally) -> None:
        self._exporter = exporter
        self._taken = taken
        self._tally = tally

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Returns what the exporter says."""
        self._taken(len(spans))
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._tally.happened("spans_dropped", len(spans))
        return result

    def shutdown(self) -> None:
        """Ends what the exporter is doing."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Returns what the exporter says."""
        return self._exporter.force_flush(timeout_millis)


def _capacity() -> int:
    said = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "").strip()
    if not said:
        return 2048  # the specification's default
    if not said.isdigit() or not int(said):
        raise ValueError("OTEL_BSP_MAX_QUEUE_SIZE is a number of spans")
    return int(said)


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    """Returns an exporter by its name in OTEL_TRACES_EXPORTER; raises SettingsError."""
    if name == "otlp":
        said = [
            environment.get(f"OTEL_EXPORTER_OTLP_{which}PROTOCOL", "").strip() for which in ("TRACES_", "")
        ]
        protocol = said[0] or said[1] or "http/protobuf"
        if protocol not in _PROTOCOLS:
            raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL is one of {', '.join(_PROTOCOLS)}")
        name = _PROTOCOLS[protocol]
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        try:
            exporter: SpanExporter = found.load()()
        except (ImportError, ValueError, OSError) as error:
            raise SettingsError(f"telemetry: the exporter {name} cannot be made: {error}") from error
        return exporter
    package = f"opentelemetry-exporter-{name[:40].replace('_', '-')}"
    raise SettingsError(f"telemetry: the exporter {name[:40]!r} is missing: pip install {package}")
