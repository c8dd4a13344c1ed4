"""Celery: whoever sends a task delegates a token with it, and the worker decides by that.

    cap = CapDelegation(token)                                # the sender
    job.apply_async((1,), **cap.delegate(task="job", expires=60))

    app = Celery("orders", task_cls=cap_task(guard))          # the worker

The token goes in a header of the message, and whoever can read the broker can read it: narrow it, and let it
expire.
"""

import logging
import re
from typing import Any, Final, Unpack

from capability.builders import Fact
from capability.decision import Outcome
from capability.errors import AuthorizationError, Denied
from capability.guard import Guard
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant
from capability.integrations.narrowing import Narrowing, TokenSource, with_checks

with extra("celery"):
    from celery import Task

__all__ = ["CapDelegation", "cap_task", "grant_of"]

HEADER: Final = "cap_token"
RUN: Final = "run"
"""The operation of a task that names none."""


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

    def delegate(self, *, task: str, **narrowing: Unpack[Narrowing]) -> dict[str, Any]:
        """Returns arguments for `apply_async`: a token that is good for the task of this name alone."""
        token = self._token() if callable(self._token) else self._token
        text = with_checks(token, narrowing, ["check all task($t), $t == {task}"], {"task": task})
        return {"headers": {HEADER: text}}

    def __repr__(self) -> str:
        return "<CapDelegation>"


def cap_task(
    guard: Guard, *, application: str | None = None, retry_seconds: float = 5
) -> type[Task[..., Any]]:
    """Returns the class of tasks that run only with a token which allows them: pass it as `task_cls`.

    Stated are `task(name)` and `operation("run")`, or what the task names: `@app.task(operation="refund")`. A
    task that may not run fails with Denied, Revoked, or another AuthorizationError. When revocations cannot
    be looked up, it is tried again after `retry_seconds`, as often as its `max_retries` say. A task that
    is called like a function, not sent, is its caller's own code and runs.
    """
    gate = Gate(guard=guard, application=application)
    logging.getLogger(_LOGGER).addFilter(_NO_TOKEN)

    class CapTask(Task[..., Any]):
        abstract = True
        operation: str = RUN

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if self.request.called_directly:
                return self.run(*args, **kwargs)
            request: Any = self.request
            request.cap = self._admit()
            return self.run(*args, **kwargs)

        def _admit(self) -> Grant:
            token = (self.request.headers or {}).get(HEADER)
            if not isinstance(token, str):
                raise Denied("no token was delegated to this task")
            decision = gate.guard.check(
                token,
                operation=self.operation,
                application=gate.application,
                facts=[Fact("task({name})", {"name": str(self.name)})],
            )
            if decision.outcome is Outcome.STORE_UNAVAILABLE:
                raise self.retry(exc=AuthorizationError(decision.reason), countdown=retry_seconds)
            decision.require()
            return Grant(decision, token, (self.operation,))

    return CapTask


def grant_of(task: Any) -> Grant:
    """Returns the grant of a bound task that is running; raises RuntimeError where nothing was decided."""
    grant = getattr(task.request, "cap", None)
    if not isinstance(grant, Grant):
        raise RuntimeError("nothing was decided about this task")
    return grant
