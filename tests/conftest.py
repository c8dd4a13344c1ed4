"""Servers for all tests; and how properties are tested: the same examples on every run, on any machine."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from capability.authorization import Evaluation
from capability.datalog import skeletons
from capability.wire import statements
from tests.servers import database, postgres, redis_server, redis_url

__all__ = ["database", "postgres", "redis_server", "redis_url"]  # fixtures

settings.register_profile(
    "project",
    deadline=None,  # a slow machine is no failure
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


@pytest.fixture(autouse=True, scope="session")
def deadlines_by_work() -> Iterator[None]:
    """Lets the deadline of a decision count the time that its thread works, not that in which it stood still.

    A guard gives up after 100 ms, which a machine that is busy with other tests may let any thread wait.
    """
    before = Evaluation.__init__.__defaults__
    assert before == (None, time.monotonic, ())
    Evaluation.__init__.__defaults__ = (None, time.thread_time, ())
    yield
    Evaluation.__init__.__defaults__ = before


@pytest.fixture(autouse=True)
def room_for_statements() -> None:
    """Lets no test run into the bound on statements that a process knows: then all are learned anew.

    That costs two decisions their short way, and some tests count these.
    """
    if len(skeletons._skeletons) > skeletons._MAX_KNOWN // 2:
        skeletons._skeletons.clear()
        skeletons._lifted.clear()
        for reading in (statements._FACTS, statements._RULES, statements._CHECKS):
            for memory in (reading.numbers, reading.statements, reading.stencils, reading.seen):
                memory.clear()  # else a statement that some other test read is like none of this one
