"""The API listener: AuthZEN, introspection, revocation and keys, asked as clients ask."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from capability import Biscuit, BiscuitBuilder
from capability.errors import StoreUnavailable
from capability.keyset import KeySet
from capability.revocation import RevisedSource, RevocationStatus
from capability.sidecar.addresses import Tcp
from capability.sidecar.api import API
from capability.sidecar.apiguards import build_api
from capability.sidecar.oauth import Revoker
from capability.sidecar.settings import (
    APISettings,
    Listener,
    RouteSettings,
    Serves,
    Settings,
    SettingsError,
)
from capability.sidecar.table import read_settings
from capability.sidecar.tally import Board
from capability.store import create_store, open_store
from capability.store.memory import MemoryStore
from capability.store.protocol import Store
from tests.sidecar.processes import sidecar, wait_until
from tests.sidecar.tokens import OTHER, ROOT, mint

ADMIN = 'user("root"); right("cap", "introspect"); right("cap", "revoke"); right("cap", "evaluate");'
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DEFAULT = APISettings()
LISTEN = (Listener(address=Tcp("127.0.0.1", 0), serves=Serves.API),)


class Client:
    """An API, asked without a socket."""

    def __init__(
        self,
        settings: APISettings = DEFAULT,
        *routes: RouteSettings,
        store: Store | None = None,
        source: RevisedSource | None = None,
    ) -> None:
        everything = Settings(listen=LISTEN, routes=routes or (RouteSettings(name="default"),), api=settings)
        guards = build_api(everything, ROOT.public_key, source or store)
        assert guards is not None
        self.board = Board(1)
        revoker = None if store is None else Revoker(lambda: store, lambda: None)
        self.api = API(guards, lambda: ROOT.public_key, settings, self.board.row(0), revoker=revoker)

    def send(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        answer = self.api.handle(method, target, sent, body, None)
        fields = {name.decode(): value.decode() for name, value in answer.headers}
        is_json = "json" in fields.get("content-type", "")
        return answer.status, fields, json.loads(answer.body) if is_json else answer.body

    def evaluate(self, question: object, **headers: str) -> tuple[int, Any]:
        status, _, found = self.send(
            "POST", "/access/v1/evaluation", json.dumps(question).encode(), {**JSON, **headers}
        )
        return status, found

    def form(self, path: str, caller: str | None, **fields: str) -> tuple[int, dict[str, str], Any]:
        headers = dict(FORM) if caller is None else {**FORM, "Authorization": f"Bearer {caller}"}
        return self.send("POST", path, urlencode(fields).encode(), headers)


def question(token: str | None, action: str = "read", **more: Any) -> dict[str, Any]:
    """Returns an evaluation about ann and an order."""
    properties = {} if token is None else {"token": token}
    return {
        "subject": {"type": "user", "id": "ann", "properties": properties},
        "action": {"name": action},
        "resource": {"type": "resource", "id": "/orders/7"},
        **more,
    }


def test_an_evaluation_is_decided_by_the_token_of_its_subject() -> None:
    client = Client()
    status, found = client.evaluate(question(mint(operations=["read"])))
    assert (status, found["decision"]) == (200, True)
    assert found["context"]["subject"] == "ann"
    status, found = client.evaluate(question(mint(operations=["read"]), "write"))
    assert (status, found["decision"]) == (200, False)
    assert found["context"]["outcome"] == "denied"
    assert "operation" not in json.dumps(found["context"]["reason_user"])


def test_without_a_token_the_answer_is_no_even_with_one_in_the_header() -> None:
    status, found = Client().evaluate(question(None), Authorization=f"Bearer {mint()}")
    assert (status, found["decision"]) == (200, False)
    assert found["context"]["outcome"] == "no_token"


def test_a_token_of_somebody_else_is_no_yes_for_ann() -> None:
    assert Client().evaluate(question(mint('user("bob")')))[1]["decision"] is False
    forged = BiscuitBuilder('user("ann")').build(OTHER.private_key).to_base64()
    assert Client().evaluate(question(forged))[1]["context"]["outcome"] == "invalid_token"


def test_only_ids_of_resources_are_resources() -> None:
    client, token = Client(), mint(resources=["/orders"])
    assert client.evaluate(question(token))[1]["decision"] is True
    for other in ({"type": "resource", "id": "/admin"}, {"type": "invoice", "id": "/orders/7"}):
        assert client.evaluate(question(token, resource=other))[1]["decision"] is False


def test_application_and_tenant_come_from_the_context_or_the_configuration() -> None:
    token = (
        BiscuitBuilder('user("ann")')
        .build(ROOT.private_key)
        .attenuate(applications=["orders"], tenants=["acme"])
        .to_base64()
    )
    named = {"application": "orders", "tenant": "acme"}
    assert Client().evaluate(question(token))[1]["decision"] is False
    assert Client().evaluate(question(token, context=named))[1]["decision"] is True
    configured = Client(APISettings(application="orders", tenant="acme"))
    assert configured.evaluate(question(token))[1]["decision"] is True
    assert configured.evaluate(question(token, context=named))[1]["decision"] is True
    assert configured.evaluate(question(token, context={"application": "billing"}))[0] == 400


def test_a_policy_reads_typed_properties(tmp_path: Path) -> None:
    policy = tmp_path / "api.datalog"
    policy.write_text("""
        allow if authzen_string("subject", "team", "blue"), authzen_integer("resource", "size", 7),
            authzen_bool("context", "secure", true), authzen_string("resource", "owner.name", "ann"),
            authzen_string("subject", "roles", "a"), authzen_string("subject", "roles", "b"),
            authzen_subject("user", "ann"), authzen_resource("order", "7");
    """)
    client = Client(APISettings(policy=str(policy)))
    asked = question(mint(), context={"secure": True, "nothing": None})
    asked["subject"]["properties"] |= {"team": "blue", "roles": ["a", "b"]}
    asked["resource"] = {"type": "order", "id": "7", "properties": {"size": 7, "owner": {"name": "ann"}}}
    assert client.evaluate(asked)[1]["decision"] is True
    asked["resource"]["properties"]["size"] = "7"
    assert client.evaluate(asked)[1]["decision"] is False


def test_a_token_is_never_stated_and_never_answered(tmp_path: Path) -> None:
    policy = tmp_path / "api.datalog"
    policy.write_text('deny if authzen_string("subject", "token", $t); allow if true;')
    token = mint()
    status, found = Client(APISettings(policy=str(policy))).evaluate(
        question(token), **{"X-Cap-Explain": "1"}
    )
    assert (status, found["decision"]) == (200, True)
    assert token not in json.dumps(found)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"subject": {}, "subject": {}}',
        b"[" * 200_000,
        b'{"a":' * 40_000,
        b'{"subject": NaN}',
        b'{"a": ' + b"9" * 10_000 + b"}",
        json.dumps({**question("x"), "subject": "ann"}).encode(),
        json.dumps({**question("x"), "action": {"name": 7}}).encode(),
        json.dumps({**question("x"), "context": []}).encode(),
        json.dumps({**question("x"), "context": {"share": 0.5}}).encode(),
        json.dumps({**question("x"), "context": {"big": 2**63}}).encode(),
        json.dumps({**question("x"), "context": {"a": [[[[[[["deep"]]]]]]]}}).encode(),
        json.dumps({**question("x"), "context": {"many": list(range(200))}}).encode(),
        json.dumps({**question("x"), "resource": {"type": "resource", "id": "\ud800"}}).encode(),
        json.dumps({**question("x"), "resource": {"type": "resource"}}).encode(),
        json.dumps({**question("x"), "context": {"application": 7}}).encode(),
        b'{"subject": {"type": "user", "id": "a", "properties": {"token": 7}}, "action": {"name": "a"},'
        b' "resource": {"type": "a", "id": "b"}}',
    ],
)
def test_what_is_no_evaluation_is_a_bad_request(body: bytes) -> None:
    for path in ("/access/v1/evaluation", "/access/v1/evaluations"):
        status, fields, problem = Client().send("POST", path, body, JSON)
        assert status == 400
        assert fields["content-type"] == "application/problem+json"
        assert problem["type"] == "urn:cap:problem:request-malformed"


@pytest.mark.parametrize(
    ("semantic", "actions", "expected"),
    [
        (None, ["read", "write", "read"], [True, False, True]),
        ("execute_all", ["write", "read"], [False, True]),
        ("deny_on_first_deny", ["read", "write", "read"], [True, False]),
        ("permit_on_first_permit", ["write", "read", "write"], [False, True]),
    ],
)
def test_lists_of_evaluations(semantic: str | None, actions: list[str], expected: list[bool]) -> None:
    asked: dict[str, Any] = question(mint(operations=["read"]))
    del asked["action"]
    asked["evaluations"] = [{"action": {"name": each}} for each in actions]
    if semantic is not None:
        asked["options"] = {"evaluations_semantic": semantic}
    status, _, found = Client().send("POST", "/access/v1/evaluations", json.dumps(asked).encode(), JSON)
    assert status == 200
    assert [each["decision"] for each in found["evaluations"]] == expected


def test_a_bad_item_of_a_list_is_a_no_of_its_own() -> None:
    asked = question(mint(), evaluations=[{}, {"action": {}}, {"resource": {"type": "resource", "id": "/x"}}])
    _, _, found = Client().send("POST", "/access/v1/evaluations", json.dumps(asked).encode(), JSON)
    assert [each["decision"] for each in found["evaluations"]] == [True, False, True]
    assert found["evaluations"][1]["context"]["error"]["status"] == 400


def test_a_list_without_items_is_one_evaluation_and_a_long_one_is_refused() -> None:
    client = Client()
    empty = json.dumps(question(mint(), evaluations=[])).encode()
    assert client.send("POST", "/access/v1/evaluations", empty, JSON)[2]["decision"] is True
    bads: list[object] = [[{}] * 101, {}, [1]]
    for bad in bads:
        body = json.dumps(question(mint(), evaluations=bad)).encode()
        assert client.send("POST", "/access/v1/evaluations", body, JSON)[0] == 400
    body = json.dumps(question(mint(), evaluations=[{}], options={"evaluations_semantic": "any"})).encode()
    assert client.send("POST", "/access/v1/evaluations", body, JSON)[0] == 400


class Down:
    """A source that never answers."""

    def status(self, revocation_ids: object) -> RevocationStatus:
        raise StoreUnavailable("down")

    def revision(self) -> int:
        raise StoreUnavailable("down")


def test_an_outage_is_no_denial() -> None:
    client = Client(source=Down())
    assert client.evaluate(question(mint()))[0] == 503
    listed = json.dumps(question(mint(), evaluations=[{}])).encode()
    status, _, found = client.send("POST", "/access/v1/evaluations", listed, JSON)
    assert (status, found["evaluations"][0]["decision"]) == (200, False)
    assert found["evaluations"][0]["context"]["error"]["status"] == 503
    assert client.form("/introspect", mint(ADMIN), token=mint())[0] == 503


def test_the_whole_decision_is_told_to_those_who_ask_where_that_is_allowed() -> None:
    asked = question(mint(operations=["write"]))
    found = Client().evaluate(asked, **{"X-Cap-Explain": "1"})[1]["context"]
    assert found["decision"]["failed_checks"]
    assert "decision" not in Client().evaluate(asked)[1]["context"]
    silent = Client(APISettings(explain=False))
    assert "decision" not in silent.evaluate(asked, **{"X-Cap-Explain": "1"})[1]["context"]


def test_evaluations_may_need_a_caller_of_their_own() -> None:
    client = Client(APISettings(authenticate=True))
    assert client.evaluate(question(mint()))[0] == 401
    assert client.evaluate(question(mint()), Authorization=f"Bearer {mint()}")[0] == 403
    assert client.evaluate(question(mint()), Authorization=f"Bearer {mint(ADMIN)}")[1]["decision"] is True


def test_where_it_is_found() -> None:
    assert Client().send("GET", "/.well-known/authzen-configuration")[0] == 404
    client = Client(APISettings(url="https://pdp.example/a/"))
    assert client.send("GET", "/.well-known/authzen-configuration", b"", {"Host": "evil"})[2] == {
        "policy_decision_point": "https://pdp.example/a",
        "access_evaluation_endpoint": "https://pdp.example/a/access/v1/evaluation",
        "access_evaluations_endpoint": "https://pdp.example/a/access/v1/evaluations",
    }


def test_methods_paths_types_and_request_ids() -> None:
    client = Client()
    status, fields, _ = client.send("GET", "/access/v1/evaluation")
    assert (status, fields["allow"]) == (405, "POST")
    status, fields, _ = client.send("POST", "/.well-known/biscuit-web-keys")
    assert (status, fields["allow"]) == (405, "GET, HEAD")
    for path in ("/", "/introspect/", "//revoke", "/access/v1/evaluation/", "/access/v1/search/subject"):
        assert client.send("POST", path)[0] == 404
    for kind in ({}, {"Content-Type": "text/plain"}, FORM, {"Content-Type": "application/json; charset=x"}):
        assert client.send("POST", "/access/v1/evaluation", b"{}", kind)[0] == 415
    assert client.send("POST", "/introspect", b"{}", JSON)[0] == 415
    assert client.send("GET", "/", b"", {"X-Request-ID": "abc-1"})[1]["x-request-id"] == "abc-1"
    assert "x-request-id" not in client.send("GET", "/", b"", {"X-Request-ID": "a b"})[1]


def test_an_active_token_tells_what_is_left_of_it() -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    token = mint(operations=["read", "list"], expires=expires)
    status, fields, found = Client().form("/introspect", mint(ADMIN), token=token, token_type_hint="any")
    chain = Biscuit.from_base64(token, ROOT.public_key).canonical_revocation_ids
    assert status == 200
    assert fields["cache-control"] == "no-store"
    assert found["active"] is True
    assert found["sub"] == "ann"
    assert found["exp"] == int(expires.timestamp())
    assert sorted(found["scope"].split()) == ["list", "read"]
    assert found["jti"] == chain[-1].hex()
    assert found["cap_revocation_ids"] == [each.hex() for each in chain]


def test_what_is_no_good_is_inactive_and_nothing_else_is_said() -> None:
    store = MemoryStore()
    client, admin = Client(store=store), mint(ADMIN)
    revoked, early = mint(), Biscuit.from_base64(mint(), ROOT.public_key)
    store.revoke(Biscuit.from_base64(revoked, ROOT.public_key).canonical_revocation_ids)
    bad = [
        revoked,
        mint(expires=datetime(2020, 1, 1, tzinfo=UTC)),
        mint(operations=["read"], expires=datetime(2020, 1, 1, tzinfo=UTC)),
        early.attenuate(not_before=datetime.now(UTC) + timedelta(hours=1), operations=["a"]).to_base64(),
        BiscuitBuilder('user("ann")').build(OTHER.private_key).to_base64(),
        mint()[:-4] + "AAAA",
        "nonsense",
        "\xe9",
    ]
    for each in bad:
        assert client.form("/introspect", admin, token=each)[2] == {"active": False}


def test_a_plain_token_may_neither_introspect_nor_revoke_others() -> None:
    store = MemoryStore()
    client, victim = Client(store=store), mint('user("bob")')
    for caller in (
        mint(),
        mint('right("cap", "look")'),
        mint(ADMIN, operations=["read"]),
        Biscuit.from_base64(mint(), ROOT.public_key).attenuate(operations=["revoke"]).to_base64(),
    ):
        for path in ("/introspect", "/revoke"):
            status, _, problem = client.form(path, caller, token=victim)
            assert (status, problem["type"]) == (403, "urn:cap:problem:denied")
    for path in ("/introspect", "/revoke"):
        assert client.form(path, None, token=victim)[0] == 401
        assert client.form(path, "nonsense", token=victim)[0] == 401
        assert (
            client.form(path, BiscuitBuilder(ADMIN).build(OTHER.private_key).to_base64(), token=victim)[0]
            == 401
        )
    assert store.revision() == 0


def test_a_holder_cannot_grant_itself_the_right_by_a_block_of_its_own() -> None:
    from capability import BlockBuilder

    own = Biscuit.from_base64(mint(), ROOT.public_key).append(BlockBuilder('right("cap", "introspect")'))
    assert Client().form("/introspect", own.to_base64(), token=mint())[0] == 403


def test_only_the_branch_that_was_presented_is_revoked() -> None:
    store = MemoryStore()
    client, admin = Client(store=store), mint(ADMIN)
    parent = Biscuit.from_base64(mint(), ROOT.public_key)
    child, sibling = (parent.attenuate(operations=[each]) for each in ("read", "write"))
    grandchild = child.attenuate(resources=["/a"])
    status, fields, _ = client.form("/revoke", admin, token=child.to_base64())
    assert (status, fields["x-cap-revision"]) == (200, "1")

    def is_active(token: Biscuit) -> bool:
        found = client.form("/introspect", admin, token=token.to_base64())[2]
        return bool(found["active"])

    assert [is_active(each) for each in (parent, sibling, child, grandchild)] == [True, True, False, False]
    assert store.revocations()[0].actor == "root"


def test_what_is_no_token_is_revoked_already() -> None:
    store = MemoryStore()
    client, admin = Client(store=store), mint(ADMIN)
    foreign = BiscuitBuilder('user("ann")').build(OTHER.private_key).to_base64()
    for each in ("nonsense", foreign):
        assert client.form("/revoke", admin, token=each)[0] == 200
    assert store.revision() == 0
    assert client.form("/revoke", admin, token=admin)[0] == 200
    assert client.form("/revoke", admin, token=mint())[0] == 401  # it has ended itself


def test_a_token_may_end_itself_where_its_checks_let_it() -> None:
    store = MemoryStore()
    client = Client(store=store)
    narrow = mint(operations=["read"])
    assert client.form("/revoke", narrow, token=narrow)[0] == 403
    token = mint()
    assert client.form("/revoke", token, token=token)[0] == 200
    assert client.form("/revoke", token, token=token)[0] == 401


def test_a_store_that_cannot_take_a_revocation_is_a_503() -> None:
    class Full(MemoryStore):
        def revoke(self, *arguments: Any, **named: Any) -> int:
            raise StoreUnavailable("full")

    status, fields, _ = Client(store=Full()).form("/revoke", mint(ADMIN), token=mint())
    assert (status, fields["retry-after"]) == (503, "5")
    assert Client().form("/revoke", mint(ADMIN), token=mint())[0] == 501


@pytest.mark.parametrize(
    "body", ["", "token=", "token=a&token=b", "a=b", "token=%ff", "&".join(f"a{n}=1" for n in range(40))]
)
def test_forms_that_mean_nothing_or_two_things(body: str) -> None:
    headers = {**FORM, "Authorization": f"Bearer {mint(ADMIN)}"}
    assert Client().send("POST", "/introspect", body.encode(), headers)[0] == 400


def test_the_keys_are_told_and_may_be_kept() -> None:
    client = Client()
    status, fields, found = client.send("GET", "/.well-known/biscuit-web-keys")
    assert status == 200
    assert "max-age=" in fields["cache-control"]
    assert [each.key for each in KeySet.from_json(json.dumps(found))] == [ROOT.public_key]
    again = client.send("GET", "/.well-known/biscuit-web-keys", b"", {"If-None-Match": fields["etag"]})
    assert (again[0], again[2]) == (304, b"")


def test_routes_that_differ_leave_no_policy_for_evaluations(tmp_path: Path) -> None:
    policy = tmp_path / "a.datalog"
    policy.write_text('allow if user("bob");')
    strict = RouteSettings(name="a", policy=str(policy))
    with pytest.raises(SettingsError, match="api"):
        Client(APISettings(), strict, RouteSettings(name="b", path="/b"))
    assert Client(APISettings(), strict).evaluate(question(mint()))[1]["decision"] is False


def test_settings_of_the_api_are_read(tmp_path: Path) -> None:
    found = read_settings({"api": {"url": "https://a.example", "callers": "c.datalog"}}, tmp_path).api
    assert (found.url, found.callers) == ("https://a.example", str(tmp_path / "c.datalog"))
    for bad in ({"url": "ftp://a"}, {"url": "https://a?b"}, {"authenticate": 1}, {"other": 1}):
        with pytest.raises(SettingsError):
            read_settings({"api": bad}, tmp_path)


def test_over_a_socket_and_into_a_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    create_store(url).close()
    with sidecar(
        tmp_path,
        "--listen", "tcp:0", "--api", "tcp:0", "--store", url,
        "--public-key", repr(ROOT.public_key),
    ) as server:  # fmt: skip
        admin, token = mint(ADMIN), mint()
        body = json.dumps(question(token)).encode()

        def evaluated() -> bool:
            status, _, found = server.ask(1, "/access/v1/evaluation", method="POST", body=body, headers=JSON)
            return status == 200 and json.loads(found)["decision"] is True

        assert wait_until(evaluated)
        form = urlencode({"token": token}).encode()
        status, fields, _ = server.ask(1, "/revoke", token=admin, method="POST", body=form, headers=FORM)
        assert status == 200
        assert wait_until(lambda: server.ask(token=token)[0] == 401)
        assert not evaluated()
        assert server.ask(1, "/introspect", method="POST", body=b"x" * 300_000, headers=FORM)[0] == 413
        assert server.ask(1, "/.well-known/biscuit-web-keys")[0] == 200
        assert token not in server.errors.read_text()
    with open_store(url) as store:
        assert store.revision() == int(fields["x-cap-revision"])
