"""Any ASGI application behind a guard: HTTP and WebSocket requests are decided, the lifespan passes.

    app = CapMiddleware(app, guard=guard, public=["/healthz"])

The token of a WebSocket is that of its handshake; once it is open, nothing is asked again.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

from capability.builders import Fact
from capability.errors import AuthorizationError
from capability.guard import Guard
from capability.http.problems import Problem, problem_of_error
from capability.http.requests import READ, WRITE, operations_of
from capability.integrations.gate import Gate, Grant, Refused, check_path, checked_public, is_public

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY: Final = "cap"
POLICY_VIOLATION: Final = 1008
"""The code that closes a WebSocket (RFC 6455 section 7.4.1)."""


class Access:
    """What an ASGI scope holds of the guard before it: how to ask, and the grant of the last answer.

    `resource` and `facts` are functions of the scope; without `resource` it is the path, in full, as the
    client sent it: neither `root_path` nor where an application is mounted changes it.
    """

    __slots__ = ("_facts", "_resource", "gate", "grant")

    def __init__(
        self,
        gate: Gate,
        resource: Callable[[Scope], str] | None = None,
        facts: Callable[[Scope], Iterable[Fact]] | None = None,
    ) -> None:
        self.gate = gate
        self._resource = resource
        self._facts = facts
        self.grant: Grant | None = None

    async def admit(self, scope: Scope, operations: Sequence[str] = ()) -> Grant:
        """Decides the request of `scope`, off the event loop where a store may be asked; raises Refused."""
        if self.gate.guard.blocking:
            from anyio import to_thread

            return await to_thread.run_sync(self.admit_here, scope, operations)
        return self.admit_here(scope, operations)

    def admit_here(self, scope: Scope, operations: Sequence[str] = ()) -> Grant:
        """Decides as `admit`, in the thread of the caller."""
        self.grant = None
        self.grant = self.gate.admit(
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
            method=scope.get("method", ""),
            path=scope["path"],
            operations=operations or _operations(scope),
            resource=None if self._resource is None else self._resource(scope),
            facts=() if self._facts is None else self._facts(scope),
        )
        return self.grant

    def granted(self) -> Grant:
        """Returns the grant of the last answer; raises RuntimeError where nothing was asked."""
        if self.grant is None:
            raise RuntimeError("nothing was decided about this request: its path is public")
        return self.grant


def access_of(scope: Any, without: str) -> Access:
    """Returns what a scope holds of the guard before it; raises RuntimeError with `without` for nothing."""
    access = scope.get(SCOPE_KEY)
    if not isinstance(access, Access):
        raise RuntimeError(f"{without}, so nothing can be decided")
    return access


class CapMiddleware:
    """Decides every request before `app` sees it, and answers what is not allowed.

    A request needs the operation of its method ("read" for GET, HEAD and OPTIONS, else "write"; a WebSocket
    needs both), or what `operations(scope)` returns. Paths of `public` need no token, and neither does what
    is below one of them that ends in a slash. `application` is stated of each request, and so is
    `resource(scope)` (the path, if None) and `facts(scope)`. With `api_key` the token may come in X-API-Key.

    An AuthorizationError that `app` raises before it has answered is answered the same way.
    """

    def __init__(
        self,
        app: Application,
        *,
        guard: Guard,
        public: Iterable[str] = (),
        application: str | None = None,
        realm: str = "cap",
        api_key: bool = False,
        operations: Callable[[Scope], Sequence[str]] | None = None,
        resource: Callable[[Scope], str] | None = None,
        facts: Callable[[Scope], Iterable[Fact]] | None = None,
    ) -> None:
        self.app = app
        self._gate = Gate(guard=guard, application=application, realm=realm, api_key=api_key)
        self._public = checked_public(public)
        self._operations = _operations if operations is None else operations
        self._resource = resource
        self._facts = facts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] not in ("http", "websocket"):
            raise ValueError(f"requests of the type {scope['type']!r} cannot be decided, so they are refused")
        answered = False

        async def noting(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        access = scope[SCOPE_KEY] = Access(self._gate, self._resource, self._facts)
        try:
            if is_public(routed_path(scope), self._public):
                check_path(scope["path"])
            else:
                await access.admit(scope, self._operations(scope))
            return await self.app(scope, receive, noting)
        except Refused as error:
            problem = error.problem
            if answered:
                return await _break_off(scope, send, error)
        except AuthorizationError as error:
            problem = problem_of_error(error)
            if answered:
                return await _break_off(scope, send, error)
        return await answer(scope, send, problem, self._gate.realm)


async def answer(scope: Scope, send: Send, problem: Problem, realm: str) -> None:
    """Sends `problem` as the answer to a request, which must not have been answered before."""
    prefix = ""
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            return await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": problem.name})
        prefix = "websocket."
    body = problem.body()
    headers = [*problem.fields(realm), (b"content-length", b"%d" % len(body))]
    await send({"type": f"{prefix}http.response.start", "status": problem.status, "headers": headers})
    content = b"" if scope.get("method") == "HEAD" else body
    return await send({"type": f"{prefix}http.response.body", "body": content})


def routed_path(scope: Scope) -> str:
    """Returns the path as a router of this application sees it: without the `root_path` it is mounted at."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    if path == root:
        return ""
    return path[len(root) :] if path.startswith(f"{root}/") else path


async def _break_off(scope: Scope, send: Send, error: Exception) -> None:
    """Closes a WebSocket that was opened already; a response that has begun is the server's to break off."""
    if scope["type"] != "websocket":
        raise error
    await send({"type": "websocket.close", "code": POLICY_VIOLATION})


def _operations(scope: Scope) -> Sequence[str]:
    return (READ, WRITE) if scope["type"] == "websocket" else operations_of(scope["method"])
