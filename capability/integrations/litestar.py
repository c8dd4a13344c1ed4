"""Litestar: a plugin that decides every request, and `requires`, a guard of routes that need more.

app = Litestar([refund], plugins=[CapPlugin(guard, public=["/healthz"])])

@post("/refund", guards=[requires("refund")])
async def refund(grant: NamedDependency[Grant]) -> str: ...
"""

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, Final
from urllib.parse import unquote

from capability.builders import Fact
from capability.errors import AuthorizationError
from capability.guard import Guard
from capability.http.problems import MEDIA_TYPE, Problem, problem_of_error
from capability.integrations.asgi import POLICY_VIOLATION, SCOPE_KEY, Access, Scope, access_of
from capability.integrations.extras import extra
from capability.integrations.gate import (
    AMBIGUOUS_PATH,
    Gate,
    Grant,
    Refused,
    check_path,
    checked_public,
    is_public,
)

with extra("litestar"):
    from litestar import Request, Response
    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.di import Provide
    from litestar.exceptions import WebSocketException
    from litestar.handlers import BaseRouteHandler
    from litestar.openapi.spec import Components, SecurityScheme
    from litestar.plugins import InitPlugin
    from litestar.types import Scope as LitestarScope

__all__ = ["CapPlugin", "Grant", "grant_of", "requires"]

Connection = ASGIConnection[Any, Any, Any, Any]

_BEARER: Final = "capability token"
_IN_API_KEY: Final = "capability token as X-API-Key"


class CapPlugin(InitPlugin):
    """Decides every request that has a route, before its dependencies and its body are looked at.

    A request needs the operation of its method ("read" for GET, HEAD and OPTIONS, else "write"; a WebSocket
    needs both). Paths of `public` need no token, and neither does what is below one of them that ends in a
    slash. `application` is stated of each request, and so is `resource(scope)` (the path, if None) and
    `facts(scope)`; the path has no slash at its end, since Litestar routes both alike. With `api_key` the
    token may come in X-API-Key. The dependency `grant` is the grant.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        public: Iterable[str] = (),
        application: str | None = None,
        realm: str = "cap",
        api_key: bool = False,
        resource: Callable[[Scope], str] | None = None,
        facts: Callable[[Scope], Iterable[Fact]] | None = None,
    ) -> None:
        self._gate = Gate(guard=guard, application=application, realm=realm, api_key=api_key)
        self._public = checked_public(public)
        self._resource = resource
        self._facts = facts

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Adds the guard of all routes, the answers to what is refused, `grant`, and what OpenAPI shows."""
        app_config.guards = [self._decide, *app_config.guards]
        app_config.exception_handlers = {
            **app_config.exception_handlers,
            Refused: self._refused,
            AuthorizationError: self._denied,
        }
        app_config.dependencies = {
            "grant": Provide(_granted, sync_to_thread=False),
            **app_config.dependencies,
        }
        if app_config.openapi_config is not None:
            app_config.openapi_config = shown = copy(app_config.openapi_config)
            schemes = {_BEARER: SecurityScheme(type="http", scheme="bearer", bearer_format="biscuit")}
            if self._gate.api_key:
                schemes[_IN_API_KEY] = SecurityScheme(
                    type="apiKey", name="X-API-Key", security_scheme_in="header"
                )
            known = shown.components if isinstance(shown.components, list) else [shown.components]
            shown.components = [*known, Components(security_schemes={**schemes})]
            either: list[dict[str, list[str]]] = [{name: []} for name in schemes]
            shown.security = [*(shown.security or ()), *either]
        return app_config

    async def _decide(self, connection: Connection, handler: BaseRouteHandler) -> None:
        access = Access(self._gate, self._resource, self._facts)
        scope: Any = connection.scope
        scope[SCOPE_KEY] = access
        try:
            path, routed = _paths(scope)
            # "/schema" is the same route as "/schema/"
            if not (is_public(routed, self._public) or is_public(f"{routed}/", self._public)):
                await access.admit({**scope, "path": path})
        except Refused as error:
            raise _raised(scope, error) from error

    def _refused(self, request: Request[Any, Any, Any], error: Refused) -> Response[bytes]:
        return self._answer(request, error.problem)

    def _denied(self, request: Request[Any, Any, Any], error: AuthorizationError) -> Response[bytes]:
        return self._answer(request, problem_of_error(error))

    def _answer(self, request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
        headers = {name: value for name, value in problem.headers(self._gate.realm) if name != "Content-Type"}
        body = b"" if request.method == "HEAD" else problem.body()
        return Response(body, status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def requires(*operations: str) -> Callable[[Connection, BaseRouteHandler], Any]:
    """Returns a guard for routes, controllers or routers: each of `operations` must be allowed.

    Beside what the CapPlugin asks of every request, which the application must have.
    """
    if not operations or not all(isinstance(operation, str) for operation in operations):
        raise TypeError('name the operations that are needed: guards=[requires("read")]')

    async def decide(connection: Connection, handler: BaseRouteHandler) -> None:
        scope = connection.scope
        access = _access(scope)
        try:
            await access.admit({**scope, "path": _paths(scope)[0]}, operations)
        except Refused as error:
            raise _raised(scope, error) from error

    return decide


def grant_of(connection: Connection) -> Grant:
    """Returns the grant of a request; raises RuntimeError where nothing was asked, as on a public path."""
    return _granted(connection.scope)


def _granted(scope: LitestarScope) -> Grant:
    return _access(scope).granted()


def _access(scope: Any) -> Access:
    return access_of(scope, "CapPlugin is none of the application's plugins")


def _paths(scope: Any) -> tuple[str, str]:
    """Returns the path as the client sent it, and that which is routed; both without a slash at their end.

    Litestar has changed `path` before any guard sees it: without `root_path`, which it cuts off wherever that
    stands in the path, and below a mount without the mount. Raises Refused where the path that was sent could
    lead elsewhere.
    """
    raw = scope.get("raw_path")
    if not isinstance(raw, bytes):
        raise RuntimeError("the server does not tell the raw_path of a request, so nothing can be decided")
    sent = unquote(raw.partition(b"?")[0].decode("latin-1"))
    check_path(sent)
    sent = sent.rstrip("/")
    root = str(scope.get("root_path") or "").rstrip("/")
    routed = sent[len(root) :] if root and f"{sent}/".startswith(f"{root}/") else sent
    last = scope["path"].strip("/")
    if (root and root in routed) or (last and not sent.endswith(f"/{last}")):
        raise Refused(AMBIGUOUS_PATH)
    return sent or "/", routed or "/"


def _raised(scope: Any, error: Refused) -> Exception:
    """Returns what Litestar answers: it closes a WebSocket, and answers all else as the plugin says."""
    if scope["type"] != "websocket":
        return Refused(error.problem)
    return WebSocketException(detail=error.problem.name, code=POLICY_VIOLATION)
