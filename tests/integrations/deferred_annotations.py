"""Routes of FastAPI in a module whose annotations are strings, which FastAPI has to look up."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Security, WebSocket

from capability.integrations.fastapi import CapSecurity, Grant
from tests.integrations.issuer import Issuer

ISSUER = Issuer()
cap = CapSecurity(ISSUER.guard)


def at_the_top() -> FastAPI:
    """Returns an application whose annotations name what stands at the top of this module."""
    app = FastAPI()
    cap.install(app)

    @app.get("/items")
    def items(grant: Annotated[Grant, Security(cap, scopes=["read"])]) -> str | None:
        return grant.subject

    return app


def in_a_function(kind: str) -> FastAPI:
    """Returns an application whose annotations name what FastAPI cannot find."""
    app = FastAPI()
    local = CapSecurity(ISSUER.guard)
    local.install(app)

    if kind == "get":

        @app.get("/items")
        def read(grant: Annotated[Grant, Security(local)]) -> str:
            return "open"

    elif kind == "post":

        @app.post("/items")
        def write(grant: Annotated[Grant, Security(local)]) -> str:
            return "open"

    elif kind == "below":

        def below(grant: Annotated[Grant, Security(local)]) -> str:
            return "open"

        app.add_api_route("/items", lambda: "open", dependencies=[Security(below)])
    else:

        @app.websocket("/items")
        async def socket(websocket: WebSocket, grant: Annotated[Grant, Security(local)]) -> None:
            await websocket.accept()

    return app
