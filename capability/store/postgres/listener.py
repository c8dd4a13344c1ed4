"""Waits for NOTIFY, on a connection of its own."""

import os
import threading
import time
from typing import Final

import psycopg

from capability.errors import StoreUnavailable
from capability.store.postgres.bounded import Connection
from capability.store.postgres.connection import Target, revision_in
from capability.store.postgres.schema import CHANNEL

_SLICE: Final = 0.25
"""Seconds until a thread that waits sees that the store was closed."""


class Listener:
    """Tells when the revision may have moved on.

    What was announced while nobody listened is never told, so after each new connection the revision is read.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._waiting = threading.Lock()
        self._connection: Connection | None = None
        self._process = os.getpid()
        self._open = True

    def wait(self, revision: int, timeout: float) -> None:
        """Returns when the revision has moved past `revision`, or after `timeout` seconds.

        One thread listens at a time; another one waits that long, and is not woken.
        """
        until = time.monotonic() + timeout
        self._own()
        if not self._waiting.acquire(timeout=timeout):
            return
        try:
            with self._target.translated():
                connection = self._listening()
                row = connection.execute("SELECT value FROM capability.revision").fetchone()
                if revision_in(row) > revision:
                    return
                while self._open and (left := until - time.monotonic()) > 0:
                    for notice in connection.notifies(timeout=min(left, _SLICE), stop_after=1):
                        if not notice.payload.isdecimal() or int(notice.payload) > revision:
                            return
            if not self._open:
                raise StoreUnavailable("the store is closed")
        except BaseException:
            self._disconnect()  # whatever state it is in, the next one listens anew
            raise
        finally:
            self._waiting.release()

    def close(self) -> None:
        """Lets go of the connection, and of the thread that waits."""
        self._open = False
        self._own()
        with self._waiting:
            self._disconnect()

    def _own(self) -> None:
        """Forgets, after a fork, the parent's connection, and a lock that a thread of the parent may hold."""
        if self._process != os.getpid():
            self._waiting, self._connection, self._process = threading.Lock(), None, os.getpid()

    def _listening(self) -> Connection:
        if not self._open:
            raise StoreUnavailable("the store is closed")
        if self._connection is None or self._connection.closed:
            self._disconnect()
            self._connection = self._target.connect()
            self._target.settle(self._connection)
            self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except psycopg.Error as error:
                raise self._target.translation(error) from error
