"""The proxies as processes: each runs its files of deploy/, with nothing replaced but addresses and paths."""

import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers import free_port, missing
from tests.sidecar.processes import TIMEOUT

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"

SOCKET: Final = "/run/cap/cap.sock"
"""The sidecar's socket in the files of deploy/; its port is 8181, the clients' 8080, the service's 8000."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """How a proxy is started.

    `behind` and `serves` are of the sidecar's listener. `files` are those of deploy/; `extra` (path and text)
    must stand around them. `command` is given the program and the folder of the files.
    """

    name: str
    title: str
    program: str
    files: tuple[str, ...]
    command: Callable[[str, Path], Sequence[str]]
    behind: str
    uses_socket: bool = True
    serves: str = "check"
    extra: tuple[tuple[str, str], ...] = ()


_NGINX_AROUND: Final = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    include {folder}/nginx.conf;
}}
"""


def _envoy(program: str, file: Path) -> Sequence[str]:
    # several Envoys of one host keep apart by their base ids
    return [
        *(program, "-c", str(file), "--concurrency", "1"),
        *("--use-dynamic-base-id", "--log-level", "warning", "--drain-time-s", "0"),
    ]


PROXIES: Final = {
    proxy.name: proxy
    for proxy in (
        Proxy(
            "envoy",
            "Envoy, HTTP",
            "envoy",
            ("envoy.yaml",),
            lambda program, folder: _envoy(program, folder / "envoy.yaml"),
            "envoy",
        ),
        Proxy(
            "envoy-grpc",
            "Envoy, gRPC",
            "envoy",
            ("envoy-grpc.yaml",),
            lambda program, folder: _envoy(program, folder / "envoy-grpc.yaml"),
            "plain",
            serves="grpc",
        ),
        Proxy(
            "nginx",
            "nginx",
            "nginx",
            ("nginx.conf",),
            lambda program, folder: [program, "-e", "stderr", "-p", str(folder), "-c", "around.conf"],
            "nginx",
            extra=(("around.conf", _NGINX_AROUND),),
        ),
        Proxy(
            "traefik",
            "Traefik",
            "traefik",
            ("traefik.yaml", "traefik-dynamic.yaml"),
            lambda program, folder: [program, f"--configFile={folder}/traefik.yaml"],
            "traefik",
            uses_socket=False,
        ),
        Proxy(
            "caddy",
            "Caddy",
            "caddy",
            ("Caddyfile",),
            lambda program, folder: [program, "run", "--config", str(folder / "Caddyfile")],
            "caddy",
        ),
        Proxy(
            "haproxy",
            "HAProxy",
            "haproxy",
            ("haproxy.cfg", "cap.lua"),
            lambda program, folder: [program, "-db", "-f", str(folder / "haproxy.cfg")],
            "haproxy",
        ),
    )
}


def find(proxy: Proxy) -> str:
    """Returns the proxy's program; skips the test where there is none, and fails it in CI."""
    folders = [sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"]
    program = shutil.which(proxy.program, path=os.pathsep.join(folders))
    if program is None:
        missing(f"{proxy.title} is not installed")
    assert program is not None
    return program


def configured(text: str, folder: Path, *, clients: int, service: int, socket_path: str, check: int) -> str:
    """Returns a file of deploy/ with the addresses and paths of a test."""
    for place in ("/etc/traefik", "/etc/haproxy"):
        text = text.replace(place, str(folder))
    text = text.replace(SOCKET, socket_path)
    for named, port in (("8080", clients), ("8000", service), ("8181", check)):
        text = text.replace(named, str(port))
    return text


@contextlib.contextmanager
def running(
    proxy: Proxy, folder: Path, *, service: int, socket_path: str, check: int
) -> Iterator[tuple[int, Path]]:
    """Runs a proxy until the end of the block; yields its port, and the file with what it wrote."""
    program = find(proxy)
    port = free_port()
    for name in proxy.files:
        text = (DEPLOY / name).read_text("utf-8")
        (folder / name).write_text(
            configured(text, folder, clients=port, service=service, socket_path=socket_path, check=check)
        )
    for name, text in proxy.extra:
        # as another user nginx could not open the test's socket, and only root can be another one
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / name).write_text(text.format(folder=folder, user=user))
    written = folder / f"{proxy.name}.err"
    with written.open("wb") as log:
        process = subprocess.Popen(
            proxy.command(program, folder),
            cwd=folder,
            env={"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(process, port, written)
        yield port, written
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, written: Path) -> None:
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"{written.stem} did not start: {written.read_text(errors='replace')[-2000:]}")
