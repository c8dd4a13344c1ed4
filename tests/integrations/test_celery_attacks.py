"""What somebody may try who can send messages to a Celery worker, and read and repeat those of others."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, Task, bootsteps, chain, group
from celery.exceptions import ImproperlyConfigured
from celery.signals import task_retry

from capability import AuthorizationError, BiscuitBuilder, Denied, Guard
from capability.integrations.celery import HEADER, CapDelegation, cap_task, grant_of
from capability.integrations.stated import named_facts
from tests.integrations.issuer import Issuer
from tests.integrations.servers import PATIENCE, celery_worker

ROOT = Path(__file__).parent.parent.parent
POLICY = "allow if user($user), operation($operation), right($operation), task($name)"
RIGHTS = 'user("alice"); right("run"); right("refund");'


def make_app(guard: Guard) -> Any:
    app = Celery(
        "orders",
        broker="memory://",
        backend="cache+memory://",
        task_cls=cap_task(guard, retry_seconds=0.01),
    )
    options = {"polling_interval": 0.01}
    app.conf.update(worker_hijack_root_logger=False, broker_transport_options=options)
    return app


def done() -> str:
    return "done"


class Worker:
    """A running worker whose clock can be put forward, and that can be kept busy."""

    def __init__(self) -> None:
        self.issuer = Issuer(POLICY, RIGHTS)
        self.late = 0.0
        guard = Guard(
            self.issuer.root.public_key,
            POLICY,
            self.issuer.revocations,
            clock=lambda: time.time() + self.late,
        )
        self.app = make_app(guard)
        self.cap = CapDelegation(self.issuer.token())
        self.runs: list[Any] = []
        self.held, self.released = threading.Event(), threading.Event()

        def task(name: str, function: Callable[..., Any], **options: Any) -> Any:
            return self.app.task(function, name=name, shared=False, **options)

        def refund(order: int, amount: int = 0, *notes: str, **more: Any) -> str:
            self.runs.append((order, amount, *notes, *more.values()))
            return f"refunded {order}"

        def hold() -> None:
            self.held.set()
            self.released.wait(PATIENCE)

        def again(self_: Any) -> str:
            self.runs.append("again")
            if self_.request.retries == 0:
                raise self_.retry(countdown=0, max_retries=1)
            return str(grant_of(self_).subject)

        def outlives(self_: Any) -> None:
            self.runs.append("outlives")
            self.late = 3600.0
            raise self_.retry(countdown=0, max_retries=3)

        def fails() -> None:
            raise ValueError("on purpose")

        def calls_refund() -> str:
            return str(self.refund(1))

        self.refund = task("refund", refund, operation="refund")
        self.hold = task("hold", hold)
        self.again = task("again", again, bind=True)
        self.outlives = task("outlives", outlives, bind=True)
        self.fails = task("fails", fails)
        self.nothing = task("nothing", done)
        self.patient = task("patient", done, max_retries=None)
        self.careless = task("careless", fails, autoretry_for=(Exception,), max_retries=50)
        self.calls_refund = task("calls", calls_refund)

    def result(self, task: Any, *args: Any, **options: Any) -> Any:
        return task.apply_async(args, **options).get(timeout=PATIENCE, interval=0.02)

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        return self.app.send_task(name, args, **options).get(timeout=PATIENCE, interval=0.02)

    def refused(self, name: str, *args: Any, match: str | None = None, **options: Any) -> None:
        """Fails unless the task may not run."""
        before = list(self.runs)
        with pytest.raises(AuthorizationError, match=match):
            self.send(name, *args, **options)
        assert self.runs == before

    def settle(self) -> None:
        """Returns when all has run that was sent so far, and what that has sent when it failed.

        A worker takes messages in their order, and to the first of these when it is done with what failed.
        """
        for _ in range(2):
            self.result(self.nothing, **self.cap.delegate(task="nothing"))

    def while_busy(self, task: Any, between: Callable[[], None], *args: Any, **options: Any) -> Any:
        """Sends a task, and lets the worker come to it after `between`."""
        self.held.clear()
        self.released.clear()
        self.hold.apply_async(**self.cap.delegate(task="hold"))
        assert self.held.wait(PATIENCE)
        sent = task.apply_async(args, **options)
        between()
        self.released.set()
        return sent.get(timeout=PATIENCE, interval=0.02)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    with celery_worker(made.app, "CRITICAL"):
        yield made


def test_a_task_that_is_sent_again(worker: Worker) -> None:
    """It runs again as long as its token lives, but as nothing else."""
    own = worker.cap.delegate(task="refund", operation="refund", arguments={"order": 7}, expires=60)
    worker.runs.clear()
    for _ in range(2):
        worker.result(worker.refund, 7, **own)
    assert worker.runs == [(7, 0)] * 2
    worker.refused("refund", 8, **own)
    worker.refused("again", **own)
    token = worker.issuer.alice.from_base64(own["headers"][HEADER], worker.issuer.root.public_key)
    worker.issuer.revoke(token)
    worker.refused("refund", 7, match="revoked", **own)
    other = worker.cap.delegate(task="refund", operation="refund", arguments={"order": 7}, expires=60)
    assert worker.result(worker.refund, 7, **other) == "refunded 7"


def test_a_task_that_notes_its_id_is_not_sent_again_under_another_one(worker: Worker) -> None:
    own = worker.cap.delegate(task="refund", operation="refund", task_id="first", expires=60)
    assert own["task_id"] == "first"
    worker.runs.clear()
    for _ in range(2):
        assert worker.result(worker.refund, 7, **own) == "refunded 7"
        worker.settle()
    assert worker.runs == [(7, 0)] * 2
    narrower = CapDelegation(own["headers"][HEADER]).delegate(task="refund")
    for sent in (
        {**own, "task_id": "second"},
        {"headers": own["headers"]},
        {**narrower, "task_id": "second"},
    ):
        worker.refused("refund", 7, **sent)


def test_arguments_that_were_delegated_and_no_others(worker: Worker) -> None:
    def own(**arguments: Any) -> dict[str, Any]:
        return worker.cap.delegate(task="refund", operation="refund", arguments=arguments)

    seventh, paid = own(order=7), own(order=7, amount=20, notes=["a", "b"], by="phone")
    assert worker.result(worker.refund, 7, **seventh) == "refunded 7"
    assert worker.send("refund", kwargs={"order": 7}, **seventh) == "refunded 7"
    assert worker.result(worker.refund, 7, 20, "a", "b", kwargs={"by": "phone"}, **paid) == "refunded 7"
    for args in ((8,), (7, 20), (7, 0), (7, 20, "a", "b"), ("7",), (True,)):
        worker.refused("refund", *args, **seventh)
    worker.refused("refund", 7, kwargs={"by": "phone"}, **seventh)
    worker.refused("refund", 7, 20, "a", "c", kwargs={"by": "phone"}, **paid)
    worker.refused("refund", 7, kwargs={"amount": 20, "by": "phone"}, **paid)
    with pytest.raises(TypeError, match="order"):
        worker.send("refund", **seventh)
    nothing = worker.cap.delegate(task="again", arguments={})
    assert worker.result(worker.again, **nothing) == "alice"


def test_a_check_on_an_argument_holds_however_it_is_sent(worker: Worker) -> None:
    source = 'check all task_argument($n, $v), $n != "amount" || $v <= 100'
    own = worker.cap.delegate(task="refund", operation="refund", source=source)
    assert worker.result(worker.refund, 7, 100, **own) == "refunded 7"
    worker.refused("refund", 7, 101, **own)
    worker.refused("refund", 7, kwargs={"amount": 101}, **own)
    worker.refused("refund", 7, "101", **own)
    worker.refused("refund", 7, 2**70, match="cannot be stated", **own)


def test_what_is_stated_of_arguments() -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    arguments = {
        "a": Decimal("1.50"),
        "b": UUID(int=7),
        "c": moment.date(),
        "d": moment.replace(tzinfo=None),
        "e": moment,
        "f": 2.5,
        "g": b"x",
    }
    assert [str(fact).partition(", ")[2] for fact in named_facts("task", "t", arguments)[1:]] == [
        '"1.50")',
        '"00000000-0000-0000-0000-000000000007")',
        '"2026-11-22")',
        '"2026-11-22 00:00:00")',
        "2026-11-22T00:00:00Z)",
        '"2.5")',
        "hex:78)",
    ]
    with pytest.raises(ValueError, match="'a' cannot be stated"):
        named_facts("task", "t", {"a": object()})


def test_a_name_that_stands_for_two_arguments_is_refused() -> None:
    issuer = Issuer(POLICY, RIGHTS)
    app = make_app(issuer.guard)
    ran: list[Any] = []

    def twofold(order: int, /, **more: int) -> None:
        ran.append((order, more))

    task = app.task(twofold, name="twofold", shared=False)
    own = CapDelegation(issuer.token()).delegate(task="twofold", arguments={"order": 7})
    with pytest.raises(Denied, match="two arguments 'order'"):
        task.apply((8,), {"order": 7}, **own).get()
    assert ran == []


def test_revoked_between_sending_and_running(worker: Worker) -> None:
    token = worker.issuer.alice.attenuate(operations=["run"])
    own = CapDelegation(token).delegate(task="again")
    worker.runs.clear()
    with pytest.raises(AuthorizationError, match="revoked"):
        worker.while_busy(worker.again, lambda: worker.issuer.revoke(token), **own)
    assert worker.runs == []


@pytest.mark.parametrize("when", [{}, {"countdown": 0.05}, {"eta": datetime.now(UTC) - timedelta(hours=1)}])
def test_expired_between_sending_and_running(worker: Worker, when: dict[str, Any]) -> None:
    def later() -> None:
        worker.late = 120.0

    worker.runs.clear()
    try:
        with pytest.raises(AuthorizationError, match="time"):
            worker.while_busy(worker.again, later, **when, **worker.cap.delegate(task="again", expires=60))
    finally:
        worker.late = 0.0
    assert worker.runs == []


def test_a_retry_is_decided_anew_by_the_same_token(worker: Worker) -> None:
    worker.runs.clear()
    assert worker.result(worker.again, **worker.cap.delegate(task="again", expires=60)) == "alice"
    try:
        with pytest.raises(AuthorizationError, match="time"):
            worker.result(worker.outlives, **worker.cap.delegate(task="outlives", expires=60))
    finally:
        worker.late = 0.0
    assert worker.runs == ["again", "again", "outlives"]


def test_a_refusal_is_not_retried_where_a_task_retries_every_error(worker: Worker) -> None:
    """It would be tried for as long as its retries last, which is hours here."""
    worker.refused("careless", match="no token")
    worker.refused("careless", match="check", **worker.cap.delegate(task="other"))


def test_a_task_waits_until_the_store_is_back(worker: Worker) -> None:
    retried = threading.Event()

    def note(**_: Any) -> None:
        retried.set()

    task_retry.connect(note)
    worker.issuer.revocations.down = True
    try:
        sent = worker.patient.apply_async(**worker.cap.delegate(task="patient"))
        assert retried.wait(PATIENCE)
    finally:
        worker.issuer.revocations.down = False
        task_retry.disconnect(note)
    assert sent.get(timeout=PATIENCE, interval=0.02) == "done"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"called_directly": True},
        {"is_eager": True, "delivery_info": {"is_eager": True}},
        {"cap": "a grant"},
        {"headers": {}},
        {"headers": {HEADER: 7}},
        {HEADER: ["a", "b"]},
        {HEADER: ""},
    ],
)
def test_headers_do_not_stand_for_a_token(worker: Worker, headers: dict[str, Any]) -> None:
    worker.refused("again", headers=headers)


@pytest.mark.parametrize(
    ("name", "args"),
    [("celery.map", ([1, 2],)), ("celery.starmap", ([[1], [2]],)), ("celery.chunks", ([[1], [2]], 1))],
)
def test_tasks_of_celery_that_call_others_are_refused(worker: Worker, name: str, args: Any) -> None:
    """They call what the message names like a function: with a token for running, refund would run."""
    runner = CapDelegation(worker.issuer.alice.attenuate(operations=["run"])).delegate(task=name)
    worker.refused(name, dict(worker.refund.s()), *args, match="nothing decides", **runner)
    worker.refused(name, dict(worker.refund.s()), *args, match="no token")


def test_an_errback_takes_a_token_of_its_own(worker: Worker) -> None:
    """Celery would call one with two parameters in its own process, whoever sent the message that failed."""
    worker.runs.clear()
    for errback in (worker.refund.si(7, 100), worker.refund.s(), worker.again.si()):
        with pytest.raises((AuthorizationError, ValueError)):
            worker.send("fails", link_error=errback)
        with pytest.raises(ValueError, match="on purpose"):
            worker.send("fails", link_error=errback, **worker.cap.delegate(task="fails"))
    worker.settle()
    assert worker.runs == []
    own = worker.cap.delegate(task="refund", operation="refund", arguments={"order": 7})
    with pytest.raises(ValueError, match="on purpose"):
        worker.send("fails", link_error=worker.refund.si(7).set(**own), **worker.cap.delegate(task="fails"))
    worker.settle()
    assert worker.runs == [(7, 0)]


def test_each_task_of_a_chain_or_group_takes_its_own(worker: Worker) -> None:
    def refund(order: int) -> Any:
        own = worker.cap.delegate(task="refund", operation="refund", arguments={"order": order})
        return worker.refund.si(order).set(**own)

    def get(sent: Any) -> Any:
        return sent.get(timeout=PATIENCE, interval=0.02)

    assert get(chain(refund(1), refund(2)).apply_async()) == "refunded 2"
    assert get(group(refund(1), refund(2)).apply_async()) == ["refunded 1", "refunded 2"]
    with pytest.raises(AuthorizationError, match="no token"):
        get(chain(refund(1), worker.refund.si(2)).apply_async())
    with pytest.raises(AuthorizationError):
        get(chain(refund(1), worker.refund.si(2).set(**worker.cap.delegate(task="again"))).apply_async())


def test_what_a_task_s_own_code_calls_is_its_own(worker: Worker) -> None:
    assert worker.result(worker.calls_refund, **worker.cap.delegate(task="calls")) == "refunded 1"


OPEN = """
from celery import Task
from capability import Guard, KeyPair
from tests.integrations.test_celery_attacks import done, make_app

app = make_app(Guard(KeyPair().public_key, "allow if user($user)"))
app.task(done, name="open", base=type("Own", (Task,), {}), shared=False)
app.worker_main(["worker", "--pool=solo"])
"""


def test_a_worker_does_not_start_with_a_task_that_is_open() -> None:
    """A task with a base class of its own is none of `task_cls`, and would run for everybody."""
    failed = subprocess.run(
        [sys.executable, "-c", OPEN], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert failed.returncode != 0
    assert "the task 'open' is open: let its base class inherit from that of cap_task" in failed.stderr


def examine(app: Any) -> None:
    """Does what a worker does before it starts, with the steps that `app` adds to that."""
    app.finalize()
    bootsteps.Blueprint(steps=app.steps["worker"]).apply(SimpleNamespace(app=app))


def test_which_tasks_are_open() -> None:
    issuer = Issuer(POLICY, RIGHTS)
    decided: Any = cap_task(issuer.guard)

    class Own(Task):  # type: ignore[type-arg]
        name = "registered"

        def run(self) -> str:
            return "open"

    class Inherits(decided):  # type: ignore[misc]
        abstract = True

    app = make_app(issuer.guard)
    inheriting = app.task(done, name="inheriting", base=Inherits, shared=False)
    examine(app)
    app.register_task(Own())
    with pytest.raises(ImproperlyConfigured, match="'registered' is open"):
        examine(app)
    # where an application decides some of its tasks only, the others are open on purpose
    some: Any = Celery("some", broker="memory://", backend="cache+memory://")
    alone = some.task(done, name="alone", base=decided, shared=False)
    some.task(done, name="opened", shared=False)
    examine(some)
    for each in (inheriting, alone):
        with pytest.raises(Denied, match="no token"):
            each.apply().get()
        own = CapDelegation(issuer.token()).delegate(task=each.name)
        assert each.apply(**own).get() == "done"


def test_a_token_with_a_prefix_is_narrowed_without_it() -> None:
    issuer = Issuer(POLICY, RIGHTS)
    guard = Guard(issuer.root.public_key, POLICY, prefixes=["sk_live_"])
    app = make_app(guard)

    def hands_on(task: Any) -> str:
        return grant_of(task).delegate(operation="run")

    task = app.task(hands_on, name="hands", bind=True, shared=False)
    handed = task.apply(headers={HEADER: f"sk_live_{issuer.token()}"}).get()
    assert guard.check(handed, operation="run", task="x").allowed


def test_a_token_of_somebody_else_runs_nothing_of_his(worker: Worker) -> None:
    stranger = BiscuitBuilder('user("eve"); right("look")').build(worker.issuer.root.private_key)
    worker.refused("refund", 7, **CapDelegation(stranger).delegate(task="refund"))
