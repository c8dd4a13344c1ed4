"""Litestar behind a guard.

export CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none
uvicorn --factory litestar_app:make_app
"""

from typing import Any

from litestar import Litestar, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from capability import Guard
from capability.integrations.litestar import CapPlugin, Grant, requires


@get("/items/{id:int}")
async def item(id: FromPath[int], grant: NamedDependency[Grant]) -> dict[str, Any]:
    return {"item": id, "for": grant.subject}


@post("/items/{id:int}/refund", guards=[requires("refund")])
async def refund(id: FromPath[int], grant: NamedDependency[Grant]) -> dict[str, Any]:
    return {"refunded": id, "for": grant.subject}


def make_app() -> Litestar:
    """Returns the application, with a guard by the environment."""
    return Litestar([item, refund], plugins=[CapPlugin(Guard.from_env(), public=["/healthz"])])
