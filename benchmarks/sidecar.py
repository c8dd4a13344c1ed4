"""What a sidecar costs under load: `python -m benchmarks.sidecar [PART ...] [--cerbos PROGRAM]`.

Parts: `load` (beside the same server with a constant answer, and beside Cerbos), `many` (100,000 tokens) and
`revocation` (from acknowledged to denied); all of them if none is named. What was measured is put into
benchmarks/sidecar.json and docs/sidecar-performance.md. Needs wrk, h2load and, without `--cerbos`, npm.
"""

import argparse
import bisect
import contextlib
import http.client
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.questions import CERBOS_POLICY, CERBOS_REQUEST, POLICY, cerbos_script, check_script
from benchmarks.servers import (
    CONNECTIONS,
    Load,
    Server,
    ask,
    cerbos,
    constant,
    free_port,
    installed_cerbos,
    load_tcp,
    load_unix,
    missing_tools,
    running,
)
from benchmarks.workload import Issuer
from capability.store import create_store, open_store
from capability.store.memory import MemoryStore

ROUNDS: Final = 5
SECONDS: Final = 1
UNIX_REQUESTS: Final = 10_000
TOKENS: Final = 100
"""How many tokens take turns over TCP; h2load sends one."""
MANY: Final = 100_000
ASKED: Final = 200_000
REVOCATIONS: Final = 100
RESULTS: Final = Path(__file__).parent / "sidecar.json"
DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "sidecar-performance.md"


def main(arguments: Sequence[str]) -> int:
    """Measures the parts that are named; returns the exit code."""
    parts: dict[str, Callable[[str | None], Any]] = {"load": load, "many": many, "revocation": revocation}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sidecar")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="PART")
    parser.add_argument("--cerbos", metavar="PROGRAM", help="an installed Cerbos, instead of npm's")
    asked = parser.parse_args(arguments)
    if missing_tools():
        print(f"error: not installed: {', '.join(missing_tools())}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    for name in asked.parts or parts:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        before = os.getloadavg()[0]
        found = parts[name](asked.cerbos)
        # with each part, as the machine may lack what the next one needs
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = {"found": found, "cpus": os.cpu_count(), "loads": [before, os.getloadavg()[0]]}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
        DOCUMENT.write_text(document(results))
    print(document(results))
    return 0


def load(program: str | None) -> dict[str, Any]:
    """Returns what the rounds of load say, for TCP and Unix sockets, with 1 and 2 workers."""
    issuer = Issuer()
    tokens = issuer.tokens(TOKENS, 3)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as servers:
        folder = Path(name)
        engine = servers.enter_context(
            cerbos(folder, program or installed_cerbos(folder), CERBOS_POLICY.strip())
        )
        url = f"http://127.0.0.1:{engine.port}/api/check/resources"
        if b"EFFECT_ALLOW" not in ask(url, json.dumps(CERBOS_REQUEST).encode()):
            raise RuntimeError("Cerbos does not allow what it should")
        scripts = {"check": check_script(folder, tokens), "cerbos": cerbos_script(folder)}
        scripts["constant"] = scripts["check"]
        for workers in (1, 2):
            part = folder / str(workers)
            part.mkdir()
            with contextlib.ExitStack() as own:
                pair = {
                    "check": own.enter_context(sidecar(part, issuer, workers)),
                    "constant": own.enter_context(constant(part, workers)),
                }
                _warm(pair["check"], scripts["check"], tokens[0])
                three = {**pair, "cerbos": engine}
                # Cerbos uses all cores: beside one worker and beside two
                rounds = _rounds(three, lambda of, server: load_tcp(server, scripts[of], SECONDS))
                found[f"tcp {workers}"] = _summary(rounds, three)
                rounds = _rounds(pair, lambda of, server: load_unix(server, tokens[0], folder, UNIX_REQUESTS))
                found[f"unix {workers}"] = _summary(rounds, pair)
    return found


@contextlib.contextmanager
def sidecar(folder: Path, issuer: Issuer, workers: int, url: str | None = None) -> Iterator[Server]:
    """Runs `cap serve` on TCP and a Unix socket, with a policy and a store that it follows."""
    path, port = str(folder / "cap.sock"), free_port()
    if url is None:
        url = f"sqlite:///{folder}/cap.db"
        create_store(url).close()
    (folder / "policy.datalog").write_text(POLICY)
    (folder / "cap.toml").write_text(
        f'public_key = "{issuer.our_public!r}"\n[serve]\nstore = "{url}"\nworkers = {workers}\n'
        f'[[serve.listen]]\naddress = "tcp:127.0.0.1:{port}"\n'
        f'[[serve.listen]]\naddress = "unix:{path}"\n'
        '[[serve.route]]\npolicy = "policy.datalog"\napplication = "orders"\n'
    )
    with running([sys.executable, "-m", "capability.cli", "serve"], folder, port, path) as server:
        yield server


def many(_program: str | None) -> dict[str, Any]:
    """Returns how often a token was known and what is remembered, for many tokens of a Zipf distribution."""
    from capability.sidecar.check import Check, CheckSettings
    from capability.sidecar.feed import Bounded, Feed
    from capability.sidecar.guards import build_routes
    from capability.sidecar.profiles import PROFILES
    from capability.sidecar.settings import RouteSettings
    from capability.sidecar.tally import Board

    issuer = Issuer()
    headers = [
        [(b"Host", b"localhost"), (b"Authorization", b"Bearer " + issuer.token(3).encode())]
        for _ in range(MANY)
    ]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, MANY + 1)))
    chosen = random.Random(1)
    order = [bisect.bisect(weights, chosen.random() * weights[-1]) for _ in range(ASKED)]
    feed = Feed(MemoryStore, poll=0.5)
    feed.start()
    while feed.age() is None:
        time.sleep(0.01)
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.datalog"
        policy.write_text(POLICY)
        source = Bounded(feed, 30)
        route = RouteSettings(name="default", policy=str(policy), application="orders")
        routes = build_routes([route], issuer.our_public, lambda on_stale: source)
    check = Check(routes, CheckSettings(profile=PROFILES["plain"], source=source), Board(1).row(0))
    before, started, used = _resident(), time.perf_counter(), time.process_time()
    taken = []
    for number in order:
        begun = time.perf_counter()
        answer = check.handle("GET", "/orders/7", headers[number], b"", None)
        taken.append(time.perf_counter() - begun)
        if answer.status != 200:
            raise RuntimeError(f"not allowed: {answer.status}")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    stats = next(iter(routes)).guard.stats().tokens
    held = _resident() - before
    feed.close()
    cuts = statistics.quantiles(taken, n=100)
    return {
        "tokens": MANY,
        "seen": len(set(order)),
        "requests": ASKED,
        "token_bytes": len(headers[0][1][1]),
        "hit_rate": stats.hits / (stats.hits + stats.misses),
        "bytes": held,
        "bytes_a_token": held / len(set(order)),
        "rate": ASKED / seconds,
        "cpu": cpu / ASKED,
        "p50": cuts[49],
        "p99": cuts[98],
    }


def revocation(_program: str | None) -> dict[str, Any]:
    """Returns how long after a store has acknowledged a revocation the sidecar denies, for each store."""
    from tests.servers import start_postgres, start_redis

    found = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as servers:
        postgres, redis = start_postgres(), start_redis()
        servers.callback(postgres.remove)
        servers.callback(redis.remove)
        urls = {
            "SQLite": f"sqlite:///{name}/revoked.db",
            "PostgreSQL": postgres.url(postgres.new_database()),
            "Redis": redis.url(timeout=5),
        }
        for store, url in urls.items():
            create_store(url).close()
            folder = Path(name) / store
            folder.mkdir()
            delays = _delays(folder, url)
            cuts = statistics.quantiles(delays, n=100)
            found[store] = {"p50": cuts[49], "p99": cuts[98], "longest": max(delays), "count": len(delays)}
    return found


def _delays(folder: Path, url: str) -> list[float]:
    issuer = Issuer()
    delays = []
    with sidecar(folder, issuer, 1, url) as server, open_store(url) as store:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for text in issuer.tokens(REVOCATIONS, 3):
            while (status := _status(client, text)) != 200:
                if status != 503:  # it has not heard from the store yet
                    raise RuntimeError(f"not allowed: {status}")
                time.sleep(0.05)
            store.revoke(issuer.parsed(text).canonical_revocation_ids[:1])
            acknowledged = time.perf_counter()
            while _status(client, text) == 200:
                time.sleep(0.0002)
            delays.append(time.perf_counter() - acknowledged)
        client.close()
    return delays


def _status(client: http.client.HTTPConnection, token: str) -> int:
    client.request("GET", "/orders/7", headers={"Authorization": f"Bearer {token}"})
    answer = client.getresponse()
    answer.read()
    return answer.status


def _rounds(servers: dict[str, Server], job: Callable[[str, Server], Load]) -> list[dict[str, Load]]:
    """Returns what each round found; who comes first in a round alternates."""
    names = list(servers)
    return [
        {name: job(name, servers[name]) for name in names[:: -1 if number % 2 else 1]}
        for number in range(ROUNDS)
    ]


def _summary(rounds: list[dict[str, Load]], servers: dict[str, Server]) -> dict[str, Any]:
    """Returns medians, and the medians of the ratios of each round."""
    summary: dict[str, Any] = {}
    for name in rounds[0]:
        loads = [asdict(each[name]) for each in rounds]
        summary[name] = {key: statistics.median(each[key] for each in loads) for key in loads[0]}
        summary[name]["memory"] = servers[name].memory()
    for name in rounds[0]:
        if name != "check":
            ratios = [each["check"].rate / each[name].rate for each in rounds]
            summary[f"of {name}"] = statistics.median(ratios)
            summary[f"of {name}, low and high"] = [min(ratios), max(ratios)]
            summary[f"of {name}, by CPU"] = statistics.median(
                each[name].cpu / each["check"].cpu for each in rounds
            )
    return summary


def _warm(server: Server, script: Path, token: str) -> None:
    """Waits until the server has heard from its store, and lets it see each token a few times."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    while _status(client, token) == 503:
        time.sleep(0.05)
    client.close()
    for _ in range(3):
        load_tcp(server, script, SECONDS)


def _resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def document(results: dict[str, Any]) -> str:
    """Returns docs/sidecar-performance.md, with the parts that were measured."""
    told = {"load": _load_text, "many": _many_text, "revocation": _revocation_text}
    lines = [
        "# What a sidecar costs",
        "",
        "Written by `python -m benchmarks.sidecar`; [benchmarks/sidecar.json](../benchmarks/sidecar.json) has"
        " all figures. The machine was in",
        "use by others: read the ratios.",
    ]
    for name, tell in told.items():
        if name in results:
            low, high = results[name]["loads"]
            lines += ["", *tell(results[name]["found"]), ""]
            lines.append(
                f"({results[name]['cpus']} cores, load average {low:.1f} before and {high:.1f} after)"
            )
    return "\n".join(lines) + "\n"


def _load_text(found: dict[str, Any]) -> list[str]:
    lines = [
        "## Under load",
        "",
        f"{CONNECTIONS} connections; tokens of 3 blocks (roles, applications, operations, a resource and"
        f" what is below it, three expiries), seen before, {TOKENS} in turns over TCP and one over a Unix"
        " socket; a store that is followed.",
        "The ceiling is the same server with a constant answer. Cerbos is told what the token says, and"
        " verifies nothing. The program that",
        f"loads has its share of the cores. Medians of {ROUNDS} rounds, in which each server had its turn.",
        "",
        "| | requests/s | p50 | p99 | CPU a request | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = {"check": "check", "constant": "constant answer", "cerbos": "Cerbos (all cores)"}
    for case, summary in found.items():
        transport, workers = case.split()
        what = f"{'TCP' if transport == 'tcp' else 'Unix socket'}, {workers} worker{'s' * (workers > '1')}"
        lines += [
            f"| {what}: {title} | {each['rate']:,.0f} | {each['p50'] * 1e3:.2f} ms"
            f" | {each['p99'] * 1e3:.2f} ms | {each['cpu'] * 1e6:.0f} µs | {each['memory'] / 1e6:.0f} MB |"
            for name, title in names.items()
            if (each := summary.get(name)) is not None
        ]
    lines += ["", "| bar | found | by CPU | held |", "| --- | ---: | ---: | --- |"]
    for title, figure, by_cpu, held in bars(found):
        lines.append(f"| {title} | {figure} | {by_cpu} | {'yes' if held else '**no**'} |")
    check = found["tcp 1"]["check"]
    spread = check["p99"] / check["p50"]
    left = 3e-3 / spread / CONNECTIONS
    lines += [
        "",
        f"All {CONNECTIONS} connections ask again as soon as they are answered, so each request waits for all"
        f" others. With a p99 of {spread:.1f} times the p50, as here,",
        f"3 ms are left only where a request takes {left * 1e6:.0f} µs in all. Over TCP"
        f" it takes {1e6 / check['rate']:.0f}, and the constant answer"
        f" {1e6 / found['tcp 1']['constant']['rate']:.0f}.",
    ]
    return lines


def _many_text(found: dict[str, Any]) -> list[str]:
    return [
        "## Many tokens",
        "",
        f"{found['requests']:,} requests with {found['tokens']:,} tokens of {found['token_bytes']:,} bytes,"
        f" chosen by Zipf's law (exponent 1; {found['seen']:,} came at all), in one process without a server:"
        f" {found['hit_rate']:.1%} were known; {found['rate']:,.0f} requests/s,"
        f" p50 {found['p50'] * 1e6:.0f} µs,"
        f" p99 {found['p99'] * 1e6:.0f} µs, {found['cpu'] * 1e6:.0f} µs of CPU a request;"
        f" {found['bytes'] / 1e6:.0f} MB remembered, {found['bytes_a_token'] / 1e3:.1f} KB a token.",
    ]


def _revocation_text(found: dict[str, Any]) -> list[str]:
    return [
        "## Revocation",
        "",
        "From the store's acknowledgement to the first denial, with the settings as they come (`poll` is half"
        " a second). PostgreSQL and Redis",
        "wake who follows them; a SQLite file is looked at every 20 ms.",
        "",
        f"| store | p50 | p99 | longest of {REVOCATIONS} |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {store} | {each['p50'] * 1e3:.1f} ms | {each['p99'] * 1e3:.1f} ms"
            f" | {each['longest'] * 1e3:.1f} ms |"
            for store, each in found.items()
        ),
    ]


def bars(found: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Yields each bar, what was found, the same by the CPU that the servers used, and whether it is held."""
    for case, bar in (("tcp 1", 0.35), ("tcp 2", 0.35), ("unix 1", 0.20), ("unix 2", 0.20)):
        ratio, by_cpu = found[case]["of constant"], found[case]["of constant, by CPU"]
        title = f"{case}: at least {bar:.0%} of the constant answer's throughput"
        yield title, f"{ratio:.0%}", f"{by_cpu:.0%}", ratio >= bar
    ratio, by_cpu = found["tcp 1"]["of cerbos"], found["tcp 1"]["of cerbos, by CPU"]
    yield "tcp 1: at least 5 times Cerbos' throughput", f"{ratio:.1f}", f"{by_cpu:.1f}", ratio >= 5
    for case in ("tcp 1", "unix 1"):
        p99 = found[case]["check"]["p99"]
        yield f"{case}: p99 under 3 ms at {CONNECTIONS} connections", f"{p99 * 1e3:.2f} ms", "", p99 < 3e-3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
