"""The sidecar as ASGI applications: one process, one sidecar, however many of its surfaces it serves."""

import asyncio
import contextlib
import http.client
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from capability import Biscuit
from capability.errors import ConfigurationError
from capability.sidecar import watching
from capability.sidecar.asgi import Sidecar, admin, api, application
from capability.sidecar.service import NOT_READY
from capability.sidecar.settings import SettingsError
from capability.store import create_store
from tests.integrations.servers import asgi_server, send
from tests.servers import free_port
from tests.sidecar.asgiservers import asgi_process, started, together
from tests.sidecar.processes import ROOT as PROJECT
from tests.sidecar.processes import TIMEOUT, connect, put, wait_until
from tests.sidecar.test_signed import Issuer
from tests.sidecar.tokens import ROOT, mint

KEY = repr(ROOT.public_key)


@contextlib.contextmanager
def served(**options: Any) -> Iterator[int]:
    """Runs `application` under uvicorn, with what stands in the environment; yields its port."""
    with asgi_server(application(), proxy_headers=False, **options) as port:
        yield port


def ask(port: int, token: str | None = None, path: str = "/orders/7", *more: tuple[str, str]) -> int:
    """Returns the status of an answer."""
    sent = [] if token is None else [("Authorization", f"Bearer {token}")]
    return send(port, "GET", path, [*sent, *more]).status


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cap.toml that $CAP_CONFIG names, with ROOT's key and a store; nothing else is set."""
    for name in list(os.environ):
        if name.startswith("CAP_"):
            monkeypatch.delenv(name)
    create_store(f"sqlite:///{tmp_path}/cap.db").close()
    path = tmp_path / "cap.toml"
    path.write_text(f'public_key = "{KEY}"\nstore = "sqlite:///cap.db"\n[serve]\npoll = 0.05\nlog = "log"\n')
    monkeypatch.setenv("CAP_CONFIG", str(path))
    return path


def revoke(folder: Path, token: str) -> None:
    ids = Biscuit.from_base64(token, ROOT.public_key).canonical_revocation_ids
    with create_store(f"sqlite:///{folder}/cap.db") as store:
        store.revoke([ids[-1]])


@pytest.mark.parametrize("follow", ["true", "false"])
def test_it_decides_by_the_configuration(settings: Path, follow: str) -> None:
    settings.write_text(settings.read_text() + f"follow = {follow}\n")
    token, revoked = mint(operations=["read"]), mint('user("eve")')
    revoke(settings.parent, revoked)
    with served() as port:
        assert wait_until(lambda: ask(port, token) == 200)
        answer = send(port, "GET", "/orders/7?a=1", [("Authorization", f"Bearer {token}")])
        assert answer.headers["x-cap-subject"] == "ann"
        assert ask(port) == 401
        assert send(port, "POST", "/orders", [("Authorization", f"Bearer {token}")]).status == 403
        assert ask(port, token, "/a/%2e%2e/b") == 400
        assert ask(port, token, "/", ("Authorization", f"Bearer {token}")) == 400
        assert ask(port, revoked) == 401
        revoke(settings.parent, token)
        assert wait_until(lambda: ask(port, token) == 401)
    logged = (settings.parent / "log").read_text()
    assert '"outcome":"revoked"' in logged
    assert token not in logged


def test_signed_revocations_are_followed(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = mint()
    issuer = Issuer(settings.parent)
    monkeypatch.setenv("CAP_REVOCATIONS", str(issuer.path))
    with served() as port:
        assert wait_until(lambda: ask(port, token) == 503)
        issuer.put(issuer.signed())
        assert wait_until(lambda: ask(port, token) == 200)
        issuer.revoke(token)
        issuer.put(issuer.signed())
        assert wait_until(lambda: ask(port, token) == 401)


def test_the_environment_comes_first(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings.parent / "none.datalog").write_text('allow if user("nobody");')
    monkeypatch.setenv("CAP_POLICY", str(settings.parent / "none.datalog"))
    monkeypatch.setenv("CAP_BEHIND", "traefik")
    with served() as port:
        told = (
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Uri", "/orders/7"),
            ("X-Forwarded-Host", "api.example.com"),
        )
        assert wait_until(lambda: ask(port, mint(), "/", *told) == 403)
        # a request that the proxy says nothing of is none of the proxy's
        assert ask(port, mint()) == 400


def test_a_server_that_does_not_say_when_it_begins_lets_nobody_in() -> None:
    with served(lifespan="off") as port:
        assert ask(port, mint()) == 503


def test_keys_that_come_later_are_taken(settings: Path) -> None:
    key = settings.parent / "key"
    settings.write_text(settings.read_text().replace(KEY, str(key)))
    with served() as port:
        assert ask(port, mint()) == 503
        key.write_text(KEY)
        assert wait_until(lambda: ask(port, mint()) == 200)


def test_what_cannot_be_served_is_refused_at_once(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = settings.read_text()
    for more in (
        '[[serve.listen]]\naddress = "tcp:1"\n[[serve.listen]]\naddress = "tcp:2"\nbehind = "nginx"\n',
        '[[serve.listen]]\naddress = "tcp:1"\nserves = "admin"\n',
    ):
        settings.write_text(text + more)
        with pytest.raises(SettingsError, match="CAP_BEHIND"):
            application()
        monkeypatch.setenv("CAP_BEHIND", "nginx")
        application()
        monkeypatch.delenv("CAP_BEHIND")
    settings.write_text(text.replace("public_key", "private_key").replace(KEY, "root.key"))
    with pytest.raises(ConfigurationError, match="no public key"):
        application()


def test_a_policy_that_cannot_be_used_ends_the_server(settings: Path) -> None:
    settings.write_text(settings.read_text() + 'policy = "none.datalog"\n')
    port = free_port()
    program = ("-m", "uvicorn", "--factory", "capability.sidecar.asgi:application")
    done = subprocess.run(
        [sys.executable, *program, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 3
    assert "none.datalog" in done.stderr


def metric(port: int, name: str) -> float:
    """Returns the value of a metric that an admin application has."""
    for line in send(port, "GET", "/metrics", []).body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(name)


def test_the_surfaces_of_one_sidecar_decide_and_count_together(settings: Path) -> None:
    sidecar = Sidecar.from_env()
    with together(sidecar.check(), sidecar.api(), sidecar.admin()) as (check, asks, tells):
        token = mint()
        assert wait_until(lambda: send(tells, "GET", "/readyz", []).status == 200)
        assert ask(check, token) == 200
        assert ask(check) == 401
        caller = mint('user("root"); right("cap", "revoke")')
        connection = http.client.HTTPConnection("127.0.0.1", asks, timeout=TIMEOUT)
        form = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {caller}"}
        connection.request("POST", "/revoke", f"token={token}", form)
        assert connection.getresponse().status == 200
        connection.close()
        assert ask(check, token) == 401  # from this moment on: it is the same copy
        # the yes about the caller too
        assert metric(tells, 'cap_decisions_total{reason="allowed",result="allow"}') == 2
        assert metric(tells, 'cap_decisions_total{reason="revoked",result="deny"}') == 1
        assert metric(tells, "cap_revocation_entries") == 1
        assert metric(tells, "cap_ready") == 1
        assert send(asks, "GET", "/.well-known/biscuit-web-keys", []).status == 200
        assert send(tells, "GET", "/orders/7", []).status == 404


def test_the_other_surfaces_have_factories_too() -> None:
    with asgi_server(api(), proxy_headers=False) as port:
        assert send(port, "GET", "/.well-known/biscuit-web-keys", []).status == 200
    with asgi_server(admin(), proxy_headers=False) as port:
        assert send(port, "GET", "/livez", []).status == 200
        assert wait_until(lambda: send(port, "GET", "/readyz", []).status == 200)


def test_a_sidecar_may_be_mounted_and_begins_with_whom_it_is_mounted_in() -> None:
    sidecar = Sidecar.from_env()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with sidecar:
            yield

    routes = [Mount("/check", sidecar.check()), Mount("/internal", sidecar.admin())]
    with asgi_server(Starlette(routes=routes, lifespan=lifespan), proxy_headers=False) as port:
        token = mint(resources=["/orders"])
        assert wait_until(lambda: send(port, "GET", "/internal/readyz", []).status == 200)
        assert ask(port, token, "/check/orders/7") == 200
        assert ask(port, token, "/check/other") == 403
        assert ask(port, token, "/check/%2e%2e/internal/readyz") == 400
        assert send(port, "GET", "/internal/metrics", []).status == 200


def test_it_runs_until_the_last_surface_ends_and_may_begin_again() -> None:
    sidecar = Sidecar.from_env()
    check = sidecar.check()

    async def run() -> None:
        for _ in range(2):
            async with sidecar:
                async with sidecar:
                    assert sidecar.running is not None
                    assert not sidecar.running.service.draining
                assert sidecar.running is not None
                assert sidecar.running.service.draining
                assert check.handler is not NOT_READY
                with pytest.raises(RuntimeError, match="before"):
                    sidecar.api()
            assert sidecar.running is None
            assert check.handler is NOT_READY

    asyncio.run(run())


def test_what_changes_holds_and_what_cannot_be_used_is_told(
    settings: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "INTERVAL", 0.05)
    policy = settings.parent / "policy.datalog"
    policy.write_text("allow if true")
    settings.write_text(settings.read_text() + 'policy = "policy.datalog"\n')
    sidecar = Sidecar.from_env()
    with together(sidecar.check(), sidecar.admin()) as (check, tells):

        def status() -> Any:
            return send(tells, "GET", "/status", []).json

        token = mint()
        assert wait_until(lambda: ask(check, token) == 200)
        put(policy, "deny if true")
        assert wait_until(lambda: ask(check, token) == 403)
        put(policy, "allow if")
        assert wait_until(lambda: status()["problem"] is not None)
        assert ask(check, token) == 403
        assert "what held goes on" in caplog.text
        assert metric(tells, "cap_reloads_failed_total") == 1
        put(policy, "allow if true")
        assert wait_until(lambda: ask(check, token) == 200)
        text = settings.read_text()
        put(settings, text + "no_such = 1\n")
        assert wait_until(lambda: "no_such" in (status()["problem"] or ""))
        put(settings, "this is no TOML")
        assert wait_until(lambda: "no_such" not in (status()["problem"] or ""))
        assert ask(check, token) == 200
        put(settings, text.replace("[serve]", '[serve]\nrealm = "other"\nlog_capacity = 5'))
        assert wait_until(lambda: status()["needs_restart"] == ["log_capacity"])
        assert 'realm="other"' in send(check, "GET", "/", []).headers["www-authenticate"]
        put(settings, text + '[[serve.listen]]\naddress = "tcp:1"\nbehind = "nginx"\n')
        assert wait_until(lambda: "listen" in status()["needs_restart"])
        assert ask(check, token) == 200


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_what_is_odd_is_told_at_the_start(settings: Path, server: str) -> None:
    odd = settings.parent / "odd.datalog"
    odd.write_text('allow if true; allow if user("ann");')
    settings.write_text(f'public_key = "{KEY}"\n[serve]\npolicy = "odd.datalog"\n')
    with asgi_process(server, "application", settings.parent) as running:
        assert running.ask(token=mint())[0] == 200
        said = running.errors.read_text()
        assert said.count("nothing is ever revoked") == 1
        assert "CAP_STORE=none" in said
        assert "route default: " in said
    odd.write_text("allow if true;")
    with asgi_process(server, "application", settings.parent, {"CAP_STORE": "none"}) as running:
        said = running.errors.read_text()
        assert "revoked" not in said
        assert "route" not in said


def test_keys_that_cannot_be_read_are_told_once(settings: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings.write_text(settings.read_text().replace(KEY, "root.key.pub"))
    with served() as port:
        assert ask(port, mint()) == 503
        (settings.parent / "root.key.pub").write_text("no key")
        assert wait_until(lambda: "so nothing is allowed: " in caplog.text.rpartition("no such file")[2])
        assert ask(port, mint()) == 503
    assert caplog.text.count("no such file") == 1


def test_a_server_that_lets_clients_say_who_they_are_is_refused(settings: Path) -> None:
    (settings.parent / "who.datalog").write_text('allow if client_ip("127.0.0.1"); deny if client_ip($a)')
    settings.write_text(settings.read_text() + 'policy = "who.datalog"\n')
    forged = ("X-Forwarded-For", "203.0.113.9, 10.0.0.1:4711")
    with served() as port:
        assert wait_until(lambda: ask(port, mint()) == 200)
        assert ask(port, mint(), "/", forged) == 200
    with asgi_server(application()) as port:  # uvicorn believes the loopback as it comes
        assert wait_until(lambda: ask(port, mint()) == 200)
        token = [("Authorization", f"Bearer {mint()}")]
        answer = send(port, "GET", "/", [*token, forged])
        assert answer.status == 400
        assert "--no-proxy-headers" in answer.json["detail"]


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_the_commands_of_the_docs_serve_the_check(settings: Path, server: str) -> None:
    text = (PROJECT / "docs/sidecar.md").read_text("utf-8").replace("\\\n", "")
    found = re.search(rf"^    (CAP_CONFIG=cap\.toml) ({server} .*)$", text, re.MULTILINE)
    assert found is not None
    words = [each.replace("/run/cap/", "") for each in shlex.split(found[2])]
    environment = dict([found[1].split("=")])
    with started(words, settings.parent, environment) as running:
        assert wait_until(lambda: running.ask(token=mint())[0] == 200)
        assert running.ask(headers={"X": "a" * 17_000})[0] == 431


def test_the_script_of_the_docs_serves_two_surfaces(settings: Path) -> None:
    text = (PROJECT / "docs/sidecar.md").read_text("utf-8")
    found = re.search(r"^```python\n(.*?capability\.sidecar\.asgi.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    port = free_port()
    folder = settings.parent
    script = found[1].replace("/run/cap/check.sock", f"{folder}/check.sock").replace("9901", str(port))
    (folder / "serve.py").write_text(script)
    with (folder / "err").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "serve.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=errors,
            stderr=errors,
        )
    try:
        assert wait_until(lambda: send(port, "GET", "/readyz", []).status == 200)
        with contextlib.closing(connect(f"unix:{folder}/check.sock")) as client:
            client.request("GET", "/", headers={"Authorization": f"Bearer {mint()}"})
            assert client.getresponse().status == 200
        assert metric(port, 'cap_decisions_total{reason="allowed",result="allow"}') == 1
        process.terminate()
        assert process.wait(TIMEOUT) in (0, -signal.SIGTERM)
        assert "Traceback" not in (folder / "err").read_text()
    finally:
        process.kill()
        process.wait()
