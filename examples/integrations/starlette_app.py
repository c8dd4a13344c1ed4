"""Starlette behind a guard.

export CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none
uvicorn --factory starlette_app:make_app
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from capability import Guard
from capability.integrations.starlette import CapMiddleware, grant_of, requires


async def item(request: Request) -> Response:
    return JSONResponse({"item": request.path_params["id"], "for": grant_of(request).subject})


@requires("refund")
async def refund(request: Request) -> Response:
    return JSONResponse({"refunded": request.path_params["id"], "for": grant_of(request).subject})


def make_app() -> Starlette:
    """Returns the application, with a guard by the environment."""
    app = Starlette(
        routes=[Route("/items/{id:int}", item), Route("/items/{id:int}/refund", refund, methods=["POST"])]
    )
    app.add_middleware(CapMiddleware, guard=Guard.from_env(), public=["/healthz"])
    return app
