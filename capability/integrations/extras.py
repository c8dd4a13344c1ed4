"""What is said when a framework is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Lets imports that need the extra `name` fail with a hint; the ImportError stays one.

    Where another integration is imported within, it is this one's extra that is named.
    """
    try:
        yield
    except ModuleNotFoundError as caught:
        error = caught.__cause__ if isinstance(caught.__cause__, ModuleNotFoundError) else caught
        raise ModuleNotFoundError(
            f"{error}: this integration needs `pip install 'capability-tokens[{name}]'`",
            name=error.name,
            path=error.path,
        ) from error
