"""FastAPI: a security dependency that hands the grant to the route, and that OpenAPI shows as Bearer.

cap = CapSecurity(guard)
cap.install(app)

@app.get("/items/{id}")
def item(id: int, grant: Annotated[Grant, Security(cap, scopes=["read"])]): ...
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Final

from capability.builders import Fact
from capability.guard import Guard
from capability.integrations.asgi import Access, Scope
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant, Refused

with extra("fastapi"):
    from fastapi import FastAPI, Security
    from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
    from starlette.requests import HTTPConnection

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

    def install(self, app: FastAPI) -> None:
        """Makes `app` answer refusals, and any AuthorizationError of its routes, by a problem document.

        Without it a refusal has its status and headers all the same, and FastAPI's own body.
        """
        answer_errors(app, realm=self._gate.realm)
