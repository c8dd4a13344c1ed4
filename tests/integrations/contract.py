"""What every integration for a web framework does, tested over HTTP against its real server.

A subclass has the fixtures `service`, and `keyed` with `api_key=True`, whose application answers

    GET, POST /items/{id}    the operation of the method; answers {"subject": ..., "operations": [...]}
    GET /async/{id}          the same, in a coroutine
    POST /refund             the operation "refund", too
    GET /asks                calls `guard.require` for the operation "nuke"; what it raises is left alone
    GET /healthz             needs no token
"""

from dataclasses import dataclass

import pytest

from tests.integrations.issuer import Issuer
from tests.integrations.servers import Answer, send

API_KEY = "X-API-Key"
ITEM = ("/items/7", "GET")


@dataclass(frozen=True)
class Service:
    """A running service, and the issuer it trusts."""

    issuer: Issuer
    port: int

    def ask(
        self, token: str | None, path: str = "/items/7", method: str = "GET", *more: tuple[str, str]
    ) -> Answer:
        headers = [] if token is None else [("Authorization", f"Bearer {token}")]
        answer = send(self.port, method, path, [*headers, *more])
        shown = repr(answer)
        assert token is None or len(token) < 100 or token not in shown
        return answer


def assert_problem(answer: Answer, status: int, name: str, error: str | None) -> None:
    """Fails unless the answer is that problem, and its challenge says the same."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json
    assert (document["type"], document["status"]) == (f"urn:cap:problem:{name}", status)
    assert document.get("error") == error
    challenge = answer.headers.get("www-authenticate")
    if status == 503:
        assert challenge is None
    elif error is None:
        assert challenge == 'Bearer realm="cap"'
    else:
        assert challenge is not None
        assert challenge.startswith(f'Bearer realm="cap", error="{error}"')


class HTTPContract:
    """The tests; see the head of the module for what the application answers."""

    @pytest.mark.parametrize("path", ["/items/7", "/async/7"])
    def test_a_token_lets_in(self, service: Service, path: str) -> None:
        answer = service.ask(service.issuer.token(), path)
        assert (answer.status, answer.json) == (200, {"subject": "alice", "operations": ["read"]})

    def test_the_method_says_the_operation(self, service: Service) -> None:
        reader = service.issuer.narrowed(operations=["read"])
        assert service.ask(reader).status == 200
        answer = service.ask(reader, method="POST")
        assert_problem(answer, 403, "denied", "insufficient_scope")
        assert answer.json["required"] == ["write"]
        assert answer.headers["www-authenticate"].endswith('scope="write"')
        assert service.ask(service.issuer.token(), method="POST").json["operations"] == ["write"]

    def test_a_named_operation_is_needed(self, service: Service) -> None:
        assert service.ask(service.issuer.token(), "/refund", "POST").status == 200
        answer = service.ask(service.issuer.narrowed(operations=["read", "write"]), "/refund", "POST")
        assert_problem(answer, 403, "denied", "insufficient_scope")
        assert answer.json["required"] == ["refund"]

    @pytest.mark.parametrize("path", ["/items/7", "/async/7"])
    def test_no_token(self, service: Service, path: str) -> None:
        assert_problem(service.ask(None, path), 401, "token-missing", None)

    def test_another_scheme_is_no_token(self, service: Service) -> None:
        answer = service.ask(None, "/items/7", "GET", ("Authorization", "Basic YWxpY2U6"))
        assert_problem(answer, 401, "token-missing", None)

    def test_the_scheme_is_read_in_any_case(self, service: Service) -> None:
        token = service.issuer.token()
        assert service.ask(None, "/items/7", "GET", ("AUTHORIZATION", f"bEARER {token}")).status == 200

    def test_two_tokens(self, service: Service) -> None:
        token = service.issuer.token()
        again = ("Authorization", f"Bearer {token}")
        assert_problem(
            service.ask(token, "/items/7", "GET", again), 400, "request-malformed", "invalid_request"
        )
        joined = ("Authorization", f"Bearer {token}, Bearer {token}")
        assert_problem(
            service.ask(None, "/items/7", "GET", joined), 400, "request-malformed", "invalid_request"
        )

    @pytest.mark.parametrize("value", ["Bearer", "Bearer a b", "Bearer ?"])
    def test_malformed(self, service: Service, value: str) -> None:
        answer = service.ask(None, "/items/7", "GET", ("Authorization", value))
        assert_problem(answer, 400, "request-malformed", "invalid_request")

    def test_not_a_token(self, service: Service) -> None:
        assert_problem(service.ask("nonsense"), 401, "token-invalid", "invalid_token")

    def test_a_token_of_another_issuer(self, service: Service) -> None:
        assert_problem(service.ask(service.issuer.foreign()), 401, "token-invalid", "invalid_token")

    def test_expired(self, service: Service) -> None:
        assert_problem(service.ask(service.issuer.expired()), 401, "token-expired", "invalid_token")

    def test_narrowed_to_another_path(self, service: Service) -> None:
        seventh = service.issuer.narrowed(resources=["/items/7"])
        assert service.ask(seventh).status == 200
        assert_problem(service.ask(seventh, "/items/77"), 403, "denied", "insufficient_scope")

    @pytest.mark.parametrize(
        "path", ["/items/../items/7", "/items//7", "/items/%2e%2e/7", "/healthz/../items/7"]
    )
    def test_paths_that_can_be_read_in_two_ways(self, service: Service, path: str) -> None:
        answer = service.ask(service.issuer.narrowed(resources=["/items"]), path)
        assert answer.status in (400, 404), answer
        assert service.ask(None, path).status in (400, 401, 404)

    def test_revoked(self, service: Service) -> None:
        token = service.issuer.alice.attenuate(operations=["read"])
        assert service.ask(token.to_base64()).status == 200
        service.issuer.revoke(token)
        assert_problem(service.ask(token.to_base64()), 401, "token-revoked", "invalid_token")

    def test_the_store_is_down(self, service: Service) -> None:
        token = service.issuer.token()
        assert service.ask(token).status == 200
        service.issuer.revocations.down = True
        try:
            answer = service.ask(token)
        finally:
            service.issuer.revocations.down = False
        assert_problem(answer, 503, "revocations-unavailable", None)
        assert answer.headers["retry-after"] == "5"
        assert service.ask(token).status == 200

    def test_identity_headers_of_the_client_are_not_believed(self, service: Service) -> None:
        claims = (
            ("X-Cap-Subject", "admin"),
            ("X_Cap_Subject", "admin"),
            ("X-Forwarded-User", "admin"),
            ("X-Original-URI", "/healthz"),
            ("X-HTTP-Method-Override", "GET"),
        )
        answer = service.ask(service.issuer.token(), "/items/7", "GET", *claims)
        assert answer.json["subject"] == "alice"
        assert service.ask(None, "/items/7", "GET", *claims).status == 401
        reader = service.issuer.narrowed(operations=["read"])
        assert service.ask(reader, "/items/7", "POST", *claims).status == 403

    def test_head(self, service: Service) -> None:
        assert service.ask(service.issuer.narrowed(operations=["read"]), method="HEAD").status == 200
        refused = service.ask(None, method="HEAD")
        assert (refused.status, refused.body) == (401, b"")

    def test_options_is_no_way_around(self, service: Service) -> None:
        assert service.ask(None, method="OPTIONS").status in (401, 405)

    @pytest.mark.parametrize("method", ["TRACE", "BREW", "DELETE"])
    def test_other_methods_need_more_than_reading(self, service: Service, method: str) -> None:
        reader = service.issuer.narrowed(operations=["read"])
        assert service.ask(reader, method=method).status in (400, 403, 405, 501)

    def test_what_a_handler_asks_itself(self, service: Service) -> None:
        assert_problem(service.ask(service.issuer.token(), "/asks"), 403, "denied", "insufficient_scope")

    def test_an_api_key_is_no_token_unless_that_was_switched_on(self, service: Service) -> None:
        token = service.issuer.token()
        assert_problem(service.ask(None, *ITEM, (API_KEY, token)), 401, "token-missing", None)
        assert service.ask(token, *ITEM, (API_KEY, "of somebody else's")).status == 200

    def test_an_api_key_where_it_was_switched_on(self, keyed: Service) -> None:
        token = keyed.issuer.token()
        assert keyed.ask(token).status == 200
        answer = keyed.ask(None, *ITEM, (API_KEY, token))
        assert (answer.status, answer.json) == (200, {"subject": "alice", "operations": ["read"]})
        reader = (API_KEY, keyed.issuer.narrowed(operations=["read"]))
        assert_problem(keyed.ask(None, "/items/7", "POST", reader), 403, "denied", "insufficient_scope")
        assert_problem(keyed.ask(None, "/refund", "POST", reader), 403, "denied", "insufficient_scope")
        expired = (API_KEY, keyed.issuer.expired())
        assert_problem(keyed.ask(None, *ITEM, expired), 401, "token-expired", "invalid_token")
        assert_problem(keyed.ask(None, *ITEM, (API_KEY, "nonsense")), 401, "token-invalid", "invalid_token")
        assert_problem(keyed.ask(None), 401, "token-missing", None)

    def test_two_credentials_where_an_api_key_may_be_one(self, keyed: Service) -> None:
        token = keyed.issuer.token()
        key, basic = (API_KEY, token), ("Authorization", "Basic YWxpY2U6")
        for headers in ((key, ("Authorization", f"Bearer {token}")), (key, basic), (key, key)):
            answer = keyed.ask(None, *ITEM, *headers)
            assert_problem(answer, 400, "request-malformed", "invalid_request")
        for value in (f"Bearer {token}", f"{token}, {token}", f"{token},{token}", ""):
            answer = keyed.ask(None, *ITEM, (API_KEY, value))
            assert_problem(answer, 400, "request-malformed", "invalid_request")
        # a server may drop the second spelling, or take it for the first one: then there are two
        assert keyed.ask(None, *ITEM, ("X_API_Key", "nonsense"), key).status in (200, 400)
        assert keyed.ask(None, *ITEM, ("X_API_Key", "nonsense")).status in (400, 401)

    def test_a_public_path_needs_no_token(self, service: Service) -> None:
        assert service.ask(None, "/healthz").status == 200
        assert service.ask(None, "/healthz/more").status in (401, 404)
