"""Times as numbers, for stores that keep them so."""

from datetime import UTC, datetime, timedelta
from typing import Final

from capability.errors import StoreSchemaError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime | None) -> int | None:
    """Returns a time in microseconds since 1970."""
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """Returns the time that `micros` made a number of."""
    try:
        return _EPOCH + timedelta(microseconds=value)
    except (TypeError, OverflowError) as error:
        raise StoreSchemaError("the store holds a time that cannot be read") from error
