"""Flask, in the standard library's WSGI server."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, g, jsonify
from flask.views import MethodView

from capability import Fact
from capability.integrations.flask import Cap
from tests.integrations.contract import HTTPContract, Service, assert_problem
from tests.integrations.issuer import Issuer
from tests.integrations.servers import wsgi_server


def shown() -> Any:
    return jsonify(subject=g.cap.subject, operations=list(g.cap.operations))


def make_app(issuer: Issuer, *, api_key: bool = False) -> Flask:
    app = Flask("orders")
    cap = Cap(issuer.guard, api_key=api_key).init_app(app).protect(app, public=["/healthz"])

    @app.route("/items/<int:id>", methods=["GET", "POST", "DELETE"])
    def item(id: int) -> Any:
        return shown()

    @app.get("/async/<int:id>")
    @cap.require("read")
    async def item_async(id: int) -> Any:
        return shown()

    @app.post("/refund")
    @cap.require("refund")
    def refund() -> Any:
        return shown()

    class Refunds(MethodView):
        decorators = [cap.require("refund")]  # noqa: RUF012 - so Flask has it

        def post(self) -> Any:
            return shown()

    app.add_url_rule("/refund/class", view_func=Refunds.as_view("refunds"))

    @app.get("/asks")
    def asks() -> str:
        return issuer.guard.require(g.cap.token, operation="nuke").reason

    @app.get("/healthz")
    def health() -> str:
        return "well"

    return app


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    issuer = Issuer()
    with wsgi_server(make_app(issuer)) as port:
        yield Service(issuer, port)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Service]:
    issuer = Issuer()
    with wsgi_server(make_app(issuer, api_key=True)) as port:
        yield Service(issuer, port)


class TestFlask(HTTPContract):
    def test_views_that_are_classes(self, service: Service) -> None:
        assert service.ask(service.issuer.token(), "/refund/class", "POST").json["operations"] == ["refund"]
        narrow = service.issuer.narrowed(operations=["read", "write"])
        assert_problem(service.ask(narrow, "/refund/class", "POST"), 403, "denied", "insufficient_scope")


def test_single_views_blueprints_and_what_is_stated() -> None:
    issuer = Issuer(policy='allow if operation("write"), resource("seven"), host("h"), application("orders")')
    app = Flask("orders")
    cap = Cap(
        issuer.guard,
        application="orders",
        resource=lambda request: "seven",
        facts=lambda request: [Fact("host({host})", {"host": request.host})],
    ).init_app(app)
    below = Blueprint("below", "below", url_prefix="/below")
    cap.protect(below)

    @below.post("/")
    @app.post("/one")
    @cap.require()
    def one() -> Any:
        return shown()

    @app.get("/open")
    def opened() -> str:
        return "open"

    app.register_blueprint(below)
    client = app.test_client()
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    for path in ("/one", "/below/"):
        assert client.post(path, headers=headers, base_url="http://h").status_code == 200
        assert client.post(path, headers=headers, base_url="http://i").status_code == 403
        assert client.post(path, base_url="http://h").status_code == 401
    assert client.get("/open").status_code == 200


def test_a_prefix_that_a_proxy_passes_on_changes_nothing_that_is_stated() -> None:
    issuer = Issuer()
    app = make_app(issuer)
    headers = {"Authorization": f"Bearer {issuer.narrowed(resources=['/public'])}"}
    answer = app.test_client().get("/items/7", headers=headers, environ_overrides={"SCRIPT_NAME": "/public"})
    assert answer.status_code == 403


def test_a_view_that_was_routed_to_before_it_was_wrapped_is_not_open() -> None:
    issuer = Issuer()
    app = Flask("orders")
    cap = Cap(issuer.guard).init_app(app)
    part = Blueprint("part", "part")

    @cap.require("refund")
    @app.post("/refund")
    def refund() -> str:
        return "refunded"

    @cap.require("refund")
    @part.post("/part/refund")
    def part_refund() -> str:
        return "refunded"

    @app.post("/twice")
    @cap.require("write")
    @cap.require("refund")
    def twice() -> str:
        return "refunded"

    app.register_blueprint(part)
    client = app.test_client()
    assert client.post("/refund").status_code == 500
    assert client.post("/part/refund").status_code == 500
    assert client.post("/twice").status_code == 401
    assert client.post("/nowhere").status_code == 404
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    assert client.post("/twice", headers=headers).status_code == 200
