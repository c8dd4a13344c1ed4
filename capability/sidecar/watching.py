"""Has what a process decides by read again, when a file that it was made of changes."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from capability.sidecar.keysource import KeySource
from capability.sidecar.live import Live
from capability.sidecar.settings import Settings, SettingsError

INTERVAL: Final = 1.0
"""Seconds between two looks."""

Stamps: TypeAlias = list[tuple[str, int, int, int] | None]
"""What tells a file from what it was: path, time of change, inode, size; None for one that is not there."""


class Watch:
    """Looks at the files while `run` goes on.

    `reread` reads the settings again and raises SettingsError. `files` are those that it reads; the policies
    and keys that the settings name are looked at too. `seen` is how all looked before they were first read.
    """

    def __init__(
        self, live: Live, reread: Callable[[], Settings], files: Sequence[str], seen: Stamps
    ) -> None:
        self._live = live
        self._reread = reread
        self._files = files
        self._seen = seen
        self._asked = asyncio.Event()

    def look(self) -> None:
        """Has everything read again soon, changed or not. For the thread that `run` is in."""
        self._asked.set()

    def reload(self) -> None:
        """Reads everything again; what cannot be used is refused, and what held goes on."""
        try:
            settings = self._reread()
        except SettingsError as error:
            self._live.refused(str(error))
            return
        self._live.reload(settings)

    async def run(self) -> None:
        """Reloads after each change, and when it is asked to, until it is cancelled.

        One after the other, so that nothing that was read earlier replaces what was read later; who asks
        meanwhile, however often, is served by one more. A change is taken when two looks see the same: what
        changes still may be half written, and half a configuration may be one that allows more.
        """
        seen = before = self._seen
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            now = stamps(self._live.settings, self._files)
            if asked or (now != seen and now == before):
                seen = now
                await asyncio.to_thread(self.reload)
            before = now


def stamps(settings: Settings, files: Sequence[str]) -> Stamps:
    """Returns how the files that decide look now: `files`, and those that the settings name."""
    policies = [*(each.policy for each in settings.routes), settings.api.policy, settings.api.callers]
    named = [*files, *(each for each in policies if each is not None)]
    if settings.keys is not None and not KeySource(settings.keys).is_remote:
        named.append(settings.keys)
    return [_stamp(each) for each in dict.fromkeys(named)]


def _stamp(path: str) -> tuple[str, int, int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return path, found.st_mtime_ns, found.st_ino, found.st_size
    return None
