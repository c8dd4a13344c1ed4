"""The check as an ASGI application, under uvicorn."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capability import Biscuit
from capability.errors import ConfigurationError
from capability.sidecar.asgi import application
from capability.sidecar.settings import SettingsError
from capability.store import create_store
from tests.integrations.servers import asgi_server, send
from tests.sidecar.processes import ROOT as PROJECT
from tests.sidecar.processes import wait_until
from tests.sidecar.tokens import ROOT, mint

KEY = repr(ROOT.public_key)


@contextlib.contextmanager
def served(**options: Any) -> Iterator[int]:
    """Runs `application` under uvicorn, with what stands in the environment; yields its port."""
    with asgi_server(application(), **options) as port:
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
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    program = ("-m", "uvicorn", "--factory", "capability.sidecar.asgi:application")
    done = subprocess.run(
        [sys.executable, *program, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 3
    assert "none.datalog" in done.stderr
