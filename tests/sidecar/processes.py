"""`cap serve` as a process, and a client of it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT: Final = 60.0
"""Seconds that anything may take on a machine that is busy with other tests, or stands still for a while."""


class Sidecar:
    """A running `cap serve`: its addresses in the order of its listeners, and what it wrote."""

    def __init__(self, process: "subprocess.Popen[str]", addresses: list[str], errors: Path) -> None:
        self.process = process
        self.addresses = addresses
        self.errors = errors

    def ask(
        self,
        at: int = 0,
        target: str = "/",
        *,
        token: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Returns status, headers (in lower case) and body of an answer of a listener."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        with contextlib.closing(connect(self.addresses[at])) as connection:
            connection.request(method, target, body=body, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()

    def signal(self, number: int) -> None:
        """Sends a signal to the process that was started."""
        os.kill(self.process.pid, number)

    def workers(self) -> list[int]:
        """Returns the processes that the one that was started has started."""
        started = self.process.pid
        return [int(each) for each in Path(f"/proc/{started}/task/{started}/children").read_text().split()]

    def stop(self) -> int:
        """Ends it by SIGTERM and returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def connect(address: str) -> http.client.HTTPConnection:
    """Returns a connection to `unix:/path` or `tcp:host:port`."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return _UnixConnection(rest)
    host, _, port = rest.rpartition(":")
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=TIMEOUT)


@contextlib.contextmanager
def sidecar(
    folder: Path,
    *arguments: str,
    config: str | None = None,
    environment: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Iterator[Sidecar]:
    """Runs `cap serve` in `folder` (with a cap.toml of `config`) until the end of the block; by a command
    that runs others, such as prlimit, `within` that.
    """
    if config is not None:
        (folder / "cap.toml").write_text(config)
    errors = folder / "serve.err"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAP_")}
    with errors.open("w") as file:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", "capability.cli", "serve", *arguments],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(folder), **(environment or {})},
            stderr=file,
            stdout=file,
            text=True,
        )
    try:
        yield Sidecar(process, _addresses(process, errors), errors)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _addresses(process: "subprocess.Popen[str]", errors: Path) -> list[str]:
    end = time.monotonic() + TIMEOUT
    ended = False
    while not ended and time.monotonic() < end:
        ended = process.poll() is not None  # before the last look at what it wrote
        for line in errors.read_text().splitlines(keepends=True):
            if line.startswith("serving: ") and line.endswith("\n"):
                return line.strip().removeprefix("serving: ").split(", ")
        time.sleep(0.02)
    raise AssertionError(f"cap serve did not start: {errors.read_text()}")


def wait_until(holds: Callable[[], bool], seconds: float = TIMEOUT) -> bool:
    """Returns whether `holds` becomes true in time; it is looked at once more when the time is up."""
    end = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() >= end
        with contextlib.suppress(OSError, http.client.HTTPException):
            if holds():
                return True
        if is_last:
            return False
        time.sleep(0.02)


def undisturbed(attempt: Callable[[], bool], times: int = 5) -> bool:
    """Returns whether one of several attempts succeeds: for what is measured in seconds.

    A machine that stands still makes now and then one fail; what is really slow makes all of them fail.
    """
    return any(attempt() for _ in range(times))


def put(file: Path, text: str) -> None:
    """Writes a file at once, so that who follows it never reads the half of it."""
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(text)
    beside.replace(file)
