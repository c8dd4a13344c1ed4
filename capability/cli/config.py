"""The cap.toml of one run of `cap`: see capability.configuration, which says what it holds."""

from pathlib import Path

from capability.cli.failures import usage
from capability.cli.inputs import read_file
from capability.configuration import Config, find, parse
from capability.errors import ConfigurationError


def load(explicit: Path | None = None) -> Config:
    """Returns the settings of `explicit`, or of the cap.toml that is found; none are an empty Config.

    Raises Failure for a file that cannot be read or used, and for one that somebody else put there.
    """
    modes: list[int] = []
    try:
        path = find() if explicit is None else explicit
        if path is None:
            return Config()
        content = read_file(str(path), "configuration", lambda found: modes.append(found.st_mode))
        return parse(path, content, modes[0])
    except ConfigurationError as error:
        raise usage(str(error), error.hint, error.code) from error
