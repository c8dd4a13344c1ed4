"""Celery: a real worker, on a broker in memory."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import NotRegistered

from capability import AuthorizationError, Denied
from capability.integrations.celery import HEADER, CapDelegation, cap_task, grant_of
from capability.integrations.gate import Grant
from tests.integrations.issuer import Issuer
from tests.integrations.servers import PATIENCE, celery_worker

POLICY = "allow if user($user), operation($operation), right($operation), task($name)"
RIGHTS = 'user("alice"); right("run"); right("refund");'


class Worker:
    """A running worker, and the tasks that it knows."""

    def __init__(self) -> None:
        self.issuer = Issuer(POLICY, RIGHTS)
        self.app = Celery(
            "orders",
            broker="memory://",
            backend="cache+memory://",
            task_cls=cap_task(self.issuer.guard, retry_seconds=0.01),
        )
        self.app.conf.update(
            worker_hijack_root_logger=False, broker_transport_options={"polling_interval": 0.01}
        )
        self.runs: list[Any] = []

        @self.app.task(name="job", bind=True, shared=False)
        def job(task: Any, number: int) -> str:
            self.runs.append(number)
            return f"{number} for {grant_of(task).subject}"

        @self.app.task(name="refund", operation="refund", shared=False)
        def refund() -> str:
            return "refunded"

        @self.app.task(name="patient", max_retries=1, shared=False)
        def patient() -> str:
            return "never"

        self.job, self.refund, self.patient = job, refund, patient
        self.cap = CapDelegation(self.issuer.token())

    def result(self, task: Any, *args: Any, **options: Any) -> Any:
        return task.apply_async(args, **options).get(timeout=PATIENCE, interval=0.02)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    with celery_worker(made.app, "ERROR"):
        yield made


def test_a_delegated_token_runs_its_task_and_no_other(worker: Worker) -> None:
    assert worker.result(worker.job, 1, **worker.cap.delegate(task="job", expires=60)) == "1 for alice"
    with pytest.raises(AuthorizationError):
        worker.result(worker.job, 2, **worker.cap.delegate(task="refund", expires=60))
    assert worker.runs == [1]


def test_a_task_names_its_operation(worker: Worker) -> None:
    own = worker.cap.delegate(task="refund", operation="refund", expires=60)
    assert worker.result(worker.refund, **own) == "refunded"
    with pytest.raises(AuthorizationError):
        worker.result(worker.refund, **worker.cap.delegate(task="refund", operation="run"))


def test_what_is_refused(worker: Worker) -> None:
    with pytest.raises(Denied, match="no token"):
        worker.result(worker.job, 3)
    for token in ("nonsense", worker.issuer.foreign(), worker.issuer.expired()):
        with pytest.raises(AuthorizationError) as caught:
            worker.result(worker.job, 3, headers={"cap_token": token})
        assert len(token) < 100 or token not in str(caught.value)
    own = worker.issuer.alice.attenuate(operations=["run"])
    worker.issuer.revoke(own)
    with pytest.raises(AuthorizationError, match="revoked"):
        worker.result(worker.job, 3, **CapDelegation(own).delegate(task="job"))
    assert 3 not in worker.runs


def test_while_the_store_is_down_a_task_is_tried_again(worker: Worker) -> None:
    worker.issuer.revocations.down = True
    try:
        with pytest.raises(AuthorizationError, match="cannot answer"):
            worker.result(worker.patient, **worker.cap.delegate(task="patient"))
    finally:
        worker.issuer.revocations.down = False


def test_a_call_in_one_s_own_process_is_one_s_own(worker: Worker) -> None:
    assert worker.refund() == "refunded"


def test_a_grant_is_delegated_and_nothing_shows_the_token(worker: Worker) -> None:
    decision = worker.issuer.guard.check(worker.issuer.token(), operation="run", task="job")
    own = CapDelegation(Grant(decision, worker.issuer.token())).delegate(task="job", expires=60)
    assert worker.result(worker.job, 4, **own) == "4 for alice"
    assert repr(worker.cap) == "<CapDelegation>"


def test_a_task_that_the_worker_does_not_know_leaves_no_token_in_its_log(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """Celery logs all headers of a message then."""
    own = worker.cap.delegate(task="nobody", expires=60)
    with pytest.raises(NotRegistered):
        worker.app.send_task("nobody", **own).get(timeout=PATIENCE, interval=0.02)
    assert "unregistered task" in caplog.text
    assert HEADER in caplog.text
    assert own["headers"][HEADER] not in caplog.text
