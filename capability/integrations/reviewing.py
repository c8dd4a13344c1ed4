"""What is open by mistake in an application of Starlette or FastAPI, found before it serves.

Review        an ASGI middleware that looks at the routes
review_order  routes to what `requires` has yet to wrap, as `wrapped` notes it
every_route   the routes of an application, with those that are mounted or included
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from weakref import WeakSet

from capability.integrations.asgi import Application, Receive, Scope, Send
from capability.integrations.extras import extra

with extra("starlette"):
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

__all__ = ["Review", "every_route", "review_order", "wrapped"]

_BARE: Final[WeakSet[Any]] = WeakSet()
"""What `requires` has wrapped: where one of these is routed to itself, nobody asks for its operations."""


class Review:
    """Looks at all routes of an application before it serves, and again when there are more of them.

    Where one is open by mistake the application does not start; on a server that goes on all the same, every
    request fails. `review` raises RuntimeError for what is open. The application is the one that this is a
    middleware of, or else what it stands `around`.
    """

    def __init__(
        self, app: Application, *, review: Callable[[Starlette], None], around: Application | None = None
    ) -> None:
        self.app = app
        self._review = review
        self._around = around
        self._routes = -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = scope.get("app", self._around)
        if isinstance(app, Starlette) and len(app.routes) != self._routes:
            try:
                self._review(app)
            except RuntimeError as error:
                if scope["type"] == "lifespan":
                    await receive()
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
            self._routes = len(app.routes)
        return await self.app(scope, receive, send)


def review_order(app: Starlette) -> None:
    """Raises RuntimeError for an endpoint that was routed to before `requires` wrapped it."""
    for route in every_route(app.routes):
        endpoint = getattr(route, "endpoint", None)
        while isinstance(endpoint, functools.partial):
            endpoint = endpoint.func
        if inspect.isroutine(endpoint) and endpoint in _BARE:
            raise RuntimeError(
                f"{endpoint.__qualname__} is open at {getattr(route, 'path', '')}: "
                "write @requires(...) below what routes to it"
            )


def every_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yields routes and those of what they mount or include."""
    for route in routes:
        yield route
        included = getattr(route, "original_router", route)  # FastAPI's include_router
        yield from every_route(getattr(included, "routes", None) or ())


def wrapped(endpoint: Any) -> None:
    """Notes what `requires` wraps: an endpoint, and what other decorators have wrapped it around."""
    while endpoint is not None:
        _BARE.add(endpoint)
        endpoint = getattr(endpoint, "__wrapped__", None)
