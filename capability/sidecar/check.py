"""The check: a proxy's question in, the guard's decision out, as a status and headers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Final, NamedTuple, Protocol

from capability.cache import Cache
from capability.decision import Decision, Outcome, new_decision_id
from capability.errors import StoreError
from capability.http.bearer import MalformedRequest, bearer_token, request_token
from capability.http.problems import NO_TOKEN, OF_OUTCOME, Problem, malformed, problem_of
from capability.revocation import RevisedSource
from capability.sidecar.facts import state
from capability.sidecar.identity import header_value, joined
from capability.sidecar.messages import Answer, BadRequest, Headers, lines_of
from capability.sidecar.paths import Paths, Targets, readings
from capability.sidecar.profiles import API_KEY, AUTHORIZATION, MIN_REVISION, Original, Profile, Reader
from capability.sidecar.routes import (
    DECISION_ID,
    HEADER,
    IDENTITY,
    REASON,
    REVOCATION_ID,
    SUBJECT,
    TENANT,
    Route,
    Routes,
    bare_host,
)
from capability.sidecar.tally import Answers

NO_ROUTE: Final = Problem(
    name="no-policy",
    status=403,
    title="Nothing is allowed here",
    detail="no policy is about this host and path",
    error="insufficient_scope",
)

NO_LOG: Final = Problem(
    name="log-full",
    status=503,
    title="Decisions cannot be logged",
    detail="the decision could not be written down",
    retry_after=5,
)

MAX_HOLDERS: Final = 65_536
MAX_HOLDERS_SIZE: Final = 64 * 1024 * 1024
"""Tokens of which each check remembers what they say of their holder, and the bytes that may take."""
_HOLDER_SIZE: Final = 700
"""What an entry takes beside the text that it stands under, in bytes, about."""

_ALLOWED: Final = Outcome.ALLOWED
_NEEDING: Final = frozenset(outcome for outcome, problem in OF_OUTCOME.items() if problem.status == 403)
"""Outcomes whose problem says what was needed."""
_SCHEMES: Final = (b"Bearer ", b"bearer ")
_MAX_REVISION_DIGITS: Final = 19


class DecisionLog(Protocol):
    """Keeps decisions for those who ask later."""

    @property
    def takes_allowed(self) -> bool:
        """Whether a yes is offered as well; if not, only a no is."""
        ...

    def offer(self, decision: Decision, original: Original, route: str) -> bool:
        """Takes a decision; returns False when it is not kept and therefore no yes may leave."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """What a listener's check depends on beside the routes.

    `chosen` are request headers (lower case) that are stated as `http_header(name, value)`. `source` is where
    the guards' revocations come from, asked when a client names a revision that it wants to be known.
    `odd` is told of signs that the profile is not that of the proxy.
    """

    profile: Profile
    paths: Paths = Paths.STRICT
    chosen: tuple[bytes, ...] = ()
    realm: str = "cap"
    api_key: bool = False
    source: RevisedSource | None = None
    blocking: bool = False
    odd: Callable[[str], None] = lambda warning: None


class Holder(NamedTuple):
    """What an Authorization header holds: the token's text, and the headers that depend on it alone.

    A token never says anything else, so this is kept by the header's bytes, whatever was decided meanwhile.
    `lines` end where the decision's id comes.
    """

    text: str
    lines: bytes


class Check:
    """Answers for one listener. Every yes holds every identity header, empty where nothing is known."""

    max_body = 0

    def __init__(
        self, routes: Routes, settings: CheckSettings, tally: Answers, log: DecisionLog | None = None
    ) -> None:
        self.blocking = settings.blocking
        self._routes = routes
        self._settings = settings
        self._count = tally.answered if settings.blocking else tally.answered_in_loop
        self._log = log
        self._log_of_yes = log if log is not None and log.takes_allowed else None
        self._targets = Targets(settings.paths)
        answered = frozenset((*IDENTITY, *routes.headers))
        chosen = frozenset(settings.chosen)
        self._reader = Reader(settings.profile, chosen, answered, api_key=settings.api_key, odd=settings.odd)
        self._holders: Cache[bytes, Holder] = Cache(MAX_HOLDERS, MAX_HOLDERS_SIZE)
        # every yes has the names of all routes' policies, whichever decided
        self._silence = b"\r\n" + lines_of((name, b"") for name in (TENANT, *routes.headers))
        self._statuses = settings.profile.statuses
        self._compares = settings.paths is Paths.RAW and routes.by_path
        self._by_place = routes.by_host or self._compares

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns 200 with identity headers for a yes, and a problem for a no."""
        started = perf_counter_ns()
        reason, answer = self._answer(method, target, headers, peer)
        self._count(reason, perf_counter_ns() - started)
        return answer

    def _answer(self, method: str, target: str, headers: Headers, peer: str | None) -> tuple[str, Answer]:
        try:
            found = self._reader.read(headers)
            credential = found.get(AUTHORIZATION)
            holder = None if credential is None or API_KEY in found else self._holders.get(credential)
            token = self._token(found) if holder is None else holder.text
            original = self._reader.original(method, target, found, peer)
            wanted = self._targets.read(original.target)
            host = bare_host(original.host)
            if token is None:
                return "no_token", self._no(NO_TOKEN)
            route = self._routes.find(host, wanted.path)
            if self._by_place:
                self._check_place(host, wanted.path, route)
            if route is None:
                return "no_route", self._no(NO_ROUTE)
            if MIN_REVISION in found and not self._knows(found[MIN_REVISION]):
                return Outcome.STORE_UNAVAILABLE.value, self._no(OF_OUTCOME[Outcome.STORE_UNAVAILABLE])
            stated = state(original, wanted, host, found, self._settings.chosen)
        except (BadRequest, MalformedRequest) as error:
            return "malformed", self._no(malformed(str(error)))
        brief = holder is not None and self._log_of_yes is None and not route.tells
        if brief and holder is not None and route.form.allows_at_once(token, stated):
            lines = holder.lines + new_decision_id().encode() + self._silence
            return "allowed", Answer(200, (), b"", lines)
        decision = route.form.check(token, *stated)
        allowed = decision.outcome is _ALLOWED
        log = self._log_of_yes if allowed else self._log
        if log is not None and not log.offer(decision, original, route.name):
            return "log_full", self._no(NO_LOG, decision)
        if allowed:
            if holder is None:
                holder = self._remembered(credential, token, decision)
            told = self._told(decision) if route.tells else self._silence
            return "allowed", Answer(200, lines=holder.lines + decision.decision_id.encode() + told)
        if decision.outcome is Outcome.INVALID_TOKEN and AUTHORIZATION in found:
            try:
                bearer_token([found[AUTHORIZATION].decode("latin-1")])
            except MalformedRequest as error:
                return "malformed", self._no(malformed(str(error)), decision)
        required = route.operations(stated) if decision.outcome in _NEEDING else ()
        return decision.outcome.value, self._no(problem_of(decision, required), decision)

    def _token(self, found: Mapping[bytes, bytes]) -> str | None:
        """Returns the token's text, or what stands where it should: the guard then refuses it as no token.

        Bearer and one word is what nearly all send, and tokens are long: that is not looked at again here.
        """
        value = found.get(AUTHORIZATION)
        if value is not None and value[:7] in _SCHEMES and b"," not in value and b" " not in value[7:]:
            if API_KEY in found:
                raise MalformedRequest("there is more than one credential")
            return value[7:].decode("latin-1")
        sent = [
            (name.decode("ascii"), found[name].decode("latin-1"))
            for name in (AUTHORIZATION, API_KEY)
            if name in found
        ]
        return request_token(sent, api_key=self._settings.api_key)

    def _check_place(self, host: str, path: str, route: Route | None) -> None:
        """Raises BadRequest for a request that could be for another route than this one."""
        routes = self._routes
        if not host and routes.by_host:
            raise BadRequest("request.host", "the request names no host, and policies are chosen by it")
        if self._compares and any(routes.find(host, each) is not route for each in readings(path)):
            raise BadRequest("request.path", "the path of the request can be read in several ways")

    def _knows(self, wanted: bytes) -> bool:
        """True when the revocations are at the revision that the client wants known; raises BadRequest."""
        if not wanted.isdigit() or len(wanted) > _MAX_REVISION_DIGITS:
            raise BadRequest("request.min_revision", "X-Cap-Min-Revision is a number")
        source = self._settings.source
        try:
            return source is not None and source.revision() >= int(wanted)
        except StoreError:
            return False

    def _remembered(self, credential: bytes | None, token: str, decision: Decision) -> Holder:
        """Returns who holds a token that was allowed, and keeps that."""
        holder = Holder(token, b"%b%b: " % (lines_of(_own(decision)), DECISION_ID))
        if credential is not None:
            self._holders.put(credential, holder, _HOLDER_SIZE + len(credential) + len(holder.lines))
        return holder

    def _told(self, decision: Decision) -> bytes:
        """Returns the headers that a policy derived, behind the end of the line before."""
        said: dict[bytes, list[str]] = {}
        tenants = []
        for answer in decision.answers:
            values = [value for _, value in answer.terms]
            if answer.name == HEADER:
                said.setdefault(values[0].lower().encode(), []).append(str(values[1]))
            else:
                tenants.append(str(values[0]))
        tenant = header_value(tenants[0]) if len(tenants) == 1 else b""
        return b"\r\n" + lines_of(
            ((TENANT, tenant), *((name, joined(said.get(name, ()))) for name in self._routes.headers))
        )

    def _no(self, problem: Problem, decision: Decision | None = None) -> Answer:
        headers = [*problem.fields(self._settings.realm), (REASON, problem.name.encode())]
        if decision is not None:
            if problem.decision_id is None:
                problem = replace(problem, decision_id=decision.decision_id)
            headers.append((DECISION_ID, decision.decision_id.encode()))
        return Answer(self._statuses.get(problem.status, problem.status), headers, problem.body())


def _own(decision: Decision) -> tuple[tuple[bytes, bytes], ...]:
    """Returns the identity headers that depend on the token alone."""
    subject, ids = decision.subject, decision.revocation_ids
    return (
        (SUBJECT, b"" if subject is None else header_value(subject)),
        (REVOCATION_ID, ids[0].encode() if ids else b""),
    )
