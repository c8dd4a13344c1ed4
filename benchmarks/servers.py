"""What is loaded beside each other: a sidecar, the same server with a constant answer, Cerbos; and the load.

The constant server is the ceiling: the same protocol, sockets and event loop, and no decision. Everything
listens on the loopback interface or on a socket file of a temporary folder.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capability.sidecar.messages import Answer, Headers

CONNECTIONS: Final = 64
CERBOS: Final = "@cerbos/cerbos-linux-x64"
START_SECONDS: Final = 60.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Constant:
    """Answers every request as a check answers a yes, and decides nothing."""

    blocking = False
    max_body = 0

    def __init__(self) -> None:
        self._answer = Answer(
            200,
            (
                (b"x-cap-subject", b"user-1"),
                (b"x-cap-revocation-id", b"0" * 128),
                (b"x-cap-decision-id", b"0" * 32),
                (b"x-cap-tenant", b""),
            ),
        )

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns the same answer."""
        return self._answer


def serve_constant(workers: int, path: str, port: int) -> None:
    """Serves Constant until it is killed: what `cap serve` does, but for the check."""
    from capability.sidecar.protocol import Connections
    from capability.sidecar.server import _new_loop

    bound = [socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", port))]
    bound[0].bind(path)
    for each in bound:
        each.listen(1024)
        each.setblocking(False)
    for _ in range(workers - 1):
        if os.fork() == 0:
            break

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        everyone = [Connections(Constant()) for _ in bound]
        servers = [
            await loop.create_server(connections, sock=each)
            for connections, each in zip(everyone, bound, strict=True)
        ]
        while servers:  # which are closed when nobody holds them
            await asyncio.sleep(0.25)
            for connections in everyone:
                connections.sweep(loop.time())

    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        runner.run(serve())


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of load has found: seconds, but for `rate`, which is requests a second."""

    rate: float
    p50: float
    p99: float
    cpu: float
    """Of the server and all its workers, for each request."""


class Server:
    """A running program and where it listens: `port`, and `path` where it has a socket file."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, path: str | None = None) -> None:
        self.process = process
        self.port = port
        self.path = path

    def processes(self) -> list[int]:
        """Returns the ids of the process and of its children."""
        found = [self.process.pid]
        for each in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(each.read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    found.append(int(each.parent.name))
        return found

    def cpu(self) -> float:
        """Returns the seconds of CPU that all its processes have used."""
        total = 0
        for number in self.processes():
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    def memory(self) -> int:
        """Returns the bytes that its processes hold, shared ones counted once (PSS)."""
        total = 0
        for number in self.processes():
            rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
            found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
        return total


@contextlib.contextmanager
def running(command: list[str], folder: Path, port: int, path: str | None = None) -> Iterator[Server]:
    """Runs a server until the end of the block; raises RuntimeError if it does not listen."""
    project = str(Path(__file__).resolve().parents[1])
    with (folder / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": project}
        )
    server = Server(process, port, path)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not start: {Path(log.name).read_text()[-500:]}")
            time.sleep(0.05)
        yield server
    finally:
        for number in server.processes()[::-1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGTERM)
        process.wait(20)


def constant(folder: Path, workers: int) -> contextlib.AbstractContextManager[Server]:
    """Returns the server that is the ceiling."""
    path, port = str(folder / f"constant{workers}.sock"), free_port()
    command = [sys.executable, "-m", "benchmarks.servers", str(workers), path, str(port)]
    return running(command, folder, port, path)


def installed_cerbos(folder: Path) -> str:
    """Installs Cerbos into `folder` with npm, and returns its program."""
    subprocess.run(["npm", "install", "--prefix", str(folder), CERBOS], check=True, capture_output=True)
    return str(folder / "node_modules" / CERBOS / CERBOS.rpartition("/")[2])


def cerbos(folder: Path, program: str, policy: str) -> contextlib.AbstractContextManager[Server]:
    """Returns Cerbos with a policy, asked over HTTP."""
    port = free_port()
    policies = folder / "policies"
    policies.mkdir()
    (policies / "orders.yaml").write_text(policy)
    settings = {
        "server": {"httpListenAddr": f"127.0.0.1:{port}", "grpcListenAddr": f"127.0.0.1:{free_port()}"},
        "storage": {"driver": "disk", "disk": {"directory": str(policies)}},
        "telemetry": {"disabled": True},
    }
    (folder / "cerbos.json").write_text(json.dumps(settings))
    return running([program, "server", f"--config={folder / 'cerbos.json'}"], folder, port)


def free_port() -> int:
    """Returns a port of the loopback interface that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def load_tcp(server: Server, script: Path, seconds: int) -> Load:
    """Loads a server over TCP by wrk, with the requests that its script makes."""
    before = server.cpu()
    said = subprocess.run(
        [
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)),
            f"http://127.0.0.1:{server.port}/orders/7",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    used = server.cpu() - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"not every request was answered with 200: {said}")
    done = re.search(r"(\d+) requests in", said)
    cuts = {name: value * _UNITS[unit] for name, value, unit in _cuts(said)}
    assert done is not None
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None
    return Load(float(rate[1]), cuts["50%"], cuts["99%"], used / int(done[1]))


def load_unix(server: Server, token: str, folder: Path, requests: int) -> Load:
    """Loads a server over its Unix socket by h2load, with so many requests, all alike.

    h2load takes headers as arguments alone: `token` must be of a key that nobody else goes by.
    """
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    assert server.path is not None
    before = server.cpu()
    said = subprocess.run(
        [
            *("h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-n{requests}", f"--log-file={log}"),
            *("-H", f"authorization: Bearer {token}"),
            *("-B", f"unix:{server.path}", "http://localhost/orders/7"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    used = server.cpu() - before
    rate = re.search(r", ([\d.]+) req/s", said)
    if rate is None or f"{requests} succeeded" not in said:
        raise RuntimeError(f"not every request to {server.path} was answered with 200: {said}")
    taken = [int(line.split("\t")[2]) / 1e6 for line in log.read_text().splitlines()]
    cuts = statistics.quantiles(taken, n=100)
    return Load(float(rate[1]), cuts[49], cuts[98], used / requests)


def missing_tools() -> list[str]:
    """Returns the programs that make load and are not installed."""
    return [name for name in ("wrk", "h2load") if shutil.which(name) is None]


def ask(url: str, body: bytes) -> bytes:
    """Returns the answer to one POST of JSON."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: bytes = answer.read()
        return found


_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def _cuts(said: str) -> list[tuple[str, float, str]]:
    found = re.findall(r"^\s+(50%|99%)\s+([\d.]+)(us|ms|s|m)\s*$", said, re.MULTILINE)
    return [(name, float(value), unit) for name, value, unit in found]


if __name__ == "__main__":
    serve_constant(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
