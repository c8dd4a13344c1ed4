"""Random requests over HTTP: a check that remembers, one that begins anew each time, and biscuit-python.

The first says yes in whatever short way it has; the second goes by the engine, and must give the same answer,
byte for byte but for the id of the decision. The third is told the facts of a request as they are read here,
and must allow what they allow and nothing else.
"""

import random
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from capability import (
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    Guard,
    KeyPair,
    PolicyWarning,
    PrivateKey,
)
from capability.datalog.limits import GUARD_LIMITS
from capability.decision import Decision
from capability.sidecar.check import Check, CheckSettings
from capability.sidecar.guards import ANSWERS, build_routes
from capability.sidecar.logs import line_of
from capability.sidecar.profiles import PROFILES, Original
from capability.sidecar.routes import Routes
from capability.sidecar.settings import RouteSettings
from capability.sidecar.tally import Board
from capability.store.memory import MemoryStore
from tests.differential.cases import EXTERNAL_KEYS, PUBLIC_KEYS
from tests.differential.engines import PEER, outcome

NOW: Final = 1_900_000_000
ROOT: Final = KeyPair.from_private_key(PrivateKey("ed25519-private/" + "11" * 32))
_SIGNERS: Final = [KeyPair.from_private_key(PrivateKey(text)) for text in EXTERNAL_KEYS]
_BIG: Final = "9223372036854775807"
_CHOSEN: Final = "x-role"
_LIMITS: Final = replace(GUARD_LIMITS, max_time=None)


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_FACTS: Final = (
    'user("ann")',
    'user("bob")',
    'role("dev")',
    'role("GET")',
    'operation("read")',
    'http_method("GET")',
    'http_path("/a/b")',
    'http_path_segment(0, "a")',
    f"time({_date(NOW - 60)})",
    f"n({_BIG})",
    "n(1)",
    'header("X-User", "root")',
)
_RULES: Final = (
    "user($m) <- http_method($m)",
    "role($r) <- http_header($h, $r)",
    'role("ops") <- http_path_segment($i, $s), $i + 1 != $s',
    'operation("read") <- user("ann")',
    "http_path($p) <- http_query($k, $p)",
    'header("X-User", $u) <- user($u), http_method($m)',
)
_CHECKS: Final = (
    'check all operation($o), {"read"}.contains($o)',
    'check if operation($o), ["read", "write"].contains($o)',
    'check all resource($r), $r == "/a" || $r.starts_with("/a/")',
    f"check all time($t), $t <= {_date(NOW + 1)}",
    f"check if time($t), $t < {_date(NOW + 2)}, $t >= {_date(NOW - 1)}",
    'reject if http_query($k, $v), $v == "x"',
    "reject if http_path_segment($i, $s), $i > 2",
    'check if user($u), http_header("x-role", $u)',
    "check if role($r), http_method($r)",
    'check if http_path_segment($i, $s), $s.length() * 2 > $i || $s == ""',
    f'check if http_path_segment($i, $s), $i * {_BIG} != "a"',
    f'check if http_path_segment($i, $s), ($i * {_BIG}).type() == "integer"',
    "check if n($n), http_path_segment($i, $s), $n + $i > 0",
    f"check if user($u) trusting {PUBLIC_KEYS[0]}",
    "check if user($u), http_method($m) trusting previous",
    "check all http_path_segment($i, $s), $i < 3",
    "check if http_host($h), client_ip($c), $h != $c",
)
_OF_POLICY: Final = (
    'operation("read") <- http_method($m), {"GET", "HEAD"}.contains($m)',
    'operation("write") <- http_method($m), ["PUT", "POST"].contains($m)',
    "resource($p) <- http_path($p)",
    'header("X-User", $u) <- user($u)',
    'header("X-Role", $r) <- role($r), user($u)',
    'header("X-Key", $k) <- http_query($k, $v)',
    'header("X-Plan", "gold")',
    'tenant($t) <- http_header("x-role", $t)',
)
_POLICIES: Final = (
    'deny if http_query("page", $p), $p != "2"',
    "deny if role($r), http_header($n, $r)",
    "allow if user($u), operation($o)",
    'allow if http_path("/a/b") or user("ann")',
    f"allow if user($u) trusting {PUBLIC_KEYS[0]}, authority",
    f'allow if http_path_segment($i, $s), !{{"a"}}.contains($i * {_BIG})',
    "allow if true",
)
_TARGETS: Final = (
    "/",
    "/a",
    "/a/b",
    "/a/b/c/d",
    "/a?page=2&x=%C3%A9",
    "/o/7?q=x",
    "/a//b",
    "/a?q=a+b&q=&%00=x",
)
_HEADERS: Final = (None, None, b"dev", b"", b"a, b", "é".encode(), b"a\x00b", b"\xff")


@dataclass
class Sums:
    """Counts what was asked, and what of it was answered without the engine."""

    asked: int = 0
    fast: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    peers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Asked:
    """A request of a client."""

    method: str
    target: str
    host: str
    role: bytes | None

    def headers(self, token: str) -> list[tuple[bytes, bytes]]:
        sent = [(b"Host", self.host.encode()), (b"Authorization", f"Bearer {token}".encode())]
        return sent if self.role is None else [*sent, (b"X-Role", self.role)]

    def facts(self) -> list[tuple[str, tuple[str | int, ...]]]:
        """Returns what a policy is to be told, read for itself."""
        path, _, query = self.target.partition("?")
        found: list[tuple[str, tuple[str | int, ...]]] = [
            ("http_method", (self.method,)),
            ("http_path", (path,)),
        ]
        found += [("http_host", (self.host.partition(":")[0].lower(),)), ("client_ip", ("192.0.2.1",))]
        found += [("http_path_segment", each) for each in enumerate(path[1:].split("/")) if path != "/"]
        found += [("http_query", each) for each in parse_qsl(query, keep_blank_values=True)]
        if self.role is not None:
            found.append(("http_header", (_CHOSEN, self.role.decode())))
        return found


class Log:
    """Keeps what is offered to it."""

    def __init__(self, *, takes_allowed: bool) -> None:
        self.takes_allowed = takes_allowed
        self.seen: list[tuple[Decision, Original, str]] = []

    def offer(self, decision: Decision, original: Original, route: str) -> bool:
        self.seen.append((decision, original, route))
        return True

    def taken(self) -> list[dict[str, Any]]:
        """Returns the lines so far without what names one decision, and forgets them."""
        lines = [line_of(datetime.fromtimestamp(0, UTC), *each) for each in self.seen]
        self.seen = []
        return [{**line, "decision_id": None} for line in lines]


class Case:
    """One policy, some tokens that are like one another, and the two checks. `folder` is for the policy."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = rng = random.Random(seed)
        self.now = float(NOW)
        self.store = MemoryStore()
        self.policy = self._policy()
        self.tokens = [token for _ in range(2) for token in self._relatives()]
        file = folder / "policy.datalog"
        file.write_text(self.policy, encoding="utf-8")
        self._route = RouteSettings(name="all", policy=str(file))
        self._settings = CheckSettings(
            profile=PROFILES["plain"], chosen=(_CHOSEN.encode(),), source=self.store
        )
        self._fast_log = rng.choice((None, Log(takes_allowed=True), Log(takes_allowed=False)))
        self._fast_routes, self._slow_routes = self._routes(), self._routes()
        self._fast = Check(self._fast_routes, self._settings, Board(1).row(0), self._fast_log)
        self.requests = [
            Asked(
                rng.choice(("GET", "GET", "PUT", "TRACE")),
                rng.choice(_TARGETS),
                rng.choice(("api.example.com", "API.example.com:8443")),
                rng.choice(_HEADERS),
            )
            for _ in range(4)
        ]

    def disagreement(self, steps: int, counted: Sums) -> str | None:
        """Returns what differs first, None when all is answered alike."""
        for _ in range(steps):
            chance = self.rng.random()
            if chance < 0.08:
                self.now = NOW + self.rng.choice((-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0))
            elif chance < 0.09:
                self.store.revoke([self.rng.choice(self.rng.choice(self.tokens).canonical_revocation_ids)])
            token, asked = self.rng.choice(self.tokens), self.rng.choice(self.requests)
            wrong = self._ask(token, asked, counted)
            if wrong is not None:
                blocks = [token.block_source(index) for index in range(token.block_count())]
                return "\n--\n".join((wrong, str(asked), f"at {self.now}", self.policy, *blocks))
        return None

    def _ask(self, token: Biscuit, asked: Asked, counted: Sums) -> str | None:
        sent = asked.headers(token.to_base64())
        before = _decided_fast(self._fast_routes)
        answer = self._fast.handle(asked.method, asked.target, sent, b"", "192.0.2.1")
        counted.asked += 1
        counted.fast += _decided_fast(self._fast_routes) - before
        counted.statuses[answer.status] += 1
        for route in self._slow_routes:
            route.guard.forget()
        log = Log(takes_allowed=True)
        slow = Check(self._slow_routes, self._settings, Board(1).row(0), log)
        expected = slow.handle(asked.method, asked.target, sent, b"", "192.0.2.1")
        found, wanted = (_without_id(each.lines + each.body) for each in (answer, expected))
        if (answer.status, found) != (expected.status, wanted):
            return f"{answer.status} {found!r}\nexpected: {expected.status} {wanted!r}"
        outcomes = [decision.outcome.value for decision, _, _ in log.seen]
        lines = log.taken()
        if self._fast_log is not None:
            takes_allowed = self._fast_log.takes_allowed
            lines = [line for line in lines if takes_allowed or line["outcome"] != "allowed"]
            written = self._fast_log.taken()
            if written != lines:
                return f"logged: {written}\nexpected: {lines}"
        if not outcomes or outcomes[0] not in ("allowed", "denied", "expired"):
            return None
        told = outcome(self._peers(token, asked))
        counted.peers[told.partition(":")[0]] += 1
        if told.startswith("allowed") != (outcomes[0] == "allowed"):
            return f"{outcomes[0]}, and the peer: {told}"
        return None

    def _peers(self, token: Biscuit, asked: Asked) -> Any:
        builder = PEER.AuthorizerBuilder(self.policy)
        for name, terms in (*asked.facts(), ("time", (datetime.fromtimestamp(int(self.now), UTC),))):
            parameters = {f"t{index}": term for index, term in enumerate(terms)}
            builder.add_fact(
                PEER.Fact(f"{name}({', '.join(f'{{{each}}}' for each in parameters)})", parameters)
            )
        limits = builder.limits()
        limits.max_time = limits.max_time * 20_000
        builder.set_limits(limits)
        return builder.build(
            PEER.Biscuit.from_bytes(bytes(token.to_bytes()), PEER.PublicKey(repr(ROOT.public_key)))
        )

    def _routes(self) -> Routes:
        """Returns the route with a guard that has all the time it needs, however busy the machine is."""
        built = build_routes([self._route], ROOT.public_key, lambda on_stale: self.store)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PolicyWarning)  # they were heard when the routes were built
            return Routes(
                [
                    replace(
                        route,
                        guard=Guard(
                            ROOT.public_key,
                            route.source,
                            self.store,
                            lambda: self.now,
                            _LIMITS,
                            answers=ANSWERS,
                        ),
                        needs=None,
                    )
                    for route in built
                ]
            )

    def _policy(self) -> str:
        some = self._some
        statements = [*some(_OF_POLICY[:3], 2, 3), *some(_OF_POLICY[3:], 0, 2), *some(_CHECKS, 0, 1)]
        statements += [*some(_RULES[:-1], 0, 1), *some(_POLICIES[:-1], 0, 2), *some(_POLICIES[-5:], 1, 1)]
        return "".join(f"{statement};\n" for statement in statements)

    def _relatives(self) -> list[Biscuit]:
        """Returns a token and others of its structure, and one that is narrowed from it."""
        blocks = [[*self._some(_FACTS, 1, 3), *self._some(_RULES, 0, 1), *self._some(_CHECKS, 0, 1)]]
        blocks += [
            [*self._some(_FACTS, 0, 1), *self._some(_RULES, 0, 1), *self._some(_CHECKS, 0, 1)]
            for _ in range(self.rng.choice((0, 1, 2)))
        ]
        signers = [self.rng.choice((None, None, 0)) for _ in blocks]
        found = [_minted(blocks, signers)]
        for name in ("bob", "eve"):
            renamed = [[text.replace('"ann"', f'"{name}"') for text in block] for block in blocks]
            found.append(_minted(renamed, signers))
        return [*found, found[0].attenuate(operations=["read"])]

    def _some(self, statements: Sequence[str], least: int, most: int) -> list[str]:
        return self.rng.sample(statements, self.rng.randint(least, most))


def _minted(blocks: Sequence[Sequence[str]], signers: Sequence[int | None]) -> Biscuit:
    sources = ["".join(f"{statement};\n" for statement in block) for block in blocks]
    token = BiscuitBuilder(sources[0]).build(ROOT.private_key)
    for source, number in zip(sources[1:], signers[1:], strict=True):
        block = BlockBuilder(source)
        if number is None:
            token = token.append(block)
        else:
            signer = _SIGNERS[number]
            signed = token.third_party_request().create_block(signer.private_key, block)
            token = token.append_third_party(signer.public_key, signed)
    return token


def _decided_fast(routes: Routes) -> int:
    return sum(route.guard.stats().fast for route in routes)


def _without_id(answer: bytes) -> bytes:
    """Returns an answer without the id of its decision, which stands in a header and maybe in the body."""
    found = re.search(rb"x-cap-decision-id: ([0-9a-f]{32})\r\n", answer)
    return answer if found is None else answer.replace(found[1], b"")
