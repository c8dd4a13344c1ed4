"""Times this engine beside biscuit-python, on tokens that both read: `python -m benchmarks.run`.

The two take turns within one process, and what is reported is the median of the ratios of neighbouring
rounds, so that a machine that speeds up or slows down meanwhile weighs on both alike. Both are used through
the same public calls, and keep between calls whatever they keep in a service. `Guard.check` has no like in
biscuit-python: it is set beside the calls that do the same there, once for a token that it has seen before,
as most are, and the other jobs tell what a new one costs.
"""

import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import biscuit_auth

import capability

RESULTS = Path(__file__).with_name("results.json")
ROUNDS = 41
ROUND_SECONDS = 0.02
NOW = datetime(2026, 1, 1, tzinfo=UTC)
GENEROUS = timedelta(seconds=10)  # biscuit-python allows 1 ms by default, which a slow round can pass

AUTHORITY = 'right("orders", "read"); right("orders", "write");'
NARROWING = 'check if operation("read"); check if time($t), $t <= 2030-01-01T00:00:00Z;'
REQUEST = 'time(2026-01-01T00:00:00Z); operation("read"); application("orders");'
POLICY = "allow if operation($op), application($app), right($app, $op);"
CLOSURE = "path($a, $b) <- edge($a, $b); path($a, $c) <- path($a, $b), edge($b, $c);"
CLOSURE_EDGES = 30


@dataclass(frozen=True)
class Measurement:
    """One job, timed for both: medians in microseconds, and the median of ours / theirs."""

    job: str
    ours_us: float
    theirs_us: float
    ratio: float


def _batch_size(job: Callable[[], object]) -> int:
    """Returns how many calls fill a round, so that the clock's own cost does not count."""
    started = time.perf_counter()
    job()
    once = max(time.perf_counter() - started, 1e-7)
    return max(1, int(ROUND_SECONDS / once))


def _seconds_per_call(job: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        job()
    return (time.perf_counter() - started) / calls


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> Measurement:
    """Returns the paired timings of two jobs that do the same."""
    ours()
    theirs()
    our_calls, their_calls = _batch_size(ours), _batch_size(theirs)
    our_times: list[float] = []
    their_times: list[float] = []
    gc.collect()
    for round_number in range(ROUNDS):
        if round_number % 2:
            their_times.append(_seconds_per_call(theirs, their_calls))
            our_times.append(_seconds_per_call(ours, our_calls))
        else:
            our_times.append(_seconds_per_call(ours, our_calls))
            their_times.append(_seconds_per_call(theirs, their_calls))
    return Measurement(
        name,
        statistics.median(our_times) * 1e6,
        statistics.median(their_times) * 1e6,
        statistics.median(mine / peer for mine, peer in zip(our_times, their_times, strict=True)),
    )


def jobs(engine: Any, token: str, root: str) -> dict[str, Callable[[], object]]:
    """Returns the jobs to time, done by `engine`: a module with the class names of biscuit-python."""
    key = engine.PublicKey(root)
    parsed = engine.Biscuit.from_base64(token, key)

    def authorizer(source: str) -> Any:
        builder = engine.AuthorizerBuilder(source)
        limits = builder.limits()
        limits.max_time = GENEROUS
        builder.set_limits(limits)
        return builder

    def authorize() -> object:
        return authorizer(REQUEST + POLICY).build(parsed).authorize()

    def whole_check() -> object:
        return authorizer(REQUEST + POLICY).build(engine.Biscuit.from_base64(token, key)).authorize()

    def attenuate() -> object:
        return parsed.append(engine.BlockBuilder(NARROWING)).to_base64()

    edges = "".join(f"edge({n}, {n + 1});" for n in range(CLOSURE_EDGES))
    closure = edges + CLOSURE + f"allow if path(0, {CLOSURE_EDGES});"

    return {
        "parse and verify": lambda: engine.Biscuit.from_base64(token, key),
        "authorize": authorize,
        "parse, verify and authorize": whole_check,
        "attenuate": attenuate,
        f"transitive closure, {CLOSURE_EDGES} edges": lambda: (
            authorizer(closure).build_unauthenticated().authorize()
        ),
    }


def mint(blocks: int) -> tuple[str, str]:
    """Returns a token of so many blocks, and its root key, both as text."""
    root = biscuit_auth.KeyPair()
    token = biscuit_auth.BiscuitBuilder(AUTHORITY).build(root.private_key)
    for _ in range(blocks - 1):
        token = token.append(biscuit_auth.BlockBuilder(NARROWING))
    return token.to_base64(), str(root.public_key)


def measure() -> list[Measurement]:
    """Returns all measurements, the jobs on one block and on three."""
    results: list[Measurement] = []
    for blocks in (1, 3):
        token, root = mint(blocks)
        theirs = jobs(biscuit_auth, token, root)
        for name, ours in jobs(capability, token, root).items():
            if name.startswith("transitive") and blocks > 1:
                continue  # it has no token
            label = name if name.startswith("transitive") else f"{name}, {blocks} block{'s' * (blocks > 1)}"
            results.append(compare(label, ours, theirs[name]))
        guard = capability.Guard(capability.PublicKey(root), POLICY, clock=NOW.timestamp)
        check = partial(guard.check, token, operation="read", application="orders")
        check().require()
        label = f"Guard.check, token seen before, {blocks} block{'s' * (blocks > 1)}"
        results.append(compare(label, check, theirs["parse, verify and authorize"]))
    return results


def main() -> None:
    """Prints the table and writes `results.json` beside this file."""
    results = measure()
    print(f"{'job':<42} {'capability':>12} {'biscuit-python':>15} {'ratio':>7}   (median µs a call)")
    for result in results:
        print(f"{result.job:<42} {result.ours_us:>12.1f} {result.theirs_us:>15.1f} {result.ratio:>7.2f}")
    context = {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "capability-tokens": version("capability-tokens"),
        "biscuit-python": version("biscuit-python"),
        "rounds": ROUNDS,
    }
    RESULTS.write_text(
        json.dumps({**context, "results": [asdict(result) for result in results]}, indent=2) + "\n"
    )
    print(f"written to {RESULTS.name}")


if __name__ == "__main__":
    main()
