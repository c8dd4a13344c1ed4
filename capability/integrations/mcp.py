"""MCP servers made with FastMCP: each call of a tool is decided, with its arguments; over HTTP and stdio.

    cap = CapMiddleware(guard)
    mcp = FastMCP("orders", middleware=[cap], auth=cap.remote(["https://login.example"], "https://orders.example"))

On stdio leave `auth` out: the token comes in `_meta` of the call. Over HTTP it may come as Bearer, in `_meta`
beside a JWT that is somebody else's, or in both places: then both must allow, and be narrowed from one token.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from capability.builders import Fact
from capability.decision import Decision, Outcome
from capability.errors import AuthorizationError
from capability.guard import Guard
from capability.http.bearer import MalformedRequest, request_token
from capability.http.problems import NO_TOKEN, OF_OUTCOME, Problem, malformed, problem_of, problem_of_error
from capability.http.requests import is_ambiguous
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant, Refused
from capability.integrations.mcp_calls import META_KEY, prompt_facts, tool_facts

with extra("mcp"):
    import mcp_types
    from anyio import to_thread
    from fastmcp.exceptions import FastMCPError
    from fastmcp.prompts.base import PromptResult
    from fastmcp.server.auth import RemoteAuthProvider, TokenVerifier
    from fastmcp.server.auth.auth import AccessToken, AuthProvider
    from fastmcp.server.dependencies import get_access_token, get_http_request
    from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
    from fastmcp.tools.base import ToolResult
    from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
    from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
    from mcp.shared.exceptions import MCPError
    from pydantic import AnyHttpUrl
    from starlette import middleware as starlette_middleware
    from starlette.authentication import AuthenticationError
    from starlette.middleware.authentication import AuthenticationMiddleware
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

__all__ = ["CapMiddleware", "CapRemoteAuthProvider", "CapTokenVerifier"]

_M = TypeVar("_M")
_R = TypeVar("_R")

ERROR_CODE: Final = -32001
"""The JSON-RPC code of a refusal; `data` of the error is the problem document."""

_NO_TOKEN: Final = replace(NO_TOKEN, detail=f"send a token as Bearer, or in _meta under {META_KEY}")
_NOT_OURS: Final = OF_OUTCOME[Outcome.INVALID_TOKEN].name

_UNSTATED: Final = malformed("an argument cannot be stated")

_DECIDED: Final = frozenset({"tools/call", "resources/read", "prompts/get"})
_OPEN: Final = frozenset(
    {
        *("initialize", "ping", "server/discover", "logging/setLevel"),
        *("tools/list", "resources/list", "resources/templates/list", "prompts/list"),
    }
)
"""What needs no decision: the handshake, and what a server offers. All that is not named here is decided."""


class CapMiddleware(Middleware):
    """Decides each request to an MCP server by the token that came with it.

    | request | stated |
    | --- | --- |
    | tools/call | `operation("call")`, `tool(name)`, `tool_argument(name, value)` of what came |
    | resources/read | `operation("read")`, `resource(uri)` |
    | prompts/get | `operation("prompt")`, `prompt(name)`, `prompt_argument(name, value)` |
    | any of these in a version | `version(asked)` too |
    | any other but lists and the handshake | `operation` with the method's name |

    State what a tool *may* get (`check all tool_argument(...)`), not what it may not: an argument that is
    left out states nothing, and a default takes its place.
    """

    def __init__(self, guard: Guard, *, application: str | None = None, realm: str = "cap") -> None:
        self.gate = Gate(guard=guard, application=application, realm=realm)

    def verifier(self) -> "CapTokenVerifier":
        """Returns a TokenVerifier for the transport, as `auth=` or for a provider of your own."""
        return CapTokenVerifier(self)

    def remote(
        self, authorization_servers: Sequence[str], base_url: str, **more: Any
    ) -> "CapRemoteAuthProvider":
        """Returns FastMCP's RemoteAuthProvider with this verifier; `more` are its other arguments."""
        servers = [AnyHttpUrl(server) for server in authorization_servers]
        return CapRemoteAuthProvider(self.verifier(), servers, base_url, **more)

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Decides a call by its tool and arguments, as they came."""
        message = context.message
        try:
            facts = tool_facts(message.name, message.arguments)
        except ValueError as error:
            raise _error(_UNSTATED) from error
        await self._decide(context, "call", facts)
        return await _answered(context, call_next)

    async def on_get_prompt(
        self,
        context: MiddlewareContext[mcp_types.GetPromptRequestParams],
        call_next: CallNext[mcp_types.GetPromptRequestParams, PromptResult],
    ) -> PromptResult:
        """Decides a prompt by its name and arguments."""
        message = context.message
        try:
            facts = prompt_facts(message.name, message.arguments)
        except ValueError as error:
            raise _error(_UNSTATED) from error
        await self._decide(context, "prompt", facts)
        return await _answered(context, call_next)

    async def check_resource_access(
        self, context: MiddlewareContext[mcp_types.ReadResourceRequestParams]
    ) -> None:
        """Decides the reading of a resource by its URI, which must lead to one place only.

        FastMCP decodes what a template matches, and drops a fragment: a token for files://data must not open
        files://data/%2e%2e/secret.
        """
        uri = str(context.message.uri)
        if "#" in uri or is_ambiguous((uri.partition("://")[2] or uri).partition("?")[0]):
            raise _error(malformed("the URI can be read in more than one way"))
        await self._decide(context, "read", resource=uri)

    async def on_request(
        self,
        context: MiddlewareContext[mcp_types.Request[Any, Any]],
        call_next: CallNext[mcp_types.Request[Any, Any], Any],
    ) -> Any:
        """Decides what has no hook of its own."""
        if context.method not in _DECIDED and context.method not in _OPEN:
            await self._decide(context, context.method or "")
        return await call_next(context)

    async def _decide(
        self,
        context: MiddlewareContext[Any],
        operation: str,
        facts: Iterable[Fact] = (),
        resource: str | None = None,
    ) -> None:
        """Lets pass what every token that came with a request allows; raises MCPError."""
        try:
            stated = [*facts, *_version(context)]
            bearer, own = _bearer(), _own(context)
            if self.gate.guard.blocking:
                await to_thread.run_sync(self._decide_all, bearer, own, operation, stated, resource)
            else:
                self._decide_all(bearer, own, operation, stated, resource)
        except Refused as error:
            raise _error(error.problem) from error

    def _decide_all(
        self, bearer: str | None, own: str | None, operation: str, facts: list[Fact], resource: str | None
    ) -> None:
        """Decides by a Bearer token and by the request's own; raises Refused.

        Two that were not narrowed from one and the same are refused even where both allow: they may be of
        two people, and whoever looks at one of them takes the request for that one's.
        """
        grants: list[Grant] = []
        for token in (own, bearer):
            if token is not None:
                try:
                    grants.append(self.gate.decide(token, [operation], resource=resource, facts=facts))
                except Refused as error:
                    # a Bearer token that no guard of ours knows is for somebody else
                    if not grants or error.problem.name != _NOT_OURS:
                        raise
        if not grants:
            raise Refused(_NO_TOKEN)
        if len({grant.revocation_ids[0] for grant in grants}) > 1:
            raise Refused(
                malformed("the token in _meta and the Bearer token are not narrowed from the same one")
            )


class _Backend(BearerAuthBackend):
    """Refuses two tokens, of which the first would be verified."""

    async def authenticate(self, conn: HTTPConnection) -> Any:
        try:
            request_token(conn.headers.items())
        except MalformedRequest as error:
            raise _Unanswerable(malformed(str(error))) from error
        return await super().authenticate(conn)


class _Unanswerable(AuthenticationError):
    """What FastMCP would answer otherwise than by its problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.status} {problem.name}")


class _Answering(AuthProvider):
    """A provider that answers a store which is down by 503, and two tokens by 400."""

    realm: str

    def get_middleware(self) -> list[Any]:
        """Returns the middleware of the HTTP application, as FastMCP asks for it."""

        def answer(conn: HTTPConnection, error: Exception) -> Response:
            if not isinstance(error, _Unanswerable):
                raise error
            problem = error.problem
            return Response(problem.body(), problem.status, headers=dict(problem.headers(self.realm)))

        return [
            starlette_middleware.Middleware(
                AuthenticationMiddleware, backend=_Backend(self), on_error=answer
            ),
            starlette_middleware.Middleware(AuthContextMiddleware),
        ]


class CapTokenVerifier(_Answering, TokenVerifier):
    """Lets in whoever has a genuine token that is neither expired nor revoked.

    That is not leave to do anything: what may be called is decided by the CapMiddleware that this verifier
    is of, call by call, and the server must have it. A token that is narrowed to one tool can be decided
    only when a tool is called.
    """

    def __init__(self, cap: CapMiddleware) -> None:
        super().__init__()
        self.realm = cap.gate.realm
        self._guard = cap.gate.guard

    async def verify_token(self, token: str) -> AccessToken | None:
        """Returns whose token it is, None for no valid token; raises where that cannot be told now."""
        check = self._guard.check
        decision = await to_thread.run_sync(check, token) if self._guard.blocking else check(token)
        if decision.outcome in (Outcome.ALLOWED, Outcome.DENIED):
            return _CapAccessToken.of(decision, token)
        if decision.outcome in (Outcome.INVALID_TOKEN, Outcome.REVOKED, Outcome.EXPIRED):
            return None
        raise _Unanswerable(problem_of(decision))


class CapRemoteAuthProvider(_Answering, RemoteAuthProvider):
    """RemoteAuthProvider with a CapTokenVerifier: `CapMiddleware.remote` makes one."""

    def __init__(
        self,
        token_verifier: CapTokenVerifier,
        authorization_servers: list[AnyHttpUrl],
        base_url: str,
        **more: Any,
    ) -> None:
        super().__init__(
            token_verifier=token_verifier,
            authorization_servers=authorization_servers,
            base_url=base_url,
            **more,
        )
        self.realm = token_verifier.realm


class _CapAccessToken(AccessToken):
    """What FastMCP keeps of a capability token; of another class than what other providers verified.

    The client's id is that of the root block, so that a session stays with a token and what is narrowed
    from it.
    """

    @classmethod
    def of(cls, decision: Decision, token: str) -> "_CapAccessToken":
        expires = decision.expires_at
        return cls(
            token=token,
            client_id=decision.revocation_ids[0],
            subject=decision.subject,
            scopes=[],
            expires_at=None if expires is None else int(expires.timestamp()),
        )


def _bearer() -> str | None:
    """Returns the Bearer token of a request over HTTP, None where another provider took it for its own.

    Raises Refused for more than one.
    """
    try:
        sent = request_token(get_http_request().headers.items())
    except MalformedRequest as error:
        raise Refused(malformed(str(error))) from error
    except RuntimeError:  # says FastMCP where there is no HTTP
        return None
    verified = get_access_token()
    return sent if verified is None or isinstance(verified, _CapAccessToken) else None


def _own(context: MiddlewareContext[Any]) -> str | None:
    """Returns the token in the `_meta` of a request; raises Refused for what is no text."""
    meta = context.message.meta if isinstance(context.message, mcp_types.RequestParams) else None
    own = dict(meta or {}).get(META_KEY)
    if own is None and context.fastmcp_context is not None:
        request = context.fastmcp_context.request_context
        own = None if request is None else (request.meta or {}).get(META_KEY)
    if own is not None and not isinstance(own, str):
        raise Refused(malformed("the token in _meta is no text"))
    return own


def _version(context: MiddlewareContext[Any]) -> list[Fact]:
    """Returns what a request states of the version of a tool, prompt or resource that it asks for."""
    meta = context.message.meta if isinstance(context.message, mcp_types.RequestParams) else None
    fastmcp: Any = dict(meta or {}).get("fastmcp") or {}
    asked = fastmcp.get("version")
    if asked is None:
        return []
    return [Fact("version({asked})", {"asked": asked if isinstance(asked, str) else json.dumps(asked)})]


async def _answered(context: MiddlewareContext[_M], call_next: CallNext[_M, _R]) -> _R:
    """Goes on, and answers an AuthorizationError that a tool raises by its problem."""
    try:
        return await call_next(context)
    except AuthorizationError as error:
        raise _error(problem_of_error(error)) from error
    except FastMCPError as error:  # in which FastMCP wraps what tools raise
        if isinstance(error.__cause__, AuthorizationError):
            raise _error(problem_of_error(error.__cause__)) from error
        raise


def _error(problem: Problem) -> MCPError:
    return MCPError(ERROR_CODE, f"{problem.title.lower()}: {problem.detail}", problem.to_dict())
