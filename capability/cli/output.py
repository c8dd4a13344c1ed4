"""How commands answer: the result on stdout, everything else on stderr."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from capability.cli.failures import Exit, Failure, redact, usage
from capability.datalog.immutable import immutable

if TYPE_CHECKING:
    from pathlib import Path

_LINES: Final = 500
"""Lines that are written at once."""


@immutable
class Result:
    """What a command hands back: `text` for people, `data` for --json, or `raw` bytes in place of both.

    `notes` go to stderr; so does `failure`, the reason of an exit code that is not 0 although there is a
    result. A command computes its result whole before anything is printed, so a failure leaves nothing half
    said; but for what is `printed` line by line, as it may be larger than memory.
    """

    text: str
    data: Mapping[str, Any]
    raw: bytes | None = None
    exit: int = Exit.DONE
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    printed: bool = False


def print_result(result: Result, *, as_json: bool) -> None:
    """Prints a result; raises Failure when it cannot be written, and BrokenPipeError when nobody reads."""
    if result.raw is not None and not as_json and sys.stdout is not None and sys.stdout.isatty():
        raise usage("bytes would garble a terminal", "redirect the output to a file, or leave out --raw")
    for note in result.notes:
        print_error_line("warning", redact(note))
    if result.failure is not None:
        _print_lines(result.failure)
    if result.printed:
        return
    if as_json:
        import json

        _write(
            (json.dumps(result.data, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "surrogatepass")
        )
    elif result.raw is not None:
        _write(result.raw)
    elif result.text:
        _write(f"{result.text}\n".encode())


def print_lines(lines: Iterable[bytes]) -> None:
    """Prints lines as they come; raises what `print_result` raises."""
    chunk: list[bytes] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == _LINES:
            _write(b"".join(chunk))
            chunk.clear()
    _write(b"".join(chunk))


def print_failure(failure: Failure, *, as_json: bool) -> None:
    """Prints `error:` and `hint:` on stderr, and with --json also an object on stdout."""
    _print_lines(failure)
    if as_json:
        import json

        error = {"code": failure.code, "message": redact(failure.message), "hint": redact(failure.hint)}
        _write((json.dumps({"error": error, "exit": int(failure.exit)}, indent=2) + "\n").encode())


def _print_lines(failure: Failure) -> None:
    message, _, quoted = redact(failure.message).partition("\n")
    print_error_line("error", _sentence(message), *quoted.splitlines())
    print_error_line("hint", redact(failure.hint))


def print_error_line(label: str, line: str, *quoted: str) -> None:
    """Prints one labelled line on stderr, and what it quotes below it. A lost stderr is no reason to fail."""
    text = "\n".join((f"{label}: {line}", *(f"  {each.rstrip()}" for each in quoted if each.strip())))
    if sys.stderr is not None:
        try:
            # with its end in one piece: of two threads neither writes into the other's line
            print(f"{_visible(text)}\n", end="", file=sys.stderr, flush=True)
        except OSError:
            return


def one_line(text: str) -> str:
    """Returns what a token says so that it cannot pass for a line, or a colour, of ours."""
    from capability.datalog.printer import escape_for_display

    return escape_for_display(text).replace("\n", "\\n")


def silence_stdout() -> None:
    """Points stdout at nothing, so that the interpreter does not complain about it when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def write_file(path: "Path", content: bytes, *, mode: int, overwrite: bool) -> None:
    """Writes a file whole or not at all, with `mode` from its first byte on.

    Raises Failure when it exists and may not be overwritten, or cannot be written.
    """
    write_chunks(path, [content], mode=mode, overwrite=overwrite)


def write_chunks(path: "Path", chunks: Iterable[bytes], *, mode: int, overwrite: bool) -> None:
    """Writes a file as `write_file` does, piece by piece; none is left when making a piece fails."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if overwrite:
            os.replace(name, path)
        else:
            # A link is made only where nothing is; a rename would replace what came in between.
            os.link(name, path)
            os.unlink(name)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, FileExistsError):
            raise usage(
                f"{str(path)!r} exists already", "choose another name, or pass --force", "file.exists"
            ) from error
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _unwritable(path: "Path", error: OSError) -> Failure:
    return usage(
        f"cannot write {str(path)!r}: {_reason(error)}",
        "check the folder and its permissions",
        "file.unwritable",
    )


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _write(content: bytes) -> None:
    if sys.stdout is None:
        raise usage("there is no output to write to: stdout is closed", "leave stdout open", "output")
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise usage(
            f"cannot write the result: {_reason(error)}", "check the file that stdout goes to", "output"
        ) from error


def _sentence(message: str) -> str:
    """Returns a message in the form of ours: no full stop, no capital but in what it names."""
    message = message.strip().removesuffix(".")
    if len(message) > 1 and message[0].isupper() and message[1].islower():
        return message[0].lower() + message[1:]
    return message


def _visible(text: str) -> str:
    """Returns text in which nothing can move the cursor: messages may quote what an attacker wrote."""
    return "".join(each if each == "\n" or each.isprintable() else ascii(each)[1:-1] for each in text)
