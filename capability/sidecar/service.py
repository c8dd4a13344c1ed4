"""What decides in one process, whichever server asks it: keys, policies, the feed of revocations, the log."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from capability.http.problems import Problem
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.sidecar.admin import Admin, health
from capability.sidecar.api import API, ENDPOINTS
from capability.sidecar.check import Check, CheckSettings, DecisionLog
from capability.sidecar.kept import Folder
from capability.sidecar.keysource import MAX_BYTES, KeptKeys, KeySource, KeysUnavailable
from capability.sidecar.live import NO_KEYS, Live
from capability.sidecar.logs import LineLog
from capability.sidecar.messages import Answer, Handler, Headers
from capability.sidecar.oauth import Revoker
from capability.sidecar.packages import TRACES, missing
from capability.sidecar.profiles import PROFILES
from capability.sidecar.revocations import Revocations
from capability.sidecar.settings import Listener, Logged, Serves, Settings, SettingsError
from capability.sidecar.storelog import StoreLog
from capability.sidecar.tally import Answers, Board
from capability.store import open_store

if TYPE_CHECKING:
    from capability.sidecar.tracing import Tracing

_NOT_READY: Final = Problem(
    name="not-ready",
    status=503,
    title="The check is not ready",
    detail="keys or policies were not read yet",
    retry_after=1,
)


class Refusal:
    """Answers every request with one problem."""

    blocking = False
    max_body = 0

    def __init__(self, problem: Problem, realm: str = "cap") -> None:
        self._problem = problem
        self._realm = realm

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns the problem."""
        problem = self._problem
        return Answer(problem.status, problem.fields(self._realm), problem.body())


NOT_READY: Final = Refusal(_NOT_READY)
"""Answers while there is nothing to decide by."""


FIRST_ANSWER: Final = 2.0
"""Seconds that a start waits for a store that does not answer; then it is served without, by 503."""


class Service:
    """Makes handlers, and keeps what they decide by fresh between `start` and `close`.

    `number` is that of the worker, whose row of the board is counted in.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        number: int,
        *,
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._settings = settings
        self._board = board
        self._number = number
        self._tally = board.row(number)
        seen = max(board.said("signed_revision"), default=0)
        folder, kept = None, None
        if settings.state is not None:
            folder = Folder(settings.state, writes=number == 0, warn=warn)
            if settings.keys is not None and KeySource(settings.keys).is_remote:
                kept = KeptKeys(folder.slot("keys", settings.keys, MAX_BYTES))
        self._revocations = Revocations(settings, self._keys, min_revision=seen, folder=folder, warn=warn)
        self.live = Live(settings, self._tally, self._revocations, kept=kept, warn=warn)
        self._log = self._decision_log()
        self._revoker = self._store_to_revoke_in()
        self._tracing: Tracing | None = None
        self._counted: dict[str, int] = {}
        self._warn = warn
        self._warned: set[str] = set()
        self._begun = contextlib.ExitStack()
        self.draining = False
        """True when no more requests are to be sent here."""

    def start(self) -> None:
        """Reads keys and policies, and begins to follow the store and to write the log.

        It waits for the store's first answer, FIRST_ANSWER seconds at most. Neither a store nor keys that
        cannot be read are an error: until they are, nothing is allowed. Raises SettingsError for
        what can never work, such as a log that cannot be opened; then nothing goes on.
        """
        with contextlib.ExitStack() as begun:
            begun.callback(self._revocations.close)
            if self._settings.telemetry:
                self._tracing = self._traces()
                if self._tracing is not None:
                    begun.callback(self._tracing.close)
            if self._revoker is not None:
                begun.callback(self._revoker.close)
            if self._log is not None:
                try:
                    self._log.start()
                except OSError as error:
                    reason = (error.strerror or type(error).__name__).lower()
                    raise SettingsError(f"serve.log: cannot open {self._settings.log!r}: {reason}") from error
                begun.callback(self._log.close)
            try:
                self.live.load()
            except KeysUnavailable as error:
                self.live.without_keys(str(error))
            self._revocations.start()
            self._revocations.hear(FIRST_ANSWER)
            self._begun = begun.pop_all()

    def close(self) -> None:
        """Stops following, and writes what is waiting for the log."""
        self._begun.close()

    def reopen_log(self) -> None:
        """Has the log's file opened anew, after it was rotated."""
        if self._log is not None:
            self._log.reopen()

    def handler(self, listener: Listener) -> Handler:
        """Returns what answers on a listener, by the state that holds now."""
        if listener.serves is Serves.ADMIN:
            return Admin(self.live, self._revocations, self._board, draining=lambda: self.draining)
        if self._tracing is None:
            return self._answering(listener, self._tally, self._log)
        from capability.sidecar.tracing import Notes

        notes, state = Notes(self._tally, self._log), self.live.state
        return self._tracing.traced(
            self._answering(listener, notes, notes),
            notes,
            None if state is None else state.revision,
            ENDPOINTS if listener.serves is Serves.API else (),
        )

    def _answering(self, listener: Listener, tally: Answers, log: DecisionLog | None) -> Handler:
        """Returns what answers as check or as API, and counts and logs by `tally` and `log`."""
        live = self.live
        if live.state is None:
            return NOT_READY
        settings = live.state.settings
        if listener.serves is Serves.API:
            assert live.state.api is not None
            return API(
                live.state.api,
                self._keys,
                settings.api,
                tally,
                revoker=self._revoker,
                log=log,
                realm=settings.realm,
            )
        check = CheckSettings(
            # over gRPC Envoy says everything in fields of their own
            profile=PROFILES["plain" if listener.serves is Serves.GRPC else listener.behind],
            paths=listener.paths,
            chosen=tuple(each.encode("ascii") for each in settings.headers),
            realm=settings.realm,
            api_key=settings.api_key,
            source=self._revocations.revised(settings),
            blocking=self._revocations.blocking,
            odd=self._warn_once if listener.serves is Serves.CHECK else lambda warning: None,
        )
        return Check(live.state.routes, check, tally, log)

    def _warn_once(self, warning: str) -> None:
        """Warns of what any request could cause again."""
        if warning not in self._warned:
            self._warned.add(warning)
            self._warn(warning)

    def say(self, *, refused: int = 0, late: int = 0) -> None:
        """Says to the board how this worker is; `refused` and `late` are all its connections that were."""
        tally, known = self._tally, self._revocations.known()
        now = health(self.live, self._revocations, draining=self.draining)
        tally.says("ready", int(now.ready))
        found = {
            "connections_refused": refused,
            "connections_late": late,
        }
        if isinstance(self._log, StoreLog):
            found["log_dropped"] = self._log.dropped
        for source, count in self._revocations.failures().items():
            found[f"refresh_failures_{source}"] = count
        if known is not None:
            tally.says("revocation_entries", known.entries)
            tally.says("revocation_revision", known.revision or 0)
            if known.age is not None:
                tally.says("revocation_success_ms", round((time.time() - known.age) * 1000))
        signed = self._revocations.signed
        if signed is not None and signed.revision() is not None:
            tally.says("signed_revision", signed.revision() or 0)
        if self.live.state is not None:
            tally.says("policies", int(self.live.state.revision, 16))
            stats = [guard.stats().tokens for guard in self.live.state.guards]
            found["cache_hits"] = sum(each.hits for each in stats)
            found["cache_misses"] = sum(each.misses for each in stats)
        for event, count in found.items():
            # a new state's guards begin to count from nothing
            tally.happened(event, max(count - self._counted.get(event, 0), 0))
            self._counted[event] = count

    async def refresh(self) -> None:
        """Fetches remote keys again and again, often as long as there are none."""
        while True:
            settings = self.live.settings
            missing = self.live.state is None or self.live.by_copy
            await asyncio.sleep(1.0 if missing else settings.keys_refresh)
            if settings.keys is not None and (missing or KeySource(settings.keys).is_remote):
                await asyncio.to_thread(self.live.refresh_keys)

    def _store_to_revoke_in(self) -> Revoker | None:
        url = self._settings.store
        if url is None:
            return None
        return Revoker(lambda: open_store(url), self._revocations.pull)

    def _traces(self) -> "Tracing | None":
        package = missing(TRACES)
        if package is not None:
            raise SettingsError(f"{package.lack}: {package.hint}")
        from capability.sidecar.tracing import tracing_of_environment

        return tracing_of_environment(self._tally)

    def _decision_log(self) -> LineLog | StoreLog | None:
        settings = self._settings
        if settings.log == "store":
            url = settings.store or ""
            return StoreLog(
                lambda: open_store(url),
                self._number,
                logged=settings.decisions,
                capacity=settings.log_capacity,
                when_full=settings.when_full,
            )
        if settings.decisions is Logged.NONE:
            return None
        return LineLog(
            settings.log,
            logged=settings.decisions,
            capacity=settings.log_capacity,
            when_full=settings.when_full,
            dropped=lambda: self._tally.happened("log_dropped"),
        )

    def _keys(self) -> KeySet | PublicKey:
        """Returns the keys that hold now, replaced without anything else; raises KeysUnavailable."""
        if self.live.state is None:
            raise KeysUnavailable(NO_KEYS)
        return self.live.state.keys
