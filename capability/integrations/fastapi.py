"""FastAPI: a security dependency that hands the grant to the route, and that OpenAPI shows as Bearer.

cap = CapSecurity(guard)
cap.install(app)

@app.get("/items/{id}")
def item(id: int, grant: Annotated[Grant, Security(cap, scopes=["read"])]): ...
"""

from collections.abc import Callable, Iterable

from capability.builders import Fact
from capability.guard import Guard
from capability.integrations.asgi import Access, Scope
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant, Refused

with extra("fastapi"):
    from fastapi import FastAPI
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
    from starlette.requests import HTTPConnection

    from capability.integrations.starlette import HTTPRefused, answer_errors

__all__ = ["CapSecurity", "Grant"]


class CapSecurity(SecurityBase):
    """Decides the request of a route: each of its scopes is an operation, and all must be allowed.

    A route without scopes needs the operation of its method, as with CapMiddleware, whose `application`,
    `resource` and `facts` these are too.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        application: str | None = None,
        realm: str = "cap",
        resource: Callable[[Scope], str] | None = None,
        facts: Callable[[Scope], Iterable[Fact]] | None = None,
        scheme_name: str = "capability token",
        description: str | None = None,
    ) -> None:
        self.model = HTTPBearer(bearerFormat="biscuit", description=description)
        self.scheme_name = scheme_name
        self._gate = Gate(guard=guard, application=application, realm=realm)
        self._resource = resource
        self._facts = facts

    async def __call__(self, connection: HTTPConnection, scopes: SecurityScopes) -> Grant:
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
