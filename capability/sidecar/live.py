"""What a worker decides by at this moment, and how it is replaced while requests go on.

A change is built beside what is there, and takes its place only when all of it can be used. What is there
goes on otherwise, and status and metrics say that something newer was refused.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

from capability.guard import Guard
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.sidecar.apiguards import APIGuards, build_api
from capability.sidecar.guards import build_routes
from capability.sidecar.keysource import KeptKeys, KeySource, KeysUnavailable
from capability.sidecar.revocations import Revocations
from capability.sidecar.routes import Routes
from capability.sidecar.settings import FIXED, OnStale, Settings, SettingsError
from capability.sidecar.tally import Tally

NO_KEYS: Final = "no root keys were read yet"
STALE_KEYS: Final = 3
"""After how many fetches without an answer keys are too old to be ready: one may have been withdrawn."""


@dataclass(frozen=True, slots=True)
class State:
    """One generation: settings, keys and policies that fit together. `revision` is a hash of the policies.

    `api` is None where no listener serves it.
    """

    settings: Settings
    keys: KeySet | PublicKey
    routes: Routes
    api: APIGuards | None
    revision: str
    since: float

    @property
    def guards(self) -> list[Guard]:
        """All guards that decide."""
        return [*(route.guard for route in self.routes), *(self.api or ())]


class Live:
    """Holds the state, and replaces it. `changed` is called with each new one, in whatever thread that is.

    `warn` is told what is odd about the policies, and why something newer is not used.
    `kept` is where fetched keys are kept on disk; a start without the issuer goes by those.
    `reload` and `refresh_keys` may be called from any thread; requests see the old state or the new one.
    """

    def __init__(
        self,
        settings: Settings,
        tally: Tally,
        revocations: Revocations,
        *,
        kept: KeptKeys | None = None,
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._kept = kept
        self._changing = threading.Lock()
        self._tally = tally
        self._revocations = revocations
        self._warn = warn
        self._settings = settings
        self._begun_with = settings
        self.needs_restart: tuple[str, ...] = ()
        """The settings that have changed, and hold only for a process that begins with them."""
        self.state: State | None = None
        self.changed: Callable[[State], None] = lambda state: None
        self.problem: str | None = NO_KEYS
        """Why the last change was refused; None when it was not."""
        self._keys_problem: str | None = None
        self.keys_read_at: float | None = None
        """When the keys were last read, in seconds since 1970."""
        self._keys_read = 0.0
        self.by_copy = False
        """True when the keys are those that an earlier process has fetched."""

    @property
    def settings(self) -> Settings:
        """The settings that hold now."""
        return self._settings

    def stale_keys(self) -> float | None:
        """Returns the age of fetched keys, in seconds, once STALE_KEYS fetches in a row brought none."""
        settings = self._settings
        if self.state is None or settings.keys is None or not KeySource(settings.keys).is_remote:
            return None
        age = time.monotonic() - self._keys_read
        return age if age > STALE_KEYS * settings.keys_refresh else None

    def load(self) -> None:
        """Reads keys and policies for the first time; raises SettingsError and KeysUnavailable."""
        with self._changing:
            keys = self._first_keys(self._settings)
            self._replace(self._settings, keys.found)
            if keys.problem is not None:
                self.without_keys(keys.problem)

    def reload(self, settings: Settings | None = None) -> bool:
        """Reads everything anew; returns whether it was taken."""
        with self._changing:
            try:
                wanted = self._settings if settings is None else settings
                begun_with = {name: getattr(self._begun_with, name) for name in FIXED}
                possible = replace(wanted, **begun_with)
                keys = self._keys_for(possible)
                self._replace(possible, keys.found)
                if keys.problem is not None:
                    self.without_keys(keys.problem)
                self.needs_restart = tuple(
                    name for name, value in begun_with.items() if getattr(wanted, name) != value
                )
            except (SettingsError, KeysUnavailable) as error:
                self.refused(str(error))
                return False
            self._tally.happened("reloads")
            self._revocations.look()
            return True

    def refused(self, reason: str) -> None:
        """Notes, and warns, that something newer could not be used."""
        self._warn(f"what changed is not used, {self._meanwhile}: {reason}")
        self._tally.happened("reloads_failed")
        self.problem = reason  # last: who sees it finds the warning, and it is counted

    def without_keys(self, reason: str) -> None:
        """Notes why the keys cannot be used, and warns once of each reason: they are read again and again."""
        if reason != self.problem:
            self._warn(f"the keys are not taken, {self._meanwhile}: {reason}")
        self.problem = self._keys_problem = reason

    @property
    def _meanwhile(self) -> str:
        return "so nothing is allowed" if self.state is None else "and what held goes on"

    def refresh_keys(self) -> bool:
        """Fetches the keys again and replaces them where they changed; returns whether they were read."""
        with self._changing:
            try:
                keys = self._read_keys(self._settings)
                if self.state is None:
                    self._replace(self._settings, keys)
                elif keys != self.state.keys:
                    for guard in self.state.guards:
                        guard.replace(keys=keys)
                    self.state = replace(self.state, keys=keys)
                if self.problem == self._keys_problem:
                    self.problem = None
            except (SettingsError, KeysUnavailable) as error:
                self._tally.happened("refresh_failures_keys")
                self.without_keys(str(error))
                return False
            return True

    def _keys_for(self, settings: Settings) -> "_Keys":
        """Returns keys to go with new settings; an issuer that does not answer holds up no policy."""
        try:
            return _Keys(self._read_keys(settings), None)
        except KeysUnavailable as error:
            state = self.state
            assert settings.keys is not None
            if (
                state is None
                or settings.keys != state.settings.keys
                or not KeySource(settings.keys).is_remote
            ):
                raise
            return _Keys(state.keys, str(error))

    def _read_keys(self, settings: Settings) -> KeySet | PublicKey:
        assert settings.keys is not None
        source = KeySource(settings.keys)
        keys = source.read()
        self.keys_read_at, self._keys_read = time.time(), time.monotonic()
        self.by_copy = False
        if self._kept is not None and settings.keys == self._begun_with.keys:
            self._kept.keep(keys)
        return keys

    def _first_keys(self, settings: Settings) -> "_Keys":
        """Returns the keys, or where they cannot be fetched those that an earlier process has kept."""
        try:
            return _Keys(self._read_keys(settings), None)
        except KeysUnavailable as error:
            old = None if self._kept is None else self._kept.recall()
            if old is None:
                raise
            self._tally.happened("refresh_failures_keys")
            self.by_copy = True
            self.keys_read_at, self._keys_read = time.time() - old.age, time.monotonic() - old.age
            return _Keys(old.keys, str(error))

    def _replace(self, settings: Settings, keys: KeySet | PublicKey) -> None:
        source = partial(self._revocations.source, settings)
        routes = build_routes(settings.routes, keys, source, prefixes=settings.prefixes, warn=self._odd)
        api = build_api(settings, keys, source(OnStale.DENY), warn=self._odd)
        sources = [route.source for route in routes] + ([] if api is None else [api.source])
        digest = hashlib.sha256("\n".join(sources).encode()).hexdigest()
        self._settings = settings
        self.state = State(settings, keys, routes, api, digest[:16], time.time())
        self.problem = None
        self.changed(self.state)

    def _odd(self, route: str, warning: str) -> None:
        self._warn(f"route {route}: {warning}")


class _Keys(NamedTuple):
    """Keys to go by; `problem` says why they are not the newest, None when they are."""

    found: KeySet | PublicKey
    problem: str | None
