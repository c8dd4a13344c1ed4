"""What warm tokens take in memory, how decisions share two threads, and how time grows with what is cached.

Memory is that of a process of its own, which holds a guard and nothing else: `python -m benchmarks.resources`
prints it as JSON.
"""

import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import capability
from benchmarks.decisions import SEEN_BEFORE, warm_guard
from benchmarks.measure import Row
from benchmarks.workload import GUARD_LIMITS, POLICY, Issuer, Requests, must_allow
from capability.guard import CacheLimits

CACHED: Final = 100_000
STEPS: Final = (100, 1_000, 10_000, 100_000)
MAX_BYTES: Final = 4096
_BLOCKS: Final = 3
_SAMPLE: Final = 1000
_THREAD_ROUNDS: Final = 15
_THREAD_CHECKS: Final = 20_000
_ROOT: Final = Path(__file__).parent.parent


def rows(growth: dict[str, Any]) -> Iterator[Row]:
    """Yields the lines about memory and threads; `growth` is what `cached_tokens` returned."""
    taken = growth["bytes_each"]
    what = f"{growth['tokens']:,} cached warm tokens of {_BLOCKS} blocks, bytes each"
    yield Row("memory", what, None, None, taken, MAX_BYTES, unit="bytes")
    yield Row(
        "memory", "of which the text itself, which is the key", None, None, growth["text_each"], unit="bytes"
    )
    yield Row("memory", "Python's full garbage collection over all of them", growth["collection"], None, None)
    yield from _threads()


def cached_tokens(count: int = CACHED) -> dict[str, Any]:
    """Returns what a process says that has so many warm tokens."""
    command = [sys.executable, "-m", "benchmarks.resources", str(count)]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Fills a guard's cache and prints what each token took, and how long a check took on the way."""
    count = int(sys.argv[1])
    issuer = Issuer()
    bounds = CacheLimits(max_tokens=2 * count + 4 * _SAMPLE, max_token_size=2**40, max_read_size=2**26)
    guard = capability.Guard(issuer.our_public, POLICY, limits=GUARD_LIMITS, cache=bounds)
    texts = [_cached(guard, issuer) for _ in range(_SAMPLE)]
    gc.collect()
    before, times = _resident(), []
    for number in range(1, count + 1):
        texts.append(_cached(guard, issuer))
        if number in STEPS:
            times.append((number, _check_seconds(guard, texts[-number:])))
    started = time.perf_counter()
    gc.collect()
    collection = time.perf_counter() - started
    after = _resident()
    texts_size = sum(map(sys.getsizeof, texts[_SAMPLE:]))
    stats = guard.stats()
    if stats.tokens.entries != count + _SAMPLE or stats.fast < 2 * count:
        raise AssertionError("not every token was cached and warm")
    # The list that the texts stand in is this benchmark's; the texts themselves are the cache's keys.
    each = (after - before - (sys.getsizeof(texts) * count // len(texts))) / count
    result = {
        "tokens": count,
        "bytes_each": each,
        "text_each": texts_size / count,
        "collection": collection,
        "times": times,
    }
    print(json.dumps(result))


def _cached(guard: capability.Guard, issuer: Issuer) -> str:
    text = issuer.token(_BLOCKS)
    for _ in range(SEEN_BEFORE + 1):
        must_allow([guard.check(text, application="orders", operation="read", resource="/orders/7")])
    return text


def _check_seconds(guard: capability.Guard, texts: list[str]) -> float:
    """Returns what a warm check of any of the texts takes, those in no order."""
    chosen = random.Random(7).choices(texts, k=10_000)
    timings = []
    for _ in range(5):
        started = time.perf_counter()
        for text in chosen:
            guard.check(text, application="orders", operation="list", resource="/orders/9")
        timings.append((time.perf_counter() - started) / len(chosen))
    return statistics.median(timings)


def _resident() -> int:
    """Returns the bytes of memory that this process has now (or, where that is not told, has had)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _threads() -> Iterator[Row]:
    issuer, requests = Issuer(), Requests()
    texts = issuer.tokens(16, _BLOCKS)
    guard = warm_guard(issuer, texts)

    def warm(first: int, checks: int) -> None:
        for n in range(first, first + checks):
            operation, asked = requests.asked[n % len(requests.asked)]
            guard.check(texts[n % 16], application="orders", operation=operation, resource=asked)

    yield _shared("warm checks, 3 blocks: 2 threads by 1", warm, _THREAD_CHECKS, 0.9)

    def cold(first: int, checks: int) -> None:
        for text in fresh[first : first + checks]:
            guard.check(text, application="orders", operation="read", resource="/orders/9")

    checks = 20
    fresh = issuer.tokens(checks * 2 * _THREAD_ROUNDS, _BLOCKS)
    yield _shared("cold checks, 3 blocks: 2 threads by 1", cold, checks, None)


def _shared(what: str, work: Any, checks: int, bar: float | None) -> Row:
    """Returns the throughput of two threads by that of one, from rounds that take turns."""
    singles, doubles = [], []
    for number in range(_THREAD_ROUNDS):
        first = 2 * number * checks
        started = time.perf_counter()
        work(first, checks)
        singles.append(checks / (time.perf_counter() - started))
        halves = [
            threading.Thread(target=work, args=(first + checks + half * (checks // 2), checks // 2))
            for half in (0, 1)
        ]
        started = time.perf_counter()
        for half in halves:
            half.start()
        for half in halves:
            half.join()
        doubles.append(checks / (time.perf_counter() - started))
    ratios = [double / single for double, single in zip(doubles, singles, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    ours, one = statistics.median(doubles), statistics.median(singles)
    return Row("threads", what, ours, one, middle, bar, True, low, high, unit="checks/s", beside="one thread")


if __name__ == "__main__":
    main()
