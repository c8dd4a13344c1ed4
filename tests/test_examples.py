"""The examples do what they say."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from capability import BiscuitBuilder, Guard, KeyPair
from capability.store.memory import MemoryStore
from examples.service import POLICY, make_server

ROOT = Path(__file__).parent.parent


class Service:
    """A running service, the key of its issuer, and its revocations."""

    def __init__(self) -> None:
        self.root = KeyPair()
        self.revocations = MemoryStore()
        guard = Guard(keys=self.root.public_key, policy=POLICY, revocations=self.revocations)
        self.server = make_server(guard, 0)

    def get(self, token: str | None, path: str = "/orders/7") -> tuple[int, str]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            with urlopen(
                Request(f"http://127.0.0.1:{self.server.server_port}{path}", headers=headers)
            ) as answer:
                return answer.status, answer.read().decode().strip()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode().strip()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    thread = threading.Thread(target=running.server.serve_forever)
    thread.start()
    yield running
    running.server.shutdown()
    thread.join()
    running.server.server_close()


def test_service_example(service: Service) -> None:
    alice = BiscuitBuilder('user("alice"); right("orders", "read");').build(service.root.private_key)
    assert service.get(alice.to_base64()) == (200, "here is /orders/7, alice")

    seventh = alice.attenuate(resources=["/orders/7"], expires=timedelta(hours=1)).to_base64()
    assert service.get(seventh)[0] == 200
    assert service.get(seventh, "/orders/8") == (403, "denied")

    past = alice.attenuate(source="check if time($t), $t < 2020-01-01T00:00:00Z").to_base64()
    assert service.get(past) == (401, "expired")
    assert service.get(None)[0] == 401
    assert service.get("nonsense") == (401, "invalid_token")

    service.revocations.revoke(alice.canonical_revocation_ids[:1])
    assert service.get(seventh) == (401, "revoked")


def test_demo_plays_to_its_end() -> None:
    scripts = Path(sys.executable).parent
    played = subprocess.run(
        ["sh", str(ROOT / "examples/demo.sh")],
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    said = [
        line for line in played.stdout.splitlines() if line.startswith(("allowed", "denied:", "revoked:"))
    ]
    assert [line.split()[0] for line in said] == ["allowed", "allowed", "denied:", "revoked:"]
    assert 'it does not hold for operation("write")' in said[2]
    for command in ("keygen", "mint", "attenuate", "inspect", "verify", "revoke", "revoked"):
        assert f"$ cap {command}" in played.stdout
