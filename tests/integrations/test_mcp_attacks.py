"""Attacks on an MCP server, as JSON-RPC over HTTP, without the care that a client takes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastmcp import Client, FastMCP
from fastmcp.server.auth import AuthProvider, RemoteAuthProvider
from mcp.shared.exceptions import MCPError
from mcp_types.methods import SPEC_CLIENT_METHODS
from pydantic import AnyHttpUrl

from capability import BiscuitBuilder, Guard
from capability.integrations.mcp import CapMiddleware
from capability.integrations.mcp_calls import META_KEY, call_token, prompt_token, resource_token, tool_facts
from capability.integrations.mcp_client import CapClient
from tests.integrations.issuer import Issuer
from tests.integrations.mcp_server import POLICY, RIGHTS, make_server
from tests.integrations.servers import PATIENCE, asgi_server
from tests.integrations.test_mcp import Passwords, use

CALL = {"name": "refund", "arguments": {"order": 7}}
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
LISTS = {"tools/list", "resources/list", "resources/templates/list", "prompts/list"}
OPEN = LISTS | {"initialize", "ping", "logging/setLevel", "server/discover"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "tools/call": CALL,
    "resources/read": {"uri": "orders://7"},
    "resources/subscribe": {"uri": "orders://7"},
    "resources/unsubscribe": {"uri": "orders://7"},
    "prompts/get": {"name": "greet", "arguments": {"name": "bob"}},
    "logging/setLevel": {"level": "debug"},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "greet"},
        "argument": {"name": "name", "value": "b"},
    },
}


class Session:
    """A session with a server, and the header that its next request takes along."""

    def __init__(self, port: int, *bearer: str) -> None:
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.id: str | None = None
        self.bearer = bearer
        opening = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        opened = self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening})
        self.id = opened.headers["mcp-session-id"]
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def post(self, message: Any) -> httpx.Response:
        headers = [("Accept", "application/json, text/event-stream"), ("Content-Type", "application/json")]
        headers += [("Authorization", f"Bearer {token}") for token in self.bearer]
        if self.id is not None:
            headers.append(("Mcp-Session-Id", self.id))
        return httpx.post(self.url, headers=headers, content=json.dumps(message), timeout=PATIENCE)

    def ask(self, method: str, parameters: dict[str, Any] | None = None, meta: Any = None) -> str:
        """Returns the result's text, or the name of the problem, or the code of another error."""
        params = {**(parameters or {})} | ({} if meta is None else {"_meta": meta})
        answer = self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        if answer.status_code != 200:
            return str(answer.status_code)
        data = [line for line in answer.text.splitlines() if line.startswith("data: ")]
        message = json.loads(data[-1].removeprefix("data: ") if data else answer.text)
        if "result" in message:
            result = message["result"]
            found = result.get("content") or result.get("contents") or [{"text": json.dumps(result)}]
            return str(found[0]["text"])
        error = message["error"]
        return str(dict(error.get("data") or {}).get("type", error["code"])).rpartition(":")[2]

    def call(self, *tokens: object, name: str = "refund", **arguments: Any) -> str:
        """Calls a tool, with one token in `_meta` or none."""
        meta = {META_KEY: tokens[0]} if tokens else None
        return self.ask("tools/call", {"name": name, "arguments": arguments or {"order": 7}}, meta)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(POLICY, RIGHTS)


def bob(issuer: Issuer) -> str:
    """Returns the token of somebody else, with the same rights."""
    return BiscuitBuilder(RIGHTS.replace("alice", "bob")).build(issuer.root.private_key).to_base64()


@contextmanager
def serving(issuer: Issuer, auth: str = "none") -> Iterator[int]:
    cap = CapMiddleware(issuer.guard)
    providers: dict[str, AuthProvider | None] = {
        "none": None,
        "ours": cap.remote(["https://login.example"], "http://127.0.0.1"),
        "other": RemoteAuthProvider(Passwords(), [AnyHttpUrl("https://login.example")], "http://127.0.0.1"),
    }
    with asgi_server(make_server(issuer.guard, cap, providers[auth]).http_app()) as port:
        yield port


def test_every_request_but_lists_and_the_handshake_is_decided(issuer: Issuer) -> None:
    """Those of the protocol, those of extensions, and those that nobody knows."""
    nothing = issuer.narrowed('check if tool("nothing")')
    with serving(issuer) as port:
        session = Session(port)
        for method in sorted(
            SPEC_CLIENT_METHODS | {"tasks/get", "tasks/result", "skills/list", "nobody/knows"}
        ):
            if method not in OPEN:
                assert session.ask(method, PARAMETERS.get(method)) == "token-missing", method
                denied = session.ask(method, PARAMETERS.get(method), {META_KEY: nothing})
                assert denied == "denied", method
        assert "secret" in session.ask("tools/list")
        assert session.call(issuer.token(), name="secret") == "denied"


def test_over_http_without_a_provider_the_bearer_token_is_decided(issuer: Issuer) -> None:
    with serving(issuer) as port:
        session = Session(port, issuer.token())
        assert session.call() == "refunded 7: none"
        assert session.call(name="secret") == "denied"
        session.bearer = (issuer.foreign(),)
        assert session.call() == "token-invalid"
        session.bearer = ()
        assert session.call() == "token-missing"


@pytest.mark.parametrize("auth", ["none", "ours"])
def test_a_bearer_token_and_another_one_in_meta(issuer: Issuer, auth: str) -> None:
    token, narrow = issuer.token(), issuer.narrowed('check all tool($t), $t == "other"')
    with serving(issuer, auth) as port:
        session = Session(port, token)
        assert session.call(call_token(token, "refund", CALL["arguments"])) == "refunded 7: none"  # type: ignore[arg-type]
        assert session.call(narrow) == "denied"
        assert session.call(bob(issuer)) == "request-malformed"
        assert session.call(issuer.expired()) == "token-expired"
        assert session.call(issuer.foreign()) == "token-invalid"
        for malformed in ([token, token], {"token": token}, 7):
            assert session.call(malformed) == "request-malformed"
        session.bearer = (narrow,)
        assert session.call(token) == "denied"
        session.bearer = (token, token)
        assert session.call(token) in ("400", "request-malformed")
        session.bearer = (f"{token}, Bearer {token}",)
        assert session.call(token) in ("400", "request-malformed")


def test_a_jwt_beside_the_token_in_meta(issuer: Issuer) -> None:
    token = issuer.token()
    with serving(issuer) as port:
        session = Session(port, JWT)
        assert session.call(token) == "refunded 7: none"
        assert session.call(token, name="secret") == "denied"
        assert session.call() == "token-invalid"
    with serving(issuer, "other") as port:
        session = Session(port, "open-sesame")
        assert session.call(token) == "refunded 7: none"
        assert session.call() == "token-missing"
        session.bearer = (JWT,)
        assert session.call(token) == "401"
    with serving(issuer, "ours") as port:
        session = Session(port, token)
        session.bearer = (JWT,)
        assert session.call(token) == "401"


def test_a_session_lends_its_token_to_nobody(issuer: Issuer) -> None:
    token, narrow = issuer.token(), issuer.narrowed('check all tool($t), $t == "other"')
    with serving(issuer, "ours") as port:
        session = Session(port, token)
        assert session.call() == "refunded 7: none"
        for stranger, answer in (((narrow,), "denied"), ((bob(issuer),), "404"), ((), "401")):
            session.bearer = stranger
            assert session.call() == answer
        session.bearer = (token,)
        assert session.call() == "refunded 7: none"
        issuer.revoke(issuer.alice)
        assert session.call() == "401"


def test_batches_are_refused_as_a_whole(issuer: Issuer) -> None:
    def message(at: int, meta: dict[str, str]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": at, "method": "tools/call", "params": {**CALL, "_meta": meta}}

    with serving(issuer) as port:
        answer = Session(port).post([message(1, {META_KEY: issuer.token()}), message(2, {})])
    assert answer.status_code == 400
    assert "refunded" not in answer.text


def test_arguments_that_are_missing_extra_or_of_another_type(issuer: Issuer) -> None:
    below_ten = issuer.narrowed('check all tool_argument($n, $v), $n == "order" && $v < 10')
    with serving(issuer) as port:
        session = Session(port)
        assert session.call(below_ten, order=7) == "refunded 7: none"
        assert session.call(below_ten, order=7.0) == "refunded 7: none"
        assert session.call(below_ten, order=10) == "denied"
        assert session.call(below_ten, order=7, reason="x") == "denied"
        assert session.call(below_ten, order=7, unknown=1) == "denied"
        assert session.call(below_ten, Order=70) == "denied"
        for other in ("7", True, None, [7], {"order": 7}, 7.5, float("nan"), 1e18 + 0.5):
            assert session.call(below_ten, order=other) in ("denied", "not-decidable"), other
        for unstated in (2**63, 1e300, [[[2**64]]]):
            assert session.call(below_ten, order=unstated) == "request-malformed", unstated
        # what is left out states nothing: a check of all arguments has none to hold for
        missing = session.ask("tools/call", {"name": "refund"}, {META_KEY: below_ten})
        assert missing == "denied"
        assert "Missing required" in session.ask("tools/call", {"name": "refund"}, {META_KEY: issuer.token()})
        assert session.ask("tools/call", {"name": "refund", "arguments": "x"}) == "-32602"


def test_a_name_that_is_no_tool_s_is_decided_before_it_is_looked_up(issuer: Issuer) -> None:
    with serving(issuer) as port:
        session = Session(port)
        for name in ("Refund", "refund ", "refund\u0000", "x_refund", "ｒｅｆｕｎｄ", ""):
            assert session.call(issuer.token(), name=name) == "denied", name


def test_uris_that_can_be_read_in_two_ways(issuer: Issuer) -> None:
    """FastMCP decodes what a template matches, so that the last of these once read data/../secret."""
    guard = Guard(issuer.root.public_key, "allow if user($u), resource($r)")
    mcp: FastMCP = FastMCP("files", middleware=[CapMiddleware(guard)])

    @mcp.resource("files://data/{path*}")
    def file(path: str) -> str:
        return path

    below = {META_KEY: issuer.narrowed(resources=["files://data/a"])}
    with asgi_server(mcp.http_app()) as port:
        session = Session(port)
        for uri, path in (
            ("files://data/a", "a"),
            ("files://data/a/b", "a/b"),
            ("files://data/a/b%20c", "a/b c"),
        ):
            assert session.ask("resources/read", {"uri": uri}, below) == path
        for uri in ("files://data/b", "files://data/a%20b", "FILES://data/a/b", "files://data/a?b"):
            assert session.ask("resources/read", {"uri": uri}, below) == "denied", uri
        for rest in (
            "//b",
            "/../b",
            "/./b",
            "/x;b",
            "/b#c",
            "/\\b",
            "/%5cb",
            "/b%00",
            "/b%2fc",
            "/%2E%2e/secret",
        ):
            answer = session.ask("resources/read", {"uri": f"files://data/a{rest}"}, below)
            assert answer == "request-malformed", rest


def test_a_version_that_is_asked_for_is_stated(issuer: Issuer) -> None:
    guard = Guard(issuer.root.public_key, "allow if user($u)")
    mcp: FastMCP = FastMCP("shop", middleware=[CapMiddleware(guard)])

    def refund(order: int) -> str:
        return "the old one"

    def better(order: int) -> str:
        return "the new one"

    mcp.tool(refund, version="1.0")
    mcp.tool(better, name="refund", version="2.0")
    newest = issuer.narrowed("reject if version($v)")
    own = call_token(issuer.alice, "refund", {"order": 7})
    first = call_token(issuer.alice, "refund", {"order": 7}, version="1.0")

    with asgi_server(mcp.http_app()) as port:
        session = Session(port)

        def ask(token: str, version: str | None) -> str:
            asked = {} if version is None else {"fastmcp": {"version": version}}
            return session.ask("tools/call", CALL, {META_KEY: token, **asked})

        for token in (newest, own):
            assert (ask(token, None), ask(token, "1.0")) == ("the new one", "denied")
        assert (ask(first, None), ask(first, "1.0"), ask(first, "2.0")) == ("denied", "the old one", "denied")

    async def call(client: Client[Any]) -> list[Any]:
        return [(await client.call_tool("refund", {"order": 7}, version=each)).data for each in (None, "1.0")]

    assert use(CapClient(mcp, token=issuer.alice), call) == ["the new one", "the old one"]


def test_what_a_client_s_token_of_one_request_is_good_for(issuer: Issuer) -> None:
    """Each of them is taken from the wire and sent along with another request."""
    guard = Guard(issuer.root.public_key, "allow if user($u)")
    refund, prompt, resource = (
        call_token(issuer.alice, "refund", {"order": 7}),
        prompt_token(issuer.alice, "greet", {"name": "bob"}),
        resource_token(issuer.alice, "orders://7"),
    )
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        refund: ("tools/call", CALL),
        prompt: ("prompts/get", PARAMETERS["prompts/get"]),
        resource: ("resources/read", {"uri": "orders://7"}),
    }
    others: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": "refund", "arguments": {"order": 8}}),
        ("tools/call", {"name": "refund", "arguments": {"order": 7, "reason": "x"}}),
        ("tools/call", {"name": "secret", "arguments": {}}),
        ("prompts/get", {"name": "greet", "arguments": {"name": "eve"}}),
        ("prompts/get", {"name": "greet", "arguments": {"name": "bob", "more": "x"}}),
        ("resources/read", {"uri": "orders://8"}),
        ("resources/read", {"uri": "orders://7/below"}),
        ("completion/complete", PARAMETERS["completion/complete"]),
    ]
    with asgi_server(make_server(guard, CapMiddleware(guard)).http_app()) as port:
        session = Session(port)
        for token, own in requests.items():
            meta = {META_KEY: token}
            assert session.ask(*own, meta) not in ("denied", "token-missing", "-32602")
            for method, parameters in (*others, *(each for each in requests.values() if each != own)):
                assert session.ask(method, parameters, meta) == "denied", (own, method, parameters)


def test_a_client_sends_no_token_but_the_one_of_its_request(issuer: Issuer) -> None:
    """A token that its caller put into `meta` would be good for more."""
    seen: list[Any] = []

    class Noting(CapMiddleware):
        async def on_request(self, context: Any, call_next: Any) -> Any:
            request = context.fastmcp_context.request_context
            seen.append((context.method, dict((request.meta if request else None) or {}).get(META_KEY)))
            return await super().on_request(context, call_next)

    server = make_server(issuer.guard, Noting(issuer.guard))

    async def all_of(client: Client[Any]) -> None:
        wide = {META_KEY: issuer.token()}
        await client.call_tool("refund", {"order": 7}, meta=wide)
        await client.get_prompt("greet", {"name": "bob"}, meta=wide)
        await client.read_resource("orders://7", meta=wide)
        await client.list_tools()
        with pytest.raises(MCPError):
            await client.call_tool("secret", meta=wide)

    use(CapClient(server, token=issuer.token()), all_of)
    sent = {method: token for method, token in seen if token is not None}
    assert set(sent) == {"tools/call", "prompts/get", "resources/read"}
    assert issuer.token() not in sent.values()
    check = issuer.guard.check
    assert not check(sent["tools/call"], operation="call", facts=tool_facts("refund", {"order": 8})).allowed
