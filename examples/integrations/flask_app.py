"""Flask behind a guard.

CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none flask --app flask_app:make_app run
"""

from typing import Any

from flask import Flask, g

from capability import Guard
from capability.integrations.flask import Cap


def make_app() -> Flask:
    """Returns the application, with a guard by the environment."""
    app = Flask(__name__)
    cap = Cap(Guard.from_env()).init_app(app)

    @app.get("/items/<int:id>")
    @cap.require("read")
    def item(id: int) -> dict[str, Any]:
        return {"item": id, "for": g.cap.subject}

    @app.post("/items/<int:id>/refund")
    @cap.require("refund")
    def refund(id: int) -> dict[str, Any]:
        return {"refunded": id, "for": g.cap.subject}

    return app
