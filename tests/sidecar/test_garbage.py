"""What a sidecar leaves behind: nothing that only a search for garbage frees, and that search is made."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from capability.sidecar.paths import Paths, Targets
from capability.sidecar.protocol import Connection
from tests.sidecar.processes import ROOT, Sidecar, sidecar, wait_until
from tests.sidecar.serving import exchange, served
from tests.sidecar.test_server import config
from tests.sidecar.tokens import make_check, mint

OBSERVER: Final = Path(__file__).with_name("observed.py")


@pytest.fixture
def unsought() -> Iterator[None]:
    """Has no garbage collected while a test goes on, beginning with none."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive(kind: type) -> int:
    """Returns how many objects of a class there are."""
    return sum(isinstance(each, kind) for each in gc.get_objects())


@pytest.mark.usefixtures("unsought")
def test_a_connection_is_freed_when_it_ends() -> None:
    with served(make_check()) as (port, _):
        for sent in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"garbage\r\n\r\n", b"GET / HT"):
            exchange(port, sent)
        assert wait_until(lambda: alive(Connection) == 0)


@pytest.mark.usefixtures("unsought")
def test_an_answer_leaves_no_garbage() -> None:
    check = make_check()
    narrow = mint(operations=["write"])
    sent = {
        200: [(b"authorization", f"Bearer {mint()}".encode())],
        400: [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        401: [(b"authorization", b"Bearer a")],
        403: [(b"authorization", f"Bearer {narrow}".encode())],
    }

    def ask() -> None:
        for status, headers in sent.items():
            assert check.handle("GET", "/orders/7?page=2", list(headers), b"", None).status == status

    for _ in range(3):  # until nothing is prepared any more
        ask()
    gc.collect()
    for _ in range(100):
        ask()
    # one object for each answer would be four times as many; others may leave some meanwhile
    assert gc.collect() < 100


@pytest.mark.usefixtures("unsought")
def test_a_policy_that_is_replaced_is_freed_with_all_that_was_made_for_it() -> None:
    clock = partial(time.time)
    check, targets = make_check(clock=clock), Targets(Paths.STRICT)
    for _ in range(3):
        headers = [(b"authorization", f"Bearer {mint()}".encode())]
        assert check.handle("GET", "/orders/7", headers, b"", None).status == 200
        assert targets.read("/orders/7").path == "/orders/7"
    of_check, of_guard, of_targets = weakref.ref(check), weakref.ref(clock), weakref.ref(targets)
    del check, targets, clock
    assert of_check() is None
    assert of_guard() is None
    assert of_targets() is None


@contextlib.contextmanager
def observed(folder: Path, workers: int) -> Iterator[tuple[Sidecar, Path]]:
    """Runs `cap serve` within a program that writes down each collection of garbage; yields its notes too."""
    listeners = '[[serve.listen]]\naddress = "tcp:0"\n[[serve.listen]]\naddress = "tcp:0"\nserves = "admin"\n'
    notes = folder / "notes"
    notes.touch()
    with sidecar(
        folder,
        config=config(f"workers = {workers}", listeners),
        environment={"NOTES": str(notes)},
        within=[sys.executable, str(OBSERVER)],
    ) as running:
        yield running, notes


def noted(notes: Path) -> list[dict[str, int]]:
    lines = notes.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_each_worker_frees_what_a_reload_replaced(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, workers) as (running, notes):
        # until then a signal is not for those who still begin
        assert wait_until(lambda: running.ask(1, "/readyz")[0] == 200)
        processes = set(running.workers()) if workers > 1 else {running.process.pid}
        for _ in range(3):
            at = len(noted(notes))
            running.signal(signal.SIGHUP)

            def freed(at: int = at) -> bool:
                whole = [each for each in noted(notes)[at:] if each.get("states") == 1 and not each["frozen"]]
                return {each["process"] for each in whole} == processes

            assert wait_until(freed)
        assert running.stop() == 0


def test_garbage_is_collected_while_requests_are_answered(tmp_path: Path) -> None:
    with observed(tmp_path, 1) as (running, notes):

        def collected() -> bool:
            # pages with indents are written by code that refers to itself
            assert running.ask(1, "/status")[0] == 200
            return any(each["generation"] == 0 and each["collected"] for each in noted(notes))

        assert wait_until(collected)
        assert running.stop() == 0


def test_what_a_collection_leaves_is_not_looked_at_by_the_next() -> None:
    program = (
        "import gc; from capability.sidecar import garbage\n"
        "gc.disable(); garbage.begin(); assert gc.isenabled()\n"
        "kept = [[n] for n in range(1000)]; gc.collect(); seen = gc.get_objects()\n"
        "assert not any(each is kept for each in seen)\n"
        "kept.append(kept); del kept, seen; assert gc.collect() < 1000\n"
        "garbage.collect_all(); assert gc.get_stats()[2]['collected'] >= 1001\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
