"""Attacks on a sidecar by way of what serves it: a worker that dies beside others, and ASGI's servers."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from capability.sidecar import watching
from capability.sidecar.addresses import parse_address
from capability.sidecar.asgi import Sidecar
from capability.sidecar.live import State
from capability.sidecar.settings import Listener, Logged, RouteSettings, Serves, Settings
from capability.sidecar.sockets import opened
from capability.sidecar.tally import Board
from capability.sidecar.worker import Worker
from tests.sidecar.processes import TIMEOUT
from tests.sidecar.test_api import question
from tests.sidecar.tokens import ROOT, mint

KEY = repr(ROOT.public_key)
DEFAULT = RouteSettings(name="default")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_worker_that_fails_leaves_the_port_to_the_others(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All workers have one socket: what a dying one refuses is refused for all, and for its successor."""
    monkeypatch.setattr(watching, "INTERVAL", 0.01)
    address = parse_address("tcp:127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/cap.sock")
    settings = Settings(
        listen=(Listener(address=address),), routes=(DEFAULT,), keys=KEY, decisions=Logged.NONE
    )
    file = tmp_path / "cap.toml"
    file.write_text("")

    def surprise() -> Settings:
        raise ZeroDivisionError

    leash, held = os.pipe()
    try:
        with opened(settings.listen[0]) as bound:
            sockets = [(settings.listen[0], bound)]
            worker = Worker(
                settings, sockets, Board(1), 0, reread=surprise, files=[str(file)], seen=[None], leash=leash
            )
            with pytest.raises(ZeroDivisionError):
                asyncio.run(asyncio.wait_for(worker.run(), TIMEOUT))
            with socket.socket(bound.family, socket.SOCK_STREAM) as client:
                client.settimeout(TIMEOUT)
                client.connect(bound.getsockname())
                bound.settimeout(TIMEOUT)
                bound.accept()[0].close()
    finally:
        os.close(leash)
        os.close(held)


# ASGI.


async def ask(
    application: Callable[..., Any],
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    path: str = "/orders/7",
    body: bytes = b"",
    client: str = "127.0.0.1",
) -> int:
    """Returns the status of an answer to a request as a server hands it on."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"a"), *headers],
        "client": (client, 5),
    }
    await application(scope, receive, send)
    return statuses[0]


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def test_a_reload_that_outlives_its_sidecar_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would answer by follows nothing any more: no revocation, and no key that is withdrawn."""
    monkeypatch.setattr(watching, "INTERVAL", 0.01)
    file = tmp_path / "cap.toml"
    file.write_text("")
    settings = Settings(listen=(), routes=(DEFAULT,), keys=KEY, decisions=Logged.NONE)
    reads = 0
    begun, ended, done = threading.Event(), threading.Event(), threading.Event()

    def read() -> Settings:
        nonlocal reads
        reads += 1
        if reads == 3:  # after the two of the start
            begun.set()
            ended.wait(TIMEOUT)
        return settings

    sidecar = Sidecar(read, [str(file)])
    check = sidecar.check("plain")
    held = bearer(mint())

    async def run() -> None:
        async with sidecar:
            assert sidecar.running is not None
            live = sidecar.running.service.live
            changed = live.changed

            def noted(state: State) -> None:
                changed(state)
                done.set()

            live.changed = noted
            assert await ask(check, held) == 200
            file.write_text("#")
            assert await asyncio.to_thread(begun.wait, TIMEOUT)
        ended.set()
        assert await asyncio.to_thread(done.wait, TIMEOUT)
        assert await ask(check, held) == 503

    asyncio.run(asyncio.wait_for(run(), TIMEOUT))


@pytest.mark.parametrize("forwarded", [b"10.0.0.1", b"10.0.0.1\xe9", b"10.0.0.1\xa0, 127.0.0.1", b"\xff"])
def test_a_client_that_says_who_it_is_to_its_server_is_not_believed(forwarded: bytes, tmp_path: Path) -> None:
    """In whatever bytes: a policy may ask what an address begins with."""
    policy, log = tmp_path / "policy", tmp_path / "log"
    policy.write_text('allow if client_ip($ip), $ip.starts_with("10.") || $ip == "127.0.0.1";')
    routes = (RouteSettings(name="default", policy=str(policy)),)
    settings = Settings(
        listen=(Listener(address=parse_address("tcp:0"), serves=Serves.API),),
        routes=routes,
        keys=KEY,
        log=str(log),
        decisions=Logged.ALL,
    )
    sidecar = Sidecar(lambda: settings)
    check, api = sidecar.check("plain"), sidecar.api()
    held = bearer(mint())
    body = json.dumps(question(mint())).encode()
    sent = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def run() -> None:
        async with sidecar:
            assert await ask(check, held) == 200
            assert await ask(check, held, client="192.0.2.1") == 403
            behind: Any = ProxyHeadersMiddleware(check)  # type: ignore[arg-type]
            assert await ask(behind, held, (b"x-forwarded-for", forwarded)) == 400
            behind = ProxyHeadersMiddleware(api)  # type: ignore[arg-type]
            for each in (behind, api):
                asked = ask(
                    each,
                    *sent,
                    (b"x-forwarded-for", forwarded),
                    method="POST",
                    path="/access/v1/evaluation",
                    body=body,
                )
                assert await asked == 200

    asyncio.run(asyncio.wait_for(run(), TIMEOUT))
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert next(each["client"] for each in logged if each["route"] == "api") is None
    assert {each["client"] for each in logged} == {None, "127.0.0.1", "192.0.2.1"}
