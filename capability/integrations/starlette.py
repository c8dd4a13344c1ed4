"""Starlette: `requires` for endpoints behind CapMiddleware, and answers for errors raised elsewhere.

app.add_middleware(CapMiddleware, guard=guard, public=["/healthz"])

@requires("refund")
async def refund(request): ...
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from capability.errors import AuthorizationError
from capability.http.problems import Problem, problem_of_error
from capability.integrations import asgi
from capability.integrations.asgi import POLICY_VIOLATION, Access, access_of
from capability.integrations.extras import extra
from capability.integrations.gate import Grant, Refused

with extra("starlette"):
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket, WebSocketState

    from capability.integrations.reviewing import Review, review_order, wrapped

__all__ = ["CapMiddleware", "HTTPRefused", "answer_errors", "grant_of", "requires"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_CONNECTIONS = ("request", "websocket")


class HTTPRefused(Refused, HTTPException):
    """A refusal that has its status and headers even where `answer_errors` was not called."""

    def __init__(self, problem: Problem, realm: str) -> None:
        self.problem = problem
        headers = {name: value for name, value in problem.headers(realm) if name != "Content-Type"}
        HTTPException.__init__(self, problem.status, detail=problem.detail, headers=headers)


class CapMiddleware(asgi.CapMiddleware):
    """That of `capability.integrations.asgi`, which also finds routes to what `requires` has yet to wrap.

    In FastAPI that is `@requires("refund")` above `@app.post("/refund")`: such an application does not start.
    """

    @functools.cached_property
    def _reviewed(self) -> asgi.Application:
        return Review(super().__call__, review=review_order, around=self.app)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await self._reviewed(scope, receive, send)


def requires(*operations: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Lets an endpoint, sync or async, run only when each of `operations` is allowed.

    That is asked beside what CapMiddleware asks of every request, which must stand before it. The endpoint
    has a parameter `request` or `websocket`.
    """
    if not operations or not all(isinstance(operation, str) for operation in operations):
        raise TypeError('name the operations that are needed: @requires("read")')

    def decorate(endpoint: Callable[_P, _R]) -> Callable[_P, _R]:
        names = list(inspect.signature(endpoint).parameters)
        at, name = next(
            ((at, name) for at, name in enumerate(names) if name in _CONNECTIONS), (None, "request")
        )
        if at is None:
            raise TypeError(f"{endpoint.__qualname__} has no parameter 'request' or 'websocket'")
        place = at
        wrapped(endpoint)

        def connection(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HTTPConnection:
            found = kwargs[name] if name in kwargs else args[place]
            assert isinstance(found, HTTPConnection)
            return found

        if inspect.iscoroutinefunction(endpoint):
            awaited = cast(Callable[_P, Awaitable[Any]], endpoint)

            @functools.wraps(endpoint)
            async def asynchronous(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                scope = connection(args, kwargs).scope
                await _access(scope).admit(scope, operations)
                return await awaited(*args, **kwargs)

            return cast(Callable[_P, _R], asynchronous)

        @functools.wraps(endpoint)
        def synchronous(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            scope = connection(args, kwargs).scope
            _access(scope).admit_here(scope, operations)
            return endpoint(*args, **kwargs)

        return synchronous

    return decorate


def grant_of(connection: HTTPConnection) -> Grant:
    """Returns the grant of a request; raises RuntimeError where nothing was asked, as on a public path."""
    return _access(connection.scope).granted()


def answer_errors(app: Starlette, *, realm: str = "cap") -> None:
    """Makes `app` answer what is refused, and an AuthorizationError, by a problem document."""

    async def handle(connection: Request | WebSocket, error: Exception) -> Response | None:
        if isinstance(error, Refused):
            problem = error.problem
        elif isinstance(error, AuthorizationError):
            problem = problem_of_error(error)
        else:
            raise error
        if isinstance(connection, WebSocket):
            denial = "websocket.http.response" in connection.scope.get("extensions", {})
            if connection.application_state is not WebSocketState.CONNECTING or not denial:
                await connection.close(POLICY_VIOLATION, problem.name)
                return None
        head = connection.scope.get("method") == "HEAD"
        return Response(b"" if head else problem.body(), problem.status, headers=dict(problem.headers(realm)))

    # Starlette's types have a handler answer either requests or WebSockets; this one answers both
    handler: Any = handle
    app.add_exception_handler(Refused, handler)
    app.add_exception_handler(AuthorizationError, handler)


def _access(scope: Any) -> Access:
    return access_of(scope, "CapMiddleware does not stand before this endpoint")
