"""For orientation: other kinds of tokens that say the same, verified.

A macaroon is made with the secret that verifies it; a JWT cannot be narrowed. Neither has Datalog.
"""

import time
from collections.abc import Iterator
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pymacaroons2 import Macaroon, Verifier

from benchmarks.decisions import WARM_TOKENS, warm_guard
from benchmarks.measure import ROUNDS, Job, Row, paired
from benchmarks.workload import Issuer, Requests

_CALLS: Final = 8
_EXPIRES: Final = 4_102_444_800
_SECRET: Final = "a secret that issuer and verifier share"


def rows() -> Iterator[Row]:
    """Yields the lines about other tokens: of one kind, cold and warm."""
    requests = Requests()
    count = ROUNDS * _CALLS
    private = Ed25519PrivateKey.generate()
    macaroons = [_macaroon(n) for n in range(count)]
    jwts = [_jwt(private, n) for n in range(count)]
    public = private.public_key()

    def verify_jwt(n: int) -> object:
        operation, resource = requests.asked[n % len(requests.asked)]
        claims = jwt.decode(jwts[n % count], public, algorithms=["EdDSA"])
        return "orders" in claims["applications"] and operation in claims["operations"] and resource

    def verify_macaroon(n: int) -> object:
        operation, resource = requests.asked[n % len(requests.asked)]
        verifier = Verifier()
        verifier.satisfy_exact("application = orders")
        verifier.satisfy_general(lambda caveat: _holds(caveat, operation, resource))
        return verifier.verify(Macaroon.deserialize(macaroons[n % count]), _SECRET)

    yield from _beside("PyJWT (EdDSA)", 1, verify_jwt)
    yield from _beside("pymacaroons2", 3, verify_macaroon)


def _beside(name: str, blocks: int, verify: Job) -> Iterator[Row]:
    issuer, requests = Issuer(), Requests()
    fresh = issuer.tokens(ROUNDS * _CALLS, blocks)
    known = fresh[:WARM_TOKENS]
    guard = warm_guard(issuer, issuer.tokens(1, blocks))

    def cold(n: int) -> object:
        operation, resource = requests.asked[n]
        return guard.check(fresh[n], application="orders", operation=operation, resource=resource).allowed

    what = f"{blocks} block{'s' * (blocks > 1)} beside {name}"
    yield paired(cold, verify, calls=(_CALLS, _CALLS)).row("others", f"cold, {what}", beside=name)
    warmed = warm_guard(issuer, known)

    def warm(n: int) -> object:
        operation, resource = requests.asked[n % len(requests.asked)]
        return warmed.check(
            known[n % WARM_TOKENS], application="orders", operation=operation, resource=resource
        ).allowed

    yield paired(warm, verify).row("others", f"warm, {what}", beside=name)


def _jwt(private: Ed25519PrivateKey, number: int) -> str:
    claims = {
        "sub": f"user-{number}",
        "exp": _EXPIRES + number,
        "roles": ["editor", "auditor"],
        "applications": ["orders", "invoices"],
        "operations": ["read", "list", "write"],
    }
    text: str = jwt.encode(claims, private, algorithm="EdDSA")
    return text


def _macaroon(number: int) -> str:
    macaroon = Macaroon(location="issuer", identifier=f"user-{number}", key=_SECRET)
    for caveat in (
        "application = orders",
        "operations = read list write",
        f"expires = {_EXPIRES + number}",
        "resource = /orders/",
        f"expires = {_EXPIRES + number + 1}",
    ):
        macaroon.add_first_party_caveat(caveat)
    return str(macaroon.serialize())


def _holds(caveat: str, operation: str, resource: str) -> bool:
    name, _, value = caveat.partition(" = ")
    if name == "operations":
        return operation in value.split()
    if name == "expires":
        return time.time() <= int(value)
    return name == "resource" and resource.startswith(value)
