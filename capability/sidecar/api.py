"""The API listener: AuthZEN evaluations, introspection, revocation, token exchange, and the keys.

It is apart from the check, which takes every path. What is decided here is decided by guards too: about the
tokens that are asked about, and about those who ask.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import perf_counter_ns
from typing import Any, Final

from capability.decision import Decision, Outcome
from capability.errors import StoreError
from capability.http.bearer import MalformedRequest, bearer_token
from capability.http.problems import NO_TOKEN, OF_OUTCOME, Problem, malformed, problem_of
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.sidecar import authzen, exchange, oauth
from capability.sidecar.apiguards import APIGuards
from capability.sidecar.authzen import Semantic
from capability.sidecar.bodies import WrongMediaType, read_fields, read_form, read_json
from capability.sidecar.check import NO_LOG, DecisionLog
from capability.sidecar.messages import Answer, BadRequest, Headers
from capability.sidecar.profiles import Original
from capability.sidecar.settings import APISettings
from capability.sidecar.tally import Answers

WEB_KEYS: Final = "/.well-known/biscuit-web-keys"
MAX_BODY: Final = 256 * 1024
"""Bytes of a request's body."""

KEYS_MAX_AGE: Final = 300
"""Seconds for which others may keep the keys."""

EXPLAIN: Final = b"x-cap-explain"
"""A request header: an evaluation's context then holds the whole decision, as `cap verify --json` has it."""

REVISION: Final = b"x-cap-revision"
"""A header of the answer to a revocation: verifiers at this revision or a later one refuse the token."""

_REQUEST_ID: Final = b"x-request-id"
_MAX_REQUEST_ID: Final = 128
"""Bytes of an id that is sent back."""

_NO_STORE: Final = (b"cache-control", b"no-store")
_NO_CACHE: Final = (b"pragma", b"no-cache")
"""What RFC 6749 wants beside `no-store` of an answer that holds a token."""
_RETRY: Final = OF_OUTCOME[Outcome.STORE_UNAVAILABLE]
_NOT_JSON: Final = Problem(
    name="media-type", status=415, title="Another media type is needed", detail="the body must be {}"
)
_NO_REVOCATIONS: Final = Problem(
    name="not-configured",
    status=501,
    title="This is not configured",
    detail="there is no store to revoke in: signed revocations are only read",
)
_NO_URL: Final = Problem(
    name="not-configured",
    status=404,
    title="This is not configured",
    detail="url in [serve.api] says where clients reach this listener",
)
_UNKNOWN_PATH: Final = Problem(
    name="not-found", status=404, title="There is nothing here", detail="the path names no endpoint"
)
_WRONG_METHOD: Final = Problem(
    name="method", status=405, title="The method does not fit", detail="the endpoint takes another method"
)


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    headers: Headers
    body: bytes
    peer: str | None
    explains: bool


class _Refused(Exception):
    """Ends a request; `problem` is the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class API:
    """Answers for one listener. `keys` are the root keys; `revoker` is None where there is no store."""

    blocking = True
    max_body = MAX_BODY

    def __init__(
        self,
        guards: APIGuards,
        keys: Callable[[], KeySet | PublicKey],
        settings: APISettings,
        tally: Answers,
        *,
        revoker: oauth.Revoker | None = None,
        log: DecisionLog | None = None,
        realm: str = "cap",
    ) -> None:
        self._guards = guards
        self._keys = keys
        self._settings = settings
        self._tally = tally
        self._revoker = revoker
        self._log = log
        self._realm = realm
        self._forms = authzen.Forms(guards.evaluation)
        self._callers = guards.callers.form(("application", str), ("operation", str), ("own_token", bool))

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns the answer, with the id of the request if it has one."""
        try:
            answer = self._answer(method, target, headers, body, peer)
        except _Refused as refused:
            answer = self._problem(refused.problem)
        except (BadRequest, MalformedRequest) as error:
            answer = self._problem(malformed(str(error)))
        except WrongMediaType as error:
            answer = self._problem(replace(_NOT_JSON, detail=_NOT_JSON.detail.format(error)))
        found = [value for name, value in headers if name.lower() == _REQUEST_ID]
        if len(found) == 1 and len(found[0]) <= _MAX_REQUEST_ID and _is_plain(found[0]):
            return Answer(answer.status, (*answer.headers, (_REQUEST_ID, found[0])), answer.body)
        return answer

    def _answer(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        path = target.partition("?")[0]
        wanted, endpoint = _PATHS.get(path, ("", None))
        if endpoint is None:
            raise _Refused(_UNKNOWN_PATH)
        if method != wanted and not (method == "HEAD" and wanted == "GET"):
            refusal = self._problem(_WRONG_METHOD)
            allow = (b"allow", b"GET, HEAD" if wanted == "GET" else wanted.encode())
            return Answer(refusal.status, (*refusal.headers, allow), refusal.body)
        explains = self._settings.explain and any(name.lower() == EXPLAIN for name, _ in headers)
        return endpoint(self, _Request(path, headers, body, peer, explains))

    # AuthZEN.

    def _evaluation(self, request: _Request) -> Answer:
        if self._settings.authenticate:
            self._caller(request, oauth.EVALUATE_OPERATION)
        return self._single(read_json(request.headers, request.body), request)

    def _evaluations(self, request: _Request) -> Answer:
        if self._settings.authenticate:
            self._caller(request, oauth.EVALUATE_OPERATION)
        body = read_json(request.headers, request.body)
        listed = authzen.questions_of(body)
        if listed is None:
            return self._single(body, request)
        items, semantic = listed
        answers: list[Mapping[str, Any]] = []
        for item in items:
            try:
                found, problem = self._evaluate(item, request)
            except BadRequest as error:
                found, problem = {"decision": False}, malformed(str(error))
            if problem is not None:
                error_of = {"status": problem.status, "message": problem.detail}
                found = {**found, "context": {**found.get("context", {}), "error": error_of}}
            answers.append(found)
            allowed = found["decision"]
            if (semantic is Semantic.DENY_ON_FIRST_DENY and not allowed) or (
                semantic is Semantic.PERMIT_ON_FIRST_PERMIT and allowed
            ):
                break
        return _json({"evaluations": answers})

    def _single(self, body: Mapping[str, Any], request: _Request) -> Answer:
        found, problem = self._evaluate(body, request)
        if problem is not None:
            raise _Refused(problem)
        return _json(found)

    def _evaluate(
        self, item: Mapping[str, Any], request: _Request
    ) -> tuple[Mapping[str, Any], Problem | None]:
        """Returns an answer, and the problem where none could be found; raises BadRequest."""
        started = perf_counter_ns()
        question = authzen.question_of(item, self._guards.known)
        if question.token is None:
            self._count("no_token", started)
            detail = "subject.properties.token holds no token"
            return {
                "decision": False,
                "context": {"outcome": "no_token", "reason_user": {"en": detail}},
            }, None
        form, values = self._forms.of(question)
        decision = form.check(question.token, *values)
        if not self._logged(decision, request, "api", started):
            return {"decision": False, "context": {"decision_id": decision.decision_id}}, NO_LOG
        context: dict[str, Any] = {"outcome": decision.outcome.value, "decision_id": decision.decision_id}
        if request.explains:
            context["decision"] = decision.to_dict()
        if decision.allowed:
            context |= {"subject": decision.subject, "revocation_ids": list(decision.revocation_ids)}
            return {"decision": True, "context": context}, None
        problem = problem_of(decision)
        context["reason_user"] = {"en": problem.detail}
        undecided = problem.status == HTTPStatus.SERVICE_UNAVAILABLE
        return {"decision": False, "context": context}, problem if undecided else None

    def _configuration(self, request: _Request) -> Answer:
        if self._settings.url is None:
            raise _Refused(_NO_URL)
        return _json(authzen.configuration(self._settings.url))

    # OAuth.

    def _introspect(self, request: _Request) -> Answer:
        text = oauth.presented(read_form(request.headers, request.body))
        self._caller(request, oauth.INTROSPECT_OPERATION, text)
        try:
            return _json(oauth.introspect(self._guards.tokens, self._keys(), text))
        except oauth.Undecided as error:
            raise _Refused(problem_of(error.decision)) from error

    def _revoke(self, request: _Request) -> Answer:
        text = oauth.presented(read_form(request.headers, request.body))
        caller = self._caller(request, oauth.REVOKE_OPERATION, text)
        if self._revoker is None:
            raise _Refused(_NO_REVOCATIONS)
        token = oauth.verified(self._guards.tokens, self._keys(), text)
        if token is None:
            return Answer(HTTPStatus.OK, (_NO_STORE,))
        try:
            revision = self._revoker.revoke(token, caller.subject)
        except StoreError as error:
            raise _Refused(_RETRY) from error
        return Answer(HTTPStatus.OK, (_NO_STORE, (REVISION, b"%d" % revision)))

    def _exchange(self, request: _Request) -> Answer:
        started = perf_counter_ns()
        try:
            wanted = exchange.wanted_of(read_fields(request.headers, request.body))
            return _json(exchange.exchanged(self._guards.tokens, self._keys(), wanted), _NO_CACHE)
        except oauth.Undecided as error:
            self._logged(error.decision, request, "api exchange", started)
            raise _Refused(problem_of(error.decision)) from error
        except (exchange.Refused, oauth.Inactive, BadRequest) as error:
            if isinstance(error, oauth.Inactive) and not error.decision.allowed:
                self._logged(error.decision, request, "api exchange", started)
            return _json(exchange.refusal_of(error), _NO_CACHE, status=HTTPStatus.BAD_REQUEST)

    def _caller(self, request: _Request, operation: str, presented: str | None = None) -> Decision:
        """Returns the decision that lets the caller do this; raises _Refused and MalformedRequest."""
        started = perf_counter_ns()
        token = bearer_token(
            value.decode("latin-1") for name, value in request.headers if name.lower() == b"authorization"
        )
        if token is None:
            self._count("no_token", started)
            raise _Refused(NO_TOKEN)
        decision = self._callers.check(token, oauth.APPLICATION, operation, token == presented)
        if not self._logged(decision, request, "api callers", started):
            raise _Refused(NO_LOG)
        if not decision.allowed:
            raise _Refused(problem_of(decision, (operation,)))
        return decision

    def _web_keys(self, request: _Request) -> Answer:
        keys = self._keys()
        if isinstance(keys, PublicKey):
            keys = KeySet.from_keys({None: keys})
        body = keys.to_json().encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode()
        fields = ((b"cache-control", b"public, max-age=%d" % KEYS_MAX_AGE), (b"etag", tag))
        if any(name.lower() == b"if-none-match" and tag in value for name, value in request.headers):
            return Answer(HTTPStatus.NOT_MODIFIED, fields)
        return Answer(HTTPStatus.OK, ((b"content-type", b"application/json"), *fields), body)

    # What all have in common.

    def _logged(self, decision: Decision, request: _Request, route: str, started: int) -> bool:
        """Counts a decision and has it logged; returns False when no yes may leave without."""
        original = Original("POST", request.path, "", request.peer)
        kept = self._log is None or self._log.offer(decision, original, route)
        self._count(decision.outcome.value if kept else "log_full", started)
        return kept

    def _count(self, reason: str, started: int) -> None:
        self._tally.answered(reason, perf_counter_ns() - started)

    def _problem(self, problem: Problem) -> Answer:
        return Answer(problem.status, problem.fields(self._realm), problem.body())


def _json(value: Mapping[str, Any], *more: tuple[bytes, bytes], status: HTTPStatus = HTTPStatus.OK) -> Answer:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return Answer(status, ((b"content-type", b"application/json"), _NO_STORE, *more), body)


def _is_plain(value: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in value)


_PATHS: Final[Mapping[str, tuple[str, Callable[[API, _Request], Answer]]]] = {
    authzen.EVALUATION: ("POST", API._evaluation),
    authzen.EVALUATIONS: ("POST", API._evaluations),
    authzen.CONFIGURATION: ("GET", API._configuration),
    oauth.INTROSPECT: ("POST", API._introspect),
    oauth.REVOKE: ("POST", API._revoke),
    exchange.TOKEN: ("POST", API._exchange),
    WEB_KEYS: ("GET", API._web_keys),
}

ENDPOINTS: Final = frozenset(_PATHS)
"""The paths that are answered here."""
