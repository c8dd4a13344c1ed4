"""What the Rust engine says about one expression: the independent witness for operators."""

from datetime import timedelta
from typing import Any

import biscuit_auth

_PREFIX = "Datalog  execution failure: "


def holds(source: str, parameters: dict[str, object] | None = None) -> bool | str:
    """Returns whether `allow if source` allows, or the message of the execution error."""
    builder: Any = biscuit_auth.AuthorizerBuilder(f"allow if {source};", parameters or {})
    # Its default of one millisecond would make the answer depend on the machine.
    limits = builder.limits()
    limits.max_time = timedelta(seconds=10)
    builder.set_limits(limits)
    try:
        builder.build_unauthenticated().authorize()
        return True
    except biscuit_auth.AuthorizationError as error:
        message = str(error)
        if message.startswith(_PREFIX):
            return message.removeprefix(_PREFIX)
        assert "no matching policy was found" in message, message
        return False
