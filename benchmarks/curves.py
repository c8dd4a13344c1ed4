"""How time grows with a token: with its blocks, its facts, its checks."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import biscuit_auth

import capability
from benchmarks.decisions import COLD_CALLS, SEEN_BEFORE
from benchmarks.measure import paired
from benchmarks.workload import GUARD_LIMITS, POLICY, REQUEST, Issuer, Peer, must_allow

BLOCKS: Final = (1, 2, 3, 5, 7, 10, 15, 20)
FACTS: Final = (1, 3, 10, 30, 100, 300, 1000)
CHECKS: Final = (1, 3, 10, 30, 100, 300)

WHOLE: Final = "biscuit-python, from the text"
PREPARED: Final = "biscuit-python, from the parsed token"
COLD: Final = "this project, text never seen"
WARM: Final = "this project, text seen before"

_ROUNDS: Final = 7
_BY_RIGHT: Final = """
allow if user($u), application($a), operation($o), resource($r), right($u, $a, $o, $r);
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds (of each label) over a number of something."""

    name: str
    over: str
    numbers: tuple[int, ...]
    seconds: dict[str, list[float]]


def curves(growth: dict[str, Any]) -> list[Curve]:
    """Returns all curves; `growth` is what `resources.cached_tokens` returned."""
    issuer = Issuer()
    cached = growth["times"]
    return [
        _curve("blocks", "blocks", BLOCKS, lambda number: issuer.token(number), POLICY, issuer),
        _curve(
            "facts", "facts in the token", FACTS, lambda number: _facts(issuer, number), _BY_RIGHT, issuer
        ),
        _curve(
            "checks", "checks in the token", CHECKS, lambda number: _checks(issuer, number), POLICY, issuer
        ),
        Curve(
            "cached",
            "cached tokens of 3 blocks",
            tuple(number for number, _ in cached),
            {f"{WARM}, in no order": [taken for _, taken in cached]},
        ),
    ]


def _curve(name: str, over: str, numbers: tuple[int, ...], make: Any, policy: str, issuer: Issuer) -> Curve:
    seconds: dict[str, list[float]] = {label: [] for label in (WHOLE, PREPARED, COLD, WARM)}
    for number in numbers:
        texts = [make(number) for _ in range(_ROUNDS * COLD_CALLS + 1)]
        for label, taken in _times(texts, policy, issuer).items():
            seconds[label].append(taken)
    return Curve(name, over, numbers, seconds)


def _times(texts: list[str], policy: str, issuer: Issuer) -> dict[str, float]:
    known = texts.pop()
    guard, peer = (
        capability.Guard(issuer.our_public, policy, limits=GUARD_LIMITS),
        Peer(issuer, REQUEST + policy),
    )
    parsed = issuer.parsed_by_peer(known)
    now = datetime.now(UTC)
    values = [
        {"now": now, "application": "orders", "operation": ("read", "list")[n % 2], "resource": "/orders/0"}
        for n in range(1024)
    ]

    def ours(text: str, n: int) -> capability.Decision:
        return guard.check(
            text, application="orders", operation=("read", "list")[n % 2], resource="/orders/0"
        )

    must_allow([ours(known, n) for n in range(2 * SEEN_BEFORE)])
    cold = paired(
        lambda n: ours(texts[n], n).allowed,
        lambda n: peer.check(texts[n], values[n]),
        rounds=_ROUNDS,
        calls=(COLD_CALLS, COLD_CALLS),
    )
    warm = paired(
        lambda n: ours(known, n).allowed, lambda n: peer.authorize(parsed, values[n % 1024]), rounds=_ROUNDS
    )
    middle = _ROUNDS // 2
    return {
        WHOLE: sorted(cold.peer)[middle],
        PREPARED: sorted(warm.peer)[middle],
        COLD: sorted(cold.ours)[middle],
        WARM: sorted(warm.ours)[middle],
    }


def _facts(issuer: Issuer, number: int) -> str:
    user = f"user-{issuer.next_number()}"
    source = f'user("{user}");' + "".join(
        f'right("{user}", "orders", "{("read", "list")[n % 2]}", "/orders/{n // 2}");'
        for n in range(2, number + 1)
    )
    source += (
        f'right("{user}", "orders", "read", "/orders/0"); right("{user}", "orders", "list", "/orders/0");'
    )
    return str(biscuit_auth.BiscuitBuilder(source).build(issuer.peer_private).to_base64())


def _checks(issuer: Issuer, number: int) -> str:
    user = f"user-{issuer.next_number()}"
    source = f'user("{user}"); role("editor");' + "".join(
        f'check if operation($o), $o != "forbidden-{n}";' for n in range(number)
    )
    return str(biscuit_auth.BiscuitBuilder(source).build(issuer.peer_private).to_base64())
