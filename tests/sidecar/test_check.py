"""What the check answers: statuses and headers of RFC 6750, and the identity that a service is told."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from capability import Biscuit, BiscuitBuilder
from capability.decision import Decision
from capability.sidecar.paths import Paths
from capability.sidecar.profiles import Original
from capability.sidecar.settings import RouteSettings, SettingsError
from capability.sidecar.tally import Board
from capability.store.memory import MemoryStore
from tests.sidecar.tokens import OTHER, ROOT, ask, make_check, mint

IDENTITY = {"x-cap-subject", "x-cap-tenant", "x-cap-revocation-id", "x-cap-decision-id"}


def policy(
    folder: Path, source: str, *, name: str | None = None, host: str | None = None, path: str = "/"
) -> RouteSettings:
    """Returns a route with a policy in a file."""
    file = folder / f"{len(list(folder.iterdir()))}.datalog"
    file.write_text(source)
    return RouteSettings(policy=str(file), name=name or file.name, host=host, path=path)


def test_a_yes_says_who_asks() -> None:
    text = mint()
    answer, headers = ask(make_check(), text)
    token = Biscuit.from_base64(text, ROOT.public_key)
    assert answer.status == 200
    assert headers["x-cap-subject"] == "ann"
    assert headers["x-cap-tenant"] == ""
    assert headers["x-cap-revocation-id"] == token.canonical_revocation_ids[0].hex()
    assert len(headers["x-cap-decision-id"]) == 32
    assert answer.body == b""


@pytest.mark.parametrize("time", range(4))
def test_a_yes_is_the_same_from_the_engine_and_without_it(time: int) -> None:
    text, check = mint(), make_check()
    for _ in range(time):
        ask(check, text)
    answer, headers = ask(check, text)
    assert answer.status == 200
    assert set(headers) >= IDENTITY
    assert headers["x-cap-subject"] == "ann"


@pytest.mark.parametrize(
    ("method", "operation"),
    [
        ("GET", "read"),
        ("HEAD", "read"),
        ("OPTIONS", "read"),
        ("POST", "write"),
        ("PUT", "write"),
        ("PATCH", "write"),
        ("DELETE", "delete"),
    ],
)
def test_the_built_in_policy_makes_operations_of_methods(method: str, operation: str) -> None:
    check = make_check()
    for each in ("read", "write", "delete"):
        token = mint(operations=[each])
        for _ in range(3):
            answer, headers = ask(check, token, method)
            assert answer.status == (200 if each == operation else 403)
            if each != operation:
                assert headers["www-authenticate"].endswith(f'scope="{operation}"')


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND"])
def test_a_method_that_is_no_operation_is_denied(method: str) -> None:
    answer, headers = ask(make_check(), mint(), method)
    assert answer.status == 403
    assert "scope=" not in headers["www-authenticate"]
    assert "required" not in json.loads(answer.body)


def test_a_denial_says_all_that_its_client_may_know() -> None:
    answer, headers = ask(make_check(source=MemoryStore()), mint(operations=["read"]), "POST")
    problem = json.loads(answer.body)
    decision_id = headers["x-cap-decision-id"]
    assert problem.pop("revocation_age_ms") >= 0
    assert problem == {
        "type": "urn:cap:problem:denied",
        "title": "The token does not allow this",
        "status": 403,
        "detail": "the token does not allow this request",
        "instance": f"urn:cap:decision:{decision_id}",
        "decision_id": decision_id,
        "error": "insufficient_scope",
        "required": ["write"],
    }


def test_what_was_needed_is_the_policy_s_word_and_tells_nothing_of_the_token(tmp_path: Path) -> None:
    policy = tmp_path / "policy.datalog"
    policy.write_text("""
        operation("list") <- http_method("GET"), http_path("/orders");
        operation("look") <- http_method("GET"), http_path("/orders");
        operation($secret) <- user($secret);
        check if http_header("x-nobody", "sends this");
        allow if operation("list");
    """)
    check = make_check(RouteSettings(name="default", policy=str(policy)))
    for _ in range(3):
        answer, headers = ask(check, mint(), target="/orders")
        assert json.loads(answer.body)["required"] == ["list", "look"]
        assert headers["www-authenticate"].endswith('scope="list look"')
    assert "required" not in json.loads(ask(check, mint(), target="/other")[0].body)
    assert "required" not in json.loads(ask(check, "no token", target="/orders")[0].body)


def test_a_decision_that_cannot_be_logged_is_told_by_its_id() -> None:
    class Full:
        takes_allowed = True

        def offer(self, *arguments: object) -> bool:
            return False

    answer, headers = ask(make_check(log=Full()), mint())
    assert (answer.status, json.loads(answer.body)["decision_id"]) == (503, headers["x-cap-decision-id"])


def test_the_path_is_the_resource() -> None:
    check, token = make_check(), mint(resources=["/orders"])
    assert [
        ask(check, token, target=each)[0].status for each in ("/orders", "/orders/7?x=1", "/ordersx", "/")
    ] == [
        200,
        200,
        403,
        403,
    ]


def test_without_a_token_the_challenge_has_no_error_code() -> None:
    answer, headers = ask(make_check())
    assert answer.status == 401
    assert headers["www-authenticate"] == 'Bearer realm="cap"'


def test_a_no_is_a_problem_document_that_tells_nothing_of_the_rules() -> None:
    answer, headers = ask(make_check(), mint(operations=["write"]))
    problem = json.loads(answer.body)
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store"
    assert 'error="insufficient_scope"' in headers["www-authenticate"]
    assert headers["x-cap-reason"] == "denied"
    assert problem["decision_id"] == headers["x-cap-decision-id"]
    assert b"operation" not in answer.body


def test_who_is_revoked_expired_or_of_another_issuer_has_no_valid_token() -> None:
    store = MemoryStore()
    revoked, expired = mint(), mint(expires=datetime(2020, 1, 1, tzinfo=UTC))
    forged = BiscuitBuilder('user("ann")').build(OTHER.private_key).to_base64()
    check = make_check(source=store)
    assert ask(check, revoked)[0].status == 200
    store.revoke(Biscuit.from_base64(revoked, ROOT.public_key).canonical_revocation_ids[:1])
    for token in (revoked, expired, forged, mint()[:-8] + "AAAAAAAA", "nonsense"):
        answer, headers = ask(check, token)
        assert answer.status == 401
        assert 'error="invalid_token"' in headers["www-authenticate"]


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer a,b", ",", "Bearer \xe9"],
)
def test_what_can_be_read_in_two_ways_is_a_bad_request(value: str) -> None:
    answer, headers = ask(make_check(), headers=[("Authorization", value)])
    assert answer.status == 400
    assert 'error="invalid_request"' in headers["www-authenticate"]


def test_two_tokens_are_refused_wherever_they_stand() -> None:
    token = mint()
    two = [("Authorization", f"Bearer {token}")]
    assert ask(make_check(), token, headers=two)[0].status == 400
    assert ask(make_check(api_key=True), token, headers=[("X-API-Key", token)])[0].status == 400
    assert ask(make_check(api_key=True), headers=[("X-API-Key", token)])[0].status == 200
    assert ask(make_check(), headers=[("X-API-Key", token)])[0].status == 401


def test_what_is_remembered_of_a_request_lets_nothing_else_through() -> None:
    check, token = make_check(api_key=True), mint()
    for _ in range(3):
        assert ask(check, token)[0].status == 200
        assert ask(check, token, headers=[("X-API-Key", token)])[0].status == 400
        assert ask(check, headers=[("X-API-Key", f"Bearer {token}")])[0].status == 400
        assert ask(check, headers=[("X-API-Key", token)])[0].status == 200
        assert ask(check, headers=[("Authorization", token)])[0].status == 401
        assert ask(check, token, headers=[("X_Api_Key", token)])[0].status == 400


def test_the_scheme_is_read_in_any_case() -> None:
    for scheme in ("bearer", "BEARER", "Bearer", "bEaReR"):
        assert ask(make_check(), headers=[("Authorization", f"{scheme} {mint()}")])[0].status == 200


@pytest.mark.parametrize(
    "name", ["X_Cap_Subject", "x-cap_subject", "X_CAP_DECISION_ID", "x_cap_tenant", "Authorization_", "x_who"]
)
def test_aliases_of_headers_that_mean_something_are_refused(name: str, tmp_path: Path) -> None:
    check = make_check(policy(tmp_path, 'header("X-Who", $u) <- user($u); allow if true;'))
    expected = 200 if name == "Authorization_" else 400
    assert ask(check, mint(), headers=[(name, "root")])[0].status == expected


@pytest.mark.parametrize(
    "target",
    [
        "/a/../admin",
        "/a/./b",
        "/..",
        "/a/%2e%2e/admin",
        "/a/%c0%ae%c0%ae/admin",
        "/a%C0%AFadmin",
        "/a%c1%9cadmin",
        "/a%e0%80%afadmin",
        "/a%F0%80%80%AFadmin",
        "/a/%2E./b",
        "//admin",
        "/a//b",
        "/a\\b",
        "/a;b=c/d",
        "/a%2fb",
        "/a%5cb",
        "/a%00",
        "/a%0ab",
        "/%61dmin",
        "/%7Euser",
        "/a%252fb",
        "/a%",
        "/a%zz",
        "/a#b",
        "/a%3bb",
        "/a%3fb",
    ],
)
def test_a_path_that_can_be_read_in_several_ways_is_refused_unless_that_is_wanted(target: str) -> None:
    assert ask(make_check(), mint(), target=target)[0].status == 400
    assert ask(make_check(paths=Paths.RAW), mint(), target=target)[0].status == 200


@pytest.mark.parametrize("target", ["*", "http://a/b", "a", "", "/a b", "/\xe9", "/a\x7f"])
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    assert ask(make_check(paths=Paths.RAW), mint(), target=target)[0].status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a",
        "/a/",
        "/a%20b",
        "/%C3%A0%E0%A4%84%F0%9F%98%80%E9",
        "/a.b/..c/d..",
        "/~ann",
        "/a?x=../..//%2e",
    ],
)
def test_ordinary_paths_are_taken(target: str) -> None:
    assert ask(make_check(), mint(), target=target)[0].status == 200


def test_a_policy_reads_the_facts_of_the_request(tmp_path: Path) -> None:
    source = """
        allow if http_method("GET"), http_path("/orders/7"), http_path_segment(0, "orders"),
            http_path_segment(1, "7"), http_query("page", "2"), http_query("q", "a b"),
            http_host("api.example.com"), client_ip("192.0.2.1"), http_header("x-team", "blue");
    """
    check = make_check(policy(tmp_path, source), chosen=(b"x-team",))
    for _ in range(4):
        answer, _headers = ask(
            check, mint(), target="/orders/7?page=2&q=a+b", headers=[("X-Team", "blue"), ("X-Other", "x")]
        )
        assert answer.status == 200
        assert ask(check, mint(), target="/orders/7?page=2&q=a+b")[0].status == 403
        assert (
            ask(check, mint(), target="/orders/8?page=2&q=a+b", headers=[("X-Team", "blue")])[0].status == 403
        )


def test_every_header_of_every_policy_is_there_on_every_yes(tmp_path: Path) -> None:
    first = policy(tmp_path, 'header("X-Role", $r) <- role($r); allow if true;', path="/a")
    second = policy(tmp_path, 'header("X-Plan", "gold"); allow if true;', path="/b")
    check = make_check(first, second)
    token = mint('user("ann"); role("dev"); role("ops"); header("X-Plan", "forged"); header("X-Other", "1")')
    for _ in range(4):
        _answer, headers = ask(check, token, target="/a/1")
        assert (headers["x-role"], headers["x-plan"]) == ("dev,ops", "")
        _answer, headers = ask(check, token, target="/b")
        assert (headers["x-role"], headers["x-plan"]) == ("", "gold")
        assert set(headers) == IDENTITY | {"x-role", "x-plan"}


def test_values_of_headers_hold_nothing_that_ends_a_line(tmp_path: Path) -> None:
    check = make_check(policy(tmp_path, 'header("X-Who", $u) <- user($u); allow if true;'))
    _answer, headers = ask(check, mint('user(" a\r\nX-Evil: 1, é%")'))
    assert headers["x-who"] == "%20a%0D%0AX-Evil: 1%2C %C3%A9%25"
    assert headers["x-cap-subject"] == headers["x-who"]


def test_the_tenant_is_told_when_the_policy_names_one(tmp_path: Path) -> None:
    source = 'tenant($t) <- http_header("x-tenant", $t); allow if true;'
    check = make_check(policy(tmp_path, source), chosen=(b"x-tenant",))
    assert ask(check, mint(), headers=[("X-Tenant", "acme")])[1]["x-cap-tenant"] == "acme"
    fixed = make_check(RouteSettings(name="a", tenant="acme", application="orders"))
    token = Biscuit.from_base64(mint(), ROOT.public_key)
    for name in ("orders", "billing"):
        narrowed = token.attenuate(applications=[name], tenants=["acme"]).to_base64()
        answer, headers = ask(fixed, narrowed)
        assert answer.status == (200 if name == "orders" else 403)
        assert headers.get("x-cap-tenant") == ("acme" if name == "orders" else None)


@pytest.mark.parametrize(
    "source",
    [
        'header($n, "x") <- user($n); allow if true;',
        'header("Content-Length", "0"); allow if true;',
        'header("X-Cap-Subject", "root"); allow if true;',
        'header("X-Forwarded-For", "root"); allow if true;',
        'header("Host", "root"); allow if true;',
        'header("X Y", "root"); allow if true;',
        'header("X-A"); allow if true;',
        'user("ann")',
        "allow if",
        "allow if http_method($m), $x == 1;",
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_when_it_is_read(source: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        make_check(policy(tmp_path, source))


def test_routes_are_chosen_by_host_and_the_longest_path(tmp_path: Path) -> None:
    def route(name: str, host: str | None = None, path: str = "/") -> RouteSettings:
        source = f'header("X-Route", "{name}"); allow if true;'
        return policy(tmp_path, source, name=name, host=host, path=path)

    check = make_check(
        route("any"),
        route("admin", path="/admin"),
        route("host", host="shop.example.com"),
        route("deep", path="/admin/keys/"),
    )

    def chosen(host: str, target: str) -> str:
        sent = [(b"Host", host.encode()), (b"Authorization", f"Bearer {mint()}".encode())]
        return dict(check.handle("GET", target, sent, b"", None).headers)[b"x-route"].decode()

    assert chosen("a.example", "/x") == "any"
    assert chosen("a.example", "/admin") == "admin"
    assert chosen("a.example", "/administrators") == "any"
    assert chosen("a.example", "/admin/keys/1") == "deep"
    for same in ("SHOP.example.com:8443", "shop.example.com.", "shop.example.com.:443"):
        assert chosen(same, "/admin") == "host"
    for unclear in ("a..b", "a.b..", ".a", "a%2eb", "a b", "a,b", "a@b", "[::1"):
        sent = [(b"Host", unclear.encode()), (b"Authorization", f"Bearer {mint()}".encode())]
        assert check.handle("GET", "/x", sent, b"", None).status == 400


def test_where_no_route_fits_nobody_is_let_in(tmp_path: Path) -> None:
    check = make_check(policy(tmp_path, "allow if true", path="/a"))
    answer, headers = ask(check, mint(), target="/b")
    assert (answer.status, headers["x-cap-reason"]) == (403, "no-policy")


def test_a_client_may_ask_for_a_revision_that_must_be_known() -> None:
    store = MemoryStore()
    check, token = make_check(source=store), mint()
    revision = store.revoke([b"another"])
    for wanted, status in (
        (str(revision), 200),
        (str(revision + 1), 503),
        ("9" * 30, 400),
        ("-1", 400),
        ("x", 400),
    ):
        assert ask(check, token, headers=[("X-Cap-Min-Revision", wanted)])[0].status == status
    assert ask(make_check(), token, headers=[("X-Cap-Min-Revision", "1")])[0].status == 503


def test_a_store_that_cannot_answer_is_no_yes() -> None:
    store = MemoryStore()
    check, token = make_check(source=store), mint()
    assert ask(check, token)[0].status == 200
    store.close()
    answer, headers = ask(check, token)
    assert answer.status == 503
    assert "retry-after" in headers


class FullLog:
    takes_allowed = True

    def offer(self, decision: Decision, original: Original, route: str) -> bool:
        return False


def test_a_decision_that_cannot_be_written_down_is_no_yes_where_that_is_wanted() -> None:
    answer, headers = ask(make_check(log=FullLog()), mint())
    assert (answer.status, headers["x-cap-reason"]) == (503, "log-full")


def test_answers_are_counted_by_reason() -> None:
    board = Board(2)
    check = make_check(board=board)
    ask(check, mint())
    ask(check)
    ask(check, mint(), target="//")
    counted = board.decisions()
    assert (counted["allowed"], counted["no_token"], counted["malformed"]) == (1, 1, 1)
    counts, seconds = board.durations()
    assert sum(counts) == 3
    assert seconds > 0


FORWARDED = {
    "nginx": [("X-Original-Method", "PUT"), ("X-Original-URI", "/o/1?a=b"), ("X-Original-Host", "shop")],
    "traefik": [("X-Forwarded-Method", "PUT"), ("X-Forwarded-Uri", "/o/1?a=b"), ("X-Forwarded-Host", "shop")],
    "caddy": [("X-Forwarded-Method", "PUT"), ("X-Forwarded-Uri", "/o/1?a=b"), ("X-Forwarded-Host", "shop")],
    "haproxy": [("X-Original-Method", "PUT"), ("X-Original-URI", "/o/1?a=b"), ("X-Original-Host", "shop")],
}
SEEN = 'allow if http_method("PUT"), http_path("/o/1"), http_host("shop"), client_ip("203.0.113.9");'


@pytest.mark.parametrize("behind", FORWARDED)
def test_the_request_is_what_the_proxy_says_it_was(behind: str, tmp_path: Path) -> None:
    check = make_check(policy(tmp_path, SEEN), behind=behind)
    ours = "X-Real-IP" if behind in ("nginx", "haproxy", "envoy") else "X-Forwarded-For"
    client = (ours, "203.0.113.9" if ours == "X-Real-IP" else "198.51.100.1, 203.0.113.9")
    sent = [*FORWARDED[behind], client]
    assert ask(check, mint(), target="/check", headers=sent)[0].status == 200
    for left_out in FORWARDED[behind][:2]:
        less = [each for each in sent if each != left_out]
        assert ask(check, mint(), target="/check", headers=less)[0].status == (
            401 if behind == "nginx" else 400
        )
    for twice in FORWARDED[behind]:
        more = [*sent, (twice[0].lower(), twice[1])]
        assert ask(check, mint(), headers=more)[0].status == (401 if behind == "nginx" else 400)


@pytest.mark.parametrize("behind", ["plain", "envoy"])
def test_forwarded_headers_of_clients_mean_nothing_where_the_proxy_sends_none(
    behind: str, tmp_path: Path
) -> None:
    check = make_check(policy(tmp_path, 'allow if http_method("GET"), http_path("/orders/7")'), behind=behind)
    forged = [each for headers in FORWARDED.values() for each in headers]
    once = list({name.lower(): (name, value) for name, value in forged}.values())
    assert ask(check, mint(), headers=[*once, ("X-Forwarded-Prefix", "/x")])[0].status == 200
    other = make_check(policy(tmp_path, 'allow if http_method("PUT")'), behind=behind)
    assert ask(other, mint(), headers=once)[0].status == 403


def test_only_the_headers_of_the_declared_proxy_are_read(tmp_path: Path) -> None:
    check = make_check(policy(tmp_path, SEEN.replace("PUT", "GET")), behind="nginx")
    forged = [("X-Forwarded-Method", "GET"), ("X-Forwarded-For", "203.0.113.9"), *FORWARDED["nginx"]]
    assert ask(check, mint(), headers=[*forged, ("X-Real-IP", "203.0.113.9")])[0].status == 403
