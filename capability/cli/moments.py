"""Times as people write them: `90d`, `1h30m`, or an RFC 3339 date; and as people read them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from capability.cli.failures import usage

_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION: Final = re.compile(r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")

HINT: Final = "write 90d, 12h, 30m or 1w, or a time such as 2026-12-01T00:00:00Z"


def parse_moment(text: str, option: str) -> timedelta | datetime:
    """Returns a duration from now, or a time. Raises Failure for anything else."""
    text = text.strip()
    found = _DURATION.fullmatch(text)
    if found and text:
        return timedelta(
            **{name: int(number or 0) for name, number in zip(_UNITS.values(), found.groups(), strict=True)}
        )
    return parse_time(text, option)


def parse_time(text: str, option: str) -> datetime:
    """Returns the time that RFC 3339 text means; its offset must be given."""
    if _RFC_3339.fullmatch(text):
        try:
            return datetime.fromisoformat(text.upper())
        except ValueError as error:
            raise usage(f"{option}: there is no such time as {text!r}", HINT) from error
    raise usage(f"{option}: {text!r} is neither a duration nor a time with its offset", HINT)


def in_words(moment: datetime, now: datetime) -> str:
    """Returns how far off a time is: `in 3 hours`, `2 days ago`, `now`.

    Never less than two of a unit, since "1 hour" would hide half of 90 minutes. Half a minute is added, so
    that what was minted for 90 days a moment ago has not 89 left.
    """
    seconds = int((moment - now).total_seconds())
    if seconds == 0:
        return "now"
    distance = abs(seconds)
    text = _counted(distance, "second")
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if distance + 30 >= 2 * size:
            text = _counted((distance + 30) // size, unit)
            break
    return f"{text} ago" if seconds < 0 else f"in {text}"


def rfc_3339(moment: datetime) -> str:
    """Returns a time in UTC, to the second, as tokens write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" + ("" if count == 1 else "s")
