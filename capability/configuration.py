"""cap.toml: the nearest one upwards, else the one in the user's configuration folder.

    public_key = "root.key.pub"        # a key's text, or a file
    keys = "keys.json"                 # a key set, in place of public_key
    private_key = "root.key"           # a file; the key itself has no place here
    key_id = 1
    store = "sqlite:///cap.db"         # or postgresql://USER@HOST/DATABASE; mode 0600 if a password is in it
    revocations = "revoked.signed"     # a signed file of revocations, to go by in place of a store;
                                       # for `cap serve` an https:// URL too, and beside a store
    revocations_key = "revoked.pub"    # who signs that; the root keys if it is not said
    revocations_name = "acme"          # which list of that signer is meant, if it signs several
    policy = "policy.datalog"
    prefix = "sk_live_"                # what `cap mint` puts before a token's text
    prefixes = ["sct_user_"]           # what else may stand before a token that is read
    expires = "90d"                    # what `cap mint` gives when nothing else is said
    registered_only = true             # refuse tokens that the store has no record of
    max_stale = 10                     # seconds; `Guard.from_env` then follows the store, and asks it no more
    [audit]                            # `Guard.from_env` and `cap serve` then write to the audit trail
    decisions = "denied"               # or "all", or "none": only when tokens were last used
    capacity = 10000                   # how many may wait to be written
    when_full = "drop"                 # or "deny": nothing is allowed that cannot be written down
    [serve]                            # what `cap serve` does: see capability.sidecar.table

Relative paths are relative to the file that holds them.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from capability.errors import ConfigurationError

NAME: Final = "cap.toml"
NO_STORE: Final = "none"
"""What stands for the store where tokens are never revoked."""

_MAX_CAPACITY: Final = 10_000_000
_DATALOG: Final = re.compile(r"[(;\s]")
_PUBLIC_TEXT: Final = re.compile(r"[a-z0-9]+/[0-9a-fA-F]*")


_Word = TypeVar("_Word", bound=str)


@dataclass(frozen=True, slots=True)
class Audit:
    """Which decisions a service writes to its store's trail, and what becomes of what does not fit."""

    decisions: Literal["none", "denied", "all"] = "denied"
    capacity: int = 10_000
    when_full: Literal["drop", "deny"] = "drop"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one cap.toml, which is `file`, paths resolved; None where it says nothing."""

    public_key: str | None = None
    keys: str | None = None
    private_key: str | None = None
    key_id: int | None = None
    store: str | None = None
    revocations: str | None = None
    revocations_key: str | None = None
    revocations_name: str | None = None
    policy: str | None = None
    expires: str | None = None
    prefix: str | None = None
    prefixes: tuple[str, ...] = ()
    max_stale: float | None = None
    audit: Audit | None = None
    serve: Mapping[str, Any] | None = None
    file: Path | None = None
    registered_only: bool = False


def default_store() -> Path:
    """Returns the file of the store that `cap` makes where none is named, in the user's data folder."""
    import platformdirs

    return Path(platformdirs.user_data_dir("cap", appauthor=False)) / "cap.db"


def find() -> Path | None:
    """Returns the cap.toml that counts where none is named, or None.

    Raises ConfigurationError for one in a folder where somebody else put it: it would choose the keys that
    are trusted.
    """
    path = _nearest(Path.cwd()) or _in_user_folder()
    if path is not None:
        _check_owner(path)
    return path


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
    # A link's owner counts as well: the relative paths of the file are those of the folder of the link.
    owners = {found.st_uid, path.lstat().st_uid}
    if not owners <= {0, os.geteuid()} or found.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"{str(path)!r} belongs to somebody else, or everybody can change it",
            "if you trust it, say so: CAP_CONFIG or --config names it",
            "config.owner",
        )


def is_datalog(text: str) -> bool:
    """Returns whether a policy that is named, as by $CAP_POLICY, is Datalog itself; else it is a file's path.

    No statement is without a parenthesis, a semicolon or white space. In cap.toml a policy is always a file.
    """
    return _DATALOG.search(text) is not None


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


def parse(path: Path, content: bytes, mode: int) -> Config:
    """Returns the settings that `content`, of the file `path`, makes; its paths are relative to the file.

    `mode` is the file's. Raises ConfigurationError for what is not TOML, for what nobody understands, and
    for a password that others can read.
    """
    import tomllib

    try:
        values = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ConfigurationError(
            f"{str(path)!r} is not TOML: {reason}", "compare it with the example in the docs", "config.toml"
        ) from error
    names = [field.name for field in fields(Config) if field.name != "file"]
    for name in values:
        if name not in names:
            raise ConfigurationError(
                f"{str(path)!r}: there is no setting {name!r}", _suggestion(name, names), "config.unknown"
            )
    readable_by_others = os.name == "posix" and bool(mode & 0o077)
    if readable_by_others and has_password(_string(path, values, "store") or ""):
        import shlex

        raise ConfigurationError(
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
        revocations=_place(base, _string(path, values, "revocations")),
        revocations_key=_key(base, _string(path, values, "revocations_key")),
        revocations_name=_string(path, values, "revocations_name"),
        policy=_path(base, _string(path, values, "policy")),
        expires=_string(path, values, "expires"),
        prefix=_string(path, values, "prefix"),
        prefixes=_strings(path, values, "prefixes"),
        max_stale=_seconds(path, values, "max_stale"),
        audit=_audit(path, _table(path, values, "audit")),
        serve=_table(path, values, "serve"),
        file=path,
        registered_only=_boolean(path, values, "registered_only"),
    )


def registered_only(environment: Mapping[str, str], config: Config) -> bool:
    """Returns whether tokens without a record are refused: $CAP_REGISTERED_ONLY says so, or else cap.toml."""
    text = environment.get("CAP_REGISTERED_ONLY", "").strip().lower()
    if text not in ("", "1", "true", "0", "false"):
        raise ConfigurationError(
            "$CAP_REGISTERED_ONLY is neither 1 nor 0", "write CAP_REGISTERED_ONLY=1", "config.value"
        )
    return text in ("1", "true") if text else config.registered_only


def _audit(path: Path, table: Mapping[str, Any] | None) -> Audit | None:
    if table is None:
        return None
    names = [field.name for field in fields(Audit)]
    for name in table:
        if name not in names:
            raise ConfigurationError(
                f"{str(path)!r}: there is no setting audit.{name}", _suggestion(name, names), "config.unknown"
            )
    capacity = table.get("capacity", 10_000)
    if type(capacity) is not int or not 1 <= capacity <= _MAX_CAPACITY:
        raise ConfigurationError(
            f"{str(path)!r}: audit.capacity must be a number from 1 to {_MAX_CAPACITY}",
            "write capacity = 10000",
            "config.value",
        )
    return Audit(
        _word(path, "decisions", table.get("decisions", "denied"), ("none", "denied", "all")),
        capacity,
        _word(path, "when_full", table.get("when_full", "drop"), ("drop", "deny")),
    )


def _word(path: Path, name: str, value: object, words: tuple[_Word, ...]) -> _Word:
    for word in words:
        if value == word:
            return word
    raise ConfigurationError(
        f"{str(path)!r}: audit.{name} must be one of {', '.join(words)}",
        f'write {name} = "{words[0]}"',
        "config.value",
    )


def _boolean(path: Path, values: dict[str, Any], name: str) -> bool:
    value = values.get(name, False)
    if isinstance(value, bool):
        return value
    raise ConfigurationError(
        f"{str(path)!r}: {name} must be true or false", f"write {name} = true", "config.value"
    )


def _suggestion(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name.lower().replace("-", "_"), names, n=1)
    return f"did you mean {close[0]}?" if close else f"the settings are {', '.join(names)}"


def _table(path: Path, values: dict[str, Any], name: str) -> Mapping[str, Any] | None:
    value = values.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise ConfigurationError(f"{str(path)!r}: {name} must be a table", f"write [{name}]", "config.value")


def _string(path: Path, values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(
        f"{str(path)!r}: {name} must be a string", f'write {name} = "..."', "config.value"
    )


def _strings(path: Path, values: dict[str, Any], name: str) -> tuple[str, ...]:
    value = values.get(name, [])
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ConfigurationError(
        f"{str(path)!r}: {name} must be a list of strings", f'write {name} = ["..."]', "config.value"
    )


def _integer(path: Path, values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if value is None or (type(value) is int and 0 <= value < 2**32):
        return value
    raise ConfigurationError(
        f"{str(path)!r}: {name} must be a number from 0 up", f"write {name} = 1", "config.value"
    )


def _seconds(path: Path, values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None or (type(value) in (int, float) and 0 < value < float("inf")):
        return value
    raise ConfigurationError(
        f"{str(path)!r}: {name} must be a number of seconds", f"write {name} = 10", "config.value"
    )


def _private_key(path: Path, values: dict[str, Any]) -> str | None:
    value = _string(path, values, "private_key")
    if value is not None and ("-private/" in value or "-----BEGIN" in value):
        raise ConfigurationError(
            f"{str(path)!r} holds a private key",
            "put the key in a file of mode 0600, and the path of that file here",
            "config.secret",
        )
    return value


def _key(base: Path, value: str | None) -> str | None:
    return value if value is None or is_public_key_text(value) else _path(base, value)


def is_public_key_text(value: str) -> bool:
    """True when `value` is meant as the text of a public key, not as the path of a file."""
    return _PUBLIC_TEXT.fullmatch(value) is not None and value.startswith(("ed25519/", "secp256r1/"))


def _path(base: Path, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return str(base / Path(value).expanduser())
    except RuntimeError as error:
        raise ConfigurationError(
            f"there is no home folder for {value!r}", "write the path in full", "config.value"
        ) from error


def _place(base: Path, value: str | None) -> str | None:
    return value if value is None or "://" in value else _path(base, value)


def _store(base: Path, value: str | None) -> str | None:
    """Returns the URL with its path made absolute; what is no such URL is left for the store to refuse."""
    scheme = "sqlite:///"
    if value is None or not value.startswith(scheme) or value.startswith(f"{scheme}:") or value == scheme:
        return value
    return f"{scheme}{base / value.removeprefix(scheme)}"
