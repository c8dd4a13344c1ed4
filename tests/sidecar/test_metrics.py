"""What Prometheus reads of two workers: every metric, with its labels and the sum of both."""

import signal
import time
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from capability.sidecar.addresses import parse_address
from capability.sidecar.metrics import exposition
from capability.sidecar.service import Service
from capability.sidecar.settings import Listener, Serves
from capability.sidecar.table import read_settings
from capability.sidecar.tally import REASONS, Board
from capability.store import create_store
from tests.sidecar.processes import Sidecar, put, sidecar, wait_until
from tests.sidecar.test_server import KEY, config, ids
from tests.sidecar.tokens import mint

WORKERS = 2
HEARD = ("cap_revocation_last_success_timestamp_seconds", ())


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Returns the samples of an exposition by their names and the values of their labels, in their order."""
    return {
        (sample.name, tuple(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(server: Sidecar) -> dict[tuple[str, tuple[str, ...]], float]:
    status, headers, body = server.ask(1, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    return samples(body.decode())


def revisions(server: Sidecar) -> set[str]:
    return {labels[0] for name, labels in read(server) if name == "cap_policy_info"}


def test_every_metric_tells_of_both_workers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    good, revoked = mint(operations=["read"]), mint('user("bob")')
    with create_store(url) as store:
        revision = store.revoke(ids(revoked)[:1])
    policy = tmp_path / "policy.datalog"
    policy.write_text('operation("read") <- http_method("GET"); allow if true;')
    body = f'store = "{url}"\nworkers = {WORKERS}\npolicy = "policy.datalog"\nlog = "decisions.jsonl"'
    started = time.time()
    with sidecar(tmp_path, config=config(body)) as server:

        def both_heard() -> bool:
            # the least of what workers say: both have policies, and have heard from the store
            now = read(server)
            return now[("cap_ready", ())] == 1 and now[HEARD] > 0

        assert wait_until(both_heard)
        before = read(server)
        assert before[("cap_revocation_revision", ())] == revision
        assert before[("cap_revocation_entries", ())] == 1
        assert started - 1 < before[HEARD] < time.time() + 1
        for _ in range(20):
            assert server.ask(token=good)[0] == 200
            assert server.ask(token=good, method="POST")[0] == 403
            assert server.ask(token=revoked)[0] == 401
            assert server.ask()[0] == 401
            assert server.ask(target="/a/../b", token=good)[0] == 400
        about_tokens = 60

        def both_said() -> bool:
            now = read(server)
            found = now[("cap_verify_cache_hits_total", ())] + now[("cap_verify_cache_misses_total", ())]
            return found == about_tokens

        assert wait_until(both_said)
        after = read(server)
        expected = {reason: 0 for reason in REASONS}
        expected |= {each: 20 for each in ("allowed", "denied", "revoked", "no_token", "malformed")}
        assert {
            labels[0]: count for (name, labels), count in after.items() if name == "cap_decisions_total"
        } == expected
        assert {
            labels for name, labels in after if name == "cap_decisions_total" and labels[1] == "allow"
        } == {("allowed", "allow")}
        assert after[("cap_decision_duration_seconds_count", ())] == 100
        assert after[("cap_decision_duration_seconds_bucket", ("+Inf",))] == 100
        assert 0 < after[("cap_decision_duration_seconds_sum", ())] < 60
        # a worker verifies what it has not seen itself
        assert after[("cap_verify_cache_misses_total", ())] >= 2
        assert after[("cap_verify_cache_hits_total", ())] > 0
        for name in ("cap_decision_log_dropped_total", "cap_connections_refused_total"):
            assert after[(name, ())] == 0
        for cause in ("store", "keys"):
            assert after[("cap_revocation_refresh_failures_total", (cause,))] == 0
        assert [name for name, _ in after].count("cap_build_info") == 1
        (old,) = revisions(server)
        put(policy, "allow if true")
        server.signal(signal.SIGHUP)
        assert wait_until(lambda: len(revisions(server)) == 1 and revisions(server) != {old})
        assert wait_until(lambda: read(server)[("cap_reloads_total", ())] >= WORKERS)
        with create_store(url) as store:
            revision = store.revoke(ids(good)[:1])
        assert wait_until(lambda: read(server)[("cap_revocation_revision", ())] == revision)
        assert [server.ask(token=good)[0] for _ in range(10)] == [401] * 10
        assert server.stop() == 0


def test_workers_that_differ_show_it() -> None:
    board = Board(2)
    board.row(0).says("policies", 0xA)
    board.row(1).says("policies", 0xB)
    board.row(0).says("ready", 1)
    found = samples(exposition(board).decode())
    assert {labels[0] for name, labels in found if name == "cap_policy_info"} == {f"{10:016x}", f"{11:016x}"}
    assert found[("cap_ready", ())] == 0


def test_one_worker_that_is_not_ready_makes_all_of_them_not_ready(tmp_path: Path) -> None:
    settings = read_settings({"policy": "policy.datalog"}, tmp_path)
    (tmp_path / "policy.datalog").write_text("allow if true;")
    board = Board(2)
    service = Service(replace(settings, keys=KEY), board, 0)
    service.start()
    try:
        admin = service.handler(Listener(address=parse_address("tcp:0"), serves=Serves.ADMIN))
        service.say()
        board.row(1).says("ready", 1)
        assert admin.handle("GET", "/readyz", [], b"", None).status == 200
        board.row(1).says("ready", 0)
        answer = admin.handle("GET", "/readyz", [], b"", None)
        assert (answer.status, answer.body) == (503, b"another worker is not ready\n")
    finally:
        service.close()
