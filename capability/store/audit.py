"""The audit trail: what was done, by whom, in chains of hashes that show when a line is gone or changed.

Each writer has a chain of its own, so that writers never wait for each other. The hash of a line covers
the hash before it and the line's own text, which names its writer and its number; the store also keeps the
head of every chain, so that a missing last line is found too. Who can rewrite the whole file can rewrite
the chains: compare the heads with a copy that was kept elsewhere (`cap audit verify --head`).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from capability.store.records import in_utc

STORE_WRITER: Final = "store"
"""The chain of what changes the store itself; written in the transaction of the change."""

MAX_IDS: Final = 64
"""Ids that one line names; of more, it has the count, and the revision leads to them."""

_START: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. It never holds a token; revocation ids and record ids name it."""

    action: str
    actor: str | None = None
    record: str | None = None
    revocation_ids: tuple[str, ...] = ()
    outcome: str | None = None
    reason: str | None = None
    request: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    details: Mapping[str, str | int | None] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Returns the event as JSON has it: what is not known is left out."""
        ids = [*self.revocation_ids]
        found: dict[str, Any] = {
            "at": in_utc(self.at).isoformat(timespec="microseconds"),
            "action": self.action,
            "actor": self.actor,
            "record": self.record,
            "revocation_ids": ids if 0 < len(ids) <= MAX_IDS else None,
            "revocation_id_count": len(ids) if len(ids) > MAX_IDS else None,
            "outcome": self.outcome,
            "reason": self.reason,
            "request": self.request,
            **self.details,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a writer's chain: the number of its last line, and that line's hash."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail: its place in a chain, its text (JSON, one line) and its hash."""

    writer: str
    number: int
    text: str
    hash: bytes

    @property
    def data(self) -> dict[str, Any]:
        """What the line says; the whole of it as `unreadable` where somebody put there what is none."""
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) else {"unreadable": self.text}

    def line(self) -> str:
        """Returns the line as it is exported: its text with its hash."""
        return json.dumps({**self.data, "hash": self.hash.hex()}, ensure_ascii=False, sort_keys=True)


def link(event: Event, writer: str, head: Head | None) -> Entry:
    """Returns the line that `event` becomes after `head`, None at the beginning of a chain."""
    number = 1 if head is None else head.number + 1
    text = json.dumps(
        {**event.data(), "writer": writer, "number": number}, ensure_ascii=False, sort_keys=True
    )
    # a client may have sent what is no Unicode, which no store takes: JSON has an escape for it
    text = text.encode("utf-8", "backslashreplace").decode()
    return Entry(writer, number, text, digest(_START if head is None else head.hash, text))


def digest(previous: bytes, text: str) -> bytes:
    """Returns the hash of a line that follows the line with the hash `previous`."""
    return hashlib.sha256(previous + text.encode("utf-8", "surrogatepass")).digest()


Watch: TypeAlias = Callable[[Iterable[Entry]], Iterable[Entry]]
"""Hands lines on, and may count them."""


def unwatched(entries: Iterable[Entry]) -> Iterable[Entry]:
    """Hands lines on as they are."""
    return entries


def problems(entries: Iterable[Entry], heads: Mapping[str, Head]) -> Iterator[str]:
    """Yields what is wrong with chains, one sentence for each break; nothing when they are whole.

    `entries` come in the order of their numbers for each writer; chains may be mixed.
    """
    last: dict[str, Head] = {}
    for entry in entries:
        previous = last.get(entry.writer, Head(0, _START))
        last[entry.writer] = Head(entry.number, entry.hash)
        if entry.number != previous.number + 1:
            missing = f"{previous.number + 1} to {entry.number - 1}"
            yield f"writer {entry.writer!r}: the lines {missing} are missing before line {entry.number}"
        elif digest(previous.hash, entry.text) != entry.hash:
            yield f"writer {entry.writer!r}: line {entry.number}, or the one before it, was altered"
        elif not _names_itself(entry):
            yield f"writer {entry.writer!r}: line {entry.number} names another place than it stands in"
    for writer in sorted(heads.keys() | last.keys()):
        head, end = heads.get(writer), last.get(writer, Head(0, _START))
        if head is None:
            yield f"writer {writer!r}: the store has lost the end of its chain"
        elif end.number < head.number:
            yield f"writer {writer!r}: the lines {end.number + 1} to {head.number} are missing at the end"
        elif end != head:
            yield f"writer {writer!r}: the chain ends in another line than the store noted"


def _names_itself(entry: Entry) -> bool:
    data = entry.data
    return data.get("writer") == entry.writer and data.get("number") == entry.number
