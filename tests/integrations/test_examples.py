"""The examples run, with a guard by the environment, as their heads say."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from fastmcp.client.transports import StdioTransport
from mcp.shared.exceptions import MCPError

from capability import BiscuitBuilder, KeyPair
from capability.integrations.clients import CapAuth
from capability.integrations.mcp_client import CapClient
from tests.integrations.servers import PATIENCE, asgi_server, celery_worker, wsgi_server

EXAMPLES = Path(__file__).parent.parent.parent / "examples/integrations"
ROOT = KeyPair()
ALICE = BiscuitBuilder('user("alice"); right("read"); right("refund"); right("write"); right("call")').build(
    ROOT.private_key
)
ENVIRONMENT = {
    "CAP_PUBLIC_KEY": repr(ROOT.public_key),
    "CAP_POLICY": "allow if user($user), operation($operation), right($operation)",
    "CAP_STORE": "none",
}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def assert_web(port: int) -> None:
    """Fails unless the service reads and refunds for whoever may."""
    address = f"http://127.0.0.1:{port}/items/7"
    with httpx.Client(auth=CapAuth(ALICE), timeout=PATIENCE) as alice:
        assert alice.get(address).json() == {"item": 7, "for": "alice"}
        assert alice.post(f"{address}/refund").json() == {"refunded": 7, "for": "alice"}
    narrow = CapAuth(ALICE, attenuate={"operation": ["read", "write"]})
    with httpx.Client(auth=narrow, timeout=PATIENCE) as reader:
        assert reader.get(address).status_code == 200
        assert reader.post(f"{address}/refund").status_code == 403
    assert httpx.get(address, timeout=PATIENCE).status_code == 401


def test_starlette() -> None:
    from examples.integrations.starlette_app import make_app

    with asgi_server(make_app()) as port:
        assert_web(port)


def test_fastapi() -> None:
    from examples.integrations.fastapi_app import make_app

    with asgi_server(make_app()) as port:
        assert_web(port)


def test_litestar() -> None:
    from examples.integrations.litestar_app import make_app

    with asgi_server(make_app()) as port:
        assert_web(port)


def test_flask() -> None:
    from examples.integrations.flask_app import make_app

    with wsgi_server(make_app()) as port:
        assert_web(port)


@pytest.mark.parametrize("module", ["django_app", "drf_app"])
def test_django(module: str) -> None:
    program = (
        f"import sys; from examples.integrations.{module} import make_app\n"
        "from tests.integrations.servers import wsgi_server\n"
        "with wsgi_server(make_app()) as port: print(port, flush=True); sys.stdin.read()"
    )
    path = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            assert_web(int(server.stdout.readline()))
        finally:
            server.communicate()


def test_grpc() -> None:
    from examples.integrations.grpc_server import make_server

    server = make_server()
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        get: Any = channel.unary_unary("/shop.Items/Get")
        sent = [("authorization", f"Bearer {ALICE.to_base64()}")]
        assert get(b"7", metadata=sent, timeout=PATIENCE) == b"item 7 for alice"
        with pytest.raises(grpc.RpcError):
            get(b"7", timeout=PATIENCE)
    server.stop(None).wait()


def test_grpc_on_asyncio() -> None:
    from examples.integrations.grpc_aio_server import make_server

    async def run() -> None:
        server = make_server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            get: Any = channel.unary_unary("/shop.Items/Get")
            sent = [("authorization", f"Bearer {ALICE.to_base64()}")]
            assert await get(b"7", metadata=sent, timeout=PATIENCE) == b"item 7 for alice"
            with pytest.raises(grpc.RpcError):
                await get(b"7", timeout=PATIENCE)
        await server.stop(None)

    asyncio.run(run())


def test_clients() -> None:
    from examples.integrations.client import by_httpx, by_requests
    from examples.integrations.starlette_app import make_app

    with asgi_server(make_app()) as port:
        for ask in (by_httpx, by_requests):
            assert ask(f"http://127.0.0.1:{port}/items/7", ALICE.to_base64()) == '{"item":7,"for":"alice"}'


def test_pytest_plugin() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "capability.integrations.pytest_plugin"]
    command += ["-p", "no:cacheprovider", str(EXAMPLES / "test_refunds.py")]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    played = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "2 passed" in played.stdout


def test_celery() -> None:
    from examples.integrations.celery_app import make_app, send

    app = make_app("memory://", "cache+memory://")
    app.conf.update(worker_hijack_root_logger=False, broker_transport_options={"polling_interval": 0.01})
    with celery_worker(app, "ERROR"):
        assert send(app, ALICE.to_base64(), 7) == "refunded order 7 for alice"


def test_mcp() -> None:
    transport = StdioTransport(
        sys.executable, [str(EXAMPLES / "mcp_server.py")], env=dict(os.environ), keep_alive=False
    )
    small = ALICE.attenuate(source='check all tool_argument($n, $v), $n != "amount" || $v <= 100')

    async def run() -> None:
        async with CapClient(transport, token=small) as client:
            paid = await client.call_tool("refund", {"order": 7, "amount": 20})
            assert paid.data == "refunded 20 of order 7"
            with pytest.raises(MCPError, match="does not allow"):
                await client.call_tool("refund", {"order": 7, "amount": 2000})

    asyncio.run(run())
