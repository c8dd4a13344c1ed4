"""The admin listener: is it alive, is it ready and if not why, what has it done.

It is apart from the check, since whoever may ask the one need not see the other.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from capability.sidecar.live import Live
from capability.sidecar.messages import Answer, Headers
from capability.sidecar.revocations import Revocations
from capability.sidecar.tally import Board

_JSON: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_TEXT: Final = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))


@dataclass(frozen=True, slots=True)
class Health:
    """Why a worker is not ready, one sentence each; ready when there is none."""

    reasons: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """True when requests are decided by everything that the settings ask for."""
        return not self.reasons


def health(live: Live, revocations: Revocations, *, draining: bool) -> Health:
    """Returns what is missing: keys, policies, revocations, or ones that are not too old."""
    reasons = []
    if draining:
        reasons.append("it is shutting down")
    if live.state is None:
        reasons.append(f"keys or policies are missing: {live.problem}")
    keys_age = live.stale_keys()
    if keys_age is not None:
        reasons.append(f"the keys are {keys_age:.0f} s old: {live.problem}")
    reasons += revocations.reasons(live.settings)
    return Health(tuple(reasons))


class Admin:
    """Answers /livez, /readyz, /metrics and /status."""

    blocking = False
    max_body = 0

    def __init__(
        self, live: Live, revocations: Revocations, board: Board, *, draining: Callable[[], bool]
    ) -> None:
        self._live = live
        self._revocations = revocations
        self._board = board
        self._draining = draining
        self._started = time.time()

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns the answer; anything but GET and HEAD is not allowed."""
        if method not in ("GET", "HEAD"):
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, ((b"allow", b"GET, HEAD"),))
        answer = _PATHS.get(target.partition("?")[0])
        return Answer(HTTPStatus.NOT_FOUND) if answer is None else answer(self)

    def _livez(self) -> Answer:
        return Answer(HTTPStatus.OK, _TEXT, b"ok\n")

    def _readyz(self) -> Answer:
        found = self._health()
        if found.ready:
            return Answer(HTTPStatus.OK, _TEXT, b"ok\n")
        text = "".join(f"{reason}\n" for reason in found.reasons)
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, text.encode())

    def _health(self) -> Health:
        """Returns how this worker is, and when nothing is wrong with it whether another one is not ready."""
        found = health(self._live, self._revocations, draining=self._draining())
        if found.ready and self._board.workers > 1 and not self._board.gauges()["ready"]:
            return Health(("another worker is not ready",))
        return found

    def _status(self) -> Answer:
        live, state = self._live, self._live.state
        found = self._health()
        status: dict[str, Any] = {
            "ready": found.ready,
            "reasons": list(found.reasons),
            "started": self._started,
            "problem": live.problem,
            "needs_restart": list(live.needs_restart),
            "keys_read_at": live.keys_read_at,
            "policy": None
            if state is None
            else {
                "revision": state.revision,
                "since": state.since,
                "routes": [
                    {"name": route.name, "host": route.host, "path": route.path} for route in state.routes
                ],
            },
            "keys": None if state is None else repr(state.keys),
            **self._revocations.status(),
            "decisions": self._board.decisions(),
        }
        return Answer(HTTPStatus.OK, _JSON, json.dumps(status, indent=2).encode() + b"\n")

    def _metrics(self) -> Answer:
        from capability.sidecar.metrics import CONTENT_TYPE, exposition

        text = exposition(self._board)
        headers = ((b"content-type", CONTENT_TYPE.encode()), (b"cache-control", b"no-store"))
        return Answer(HTTPStatus.OK, headers, text)


_PATHS: Final[Mapping[str, Callable[[Admin], Answer]]] = {
    "/livez": Admin._livez,
    "/readyz": Admin._readyz,
    "/metrics": Admin._metrics,
    "/status": Admin._status,
}
