"""Traces: what a span says of a request, what it never says, and that no decision waits for who takes it."""

import contextlib
import http.server
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from capability import Biscuit, Guard
from capability.revocation import RevisedSource
from capability.sidecar.api import API, ENDPOINTS
from capability.sidecar.apiguards import build_api
from capability.sidecar.messages import Answer, Handler, Headers
from capability.sidecar.service import Service
from capability.sidecar.settings import APISettings, RouteSettings, Settings, SettingsError
from capability.sidecar.table import read_settings
from capability.sidecar.tally import Board
from capability.sidecar.tracing import Notes, Traced, Tracing, parent_of, tracing_of_environment
from capability.store.memory import MemoryStore
from tests.servers import free_port
from tests.sidecar.conftest import PATIENT
from tests.sidecar.processes import ROOT as PROJECT
from tests.sidecar.processes import sidecar, wait_until
from tests.sidecar.test_api import ADMIN, FORM, JSON, LISTEN, Down, question
from tests.sidecar.test_extauthz import client, request
from tests.sidecar.test_server import KEY
from tests.sidecar.tokens import ROOT, make_check, mint

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
PIECE = 20
"""Characters of a token that nobody says by chance."""


class Traces:
    """Spans of handlers, kept in memory."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self.board = Board(1)
        self.memory = InMemorySpanExporter()
        self.tally = self.board.row(0)
        self.tracing = Tracing(self.tally, [exporter or self.memory])

    def check(
        self, *routes: RouteSettings, source: RevisedSource | None = None, blocking: bool = False
    ) -> Traced:
        """Returns a check with spans around it."""
        notes = Notes(self.tally, None)
        check = make_check(*routes, source=source, tally=notes, log=notes, blocking=blocking)
        return self.tracing.traced(check, notes, "feed")

    def api(self, settings: APISettings) -> Traced:
        """Returns an API with spans around it."""
        everything = Settings(listen=LISTEN, routes=(RouteSettings(name="default"),), api=settings)
        guards = build_api(everything, ROOT.public_key, None)
        assert guards is not None
        notes = Notes(self.tally, None)
        api = API(guards, lambda: ROOT.public_key, settings, notes, log=notes)
        return self.tracing.traced(api, notes, "feed", ENDPOINTS)

    def end(self) -> Sequence[ReadableSpan]:
        """Returns all spans."""
        self.tracing.close(60)
        return self.memory.get_finished_spans()


def send(
    handler: Handler, token: str | None = None, method: str = "GET", target: str = "/orders/7", **headers: str
) -> Answer:
    """Returns the answer to a request."""
    sent = [("Host", "api.example.com"), *headers.items()]
    if token is not None:
        sent.append(("Authorization", f"Bearer {token}"))
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in sent]
    return handler.handle(method, target, encoded, b"", "192.0.2.1")


def decision_id(answer: Answer) -> str:
    return dict(answer.headers)[b"x-cap-decision-id"].decode()


def test_a_span_says_what_was_decided_and_whose_part_it_is() -> None:
    traces = Traces()
    check = traces.check(source=MemoryStore())
    answers = [
        send(check, mint(operations=["read"]), traceparent=PARENT, tracestate="a=1, b@c=2") for _ in range(3)
    ]
    spans = traces.end()
    assert len(spans) == 3
    for span, answer in zip(spans, answers, strict=True):
        assert span.name == "GET"
        assert span.kind is SpanKind.SERVER
        assert span.status.status_code is StatusCode.UNSET
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}" == TRACE == f"{span.context.trace_id:032x}"
        assert f"{span.parent.span_id:016x}" == SPAN
        assert dict(span.context.trace_state) == {"a": "1", "b@c": "2"}
        assert span.attributes == {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "url.path": "/orders/7",
            "url.scheme": "http",
            "cap.decision.id": decision_id(answer),
            "cap.decision.result": "allow",
            "cap.decision.reason": "allowed",
            "cap.policy.revision": "feed",
            "cap.revocation.revision": 0,
            "cap.token.blocks": 2,
        }
        assert span.resource.attributes["service.name"] == "cap"
    assert traces.board.decisions()["allowed"] == 3


def test_a_no_is_told_as_the_metrics_tell_it() -> None:
    traces, store = Traces(), MemoryStore()
    revoked = mint()
    store.revoke(Biscuit.from_base64(revoked, ROOT.public_key).canonical_revocation_ids)
    check = traces.check(RouteSettings(name="default", path="/orders"), source=store)
    send(check)
    send(check, mint(operations=["read"]), "POST")
    send(check, revoked)
    send(check, "nonsense")
    send(check, mint(), target="/elsewhere")
    send(check, mint(), target="/a/../b")
    send(traces.check(source=Down()), mint())
    told = [
        (
            found["cap.decision.reason"],
            found["http.response.status_code"],
            found.get("cap.token.blocks"),
            "cap.decision.id" in found,
        )
        for span in traces.end()
        if (found := span.attributes) is not None and found["cap.decision.result"] == "deny"
    ]
    assert told == [
        ("no_token", 401, None, False),
        ("denied", 403, 2, True),
        ("revoked", 401, 1, True),
        ("invalid_token", 401, None, True),
        ("no_route", 403, None, False),
        ("malformed", 400, None, False),
        ("store_unavailable", 503, 1, True),
    ]
    last = traces.memory.get_finished_spans()[-1]
    assert last.status.status_code is StatusCode.ERROR
    assert last.attributes is not None
    assert last.attributes["error.type"] == "503"


def test_no_span_holds_a_token_a_query_or_a_subject() -> None:
    traces, token = Traces(), mint('user("subject-of-this-token")')
    secrets = ["planted-in-the-query", "planted-in-a-header", "subject-of-this-token", "planted-user"]
    check, api = traces.check(), traces.api(APISettings(url="https://a.example"))
    for target in ("/orders?q=planted-in-the-query", f"/a/{token}/b", f"http://planted-user@x/{token}", "*"):
        for method in ("GET", "POST", "planted-user"):
            send(check, token, method, target, cookie="planted-in-a-header", tracestate=token)
    send(check, f"{token} {token}", tracestate=token)
    send(check, traceparent=token)
    form = urlencode({"token": token, "subject_token": token}).encode()
    caller = [(b"Authorization", f"Bearer {mint(ADMIN)}".encode())]
    for path in ("/introspect", "/token", "/nowhere", f"/{token}"):
        api.handle("POST", f"{path}?q=planted-in-the-query", [*caller, *encoded(FORM)], form, None)
    output = json.dumps([json.loads(span.to_json()) for span in traces.end()])
    assert output.count('"trace_id"') == 18
    assert '"/a/.../b"' in output
    pieces = {token[at : at + PIECE] for at in range(len(token) - PIECE + 1)}
    assert not [each for each in (*pieces, *secrets) if each in output]


def encoded(headers: Mapping[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


HEX = st.text("0123456789abcdefABCDEF-g", max_size=40)
PARENTS = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=70),
    st.builds(
        "-".join,
        st.tuples(
            st.sampled_from(["00", "01", "cc", "ff", "0", "0A"]),
            st.sampled_from([TRACE, "0" * 32, TRACE.upper(), TRACE[1:]]),
            st.sampled_from([SPAN, "0" * 16, SPAN + "0"]),
            st.sampled_from(["00", "01", "03", "ff", "1", "01-", "01-more", " 01", "01 \t"]),
        ),
    ),
)
MEMBER = st.one_of(
    st.sampled_from(
        ["a=1", "b@c=2", "a= b", "1@a=x", "1=a", "=1", "a", "A=1", "a=b=c", "", " a=1 ", "a=\x7f", "a=1,a=2"]
    ),
    st.integers(0, 300).map(lambda size: f"a{'b' * size}=1"),
)
STATES = st.lists(MEMBER, max_size=40).map(",".join)


@settings(deadline=None)
@given(parents=st.lists(PARENTS, max_size=2), states=st.lists(STATES, max_size=2))
def test_a_parent_is_read_as_the_sdk_reads_it_and_two_are_none(parents: list[str], states: list[str]) -> None:
    headers = [(b"TraceParent", each.encode("latin-1")) for each in parents]
    headers += [(b"tracestate", each.encode("latin-1")) for each in states]
    mine = get_current_span(parent_of(headers)).get_span_context()
    if len(parents) != 1:
        assert not mine.is_valid
        return
    carrier = {"traceparent": parents, "tracestate": states} if states else {"traceparent": parents}
    with silence("opentelemetry.trace"):
        theirs = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    assert (mine.trace_id, mine.span_id, mine.trace_flags) == (
        theirs.trace_id,
        theirs.span_id,
        theirs.trace_flags,
    )
    assert dict(mine.trace_state) in ({}, dict(theirs.trace_state))


@contextlib.contextmanager
def silence(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.disabled, logger.propagate
    logger.propagate = False
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before[1]


@pytest.mark.parametrize(
    "parent", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff{PARENT[2:]}", f"{PARENT}-x"]
)
def test_a_parent_that_cannot_be_read_begins_a_new_trace(
    parent: str, caplog: pytest.LogCaptureFixture
) -> None:
    traces = Traces()
    assert send(traces.check(), mint(), traceparent=parent, tracestate="no=\x7f state").status == 200
    (span,) = traces.end()
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE
    assert not caplog.records


@pytest.mark.parametrize("state", ["1a=secret", "a=1,0*=secret", "a=1,2@b=x,3-4=secret"])
def test_nothing_of_a_state_that_the_sdk_would_not_take_is_logged(
    state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A member that begins with a digit is one by the second edition of W3C Trace Context only."""
    context = parent_of([(b"traceparent", PARENT.encode()), (b"tracestate", state.encode())])
    found = get_current_span(context).get_span_context()
    assert (found.is_valid, dict(found.trace_state)) == (True, {})
    assert not caplog.records


def test_a_trace_that_is_not_sampled_is_decided_and_not_exported() -> None:
    traces = Traces()
    check, token = traces.check(), mint()
    assert [send(check, token, traceparent=f"{PARENT[:-2]}00").status for _ in range(3)] == [200] * 3
    assert send(check, token, traceparent=PARENT).status == 200
    (span,) = traces.end()
    assert span.attributes is not None
    assert span.attributes["cap.decision.reason"] == "allowed"
    assert not span.events
    assert traces.board.decisions()["allowed"] == 4


def test_threads_that_answer_at_once_tell_their_own_decision() -> None:
    traces = Traces()
    check, token = traces.check(source=MemoryStore(), blocking=True), mint(operations=["read"])

    def one(number: int) -> tuple[int, str]:
        method = "GET" if number % 2 else "POST"
        answer = send(check, token, method, traceparent=f"00-{TRACE}-{number + 1:016x}-01")
        return number + 1, decision_id(answer)

    with ThreadPoolExecutor(8) as pool:
        expected = dict(pool.map(one, range(200)))
    found = {
        span.parent.span_id: span.attributes["cap.decision.id"]
        for span in traces.end()
        if span.parent is not None and span.attributes is not None
    }
    assert found == expected


def test_requests_of_the_api_are_named_by_their_endpoint_and_tell_each_decision() -> None:
    traces = Traces()
    api = traces.api(APISettings(authenticate=True))
    asked = question(mint(operations=["read"]), evaluations=[{}, {"action": {"name": "write"}}])
    caller = [(b"Authorization", f"Bearer {mint(ADMIN)}".encode())]
    api.handle("POST", "/access/v1/evaluations", [*caller, *encoded(JSON)], json.dumps(asked).encode(), None)
    api.handle("POST", "/access/v1/evaluation", encoded(JSON), json.dumps(asked).encode(), None)
    api.handle("GET", "/.well-known/biscuit-web-keys", [], b"", None)
    api.handle("GET", "/nowhere", [], b"", None)
    several, refused, keys, nowhere = traces.end()
    assert several.name == "POST /access/v1/evaluations"
    assert [event.name for event in several.events] == ["cap.decision"] * 3
    told = [event.attributes for event in several.events]
    assert [each["cap.decision.reason"] for each in told if each] == ["allowed", "allowed", "denied"]
    assert several.attributes is not None
    assert several.attributes["cap.decision.id"] == (told[-1] or {})["cap.decision.id"]
    assert refused.attributes is not None
    assert refused.attributes["cap.decision.reason"] == "no_token"
    assert keys.name == "GET /.well-known/biscuit-web-keys"
    assert keys.attributes is not None
    assert "cap.decision.result" not in keys.attributes
    assert (nowhere.name, (nowhere.attributes or {})["http.response.status_code"]) == ("GET", 404)


def test_what_the_docs_tell_services_to_do_says_the_same() -> None:
    text = (PROJECT / "docs/integrations.md").read_text("utf-8")
    code = next(
        each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "cap.decision" in each
    )
    names: dict[str, Any] = {}
    exec(code, names)
    traces, guard = Traces(), Guard(ROOT.public_key, "allow if user($u)", MemoryStore(), limits=PATIENT)
    decision = guard.check(mint())
    span = TracerProvider(shutdown_on_exit=False).get_tracer("service").start_span("GET /orders")
    names["tell"](span, decision)
    send(traces.check(source=MemoryStore()), mint())
    (own,) = traces.end()
    assert isinstance(span, ReadableSpan)
    mine, its = dict(span.attributes or {}), dict(own.attributes or {})
    assert mine.pop("cap.decision.id") == decision.decision_id
    assert mine == {name: its[name] for name in mine}


class Stuck(SpanExporter):
    """Takes one batch, and waits."""

    def __init__(self) -> None:
        self.began, self.goes_on = threading.Event(), threading.Event()
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        self.began.set()
        self.goes_on.wait()
        return SpanExportResult.SUCCESS


def test_an_exporter_that_stands_still_keeps_nobody_waiting_and_what_it_loses_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    stuck = Stuck()
    traces = Traces(stuck)
    check, token = traces.check(), mint()
    try:
        send(check, token)
        assert stuck.began.wait(60)
        assert [send(check, token).status for _ in range(10)] == [200] * 10
        assert traces.board.events()["spans_dropped"] == 6
    finally:
        stuck.goes_on.set()
    traces.tracing.close(60)
    assert stuck.spans == 5


def test_closing_waits_for_an_exporter_no_longer_than_it_may() -> None:
    stuck = Stuck()
    traces = Traces(stuck)
    try:
        send(traces.check(), mint())
        traces.tracing.close(0.05)  # returns, although the exporter never does
    finally:
        stuck.goes_on.set()


class Broken(SpanExporter):
    def __init__(self, export: Callable[[], SpanExportResult]) -> None:
        self._export = export

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._export()


def test_what_an_exporter_refuses_or_breaks_at_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    def raising() -> SpanExportResult:
        raise RuntimeError("down")

    exporters: list[Callable[[], SpanExportResult]] = [lambda: SpanExportResult.FAILURE, raising]
    for export in exporters:
        traces = Traces(Broken(export))
        check = traces.check()
        assert [send(check, mint()).status for _ in range(3)] == [200] * 3
        traces.tracing.close(60)
        assert traces.board.events()["spans_dropped"] == 3


def test_the_variables_say_what_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Board(1).row(0)
    assert tracing_of_environment(tally, {"OTEL_TRACES_EXPORTER": "none"}) is None
    assert tracing_of_environment(tally, {"OTEL_SDK_DISABLED": "TRUE"}) is None
    for made in ({}, {"OTEL_TRACES_EXPORTER": "otlp_proto_http, otlp"}):
        tracing = tracing_of_environment(tally, made)
        assert tracing is not None
        tracing.close()
    for bad, said in (
        ({"OTEL_TRACES_EXPORTER": "nobody_s"}, "pip install opentelemetry-exporter-nobody-s"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ):
        with pytest.raises(SettingsError, match=said):
            tracing_of_environment(tally, bad)
    for name, value in (
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(SettingsError, match="telemetry: "):
                tracing_of_environment(tally, {})


def test_an_exporter_that_cannot_be_loaded_is_told_as_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unloadable:
        def load(self) -> None:
            raise ImportError("cannot import name")

    monkeypatch.setattr("capability.sidecar.tracing.entry_points", lambda **which: [Unloadable()])
    with pytest.raises(
        SettingsError, match=r"telemetry: the exporter otlp_proto_http .*: cannot import name"
    ):
        tracing_of_environment(Board(1).row(0), {})


def test_it_is_off_unless_switched_on_and_then_nothing_stands_in_the_way(tmp_path: Path) -> None:
    settings = read_settings({}, tmp_path)
    assert settings.telemetry is False
    assert read_settings({"telemetry": True}, tmp_path).telemetry is True
    code = f"""
import sys
from pathlib import Path
from capability.sidecar.check import Check
from capability.sidecar.service import Service
from capability.sidecar.table import read_settings
from capability.sidecar.tally import Board
from dataclasses import replace
settings = replace(read_settings({{}}, Path(".")), keys={KEY!r})
service = Service(settings, Board(1), 0)
service.start()
handler = service.handler(settings.listen[0])
service.close()
assert type(handler) is Check, handler
loaded = [name for name in sys.modules if name.startswith("opentelemetry")]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP; the spans and bodies that came are the server's."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Receiver)
        self.server.requests.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Collector)
        self.requests: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[dict[str, str | int]]:
        """Returns the attributes of all spans that came, with their parents' ids and their service's name."""
        found = []
        for _, body in list(self.requests):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        values = {
                            each.key: each.value.string_value or each.value.int_value
                            for each in span.attributes
                        }
                        told = {"trace": span.trace_id.hex(), "parent": span.parent_span_id.hex()}
                        found.append({**values, **told, "service": named["service.name"]})
        return found


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """Runs an OTLP receiver on a free loopback port until the end of the block."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_service_traces_what_it_decides_and_what_it_cannot_decide_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiver() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")  # nothing is exported but at the end
        for keys in (KEY, "https://127.0.0.1:1/keys"):
            settings = replace(read_settings({"telemetry": True, "decisions": "none"}, Path()), keys=keys)
            service = Service(settings, Board(1), 0)
            service.start()
            handler = service.handler(settings.listen[0])
            assert isinstance(handler, Traced)
            send(handler, mint())
            service.close()
        assert wait_until(lambda: len(collector.spans()) == 2)
        told = {
            span["http.response.status_code"]: "cap.policy.revision" in span for span in collector.spans()
        }
        assert told == {200: True, 503: False}


def configured(*more: str) -> str:
    """Returns a cap.toml of a sidecar with check, API and admin listeners, and traces."""
    listeners = "".join(
        f'[[serve.listen]]\naddress = "tcp:0"\nserves = "{serves}"\n'
        for serves in ("check", "api", "admin", "grpc")
    )
    lines = "\n".join(("telemetry = true", *more))
    return f'public_key = "{KEY}"\nstore = "none"\n[serve]\n{lines}\n{listeners}'


def test_spans_of_two_workers_reach_a_collector(tmp_path: Path) -> None:
    token, narrow = mint('user("subject-of-this-token")'), mint(operations=["read"])
    with receiver() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "orders-check",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with sidecar(tmp_path, config=configured("workers = 2"), environment=environment) as server:
            for number in range(40):
                status, _, _ = server.ask(
                    token=token,
                    target="/orders?q=planted-in-the-query",
                    headers={"traceparent": f"00-{TRACE}-{number + 1:016x}-01"},
                )
                assert status == 200
            assert server.ask(token=narrow, method="POST", headers={"traceparent": "nonsense"})[0] == 403
            with client(server, 3) as asking:
                asked = request(token, headers={"traceparent": f"00-{TRACE}-{41:016x}-01"})
                assert asking.status(asked) == (0, 200)
            status, _, body = server.ask(
                1,
                "/token",
                method="POST",
                headers=FORM,
                body=urlencode(
                    {
                        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
                        "subject_token": token,
                        "scope": "read",
                    }
                ).encode(),
            )
            assert status == 200
            assert wait_until(lambda: len(collector.spans()) >= 43)
            assert b"cap_spans_dropped_total 0.0" in server.ask(2, "/metrics")[2]
            assert server.stop() == 0
        spans = collector.spans()
        assert len(spans) == 43
        assert {path for path, _ in collector.requests} == {"/v1/traces"}
        assert {span["service"] for span in spans} == {"orders-check"}
        children = {span["parent"] for span in spans if span["trace"] == TRACE}
        assert children == {f"{number + 1:016x}" for number in range(41)}
        denied = [span for span in spans if span.get("cap.decision.result") == "deny"]
        assert [(span["cap.decision.reason"], span["parent"]) for span in denied] == [("denied", "")]
        (narrowed,) = [span for span in spans if span.get("http.route") == "/token"]
        assert narrowed["http.response.status_code"] == 200
        sent = b"".join(body for _, body in collector.requests)
        issued = json.loads(body)["access_token"]
        assert b"planted-in-the-query" not in sent
        assert b"subject-of-this-token" not in sent
        for each in (token, narrow, issued):
            text = each.encode()
            assert not [at for at in range(len(text) - PIECE) if text[at : at + PIECE] in sent]


def test_a_collector_that_is_down_costs_nobody_a_decision(tmp_path: Path) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    token = mint()
    with sidecar(tmp_path, config=configured(), environment=environment) as server:
        assert [server.ask(token=token)[0] for _ in range(20)] == [200] * 20

        def all_lost() -> bool:
            return b"cap_spans_dropped_total 20.0" in server.ask(2, "/metrics")[2]

        assert wait_until(all_lost)
        assert server.ask(token=token)[0] == 200
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 15
    assert token[:PIECE] not in server.errors.read_text()


def test_without_the_sdk_it_is_said_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "cap.toml").write_text(configured())
    for name in ("sdk", "api"):
        hidden = "opentelemetry.sdk" if name == "sdk" else "opentelemetry"
        code = (
            "import importlib.util, runpy, sys\n"
            "find = importlib.util.find_spec\n"
            f"importlib.util.find_spec = lambda *asked: None if asked[0] == {hidden!r} else find(*asked)\n"
            "sys.argv = ['cap', 'serve', *sys.argv[1:]]\n"
            "runpy.run_module('capability.cli', run_name='__main__')\n"
        )
        for more in ((), ("--check",)):
            done = subprocess.run(
                [sys.executable, "-c", code, *more],
                cwd=tmp_path,
                env={"PYTHONPATH": str(PROJECT), "HOME": str(tmp_path), "PATH": ""},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 2
            assert "pip install 'capability-tokens[otel]'" in done.stderr
