"""FastAPI behind a guard.

export CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none
uvicorn --factory fastapi_app:make_app
"""

from typing import Annotated, Any

from fastapi import FastAPI, Security

from capability import Guard
from capability.integrations.fastapi import CapSecurity, Grant


def make_app() -> FastAPI:
    """Returns the application, with a guard by the environment."""
    app = FastAPI()
    cap = CapSecurity(Guard.from_env())
    cap.install(app)

    @app.get("/items/{id}")
    def item(id: int, grant: Annotated[Grant, Security(cap, scopes=["read"])]) -> dict[str, Any]:
        return {"item": id, "for": grant.subject}

    @app.post("/items/{id}/refund")
    def refund(id: int, grant: Annotated[Grant, Security(cap, scopes=["refund"])]) -> dict[str, Any]:
        return {"refunded": id, "for": grant.subject}

    return app
