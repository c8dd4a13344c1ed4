"""Token exchange (RFC 8693): a narrower token for a token, and nothing else for anything."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capability import Biscuit, BiscuitBuilder, Guard, Outcome
from capability.sidecar.exchange import ACCESS_TOKEN, GRANT_TYPE
from capability.store import create_store
from capability.store.memory import MemoryStore
from capability.wire.envelope import MAX_BLOCKS
from tests.sidecar.conftest import PATIENT
from tests.sidecar.processes import sidecar, wait_until
from tests.sidecar.test_api import ADMIN, FORM, JSON, Client, Down
from tests.sidecar.tokens import OTHER, ROOT, mint

Pairs = Sequence[tuple[str, str]]


def form(token: str | None, *more: tuple[str, str], without: str = "") -> bytes:
    """Returns the form of an exchange, with `more` behind it."""
    fields = [("grant_type", GRANT_TYPE), ("subject_token_type", ACCESS_TOKEN)]
    if token is not None:
        fields.append(("subject_token", token))
    return urlencode([*(each for each in fields if each[0] != without), *more]).encode()


def asked(
    token: str | None, *more: tuple[str, str], client: Client | None = None, without: str = ""
) -> tuple[int, dict[str, str], Any]:
    """Returns the answer to an exchange."""
    return (client or Client()).send("POST", "/token", form(token, *more, without=without), FORM)


def refused(
    token: str | None, *more: tuple[str, str], client: Client | None = None, without: str = ""
) -> str:
    """Returns the code of an exchange that must be refused, after a look at how it is told."""
    status, fields, found = asked(token, *more, client=client, without=without)
    assert status == 400, found
    assert fields["content-type"] == "application/json"
    assert fields["cache-control"] == "no-store"
    assert "access_token" not in found
    assert found["error_description"]
    assert token is None or len(token) < 10 or token not in json.dumps(found)
    return str(found["error"])


def decide(token: str, **request: str) -> Outcome:
    """Returns what a guard that lets everything genuine in says of a request."""
    guard = Guard(ROOT.public_key, "allow if true", limits=PATIENT)
    return guard.check(token, **request).outcome  # type: ignore[arg-type]


REQUEST = {"operation": "read", "application": "orders", "resource": "/orders/7"}


def test_what_comes_back_is_narrower_in_each_way_that_was_named() -> None:
    status, fields, found = asked(
        mint(),
        ("scope", "read list"),
        ("audience", "orders"),
        ("resource", "/orders"),
        ("expires_in", "600"),
        ("requested_token_type", ACCESS_TOKEN),
    )
    assert status == 200
    assert (fields["cache-control"], fields["pragma"]) == ("no-store", "no-cache")
    token = found.pop("access_token")
    assert sorted(found.pop("scope").split()) == ["list", "read"]
    assert 595 <= found.pop("expires_in") <= 600
    assert found == {"issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"}
    assert decide(token, **REQUEST) is Outcome.ALLOWED
    for name, other in (("operation", "write"), ("application", "billing"), ("resource", "/admin")):
        assert decide(token, **{**REQUEST, name: other}) is Outcome.DENIED
    later = datetime.now(UTC) + timedelta(seconds=601)
    guard = Guard(ROOT.public_key, "allow if true", clock=later.timestamp, limits=PATIENT)
    assert guard.check(token, **REQUEST).outcome is Outcome.EXPIRED  # type: ignore[arg-type]


def test_several_targets_are_alternatives_and_both_kinds_hold() -> None:
    token = asked(
        mint(),
        ("audience", "orders"),
        ("audience", "billing"),
        ("resource", "/a"),
        ("resource", "https://api.example/b"),
    )[2]["access_token"]
    for application in ("orders", "billing"):
        for resource in ("/a/1", "https://api.example/b/2"):
            request = {"application": application, "resource": resource}
            assert decide(token, **request) is Outcome.ALLOWED
    assert decide(token, application="orders", resource="/b/2") is Outcome.DENIED
    assert decide(token, application="other", resource="/a/1") is Outcome.DENIED


def test_what_was_narrowed_before_stays_so_and_is_told() -> None:
    expires = datetime.now(UTC) + timedelta(seconds=100)
    token = mint(operations=["read"], expires=expires)
    found = asked(token, ("audience", "orders"), ("expires_in", "3600"))[2]
    assert found["scope"] == "read"
    assert found["expires_in"] <= 100
    again = asked(found["access_token"], ("resource", "/orders"))[2]["access_token"]
    assert decide(again, **REQUEST) is Outcome.ALLOWED
    assert decide(again, **{**REQUEST, "operation": "write"}) is Outcome.DENIED
    assert Biscuit.from_base64(again, ROOT.public_key).block_count() == 4


def test_what_has_no_end_and_no_limit_is_said_to_have_none() -> None:
    found = asked(mint(), ("audience", "orders"))[2]
    assert set(found) == {"access_token", "issued_token_type", "token_type"}


@settings(max_examples=50, deadline=None)
@given(
    operations=st.none() | st.lists(st.sampled_from("abc"), min_size=1),
    scope=st.lists(st.sampled_from("abc"), min_size=1),
    operation=st.sampled_from("abc"),
)
def test_nothing_is_allowed_afterwards_that_was_not_before(
    operations: list[str] | None, scope: list[str], operation: str
) -> None:
    token = mint(operations=operations)
    status, _, found = asked(token, ("scope", " ".join(scope)))
    before = decide(token, operation=operation) is Outcome.ALLOWED
    if status == 400:
        assert found["error"] == "invalid_scope"
        assert operations is not None
        assert not set(scope) <= set(operations)
        return
    after = decide(found["access_token"], operation=operation) is Outcome.ALLOWED
    assert after == (before and operation in scope)


@pytest.mark.parametrize(
    ("more", "without", "error"),
    [
        ((("scope", "read"),), "grant_type", "invalid_request"),
        ((("scope", "read"),), "subject_token", "invalid_request"),
        ((("scope", "read"),), "subject_token_type", "invalid_request"),
        ((("scope", "read"), ("grant_type", "client_credentials")), "grant_type", "unsupported_grant_type"),
        ((("scope", "read"), ("scope", "write")), "", "invalid_request"),
        ((("scope", "read"), ("subject_token", "x")), "", "invalid_request"),
        (
            (("scope", "read"), ("actor_token", "x"), ("actor_token_type", ACCESS_TOKEN)),
            "",
            "invalid_request",
        ),
        ((("scope", "read"), ("actor_token_type", ACCESS_TOKEN)), "", "invalid_request"),
        (
            (("scope", "read"), ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt")),
            "",
            "invalid_request",
        ),
        ((), "", "invalid_request"),
        ((("scope", ""), ("audience", "")), "", "invalid_request"),
        ((("scope", "read  write"),), "", "invalid_scope"),
        ((("scope", 'a"b'),), "", "invalid_scope"),
        ((("scope", "l\xe4uft"),), "", "invalid_scope"),
        ((("audience", "a\nb"),), "", "invalid_target"),
        ((("resource", "orders"),), "", "invalid_target"),
        ((("resource", "/orders#a"),), "", "invalid_target"),
        ((("resource", "https://api.example/a b"),), "", "invalid_target"),
        ((("scope", " ".join(map(str, range(65)))),), "", "invalid_scope"),
        ((("scope", "a" * 257),), "", "invalid_scope"),
        ((("audience", "a" * 257),), "", "invalid_target"),
        ((("resource", "/" * 257),), "", "invalid_target"),
        ((("expires_in", "0"),), "", "invalid_request"),
        ((("expires_in", "-5"),), "", "invalid_request"),
        ((("expires_in", "1.5"),), "", "invalid_request"),
        ((("expires_in", "\u0661"),), "", "invalid_request"),
        ((("expires_in", "9" * 11),), "", "invalid_request"),
    ],
)
def test_what_is_no_exchange_is_refused_by_its_code(more: Pairs, without: str, error: str) -> None:
    assert refused(mint(), *more, without=without) == error


def test_the_line_end_of_a_file_is_no_part_of_its_token() -> None:
    assert asked(f"{mint()}\n", ("scope", "read"))[0] == 200


def test_as_much_as_may_be_asked_for_is_given() -> None:
    words = " ".join(f"{number}{'a' * 200}" for number in range(64))
    assert asked(mint(), ("scope", words), ("audience", "a" * 256), ("resource", "/" * 256))[0] == 200


def test_what_nobody_knows_is_passed_over() -> None:
    assert asked(mint(), ("scope", "read"), ("client_id", "me"), ("colour", "red"))[0] == 200


def test_a_form_that_cannot_be_read_is_an_invalid_request_and_no_form_is_another_media_type() -> None:
    client = Client()
    for body in (b"grant_type=%ff", b"\xff", b"&".join(b"a%d=1" % n for n in range(40))):
        status, _, found = client.send("POST", "/token", body, FORM)
        assert (status, found["error"]) == (400, "invalid_request")
    assert client.send("POST", "/token", b"{}", JSON)[0] == 415
    assert client.send("GET", "/token")[0] == 405


def test_more_than_the_token_has_is_refused_as_that() -> None:
    token = (
        Biscuit.from_base64(mint(), ROOT.public_key)
        .attenuate(operations=["read"], applications=["orders"], resources=["/orders", "/shop/"])
        .to_base64()
    )
    assert refused(token, ("scope", "read write")) == "invalid_scope"
    assert refused(token, ("audience", "orders"), ("audience", "billing")) == "invalid_target"
    for outside in ("/", "/ordersx", "/admin", "https://api.example/orders"):
        assert refused(token, ("resource", "/orders/7"), ("resource", outside)) == "invalid_target"
    for inside in ("/orders", "/orders/", "/orders/7", "/shop", "/shop/1"):
        assert asked(token, ("resource", inside))[0] == 200


def test_a_bad_token_is_an_invalid_request_whatever_is_bad_about_it() -> None:
    store = MemoryStore()
    client, revoked = Client(store=store), mint()
    store.revoke(Biscuit.from_base64(revoked, ROOT.public_key).canonical_revocation_ids)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    early = Biscuit.from_base64(mint(), ROOT.public_key).attenuate(
        not_before=datetime.now(UTC) + timedelta(hours=1)
    )
    bad = [
        revoked,
        mint(expires=past),
        mint(operations=["read"], expires=past),
        early.to_base64(),
        BiscuitBuilder('user("ann")').build(OTHER.private_key).to_base64(),
        mint()[:-4] + "AAAA",
        "nonsense",
        "\xe9",
    ]
    texts = set()
    for each in bad:
        assert refused(each, ("scope", "read"), client=client) == "invalid_request"
        texts.add(asked(each, ("scope", "read"), client=client)[2]["error_description"])
    assert len(texts) == 1
    counted = client.board.decisions()
    assert counted["revoked"] == 2
    assert counted["allowed"] == 0


def test_a_sealed_token_is_refused_and_says_so() -> None:
    sealed = Biscuit.from_base64(mint(), ROOT.public_key).seal().to_base64()
    status, _, found = asked(sealed, ("scope", "read"))
    assert (status, found["error"]) == (400, "invalid_request")
    assert "sealed" in found["error_description"]


def test_a_token_that_can_hold_no_more_blocks_is_refused() -> None:
    token = Biscuit.from_base64(mint(), ROOT.public_key)
    while token.block_count() < MAX_BLOCKS - 1:
        token = token.attenuate(operations=["read"])
    last = asked(token.to_base64(), ("scope", "read"))[2]["access_token"]
    assert refused(last, ("scope", "read")) == "invalid_request"


def test_an_outage_gives_no_token() -> None:
    status, fields, problem = asked(mint(), ("scope", "read"), client=Client(source=Down()))
    assert (status, fields["retry-after"]) == (503, "5")
    assert problem["type"] == "urn:cap:problem:revocations-unavailable"


def test_over_a_socket_nothing_that_is_logged_holds_a_token(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    create_store(url).close()
    config = 'prefixes = ["sk_live_"]\n[serve]\nlog = "decisions.jsonl"\ndecisions = "all"\n'
    with sidecar(
        tmp_path,
        "--listen", "tcp:0", "--api", "tcp:0", "--store", url, "--public-key", repr(ROOT.public_key),
        config=config,
    ) as server:  # fmt: skip
        token = mint()

        def post(*more: tuple[str, str], presented: str = token) -> tuple[int, Any]:
            status, _, body = server.ask(
                1, "/token", method="POST", body=form(presented, *more), headers=FORM
            )
            return status, json.loads(body)

        assert wait_until(lambda: post(("scope", "read"))[0] == 200)
        narrow = post(("scope", "read"), ("expires_in", "60"), presented=f"sk_live_{token}")[1][
            "access_token"
        ]
        assert narrow.startswith("sk_live_")
        assert server.ask(token=narrow)[0] == 200
        assert server.ask(token=narrow, method="POST")[0] == 403
        assert server.ask(1, "/revoke", token=mint(ADMIN), method="POST",
                          body=urlencode({"token": token}).encode(), headers=FORM)[0] == 200  # fmt: skip
        assert wait_until(lambda: server.ask(token=narrow)[0] == 401)
        for each in (token, narrow):
            assert post(("scope", "read"), presented=each)[1]["error"] == "invalid_request"
        assert server.stop() == 0
    log = (tmp_path / "decisions.jsonl").read_text()
    refusals = [line for line in map(json.loads, log.splitlines()) if line["route"] == "api exchange"]
    assert {line["outcome"] for line in refusals} >= {"revoked"}
    output = log + server.errors.read_text()
    for each in (token, narrow.removeprefix("sk_live_")):
        assert not [at for at in range(len(each) - 20) if each[at : at + 20] in output]
