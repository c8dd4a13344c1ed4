"""What is tried behind every proxy, and what the client must see.

`expected` is the status; where proxies differ, `but` says so for each that does. A status of 200 means that
the service was reached, with the sidecar's identity headers and nobody else's; any other that it was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from capability import BiscuitBuilder
from tests.sidecar.tokens import OTHER, mint

IDENTITY: Final = ("X-Cap-Subject", "X-Cap-Tenant", "X-Cap-Revocation-Id", "X-Cap-Decision-Id", "X-Team")
"""What the service is told; the last one by the policy."""

FORGED: Final = "forged"
"""What the client says where only the sidecar may."""

ANN: Final = mint('user("ann"); team("blue")')
NOBODY: Final = mint('note("none")')
READER: Final = mint('user("ann"); team("blue")', operations=["read"])
ORDERS: Final = mint('user("ann"); team("blue")', resources=["/orders"])
EXPIRED: Final = mint('user("ann")', expires=datetime(2020, 1, 1, tzinfo=UTC))
REVOKED: Final = mint('user("bob")')
LONG: Final = mint('user("ann"); team("blue"); note("' + "x" * 4500 + '")')
OTHERS: Final = BiscuitBuilder('user("ann"); team("blue")').build(OTHER.private_key).to_base64()

HOST: Final = ("Host", "api.example.com")


def bearer(token: str) -> tuple[str, str]:
    """Returns the header that a token stands in."""
    return "Authorization", f"Bearer {token}"


class When(Enum):
    """In which state the sidecar is."""

    RUNNING = "running"
    REVOKED = "a revocation has come"
    STORE_DOWN = "the store is down"
    SLOW = "the sidecar hangs"
    DOWN = "the sidecar is down"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A request, and the status that the client must see.

    `known` are the letters of the identity headers that have a value when the request is let through.
    """

    name: str
    expected: int | None
    headers: tuple[tuple[str, str], ...] = field(default=(bearer(ANN),), repr=False)
    method: str = "GET"
    target: str = "/orders/7"
    but: Mapping[str, int | None] = field(default_factory=dict)
    when: When = When.RUNNING
    known: str = "STRDP"
    body: str = ""


def identity(*names: str) -> tuple[tuple[str, str], ...]:
    """Returns `names` as headers, or all identity headers, with what nobody may believe."""
    return tuple((name, FORGED) for name in names or IDENTITY)


_MALFORMED: Final = {"nginx": 401}
"""nginx makes 500 of a 400, so its sidecar says 401."""

_NORMALISED: Final = {"nginx": 401, "traefik": 403}
"""Traefik makes /admin of /orders/../admin before anybody sees it, and that is denied."""

SCENARIOS: Final = (
    Scenario("allowed", 200),
    Scenario("allowed, HEAD", 200, method="HEAD"),
    Scenario(
        "allowed, with a body", 200, (bearer(ANN), ("Content-Length", "5")), method="POST", body="hello"
    ),
    Scenario("allowed, a query", 200, target="/orders?page=2&next=/x//y/../z"),
    Scenario("allowed, 6 KB of token", 200, (bearer(LONG),)),
    Scenario(
        "allowed, a websocket",
        101,
        (
            bearer(ANN),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ),
    ),
    Scenario("allowed, nothing known of the holder", 200, (bearer(NOBODY),), known="TRD"),
    Scenario("no token", 401, ()),
    Scenario("no token, HEAD", 401, (), method="HEAD"),
    Scenario(
        "no token, a websocket",
        401,
        (
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ),
    ),
    Scenario("another scheme", 401, (("Authorization", "Basic YW5uOmFubg=="),)),
    Scenario("CVE-2026-33496: the same token by another issuer", 401, (bearer(OTHERS),)),
    Scenario("malformed token", 400, (("Authorization", "Bearer not a token"),), but=_MALFORMED),
    Scenario("expired", 401, (bearer(EXPIRED),)),
    Scenario("attenuated to reading, DELETE", 403, (bearer(READER),), method="DELETE"),
    Scenario("attenuated to /orders, /admin", 403, (bearer(ORDERS),), target="/admin"),
    Scenario("the policy denies", 403, target="/internal/metrics"),
    # two tokens
    Scenario("two Authorization headers", 400, (bearer(ANN), bearer(READER))),
    Scenario(
        "two Authorization headers, one in lower case",
        400,
        (bearer(READER), ("authorization", f"Bearer {ANN}")),
    ),
    Scenario(
        "two tokens joined by a comma",
        400,
        (("Authorization", f"Bearer {READER}, Bearer {ANN}"),),
        but=_MALFORMED,
    ),
    # CVE-2026-40575 and its kin: another request than the one that is made
    Scenario(
        "CVE-2026-40575: client-sent X-Forwarded-Uri",
        403,
        (bearer(ORDERS), ("X-Forwarded-Uri", "/orders/7")),
        target="/admin",
    ),
    Scenario(
        "client-sent X-Forwarded-Method",
        403,
        (bearer(READER), ("X-Forwarded-Method", "GET")),
        method="DELETE",
    ),
    Scenario(
        "client-sent X-Original-URI",
        403,
        (bearer(ORDERS), ("X-Original-URI", "/orders/7"), ("X-Original-Url", "/orders/7")),
        target="/admin",
    ),
    Scenario(
        "client-sent X-Original-Method",
        403,
        (bearer(READER), ("X-Original-Method", "GET"), ("X-HTTP-Method-Override", "GET")),
        method="DELETE",
    ),
    Scenario(
        "client-sent X-Forwarded-Host and -For",
        200,
        (bearer(ANN), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-For", "203.0.113.9")),
    ),
    # CVE-2026-30851: identity by the client's own word
    Scenario("CVE-2026-30851: client-sent X-Cap-Subject", 200, (bearer(ANN), *identity("X-Cap-Subject"))),
    Scenario("client-sent identity headers, all", 200, (bearer(ANN), *identity())),
    Scenario("client-sent identity headers, all twice", 200, (bearer(ANN), *identity(), *identity())),
    Scenario(
        "CVE-2026-30851: client-sent X-Cap-Subject, nothing known of the holder",
        200,
        (bearer(NOBODY), *identity()),
        known="TRD",
    ),
    Scenario("client-sent identity headers, no token", 401, identity()),
    Scenario(
        "identity header named as hop-by-hop",
        200,
        (bearer(ANN), ("Connection", "X-Cap-Subject, X-Team")),
        but={"caddy": 400},
    ),
    Scenario(
        "proxies' headers named as hop-by-hop",
        403,
        (
            bearer(ORDERS),
            ("Connection", "close, X-Forwarded-Uri, X-Original-URI, X-Forwarded-Method, X-Original-Method"),
            ("X-Forwarded-Uri", "/orders/7"),
            ("X-Original-URI", "/orders/7"),
        ),
        target="/admin",
        but={"caddy": 400},
    ),
    # GHSA-6384-m2mw-rf54
    Scenario(
        "GHSA-6384-m2mw-rf54: client-sent X-Forwarded-Prefix",
        200,
        (bearer(ANN), ("X-Forwarded-Prefix", f"/{FORGED}")),
    ),
    # GHSA-5m6w-wvh7-57vm: aliases
    Scenario(
        "GHSA-5m6w-wvh7-57vm: x_cap_subject",
        400,
        (bearer(ANN), *identity("x_cap_subject")),
        but={"nginx": 200, "caddy": 200},
    ),
    Scenario(
        "GHSA-5m6w-wvh7-57vm: X_Cap-Subject and X_TEAM",
        400,
        (bearer(ANN), *identity("X_Cap-Subject", "X_TEAM")),
        but={"nginx": 200, "caddy": 200},
    ),
    Scenario(
        "GHSA-5m6w-wvh7-57vm: x_forwarded_uri",
        403,
        (bearer(ORDERS), ("x_forwarded_uri", "/orders/7"), ("x_original_uri", "/orders/7")),
        target="/admin",
        but={"envoy": 400, "envoy-grpc": 400, "haproxy": 400},
    ),
    Scenario(
        "GHSA-5m6w-wvh7-57vm: x_forwarded_method",
        403,
        (bearer(READER), ("x_forwarded_method", "GET"), ("x_original_method", "GET")),
        method="DELETE",
        but={"envoy": 400, "envoy-grpc": 400, "haproxy": 400},
    ),
    # paths with two readings
    Scenario("dot segments", 400, (bearer(ORDERS),), target="/orders/../admin", but=_NORMALISED),
    Scenario("encoded dots", 400, (bearer(ORDERS),), target="/orders/%2e%2e/admin", but=_NORMALISED),
    Scenario("encoded slash", 400, (bearer(ORDERS),), target="/orders/..%2fadmin", but=_MALFORMED),
    Scenario("double slash", 400, (bearer(ORDERS),), target="//orders/7", but={"nginx": 401, "traefik": 200}),
    Scenario("percent-encoded letter", 400, target="/%69nternal/metrics", but=_NORMALISED),
    Scenario("path parameter", 400, target="/internal;x/metrics", but=_MALFORMED),
    Scenario("backslash", 400, (bearer(ORDERS),), target="/orders\\..\\admin", but=_MALFORMED),
    Scenario("a fragment", 400, (bearer(ORDERS),), target="/orders#/../../admin", but=_MALFORMED),
    Scenario("absolute target", 200, target="http://api.example.com/orders/7"),
    Scenario("absolute target, to /admin", 403, (bearer(ORDERS),), target="http://api.example.com/admin"),
    # while it runs
    Scenario("before the revocation", 200, (bearer(REVOKED),), known="STRD"),
    Scenario("revoked while running", 401, (bearer(REVOKED),), when=When.REVOKED),
    Scenario("another token then", 200, when=When.REVOKED),
    Scenario("store down", 503, when=When.STORE_DOWN),
    Scenario("store down, no token", 401, (), when=When.STORE_DOWN),
    Scenario("slow sidecar", 503, when=When.SLOW, but={"caddy": 504, "traefik": None}),
    Scenario("sidecar down", 503, when=When.DOWN, but={"caddy": 502, "traefik": 500}),
    Scenario("sidecar down, no token", 503, (), when=When.DOWN, but={"caddy": 502, "traefik": 500}),
)
