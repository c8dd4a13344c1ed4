"""What commands read: tokens, Datalog and other text, from files, stdin and the environment."""

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import IO, TYPE_CHECKING, Final

from capability.cli.failures import Exit, Failure, usage

if TYPE_CHECKING:
    from pathlib import Path

    from capability.configuration import Config

MAX_BYTES: Final = 1 << 20
"""More than any token, key, policy or block needs; nothing longer is read."""

TOKEN_HINT: Final = "pass a file, pipe the token in, or set CAP_TOKEN"
_TOKEN: Final = re.compile(r"(biscuit:)?[A-Za-z0-9_.~-]{60,}={0,2}")


class Session:
    """One run of `cap`: its configuration, read when first asked for, and its stdin, which is read once."""

    def __init__(self, config_path: "Path | None" = None) -> None:
        self._config_path = config_path
        self._stdin_for: str | None = None
        self.token_prefix = ""
        """What stood before the token that was read last; one that is made of it gets it too."""

    @cached_property
    def config(self) -> "Config":
        """The settings of cap.toml."""
        from capability.cli.config import load

        return load(self._config_path)

    def anew(self) -> "Session":
        """Returns a session that reads its configuration again."""
        return Session(self._config_path)

    def minting_prefix(self, flag: str | None) -> str:
        """Returns what to put before a new token: `flag`, else $CAP_PREFIX, else what is configured."""
        given = flag if flag is not None else os.environ.get("CAP_PREFIX") or self.config.prefix
        return "" if given is None else _prefixes([given])[0]

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """What may stand before a token that is read, of the environment and the configuration."""
        listed = os.environ.get("CAP_PREFIXES")
        found = self.config.prefixes if listed is None else tuple(filter(None, listed.split(",")))
        own = os.environ.get("CAP_PREFIX") or self.config.prefix
        return _prefixes(found if own is None else (*found, own))

    def read_stdin(self, what: str) -> bytes:
        """Returns all of stdin, as `what`. Raises Failure when something else was read from it."""
        stdin = self.stdin(what)
        try:
            content = stdin.read(MAX_BYTES + 1)
        except OSError as error:
            raise usage(
                f"cannot read stdin: {_reason(error)}", f"pipe the {what} in, or name a file"
            ) from error
        return _bounded(content, "stdin", what)

    def stdin(self, what: str) -> IO[bytes]:
        """Returns stdin, to read `what` from it. Raises Failure when something else was read from it."""
        if self._stdin_for is not None:
            raise usage(f"both {self._stdin_for} and {what} come from stdin", "put one of them in a file")
        self._stdin_for = what
        if sys.stdin is None:
            raise usage(f"no {what}: stdin is closed", f"pipe the {what} in, or name a file")
        if sys.stdin.isatty():
            print(f"reading the {what} from the terminal; end it with ctrl-d", file=sys.stderr)
        return sys.stdin.buffer

    def read_token(self, source: str | None, *, raw: bool = False) -> str:
        """Returns the text of a token, without a configured prefix, which `token_prefix` then has.

        Nobody needs a configuration to narrow a token: it is not looked for where no prefix can be, and one
        that cannot be read is a failure only where the text is no token without it.
        """
        return self._without_prefix(self.token_text(source, raw=raw), raw=raw)

    def environment_token(self) -> str:
        """Returns the text of the token in $CAP_TOKEN, whatever is piped in, as `read_token` does."""
        text = os.environ.get("CAP_TOKEN", "")
        if not text.strip():
            raise usage("no token was given", "set CAP_TOKEN, or name a file", "usage.no_token")
        return self._without_prefix(
            _token_text(text.encode("utf-8", "surrogateescape"), raw=False), raw=False
        )

    def _without_prefix(self, text: str, *, raw: bool) -> str:
        from capability.prefixes import may_have_prefix, split_prefix

        if raw or not may_have_prefix(text):
            return text
        try:
            prefixes = self.prefixes
        except Failure:
            if _is_token(text):
                return text
            raise
        self.token_prefix, text = split_prefix(text, prefixes)
        return text

    def token_text(self, source: str | None, *, raw: bool) -> str:
        """Returns the text of a token, prefix and all, from a file, from stdin, or from $CAP_TOKEN.

        What is piped in comes before $CAP_TOKEN even when it is empty: where `cap attenuate | cap verify`
        fails at its beginning, `verify` must not decide about another token.
        """
        if source is not None and source != "-":
            if _TOKEN.fullmatch(source) and not _exists(source):
                raise usage(
                    "a token was given as an argument, which other processes can read",
                    TOKEN_HINT,
                    "usage.token_argument",
                )
            return _token_text(read_file(source, "token"), raw=raw)
        if source == "-" or _stdin_is_piped():
            return _token_text(self.read_stdin("token"), raw=raw)
        text = os.environ.get("CAP_TOKEN", "")
        if text.strip():
            return _token_text(text.encode("utf-8", "surrogateescape"), raw=False)
        raise usage("no token was given", TOKEN_HINT, "usage.no_token")

    def read_datalog(self, source: str) -> str:
        """Returns Datalog: `source` itself, or what the file or stdin (`-`) that it names holds."""
        from capability.configuration import is_datalog

        if source == "-":
            return _datalog_text(self.read_stdin("Datalog"), "stdin")
        if is_datalog(source):
            return source
        if not source:
            raise usage("the Datalog is empty", "leave the argument out, or name a file")
        return datalog_in(source)


def datalog_in(path: str) -> str:
    """Returns the Datalog that a file holds. Raises Failure where it cannot be read."""
    return _datalog_text(read_file(path, "Datalog"), path)


def read_file(path: str, what: str, check: Callable[[os.stat_result], None] | None = None) -> bytes:
    """Returns what a file holds. Raises Failure when it cannot be read; pipes of `<(command)` can.

    `check` is asked about the file that was opened, before anything is read from it.
    """
    with open_file(path, what) as file:
        if check is not None:
            check(os.fstat(file.fileno()))
        try:
            content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise _unreadable(path, _reason(error)) from error
    return _bounded(content, repr(path), what)


def open_file(path: str, what: str) -> IO[bytes]:
    """Returns a file, opened to be read. Raises Failure when it cannot be."""
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise usage(
            f"there is no file {path!r}", f"name a file that holds the {what}", "file.missing"
        ) from error
    except IsADirectoryError as error:
        raise usage(f"{path!r} is a folder", f"name a file that holds the {what}", "file.folder") from error
    except OSError as error:
        raise _unreadable(path, _reason(error)) from error
    except ValueError as error:
        raise _unreadable(path, "not a path") from error


def decode_text(content: bytes, where: str, failure: Failure) -> str:
    """Returns bytes as text; raises `failure` (its message names `where`) when they are not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Failure(
            failure.exit,
            failure.code,
            f"{where}: {failure.message} (byte {error.start} is not UTF-8)",
            failure.hint,
        ) from error


def at_terminal() -> bool:
    """True when somebody sits there who can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def edit_datalog(what: str) -> str:
    """Returns what is written in $EDITOR. Raises Failure without a terminal, and when nothing is written."""
    if not at_terminal():
        raise usage(f"no Datalog for {what}", "pass it as an argument, as a file, or as - for stdin")
    import click

    try:
        written = click.edit(f"// Datalog for {what}; save and leave to go on\n", extension=".datalog")
    except click.ClickException as error:
        raise usage(
            "the editor failed", "set EDITOR to one that runs, or pass the Datalog as an argument"
        ) from error
    if written is None or not re.sub(r"//.*", "", written).strip():
        raise usage("nothing was written", "save some Datalog in the editor, or pass it as an argument")
    return written


def _token_text(content: bytes, *, raw: bool) -> str:
    if not content.strip():
        raise Failure(
            Exit.TOKEN_OR_KEY,
            "format.empty",
            "the token is empty",
            f"{TOKEN_HINT}; add </dev/null where stdin is piped and CAP_TOKEN is meant",
        )
    if raw:
        from capability.wire.text import to_text

        return to_text(content)
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise Failure(
            Exit.TOKEN_OR_KEY,
            "format.text",
            "the token is not text",
            "pass --raw if it is the bytes of a token",
        ) from error


def _is_token(text: str) -> bool:
    from capability.errors import BiscuitValidationError
    from capability.tokens import UnverifiedBiscuit

    try:
        UnverifiedBiscuit.from_base64(text)
    except BiscuitValidationError:
        return False
    return True


def _prefixes(given: Iterable[str]) -> tuple[str, ...]:
    from capability.prefixes import checked_prefixes

    try:
        return checked_prefixes(given)
    except ValueError as error:
        raise usage(str(error), "write it as sk_live_", "config.prefix") from error


def _datalog_text(content: bytes, where: str) -> str:
    failure = Failure(Exit.PROGRAM, "language.text", "the Datalog is not text", "save the file as UTF-8")
    text = decode_text(content, where, failure)
    if not text.strip():
        raise Failure(
            Exit.PROGRAM,
            "language.empty",
            f"{where}: there is no Datalog in it",
            "write at least one statement",
        )
    return text


def _bounded(content: bytes, where: str, what: str) -> bytes:
    if len(content) > MAX_BYTES:
        raise Failure(
            Exit.PROGRAM if what == "Datalog" else Exit.TOKEN_OR_KEY,
            "input.size",
            f"{where} holds more than {MAX_BYTES} bytes",
            f"check that it holds the {what}",
        )
    return content


def _unreadable(path: str, reason: str) -> Failure:
    return usage(f"cannot read {path!r}: {reason}", "check its permissions", "file.unreadable")


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except OSError:
        return False


def _stdin_is_piped() -> bool:
    """True for a pipe, a file or a socket; false for a terminal, /dev/null and a closed stdin."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
