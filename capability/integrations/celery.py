"""Celery: whoever sends a task delegates a token with it, and the worker decides by that.

    cap = CapDelegation(token)                                # the sender
    refund.apply_async((7,), **cap.delegate(task="refund", arguments={"order": 7}, expires=60))

    app = Celery("orders", task_cls=cap_task(guard))          # the worker

The token goes in a header of the message, and whoever can read the broker can read it and send the message
again: narrow it, and let it expire. A task that must not run twice is delegated with a `task_id`, and notes
its own, `task.request.id`: the token runs no task of another id, however its holder narrows it.
"""

import functools
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Unpack

from capability.builders import Fact
from capability.decision import Outcome
from capability.errors import AuthorizationError, Denied
from capability.guard import Guard
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant
from capability.integrations.narrowing import Narrowing, TokenSource, with_checks
from capability.integrations.stated import named_checks, named_facts
from capability.prefixes import split_prefix

with extra("celery"):
    from celery import Task, bootsteps
    from celery.exceptions import ImproperlyConfigured

__all__ = ["CapDelegation", "cap_task", "grant_of"]

HEADER: Final = "cap_token"
TASK: Final = "task"
RUN: Final = "run"
"""The operation of a task that names none."""

_HEADER: Final = "__header__"
"""Where Celery keeps a function that takes what a task takes."""

_CALLS_OTHERS: Final = frozenset({"celery.map", "celery.starmap", "celery.chunks"})
"""Tasks of Celery that call those which a message names."""

_LOGGED: Final = re.compile(rf"(['\"]{HEADER}['\"]: ['\"])[^'\"]*")
_LOGGER: Final = "celery.worker.consumer.consumer"


class _NoToken(logging.Filter):
    """Takes the token out of what Celery logs of a message that it cannot deliver, which is all of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if HEADER in text:
            record.msg, record.args = _LOGGED.sub(r"\1...", text), ()
        return True


_NO_TOKEN: Final = _NoToken()


class CapDelegation:
    """Narrows a token for tasks: a token, a Grant, or what a function returns that is asked each time."""

    def __init__(self, token: TokenSource | Grant) -> None:
        self._token = token.token if isinstance(token, Grant) else token

    def delegate(
        self,
        *,
        task: str,
        arguments: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **narrowing: Unpack[Narrowing],
    ) -> dict[str, Any]:
        """Returns arguments for `apply_async`: a token that is good for the task of this name alone.

        With `arguments`, by the names that the task gives them, it is good for these and no others; without
        them for any. With `task_id` the task has this id, and the token is good for no other. Raises
        ValueError for an argument that cannot be stated.
        """
        token = self._token() if callable(self._token) else self._token
        checks, values = named_checks(TASK, task, arguments)
        if arguments is None:
            checks = checks[:1]
        if task_id is not None:
            checks.append("check all task_id($i), $i == {task_id}")
            values["task_id"] = task_id
        options: dict[str, Any] = {"headers": {HEADER: with_checks(token, narrowing, checks, values)}}
        return options if task_id is None else {**options, "task_id": task_id}

    def __repr__(self) -> str:
        return "<CapDelegation>"


class _Decided:
    """A mark of the tasks that `cap_task` is a base of."""


class _NoOpenTask(bootsteps.Step):
    """Keeps a worker from starting where `task_cls` decides all tasks but one that has a base of its own."""

    def __init__(self, worker: Any, **more: Any) -> None:
        super().__init__(worker, **more)
        for name, task in worker.app.tasks.items():
            if not isinstance(task, _Decided):
                raise ImproperlyConfigured(
                    f"the task {name!r} is open: let its base class inherit from that of cap_task"
                )


def cap_task(
    guard: Guard, *, application: str | None = None, retry_seconds: float = 5
) -> type[Task[..., Any]]:
    """Returns the class of tasks that run only with a token which allows them: pass it as `task_cls`.

    Stated are `task(name)`, `task_id(id)`, `task_argument(name, value)` for each argument that came, and
    `operation("run")`, or what the task names: `@app.task(operation="refund")`. A task that may not run fails
    with Denied, Revoked, or another AuthorizationError. When revocations cannot be looked up, it is tried
    again after `retry_seconds`, as often as its `max_retries` say. A task that is called like a function, not
    sent, is its caller's own code and runs; not so one that a message has Celery call, by celery.map or as an
    errback.
    """
    gate = Gate(guard=guard, application=application)
    logging.getLogger(_LOGGER).addFilter(_NO_TOKEN)

    class CapTask(_Decided, Task[..., Any]):
        abstract = True
        operation: str = RUN

        def __init_subclass__(cls, **more: Any) -> None:
            super().__init_subclass__(**more)
            header = cls.__dict__.get(_HEADER)
            if isinstance(header, staticmethod):
                # Celery calls an errback in its own process, with what the message says, unless its header is
                # a partial; then it sends the errback, which takes a token of its own
                setattr(cls, _HEADER, staticmethod(functools.partial(header.__func__)))

        @classmethod
        def on_bound(cls, app: Any) -> None:
            super().on_bound(app)
            if issubclass(app.Task, _Decided):
                app.steps["worker"].add(_NoOpenTask)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if self.request.called_directly:
                return self.run(*args, **kwargs)
            request: Any = self.request
            request.cap = self._admit(args, kwargs)
            return self.run(*args, **kwargs)

        def _admit(self, args: Any, kwargs: Any) -> Grant:
            token = (self.request.headers or {}).get(HEADER)
            if not isinstance(token, str):
                raise Denied("no token was delegated to this task")
            if self.name in _CALLS_OTHERS:
                raise Denied(f"nothing decides the tasks that {self.name} calls: send a group of them")
            try:
                facts = named_facts(TASK, str(self.name), _named(self.run, args, kwargs))
                facts.append(Fact("task_id({id})", {"id": str(self.request.id)}))
            except ValueError as error:
                raise Denied(str(error)) from error
            decision = gate.guard.check(
                token, operation=self.operation, application=gate.application, facts=facts
            )
            if decision.outcome is Outcome.STORE_UNAVAILABLE:
                raise self.retry(exc=AuthorizationError(decision.reason), countdown=retry_seconds)
            decision.require()
            _, bare = split_prefix(token, gate.guard.prefixes)
            return Grant(decision, bare, (self.operation,))

    return CapTask


def _named(run: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """Returns the arguments of a task by their names; raises TypeError for those that do not fit.

    However they were sent: a check that names an argument must hold for one that came by its position.
    """
    signature = inspect.signature(run)
    named: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        for key, each in value.items() if several else ((name, value),):
            if key in named:
                raise ValueError(f"there are two arguments {key!r}")
            named[key] = each
    return named


def grant_of(task: Any) -> Grant:
    """Returns the grant of a bound task that is running; raises RuntimeError where nothing was decided."""
    grant = getattr(task.request, "cap", None)
    if not isinstance(grant, Grant):
        raise RuntimeError("nothing was decided about this task")
    return grant
