"""Flask: `require` for views, and `protect` for all of an application or a blueprint.

cap = Cap(guard).init_app(app)

@app.get("/items/<int:id>")
@cap.require("read")
def item(id): return f"for {g.cap.subject}"
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, Self, TypeVar, cast

from capability.builders import Fact
from capability.errors import AuthorizationError
from capability.guard import Guard
from capability.http.problems import Problem, problem_of_error
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant, Refused, check_path, checked_public, is_public

with extra("flask"):
    from flask import Blueprint, Flask, Request, Response, current_app, g, request

__all__ = ["Cap", "Grant"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Cap:
    """Decides requests to Flask's views; the grant is `g.cap`.

    `application` is stated of each request, and so is `resource(request)` (the path that is routed, if None)
    and `facts(request)`. With `api_key` the token may come in X-API-Key.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        application: str | None = None,
        realm: str = "cap",
        api_key: bool = False,
        resource: Callable[[Request], str] | None = None,
        facts: Callable[[Request], Iterable[Fact]] | None = None,
    ) -> None:
        self._gate = Gate(guard=guard, application=application, realm=realm, api_key=api_key)
        self._resource = resource
        self._facts = facts
        self._wrapped: set[Any] = set()

    def init_app(self, app: Flask) -> Self:
        """Makes `app` answer refusals, and any AuthorizationError of its views, by a problem document.

        Where `require` stands above `@app.get(...)`, Flask has the view as it was before. That would be open,
        so `app` answers it by a RuntimeError.
        """
        app.before_request(self._check_order)
        app.register_error_handler(Refused, lambda error: self._answer(error.problem))
        app.register_error_handler(AuthorizationError, lambda error: self._answer(problem_of_error(error)))
        return self

    def protect(self, app: Flask | Blueprint, *, public: Iterable[str] = ()) -> Self:
        """Decides every request to `app` by the operation of its method, before any view sees it.

        Paths of `public` need no token, and neither does what is below one of them that ends in a slash.
        """
        paths = checked_public(public)

        def decide() -> None:
            if is_public(request.path, paths):
                check_path(request.path)
            else:
                self.admit()

        app.before_request(decide)
        return self

    def require(self, *operations: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Lets a view, sync or async, run only when each of `operations` is allowed.

        Without any, that of the method is needed. Stands below `@app.get(...)`.
        """
        if not all(isinstance(operation, str) for operation in operations):
            raise TypeError('name the operations that are needed: @cap.require("read")')

        def decorate(view: Callable[_P, _R]) -> Callable[_P, _R]:
            @functools.wraps(view)
            def decided(*args: _P.args, **kwargs: _P.kwargs) -> _R:
                self.admit(*operations)
                return cast(_R, current_app.ensure_sync(view)(*args, **kwargs))

            self._wrapped.add(view)
            return decided

        return decorate

    def admit(self, *operations: str) -> Grant:
        """Decides the current request; raises Refused, which `init_app` answers."""
        g.pop("cap", None)
        grant = self._gate.admit(
            request.headers.items(),
            method=request.method,
            path=request.path,
            operations=operations,
            resource=None if self._resource is None else self._resource(request),
            facts=() if self._facts is None else self._facts(request),
        )
        g.cap = grant
        return grant

    def _check_order(self) -> None:
        if current_app.view_functions.get(request.endpoint or "") in self._wrapped:
            raise RuntimeError(
                f"the view {request.endpoint!r} is open: write @cap.require(...) below what routes to it"
            )

    def _answer(self, problem: Problem) -> Any:
        return Response(problem.body(), problem.status, problem.headers(self._gate.realm))
