"""What tells a guard the time."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from capability.datalog.terms import DATE_MAX

Clock: TypeAlias = Callable[[], float | datetime]
"""Tells the time: seconds since 1970, or an aware datetime."""


def seconds(moment: float | datetime) -> int:
    """Returns a clock's time in whole seconds since 1970."""
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise TypeError("the clock of a guard must tell its time zone")
        moment = moment.timestamp()
    if isinstance(moment, bool) or not isinstance(moment, float | int):
        what = "seconds since 1970 or an aware datetime"
        raise TypeError(f"the clock of a guard must tell {what}, not {type(moment).__name__}")
    if not 0 <= moment <= DATE_MAX:
        raise ValueError("the clock of a guard is before 1970 or after 9999")
    return int(moment)
