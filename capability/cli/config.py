"""cap.toml: the nearest one upwards, else the one in the user's configuration folder.

    public_key = "root.key.pub"        # a key's text, or a file
    keys = "keys.json"                 # a key set, in place of public_key
    private_key = "root.key"           # a file; the key itself has no place here
    key_id = 1
    store = "sqlite:///cap.db"         # or postgresql://USER@HOST/DATABASE; mode 0600 if a password is in it
    policy = "policy.datalog"
    prefix = "sk_live_"                # what `cap mint` puts before a token's text
    prefixes = ["sct_user_"]           # what else may stand before a token that is read
    expires = "90d"                    # what `cap mint` gives when nothing else is said

Relative paths are relative to the file that holds them.
"""

import os
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from capability.cli.failures import usage
from capability.cli.inputs import read_file

NAME: Final = "cap.toml"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one cap.toml, paths resolved; None where it says nothing."""

    public_key: str | None = None
    keys: str | None = None
    private_key: str | None = None
    key_id: int | None = None
    store: str | None = None
    policy: str | None = None
    expires: str | None = None
    prefix: str | None = None
    prefixes: tuple[str, ...] = ()


def load(explicit: Path | None = None) -> Config:
    """Returns the settings of `explicit`, or of the cap.toml that is found; none are an empty Config.

    Raises Failure for a file that cannot be read, that is not TOML, or that says what nobody understands;
    and for one that is only found, in a folder where somebody else put it: it would choose the keys that are
    trusted.
    """
    path = explicit
    if path is None:
        path = _nearest(Path.cwd()) or _in_user_folder()
        if path is None:
            return Config()
        _check_owner(path)
    modes: list[int] = []
    content = read_file(str(path), "configuration", lambda found: modes.append(found.st_mode))
    return _parse(path, content, readable_by_others=os.name == "posix" and bool(modes[0] & 0o077))


def _nearest(folder: Path) -> Path | None:
    return next((each / NAME for each in (folder, *folder.parents) if (each / NAME).is_file()), None)


def _in_user_folder() -> Path | None:
    import platformdirs

    path = Path(platformdirs.user_config_dir("cap", appauthor=False)) / NAME
    return path if path.is_file() else None


def _check_owner(path: Path) -> None:
    if os.name != "posix":
        return
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
        raise usage(
            f"{str(path)!r} belongs to somebody else, or everybody can change it",
            "if you trust it, say so: CAP_CONFIG or --config names it",
            "config.owner",
        )


def has_password(url: str) -> bool:
    """True when the URL of a store holds a password, or cannot be read and may hold one."""
    if "@" not in url and "password" not in url:
        return False
    from urllib.parse import parse_qs, urlsplit

    try:
        parts = urlsplit(url)
        return bool(parts.password) or "password" in parse_qs(parts.query)
    except ValueError:
        return "@" in url


def _parse(path: Path, content: bytes, *, readable_by_others: bool) -> Config:
    import tomllib

    try:
        values = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8"
        raise usage(
            f"{str(path)!r} is not TOML: {reason}", "compare it with the example in the docs", "config.toml"
        ) from error
    names = [field.name for field in fields(Config)]
    for name in values:
        if name not in names:
            raise usage(
                f"{str(path)!r}: there is no setting {name!r}", _suggestion(name, names), "config.unknown"
            )
    if readable_by_others and has_password(_string(path, values, "store") or ""):
        import shlex

        raise usage(
            f"others can read the password of the store in {str(path)!r}",
            f"chmod 600 {shlex.quote(str(path))}, or leave it out: CAP_STORE and PGPASSFILE hold one too",
            "config.permissions",
        )
    base = path.absolute().parent
    return Config(
        public_key=_key(base, _string(path, values, "public_key")),
        keys=_path(base, _string(path, values, "keys")),
        private_key=_path(base, _private_key(path, values)),
        key_id=_integer(path, values, "key_id"),
        store=_store(base, _string(path, values, "store")),
        policy=_path(base, _string(path, values, "policy")),
        expires=_string(path, values, "expires"),
        prefix=_string(path, values, "prefix"),
        prefixes=_strings(path, values, "prefixes"),
    )


def _suggestion(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name.lower().replace("-", "_"), names, n=1)
    return f"did you mean {close[0]}?" if close else f"the settings are {', '.join(names)}"


def _string(path: Path, values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is None or (isinstance(value, str) and value):
        return value
    raise usage(f"{str(path)!r}: {name} must be a string", f'write {name} = "..."', "config.value")


def _strings(path: Path, values: dict[str, Any], name: str) -> tuple[str, ...]:
    value = values.get(name, [])
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise usage(f"{str(path)!r}: {name} must be a list of strings", f'write {name} = ["..."]', "config.value")


def _integer(path: Path, values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if value is None or (type(value) is int and 0 <= value < 2**32):
        return value
    raise usage(f"{str(path)!r}: {name} must be a number from 0 up", f"write {name} = 1", "config.value")


def _private_key(path: Path, values: dict[str, Any]) -> str | None:
    value = _string(path, values, "private_key")
    if value is not None and ("-private/" in value or "-----BEGIN" in value):
        raise usage(
            f"{str(path)!r} holds a private key",
            "put the key in a file of mode 0600, and the path of that file here",
            "config.secret",
        )
    return value


def _key(base: Path, value: str | None) -> str | None:
    from capability.cli.keyfiles import is_public_key_text

    return value if value is None or is_public_key_text(value) else _path(base, value)


def _path(base: Path, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return str(base / Path(value).expanduser())
    except RuntimeError as error:
        raise usage(
            f"there is no home folder for {value!r}", "write the path in full", "config.value"
        ) from error


def _store(base: Path, value: str | None) -> str | None:
    """Returns the URL with its path made absolute; what is no such URL is left for the store to refuse."""
    scheme = "sqlite:///"
    if value is None or not value.startswith(scheme) or value.startswith(f"{scheme}:") or value == scheme:
        return value
    return f"{scheme}{base / value.removeprefix(scheme)}"
