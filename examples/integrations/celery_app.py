"""A Celery worker behind a guard, and how a task is sent to it.

CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none python celery_app.py worker
"""

import sys
from typing import Any

from celery import Celery

from capability import Guard
from capability.integrations.celery import CapDelegation, cap_task, grant_of


def make_app(broker: str = "amqp://", backend: str = "rpc://") -> Celery:
    """Returns the application, with a guard by the environment."""
    app = Celery("shop", broker=broker, backend=backend, task_cls=cap_task(Guard.from_env()))

    @app.task(name="refund", operation="refund", bind=True)
    def refund(task: Any, order: int) -> str:
        return f"refunded order {order} for {grant_of(task).subject}"

    return app


def send(app: Celery, token: str, order: int) -> str:
    """Has an order refunded by whoever works for `app`, with a token that is good for that minute."""
    delegated = CapDelegation(token).delegate(task="refund", operation="refund", expires=60)
    return str(app.send_task("refund", (order,), **delegated).get(timeout=10, interval=0.1))


if __name__ == "__main__":
    make_app().worker_main(sys.argv[1:])
