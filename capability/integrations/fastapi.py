"""FastAPI: a security dependency that hands the grant to the route, and that OpenAPI shows as Bearer.

cap = CapSecurity(guard)
cap.install(app)

@app.get("/items/{id}")
def item(id: int, grant: Annotated[Grant, Security(cap, scopes=["read"])]): ...
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, ForwardRef, NoReturn

from capability.builders import Fact
from capability.guard import Guard
from capability.integrations.asgi import Access, CapMiddleware, Scope
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant, Refused, checked_public

with extra("fastapi"):
    from fastapi import FastAPI, Security
    from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
    from fastapi.routing import APIRoute, APIWebSocketRoute
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection

    from capability.integrations.reviewing import Review, every_route, review_order
    from capability.integrations.starlette import HTTPRefused, answer_errors

__all__ = ["CapSecurity", "Grant"]


class _InAPIKey(SecurityBase):
    """What OpenAPI shows beside Bearer where X-API-Key may hold a token; nothing is decided here."""

    def __init__(self) -> None:
        self.model = APIKey.model_validate({"in": APIKeyIn.header, "name": "X-API-Key"})
        self.scheme_name = "capability token as X-API-Key"

    async def __call__(self) -> None:
        return None


_IN_API_KEY: Final = _InAPIKey()


class CapSecurity(SecurityBase):
    """Decides the request of a route: each of its scopes is an operation, and all must be allowed.

    A route without scopes needs the operation of its method, as with CapMiddleware, whose `application`,
    `resource`, `facts` and `api_key` these are too.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        application: str | None = None,
        realm: str = "cap",
        api_key: bool = False,
        resource: Callable[[Scope], str] | None = None,
        facts: Callable[[Scope], Iterable[Fact]] | None = None,
        scheme_name: str = "capability token",
        description: str | None = None,
    ) -> None:
        self.model = HTTPBearer(bearerFormat="biscuit", description=description)
        self.scheme_name = scheme_name
        self._gate = Gate(guard=guard, application=application, realm=realm, api_key=api_key)
        self._resource = resource
        self._facts = facts
        shown = inspect.signature(self._decide)
        if api_key:
            beside = inspect.Parameter(
                "in_api_key",
                inspect.Parameter.KEYWORD_ONLY,
                annotation=Annotated[None, Security(_IN_API_KEY)],
            )
            shown = shown.replace(parameters=[*shown.parameters.values(), beside])
        self.__signature__ = shown  # what FastAPI reads, and calls by

    async def __call__(
        self, connection: HTTPConnection, scopes: SecurityScopes, in_api_key: None = None
    ) -> Grant:
        return await self._decide(connection, scopes)

    async def _decide(self, connection: HTTPConnection, scopes: SecurityScopes) -> Grant:
        access = Access(self._gate, self._resource, self._facts)
        try:
            return await access.admit(connection.scope, scopes.scopes)
        except Refused as error:
            raise HTTPRefused(error.problem, self._gate.realm) from error

    def install(self, app: FastAPI, *, public: Iterable[str] = ()) -> None:
        """Makes `app` answer refusals, and any AuthorizationError of its routes, by a problem document.

        Without it a refusal has its status and headers all the same, and FastAPI's own body. With it an
        application does not start that is open by mistake: where FastAPI takes what was to be a grant for a
        parameter of the query, or where `dependencies=[Security(cap)]` of an application or a router does not
        reach what is in it, which are mounted applications and Starlette's own routes; what is meant to be
        open is `public`.
        """
        answer_errors(app, realm=self._gate.realm)
        paths = frozenset(checked_public(public))

        def review(reviewed: Starlette) -> None:
            review_order(reviewed)
            _review_parameters(app)
            _review_reach(app, paths)

        app.add_middleware(Review, review=review)

    def __get_pydantic_core_schema__(self, *_: Any) -> NoReturn:
        raise TypeError("FastAPI asks a CapSecurity only within Security(...): write Security(cap)")


def _review_parameters(app: FastAPI) -> None:
    """Raises RuntimeError for a parameter of the query or the body that was to be a grant.

    FastAPI takes for one what has a CapSecurity as its default, and what has an annotation that it cannot
    read, since it looks names up in the globals of a module.
    """
    for route in every_route(app.routes):
        if isinstance(route, APIRoute | APIWebSocketRoute):
            for field in _fields(route.dependant):
                if isinstance(field.field_info.default, CapSecurity):
                    raise RuntimeError(f"{field.name!r} at {route.path} is open: write Security(cap)")
                if isinstance(field.field_info.annotation, ForwardRef):
                    raise RuntimeError(
                        f"FastAPI cannot read the annotation of {field.name!r} at {route.path}: "
                        "what it names must stand at the top of the module"
                    )


def _fields(dependant: Any) -> Iterator[Any]:
    yield from (*dependant.query_params, *dependant.body_params)
    for below in dependant.dependencies:
        yield from _fields(below)


def _review_reach(app: FastAPI, public: frozenset[str]) -> None:
    """Raises RuntimeError for a route that FastAPI gives none of the dependencies of its router."""
    if any(_is_cap(each.cls) for each in app.user_middleware):
        return
    shown = (app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url)
    known = public.union(filter(None, shown))
    for route in _beyond(app.routes, _depends(app.router)):
        path = getattr(route, "path", "")
        if path not in known:
            raise RuntimeError(
                f"what is at {path} is open, as dependencies=[Security(cap)] does not reach it: "
                f"add CapMiddleware, or say install(app, public=[{path!r}])"
            )


def _is_cap(middleware: object) -> bool:
    return isinstance(middleware, type) and issubclass(middleware, CapMiddleware)


def _depends(named: Any) -> bool:
    """True where the dependencies of a router, or those that it was included with, hold a CapSecurity."""
    return any(
        isinstance(each.dependency, CapSecurity) for each in getattr(named, "dependencies", None) or ()
    )


def _beyond(routes: Iterable[Any], decided: bool) -> Iterator[Any]:
    """Yields the routes that their router's CapSecurity does not reach."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            within = decided or _depends(router) or _depends(getattr(route, "include_context", None))
            yield from _beyond(router.routes, within)
        elif decided and not isinstance(route, APIRoute | APIWebSocketRoute):
            yield route
