"""`cap audit`: what was done, by whom, and whether the trail is whole."""

from typing import TYPE_CHECKING, Any, Final

import click

from capability.cli.failures import Exit, Failure, usage
from capability.cli.group import LazyGroup, command
from capability.cli.inputs import Session
from capability.cli.options import store_option
from capability.cli.output import Result, one_line, print_lines
from capability.cli.progress import is_json, progress
from capability.cli.stores import url_for_listing

if TYPE_CHECKING:
    from capability.store import Store

_SAID_ALONE: Final = ("outcome", "record", "change", "key")
_SHOWN: Final = (
    *_SAID_ALONE,
    "key_id",
    "until",
    "name",
    "owner",
    "tenant",
    "before",
    "count",
    "revision",
    "request",
)
"""What the list shows of a line, in this order."""

writer_option = click.option("--writer", help="Only the chain of this writer.")


@click.group(
    "audit",
    cls=LazyGroup,
    lazy={
        "list": ("audit", "list_", "List what was done."),
        "verify": ("audit", "verify", "Find lines that are missing or were altered."),
        "export": ("audit", "export", "Print the trail as JSON lines."),
    },
)
def audit() -> None:
    """See what was minted, revoked and decided, and check that nothing was taken out.

    Lines are only ever added. Each has a hash over the one before it, in one chain for each writer.
    """


@command("list", "cap audit list", "cap audit list --action revoke --limit 20")
@click.option("--action", help="Only mint, revoke, key, decision, prune or import.")
@click.option("--actor", help="Only what this one did.")
@writer_option
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The last so many.")
@store_option
@click.pass_obj
def list_(
    session: Session,
    action: str | None,
    actor: str | None,
    writer: str | None,
    limit: int,
    store: str | None,
) -> Result:
    """List what was done, the last of it last."""
    from collections import deque

    with open_existing(session, store) as opened:
        lines = (each.data for each in opened.audit(writer=writer))
        fitting = (
            each
            for each in lines
            if action in (None, each.get("action")) and actor in (None, each.get("actor"))
        )
        kept = deque(fitting, maxlen=limit)
    found = sorted(kept, key=lambda each: str(each.get("at")))
    return Result("\n".join(map(_as_line, found)) or "nothing was done", {"entries": found})


@command("verify", "cap audit verify", "cap audit verify --head store:42:9f3c...")
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="WRITER:NUMBER:HASH",
    help="A line that was there before, as this command printed it; repeatable.",
)
@store_option
@click.pass_obj
def verify(session: Session, heads: tuple[str, ...], store: str | None) -> Result:
    """Check every chain of the trail. The exit code is 1 when a line is missing or was altered.

    It prints the end of each chain. Keep that elsewhere and pass it as --head later on: then even a trail
    that somebody wrote anew from its beginning is found.
    """
    wanted = [_parse_head(each) for each in heads]
    with open_existing(session, store) as opened:
        length = sum(head.number for head in opened.heads().values())
        problems = list(opened.audit_problems(watch=lambda lines: progress(lines, length, "checking")))
        ends = opened.heads()
        for writer, number, hash_ in wanted:
            if not any(
                each.number == number and each.hash.hex() == hash_ for each in opened.audit(writer=writer)
            ):
                problems.append(f"writer {writer!r}: line {number} is not the one that was there before")
    shown = [f"{name}:{head.number}:{head.hash.hex()}" for name, head in sorted(ends.items())]
    data = {"whole": not problems, "problems": problems, "heads": shown}
    failure = None
    if problems:
        failure = Failure(
            Exit.DENIED,
            "audit.broken",
            f"the audit trail is not whole: {one_line(problems[0])}",
            "keep this file as evidence, and compare it with a copy or an export",
        )
    text = "\n".join(map(one_line, problems or shown)) or "the trail is empty"
    return Result(text, data, exit=Exit.DENIED if problems else Exit.DONE, failure=failure)


@command("export", "cap audit export > audit.jsonl")
@writer_option
@store_option
@click.pass_obj
def export(session: Session, writer: str | None, store: str | None) -> Result:
    """Print the trail, one JSON object on each line, with its hash."""
    with open_existing(session, store) as opened:
        length = sum(head.number for name, head in opened.heads().items() if writer in (None, name))
        entries = progress(opened.audit(writer=writer), length, "exporting", printing=not is_json())
        if is_json():
            return Result("", {"entries": [{**each.data, "hash": each.hash.hex()} for each in entries]})
        print_lines(f"{each.line()}\n".encode("utf-8", "surrogatepass") for each in entries)
    return Result("", {}, printed=True)


def open_existing(session: Session, flag: str | None) -> "Store":
    """Opens the store that is configured, or the user's own; raises Failure when there is none."""
    from capability.store import open_store

    url = url_for_listing(session, flag)
    if url is None:
        raise Failure(
            Exit.STORE,
            "store.unavailable",
            "there is no store yet, and none is configured",
            "name one with --store, or make one: `cap store init`",
        )
    return open_store(url)


def _parse_head(text: str) -> tuple[str, int, str]:
    writer, _, rest = text.rpartition(":")[0].rpartition(":")
    hash_ = text.rpartition(":")[2].lower()
    if not writer or not rest.isascii() or not rest.isdigit() or len(hash_) != 64:
        raise usage(
            "--head: that is no end of a chain", "write WRITER:NUMBER:HASH as `cap audit verify` prints it"
        )
    return writer, int(rest), hash_


def _as_line(data: dict[str, Any]) -> str:
    parts = [str(data.get("at", ""))[:19] + "Z", str(data.get("action", ""))]
    for name in _SHOWN:
        if name == "until" and isinstance(data.get(name), str):
            parts.append(f"until {data[name][:19]}Z")  # the trail has UTC, to the microsecond
        elif name in data:
            parts.append(str(data[name]) if name in _SAID_ALONE else f"{name.replace('_', ' ')} {data[name]}")
    ids = data.get("revocation_ids")
    if "record" not in data and isinstance(ids, list):
        parts += [f"{str(each)[:16]}..." for each in ids[:3]]
    if data.get("actor"):
        parts.append(f"by {data['actor']}")
    if data.get("reason"):
        parts.append(str(data["reason"]))
    if "unreadable" in data:
        parts.append(f"no line of ours: {str(data['unreadable'])[:64]}")
    return one_line("  ".join(parts))
