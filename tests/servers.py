"""Servers that the tests start for themselves, on free ports of the loopback interface, and stop again.

PostgreSQL and Redis come from Debian's packages; what the packages start by themselves is never touched.
CAP_TEST_REDIS_SERVER names another program than `redis-server`: Valkey, or a newer Redis.
"""

import errno
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from capability.store.postgres import connection as postgres_store

START_SECONDS = 60.0
"""How long a server may take to answer, on a machine that is busy with other tests."""

PATIENCE = 60
"""Seconds that a store waits for its server in tests, for the same reason, where it would wait for 5."""

PORTS = range(10_000, 16_000)
"""Below all that systems give to whoever connects, so that none is taken before its server has it."""


def missing(what: str) -> None:
    """Skips the test that lacks a server, and fails it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def free_port() -> int:
    """Returns a port of the loopback interface that nobody listens on, and that no other test is given.

    For as long as this process lives, which holds the UDP port of the same number.
    """
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket(type=socket.SOCK_DGRAM) as held, socket.socket() as found:
            try:
                held.bind(("127.0.0.1", port))
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            held.detach()
            return port


def be_patient(patch: pytest.MonkeyPatch) -> None:
    """Lets the stores of this process wait for PATIENCE seconds where they would wait for 5."""
    patch.setattr(postgres_store, "WAIT_SECONDS", PATIENCE)
    patch.setattr(postgres_store, "_SETTINGS", postgres_store._SETTINGS.replace("'5s'", f"'{PATIENCE}s'"))
    patch.setitem(postgres_store._DEFAULTS, "connect_timeout", str(PATIENCE))


def refuses(port: int) -> bool:
    """Returns whether nobody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def wait_until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Returns when `condition` holds; fails the test after so long that it never will."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it was waited for in vain"
        time.sleep(0.01)


GONE = ("", "X", "Z")
STOPPED = ("T", *GONE)


def state_of(pid: int) -> str:
    """Returns the letter by which Linux tells the state of a process, or nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def stop_process(pid: int) -> None:
    """Lets a process do nothing, and returns when it does: the signal alone takes a moment."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) in STOPPED)


def program(name: str) -> str | None:
    """Returns where a program of PostgreSQL is: in the path, or where Debian puts it, the newest version."""
    found = shutil.which(name)
    if found is not None:
        return found
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    return max((str(each) for each in versions), key=lambda each: int(each.split("/")[4]), default=None)


def tied(*command: str, user: str | None = None) -> list[str]:
    """Returns `command` as one that ends with the process that starts it, however that ends; by `user`.

    The kernel sees to that where there is such a thing (Linux); elsewhere a killed run leaves its servers.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return [*command]
    who = [] if user is None else ["--reuid", user, "--regid", user, "--init-groups"]
    return [setpriv, "--pdeathsig", "KILL", *who, "--", *command]


class PostgresServer:
    """One server with a cluster of its own, which writes to its disk as one in production does.

    Its superuser is `cap`, with a random password. PostgreSQL does not run as root, so root starts it as the
    user `postgres`.
    """

    def __init__(self, initdb: str, postgres: str) -> None:
        self._postgres = postgres
        self._folder = Path(tempfile.mkdtemp(prefix="cap-postgres-"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self.port = free_port()
        self.password = secrets.token_hex(8)
        (self._folder / "password").write_text(self.password)
        if os.geteuid() == 0:
            for each in (self._folder, self._folder / "password"):
                shutil.chown(each, "postgres")
        subprocess.run(
            self._command(
                *(initdb, "-D", str(self._data), "-U", "cap", "--pwfile", str(self._folder / "password")),
                *("-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync"),
            ),
            cwd="/",
            check=True,
            capture_output=True,
        )

    def url(self, database: str, *, user: str = "cap", password: str | None = None) -> str:
        """Returns the URL of a database."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Runs a statement as the superuser; returns its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """Makes an empty database and returns its name."""
        name = f"cap_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drops a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def start(self) -> None:
        """Starts the server, after a kill too, and waits until it answers."""
        until = time.monotonic() + START_SECONDS
        while True:
            if self._process is None or self._process.poll() is not None:
                # After a kill it refuses to start until the processes of the one before have gone.
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        self._command(
                            *(self._postgres, "-D", str(self._data), "-p", str(self.port)),
                            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                            *("-c", "max_connections=60", "-c", "shared_buffers=16MB"),
                        ),
                        cwd="/",
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError as error:
                if time.monotonic() > until:
                    tail = self._log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL does not start: {tail}") from error
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """Kills the server as a crash does: nothing is written any more."""
        assert self._process is not None
        stop_process(self._process.pid)  # so that it starts no other child meanwhile
        children = self._children()
        self._process.kill()
        self._wait()
        # They notice a moment later: until then one may answer, and hold the port.
        wait_until(lambda: all(state_of(each) in GONE for each in children))
        wait_until(lambda: refuses(self.port))

    def stop(self) -> None:
        """Stops the server, whoever is connected."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._wait()

    def remove(self) -> None:
        """Stops the server and deletes what it kept."""
        self.stop()
        shutil.rmtree(self._folder)

    def pause(self) -> None:
        """Lets all processes of the server do nothing, with their connections open."""
        assert self._process is not None
        stop_process(self._process.pid)  # first, for it starts the others
        for each in self._children():
            stop_process(each)

    def resume(self) -> None:
        """Ends a pause."""
        assert self._process is not None
        for each in (self._process.pid, *self._children()):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(timeout=START_SECONDS)

    def _command(self, *command: str) -> list[str]:
        return tied(*command, user="postgres" if os.geteuid() == 0 else None)


def start_postgres() -> PostgresServer:
    """Starts a server; skips the test where there is none to start, and fails it in CI."""
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        missing("PostgreSQL is not installed")
    assert initdb is not None
    assert postgres is not None
    server = PostgresServer(initdb, postgres)
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests of this process, which wait for it with patience."""
    server = start_postgres()
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch)
        yield server
    server.remove()


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The name of an empty database."""
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


class RedisServer:
    """A Redis or Valkey server with a folder of its own, with each change on disk before it answers."""

    def __init__(self, redis_server: str, *settings: str) -> None:
        self._program = redis_server
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="cap-redis-"))
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def version(self) -> tuple[int, ...]:
        """Returns the version of Redis that the server is, or is like."""
        return tuple(map(int, self.execute("INFO", "server")["redis_version"].split(".")))

    def url(self, *options: str, login: str = "", timeout: float = PATIENCE) -> str:
        """Returns the URL of a store; `options` are like `prefix=a:`."""
        return f"redis://{login}127.0.0.1:{self.port}/0?{'&'.join((*options, f'timeout={timeout}'))}"

    def execute(self, *command: str | int | bytes) -> Any:
        """Runs a command."""
        with redis.Redis(port=self.port, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def start(self) -> None:
        """Starts the server, after a kill too, and waits until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *tied(self._program, "--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--dir", str(self.folder), "--save", "", "--appendonly", "yes"),
                    *("--appendfsync", "always", *self._settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.execute("PING")
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if time.monotonic() > until or self._process.poll() is not None:
                    tail = self._log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"Redis does not start: {tail}") from error
                time.sleep(0.02)
            except redis.AuthenticationError:
                return
            else:
                return

    def kill(self) -> None:
        """Kills the server as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=START_SECONDS)

    def pause(self) -> None:
        """Lets the server do nothing, with its connections open."""
        assert self._process is not None
        stop_process(self._process.pid)

    def resume(self) -> None:
        """Ends a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stops the server and deletes what it kept."""
        self.kill()
        shutil.rmtree(self.folder)


def start_redis(*settings: str) -> RedisServer:
    """Starts a server; skips the test where there is none to start, and fails it in CI."""
    redis_server = os.environ.get("CAP_TEST_REDIS_SERVER") or shutil.which("redis-server")
    if redis_server is None:
        missing("Redis is not installed")
    assert redis_server is not None
    server = RedisServer(redis_server, *settings)
    server.start()
    return server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server for all tests of this process."""
    server = start_redis()
    yield server
    server.remove()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty database."""
    redis_server.execute("FLUSHALL")
    return redis_server.url()
