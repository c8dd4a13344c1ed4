"""`cap store export` and `cap store import`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from capability.cli.audit import open_existing
from capability.cli.failures import usage
from capability.cli.group import command
from capability.cli.inputs import Session, open_file
from capability.cli.options import store_option
from capability.cli.output import Result, print_lines, write_chunks
from capability.cli.progress import progress
from capability.cli.stores import open_for_writing

_CHUNK = 1 << 20


@command("export", "cap store export > dump.jsonl", "cap store export --output dump.jsonl")
@click.option("--output", metavar="FILE", help="Write it there, as a file of mode 0600, whole or not at all.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@store_option
@click.pass_obj
def export(session: Session, output: str | None, force: bool, store: str | None) -> Result:
    """Print all that a store holds at this moment, as JSON lines: records, rules, revocations, audit trail.

    `cap store import` puts it into another store. No token is in it, but who may do what is. The last line
    holds a hash, by which a file that was cut off or damaged is found. The lines are JSON without --json.
    """
    from capability.store.jsonlines import lines_of

    with open_existing(session, store) as opened, opened.dump() as dump:
        lines = progress(lines_of(dump), dump.count + 2, "exporting", printing=output is None)
        if output is None:
            print_lines(lines)
            return Result("", {}, printed=True)
        write_chunks(Path(output), lines, mode=0o600, overwrite=force)
        return Result(
            f"exported {_items(dump.count)}, at revision {dump.revision}",
            {"items": dump.count, "revision": dump.revision},
        )


@command(
    "import",
    "cap store import dump.jsonl --store sqlite:///new.db",
    "cap store export --store sqlite:///old.db | cap store import - --store sqlite:///new.db",
)
@click.argument("file")
@click.option("--actor", envvar="CAP_ACTOR", show_envvar=True, help="Who imports.")
@store_option
@click.pass_obj
def import_(session: Session, file: str, actor: str | None, store: str | None) -> Result:
    """Put what `cap store export` wrote, FILE or - for stdin, into an empty store, all or nothing.

    The store is made where there is none. It has the revision of the one that was exported, so verifiers
    that saw that one go on; let nobody write to the old store after the export. FILE is read twice, and
    nothing is made before all of it was found to be whole. Take a dump only from where you would take a
    store: who changes one on purpose can also make its hash fit.
    """
    from capability.store.dump import checked
    from capability.store.jsonlines import dump_of
    from capability.store.records import check_words

    try:
        check_words(actor)
    except ValueError as error:
        raise usage(str(error), "write --actor in UTF-8") from error
    with _opened(session, file) as source:
        dump = dump_of(_lines(source))
        for _ in progress(checked(dump), dump.count, "checking"):
            pass
        source.seek(0)
        dump = dump_of(_lines(source))
        with open_for_writing(session, store) as opened:
            items = progress(dump.items, dump.count, "importing")
            opened.load(type(dump)(dump.revision, dump.count, dump.heads, items), actor=actor)
            lines = sum(head.number for head in dump.heads.values()) + 1
            problems = opened.audit_problems(watch=lambda found: progress(found, lines, "verifying"))
    notes = ("the audit trail was not whole when it was exported, and is not now",) if problems else ()
    return Result(
        f"imported {_items(dump.count)}, at revision {dump.revision}",
        {"items": dump.count, "revision": dump.revision, "whole": not problems},
        notes=notes,
    )


@contextmanager
def _opened(session: Session, path: str) -> Iterator[IO[bytes]]:
    """Yields a file that can be read twice: what is piped in is put into one that has no name."""
    if path != "-":
        with open_file(path, "dump") as file:
            if file.seekable():
                yield file
                return
            with _spooled(file) as copy:
                yield copy
        return
    with _spooled(session.stdin("dump")) as copy:
        yield copy


@contextmanager
def _spooled(source: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as copy:
        try:
            while chunk := source.read(_CHUNK):
                copy.write(chunk)
            copy.seek(0)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise usage(f"cannot read the dump: {reason}", "name a file that holds it") from error
        yield copy


def _lines(source: IO[bytes]) -> Iterator[bytes]:
    from capability.store.jsonlines import MAX_LINE

    return iter(lambda: source.readline(MAX_LINE), b"")


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"
