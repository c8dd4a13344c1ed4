"""What the stores and the revocations cost at scale: `python -m benchmarks.stores [PART ...] [--store URL]`.

Parts: `lookup`, `files`, `registry`, `feed`, `join`; all of them if none is named. `--store` names an empty
store for the last three; without it a SQLite file in a temporary folder is made. `--count N` is how many
ids or records, a million by default, or 100,000 for `feed`. Prints lines of a table: docs/scale.md has them.
"""

import argparse
import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from capability.keys import KeyPair
from capability.revocation import RevocationIds, digest
from capability.store import Owner, Record, Selection, Store, create_store, open_store
from capability.store.index import RevocationIndex
from capability.store.memory import MemoryStore
from capability.store.signed import SignedRevocations, export_delta, export_full

ASKED: Final = 20_000
ROUNDS: Final = 40
PART: Final = 250
BATCH: Final = 100
VERIFIERS: Final = 3

STEP: Final = 20_000

JOINER: Final = """
import os, time
from resource import RUSAGE_SELF, getrusage
from capability.store import open_store
from capability.store.follower import Follower

def now():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

with open_store(os.environ["CAP_STORE"]) as store:
    follower = Follower(store, max_stale=None)
    before, started = now(), time.perf_counter()
    follower.poll()
    taken = time.perf_counter() - started
    most = getrusage(RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(len(follower), taken, round(most - before), round(now() - before))
"""
"""Follows a store from its beginning. Linux only: it reads its own memory there."""

VERIFIER: Final = """
import os, sys, time
from capability.store import open_store
from capability.store.follower import Follower
url, count, parent = os.environ["CAP_STORE"], int(sys.argv[1]), os.getppid()
with open_store(url) as store, Follower(store, max_stale=None, interval=0.05) as follower:
    print("ready", flush=True)
    seen = 0
    while len(follower) < count and os.getppid() == parent:
        revision = follower.revision()
        if revision != seen:
            seen = revision
            print(revision, time.time(), flush=True)
        time.sleep(0.001)
    follower.poll()  # the ids are there a moment before the revision
    print(follower.revision(), time.time(), flush=True)
"""
"""Follows a store, and says when it denies by which revision: from then on a guard that asks it does."""


def main(arguments: Sequence[str]) -> None:
    """Measures the parts that are named and prints what they cost."""
    parts: dict[str, Callable[[str | None, int | None], None]] = {
        "lookup": lookup,
        "files": files,
        "registry": registry,
        "feed": feed,
        "join": join,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="PART")
    parser.add_argument("--store", metavar="URL")
    parser.add_argument("--count", type=int)
    asked = parser.parse_args(arguments)
    for name in asked.parts or parts:
        parts[name](asked.store, asked.count)


def lookup(_url: str | None, count: int | None) -> None:
    """A million ids in memory: what a look-up takes, and what an id takes."""
    held = [random.randbytes(64) for _ in range(count or 1_000_000)]
    index = RevocationIndex()
    started = time.perf_counter()
    index.add(held)
    say("put into the index", f"{time.perf_counter() - started:.2f} s")
    say("bytes an id", f"{index.nbytes() / len(index):.2f}")
    hits = [bytes(bytearray(each)) for each in random.sample(held, ASKED)]
    misses = [random.randbytes(64) for _ in range(ASKED)]
    del held
    say("for comparison, SHA-256 of an id", nanoseconds(hashlib.sha256, misses))
    say("for comparison, its digest (BLAKE2s)", nanoseconds(digest, misses))
    for size in (1, 4):
        for what, ids in (("not revoked", misses), ("revoked", hits)):
            if size > 1 and ids is hits:
                continue  # the first that is found ends it
            chains = [tuple(ids[at : at + size]) for at in range(0, ASKED, size)]
            name = f"{what}, an id of a chain of {size}"
            say(f"{name}, never seen", nanoseconds(index.first, chains, size))
            known = [RevocationIds(each) for each in chains]
            say(f"{name}, of a token seen before", nanoseconds(index.first, known, size))


def files(_url: str | None, count: int | None) -> None:
    """Signed files: their size, and what writing, loading and asking take."""
    key = KeyPair()
    for ids in (10_000, count or 1_000_000):
        store = MemoryStore()
        store.revoke([random.randbytes(64) for _ in range(ids)])
        started = time.perf_counter()
        data = export_full(store, key.private_key, valid_for=timedelta(days=1))
        say(f"{ids} ids: written in", f"{time.perf_counter() - started:.2f} s")
        say(f"{ids} ids: bytes, and an id", f"{len(data)}, {len(data) / ids:.2f}")
        loads = []
        for _ in range(5):
            started = time.perf_counter()
            source = SignedRevocations(data, key.public_key)
            loads.append(time.perf_counter() - started)
        say(f"{ids} ids: verified and loaded in", f"{min(loads) * 1e3:.1f} ms")
        say(f"{ids} ids: bytes an id in memory", f"{source._current.index.nbytes() / ids:.2f}")
        chains = [(random.randbytes(64),) for _ in range(ASKED)]
        known = [RevocationIds(each) for each in chains]
        say(f"{ids} ids: look-up, never seen", nanoseconds(source._current.index.first, chains))
        say(f"{ids} ids: look-up, seen before", nanoseconds(source._current.index.first, known))
        revision = store.revision()
        for more in (0, 100):
            store.revoke([random.randbytes(64) for _ in range(more)] or [b"x"])
            delta = export_delta(store, key.private_key, since=revision, valid_for=timedelta(days=1))
            say(f"{ids} ids: bytes of a delta of {more or 1}", str(len(delta)))
            revision = store.revision()


def registry(url: str | None, count: int | None) -> None:
    """A million records: a list with a filter, and everything of one owner revoked, library and command."""
    with tempfile.TemporaryDirectory() as folder:
        url = url or f"sqlite:///{folder}/cap.db"
        count = count or 1_000_000
        with create_store(url) as store:
            started = time.perf_counter()
            fill(store, count)
            say(f"{count} records written in", f"{time.perf_counter() - started:.0f} s")
            few, owner = Selection(tenant="tenant-7"), Owner("user", "user-77")
            for name, job in (
                ("list of an owner", lambda: store.records(Selection(owner=owner), limit=100)),
                ("list of a tenant, 100", lambda: store.records(few, limit=100)),
            ):
                say(f"{name}, library", milliseconds(job))
            say("revoke all of an owner, library", milliseconds(lambda: store.revoke_all_of(owner), 1))
        for name, words in (
            ("list of an owner, command", ("list", "--owner", "user:user-78")),
            ("revoke all of an owner, command", ("revoke", "--owner", "user:user-78", "--yes")),
        ):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "capability.cli", *words],
                env={**os.environ, "CAP_STORE": url},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            say(name, f"{(time.perf_counter() - started) * 1e3:.0f} ms")


def fill(store: Store, count: int) -> None:
    """Registers `count` tokens of a thousandth as many owners, many in a transaction where it can."""
    from capability.store.sqlite import SQLiteStore
    from capability.store.sqlite.registry import insert

    records = (
        Record(
            root=number.to_bytes(64, "big"),
            name=f"token-{number}",
            owner=Owner("user", f"user-{number % max(count // 1000, 100)}"),
            tenant=f"tenant-{number % 100}",
            applications=("orders",),
        )
        for number in range(1, count + 1)
    )
    if isinstance(store, SQLiteStore):
        with store._connection.writing() as database:
            for record in records:
                insert(database.conn, record)
        return
    if type(store).__name__ == "PostgresStore":  # what it needs may not be there
        from capability.store.postgres import PostgresStore
        from capability.store.postgres.registry import insert as insert_many

        assert isinstance(store, PostgresStore)
        while part := list(islice(records, STEP)):
            store._connections.noting(partial(insert_many, records=part), idempotent=False)
        return
    for record in records:
        store.register(record)


def feed(url: str | None, count: int | None) -> None:
    """Three processes follow while ids are revoked: how long after the acknowledgement they deny."""
    with tempfile.TemporaryDirectory() as folder:
        url = url or f"sqlite:///{folder}/cap.db"
        delays, taken = followed(url, count or 100_000)
    cuts = statistics.quantiles(delays, n=100)
    say("ids revoked and followed by 3 processes in", f"{taken:.1f} s")
    say("acknowledged to denied, p50 and p99", f"{cuts[49] * 1e3:.0f} ms, {cuts[98] * 1e3:.0f} ms")


def followed(url: str, count: int) -> tuple[list[float], float]:
    """Returns the delay of each revocation at each verifier, in seconds, and how long all took.

    Raises where a verifier does not get to all of them.
    """
    with create_store(url):
        pass
    command = [sys.executable, "-c", VERIFIER, str(count)]
    environment = {**os.environ, "CAP_STORE": url, "PYTHONPATH": str(Path(__file__).parent.parent)}
    verifiers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(VERIFIERS)
    ]
    try:
        for each in verifiers:
            assert each.stdout is not None
            if each.stdout.readline() != "ready\n":
                raise RuntimeError("a verifier did not start")
        acknowledged: dict[int, float] = {}
        started = time.time()
        with open_store(url) as store:
            for at in range(0, count, BATCH):
                ids = [random.randbytes(64) for _ in range(min(BATCH, count - at))]
                acknowledged[store.revoke(ids)] = time.time()
        delays: list[float] = []
        for each in verifiers:
            said, _ = each.communicate(timeout=120)
            seen = sorted(tuple(map(float, line.split())) for line in said.splitlines())
            for revision, moment in acknowledged.items():
                # the first that the verifier knew by, which may have brought several
                denied = min(when for known, when in seen if known >= revision)
                delays.append(max(denied - moment, 0.0))
        return delays, time.time() - started
    finally:
        for each in verifiers:
            each.kill()
            each.communicate()


def join(url: str | None, count: int | None) -> None:
    """A new verifier follows a store in which much is revoked: how long until it has it, and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        url = url or f"sqlite:///{folder}/cap.db"
        with create_store(url) as store:
            for at in range(0, count or 1_000_000, STEP):
                store.revoke([random.randbytes(64) for _ in range(min(STEP, (count or 1_000_000) - at))])
        said = subprocess.run(
            [sys.executable, "-c", JOINER],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "CAP_STORE": url, "PYTHONPATH": str(Path(__file__).parent.parent)},
        ).stdout.split()
    say(f"{said[0]} ids known to a new verifier in", f"{float(said[1]):.1f} s")
    say("its memory grew by, at most and afterwards", f"{said[2]} MB, {said[3]} MB")


def nanoseconds(job: Callable[..., object], asked: Sequence[object], size: int = 1) -> str:
    """Returns what one of `size` ids in a call takes, with what this machine does besides left out.

    All are asked in each round, so that none is near by chance; a part of them is short enough that in some
    round nothing came between, and the best rounds of the parts are averaged.
    """
    parts = [asked[at : at + PART] for at in range(0, len(asked), PART)]
    best = [float("inf")] * len(parts)
    for _ in range(ROUNDS):
        for number, part in enumerate(parts):
            started = time.perf_counter()
            for each in part:
                job(each)
            best[number] = min(best[number], time.perf_counter() - started)
    return f"{sum(best) / len(asked) / size * 1e9:.0f} ns"


def milliseconds(job: Callable[[], object], rounds: int = 5) -> str:
    """Returns the best of several rounds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        job()
        best = min(best, time.perf_counter() - started)
    return f"{best * 1e3:.1f} ms"


def say(what: str, figure: str) -> None:
    """Prints a line of the table."""
    print(f"| {what} | {figure} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
