"""MCP servers and clients: over stdio, over HTTP, and in one process."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.auth import BearerAuth
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.server.auth import AccessToken, RemoteAuthProvider, TokenVerifier
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference
from pydantic import AnyHttpUrl

from capability import Guard
from capability.integrations.mcp import CapMiddleware
from capability.integrations.mcp_calls import META_KEY, call_token, tool_facts
from capability.integrations.mcp_client import CapClient
from tests.integrations.issuer import Issuer
from tests.integrations.mcp_server import POLICY, RIGHTS, make_server
from tests.integrations.servers import PATIENCE, asgi_server, send

ROOT = Path(__file__).parent.parent.parent
CALL = {"order": 7}


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(POLICY, RIGHTS)


def use(client: Client[Any], act: Callable[[Client[Any]], Awaitable[Any]]) -> Any:
    """Connects, acts once, and returns what came of it: a value, or the problem that it was refused with."""

    async def run() -> Any:
        async with client:
            try:
                return await act(client)
            except MCPError as error:
                return error.data

    return asyncio.run(run())


def calling(name: str, arguments: dict[str, Any] | None = None, **more: Any) -> Callable[[Any], Any]:
    async def act(client: Client[Any]) -> Any:
        return (await client.call_tool(name, arguments, **more)).data

    return act


def local(issuer: Issuer) -> FastMCP:
    return make_server(issuer.guard, CapMiddleware(issuer.guard))


def problem(answer: Any) -> str:
    assert answer["type"].startswith("urn:cap:problem:"), answer
    return str(answer["type"]).rpartition(":")[2]


def test_over_stdio(issuer: Issuer) -> None:
    arguments = ["-m", "tests.integrations.mcp_server", repr(issuer.root.public_key)]
    transport = StdioTransport(sys.executable, arguments, cwd=str(ROOT), keep_alive=False)

    async def all_of(client: Client[Any]) -> list[Any]:
        answers: list[Any] = [
            (await client.call_tool("refund", CALL)).data,
            [tool.name for tool in await client.list_tools()],
        ]
        for refused in (client.call_tool("secret"), Client.call_tool_mcp(client, "refund", CALL)):
            try:
                await refused
            except MCPError as error:
                answers.append(error.data)
        return answers

    done, tools, denied, bare = use(CapClient(transport, token=issuer.token()), all_of)
    assert (done, tools) == ("refunded 7: none", ["refund", "secret", "asks"])
    assert (problem(denied), problem(bare)) == ("denied", "token-missing")


def test_the_tool_and_its_arguments_are_decided(issuer: Issuer) -> None:
    below_ten = issuer.narrowed('check all tool_argument($n, $v), $n != "order" || $v < 10')

    def ask(arguments: dict[str, Any]) -> Any:
        return use(Client(local(issuer)), calling("refund", arguments, meta={META_KEY: below_ten}))

    assert ask({"order": 7}) == "refunded 7: none"
    assert ask({"order": 7, "reason": "broken"}) == "refunded 7: broken"
    assert problem(ask({"order": 70})) == "denied"
    assert problem(ask({"order": "7"})) == "not-decidable"
    assert problem(ask({"order": 7.5})) == "not-decidable"
    assert problem(ask({"order": 2**70})) == "request-malformed"


def test_a_call_s_token_is_good_for_that_call_alone(issuer: Issuer) -> None:
    own = call_token(issuer.alice, "refund", CALL)

    def ask(name: str, arguments: dict[str, Any]) -> Any:
        return use(Client(local(issuer)), calling(name, arguments, meta={META_KEY: own}))

    assert ask("refund", CALL) == "refunded 7: none"
    for arguments in ({"order": 8}, {"order": 7, "reason": "x"}, {}):
        assert problem(ask("refund", arguments)) == "denied"
    assert problem(ask("asks", {})) == "denied"
    nothing = call_token(issuer.alice, "refund")
    assert issuer.guard.check(nothing, operation="call", facts=tool_facts("refund", {})).allowed
    assert not issuer.guard.check(nothing, operation="call", facts=tool_facts("refund", CALL)).allowed


def test_structured_arguments_are_stated_as_they_came(issuer: Issuer) -> None:
    arguments = {"a": [1, "x", None, True], "b": {"k": [2.0, 2.5]}, "c": None, "d": 5.0}
    assert [str(fact) for fact in tool_facts("t", arguments)] == [
        'tool("t")',
        'tool_argument("a", [1, "x", null, true])',
        'tool_argument("b", {"k": [2, "2.5"]})',
        'tool_argument("c", null)',
        'tool_argument("d", 5)',
    ]
    guard = Guard(issuer.root.public_key, "allow if user($u)")
    own = call_token(issuer.alice, "t", arguments)
    assert guard.check(own, facts=tool_facts("t", arguments)).allowed
    assert not guard.check(own, facts=tool_facts("t", {**arguments, "d": 6})).allowed


def test_resources_prompts_and_the_rest_are_decided(issuer: Issuer) -> None:
    async def read(client: Client[Any]) -> Any:
        return (await client.read_resource("orders://7"))[0].text  # type: ignore[union-attr]

    async def prompt(client: Client[Any]) -> Any:
        return (await client.get_prompt("greet", {"name": "bob"})).messages[0].content.text  # type: ignore[union-attr]

    async def complete(client: Client[Any]) -> Any:
        return await client.complete(PromptReference(name="greet"), {"name": "name", "value": "b"})

    assert use(CapClient(local(issuer), token=issuer.token()), read) == "order 7"
    assert use(CapClient(local(issuer), token=issuer.token()), prompt) == "hello bob"
    for act in (read, prompt, complete):
        assert problem(use(Client(local(issuer)), act)) == "token-missing"
    narrow = issuer.narrowed(operations=["call"])
    for act in (read, prompt):
        assert problem(use(CapClient(local(issuer), token=narrow), act)) == "denied"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda issuer: "nonsense", "token-invalid"),
        (lambda issuer: issuer.foreign(), "token-invalid"),
        (lambda issuer: issuer.expired(), "token-expired"),
        (lambda issuer: issuer.narrowed('check all tool($t), $t == "other"'), "denied"),
        (lambda issuer: ["a", "b"], "request-malformed"),
    ],
)
def test_tokens_that_are_refused(issuer: Issuer, make: Callable[[Issuer], Any], name: str) -> None:
    act = calling("refund", CALL, meta={META_KEY: make(issuer)})
    assert problem(use(Client(local(issuer)), act)) == name


def test_revoked_and_the_store_down(issuer: Issuer) -> None:
    act = calling("refund", CALL, meta={META_KEY: issuer.token()})
    issuer.revocations.down = True
    down = use(Client(local(issuer)), act)
    assert (problem(down), down["status"]) == ("revocations-unavailable", 503)
    issuer.revocations.down = False
    issuer.revoke(issuer.alice)
    assert problem(use(Client(local(issuer)), act)) == "token-revoked"


def test_what_a_tool_asks_itself(issuer: Issuer) -> None:
    act = calling("asks", meta={META_KEY: issuer.token()})
    assert problem(use(Client(local(issuer)), act)) == "token-invalid"


class Web:
    """The server over HTTP, with its own provider and with one for other people's tokens."""

    def __init__(self, issuer: Issuer, port: int) -> None:
        self.issuer = issuer
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.port = port

    def transport(self, bearer: str | None) -> StreamableHttpTransport:
        return StreamableHttpTransport(self.url, auth=None if bearer is None else BearerAuth(bearer))


class Passwords(TokenVerifier):
    """Another provider, whose tokens are no capability tokens."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="c", scopes=[]) if token == "open-sesame" else None


@pytest.fixture
def web(issuer: Issuer) -> Iterator[Web]:
    cap = CapMiddleware(issuer.guard)
    server = make_server(issuer.guard, cap, cap.remote(["https://login.example"], "http://127.0.0.1"))
    with asgi_server(server.http_app()) as port:
        yield Web(issuer, port)


def test_over_http_the_bearer_token_decides(web: Web) -> None:
    token = web.issuer.token()
    assert use(Client(web.transport(token)), calling("refund", CALL)) == "refunded 7: none"
    assert problem(use(Client(web.transport(token)), calling("secret"))) == "denied"
    narrow = call_token(token, "refund", CALL)
    assert use(Client(web.transport(narrow)), calling("refund", CALL)) == "refunded 7: none"
    assert problem(use(Client(web.transport(narrow)), calling("refund", {"order": 8}))) == "denied"


def test_over_http_both_tokens_must_allow(web: Web) -> None:
    token = web.issuer.token()
    client = CapClient(web.transport(token), token=token)
    assert use(client, calling("refund", CALL)) == "refunded 7: none"
    wide, narrow = {META_KEY: token}, web.issuer.narrowed('check all tool($t), $t == "other"')
    assert problem(use(Client(web.transport(narrow)), calling("refund", CALL, meta=wide))) == "denied"
    assert (
        problem(use(Client(web.transport(token)), calling("refund", CALL, meta={META_KEY: narrow})))
        == "denied"
    )


def test_over_http_answers_before_mcp(web: Web) -> None:
    def status(*headers: tuple[str, str]) -> int:
        return send(
            web.port, "POST", "/mcp", [("Accept", "application/json, text/event-stream"), *headers]
        ).status

    token = ("Authorization", f"Bearer {web.issuer.token()}")
    assert status() == 401
    assert status(token, token) == 400
    assert status(("Authorization", f"Bearer {web.issuer.expired()}")) == 401
    assert status(("Authorization", f"Bearer {web.issuer.foreign()}")) == 401
    web.issuer.revocations.down = True
    assert status(token) == 503
    web.issuer.revocations.down = False
    web.issuer.revoke(web.issuer.alice)
    assert status(token) == 401
    metadata = httpx.get(
        f"http://127.0.0.1:{web.port}/.well-known/oauth-protected-resource/mcp", timeout=PATIENCE
    ).json()
    assert metadata["authorization_servers"] == ["https://login.example/"]


def test_beside_a_token_of_another_provider(issuer: Issuer) -> None:
    cap = CapMiddleware(issuer.guard)
    auth = RemoteAuthProvider(Passwords(), [AnyHttpUrl("https://login.example")], "http://127.0.0.1")
    with asgi_server(make_server(issuer.guard, cap, auth).http_app()) as port:
        web = Web(issuer, port)
        client = CapClient(web.transport("open-sesame"), token=issuer.token)
        assert use(client, calling("refund", CALL)) == "refunded 7: none"
        assert problem(use(Client(web.transport("open-sesame")), calling("refund", CALL))) == "token-missing"
