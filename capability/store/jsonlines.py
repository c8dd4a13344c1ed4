"""A dump as JSON lines: a header, a line for each item, and an end that shows when something is missing.

    {"cap_store": 1, "revision": 3, "items": 2, "heads": {"store": [1, "9f3c..."]}}
    {"record": {...}}
    {"line": {...}}
    {"end": 2, "sha256": "..."}

The hash covers all lines before the last. It finds what a disk or a network damaged; who changes a dump on
purpose can compute it anew, so a dump has to be kept like the store.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from capability.errors import StoreDumpError
from capability.store.audit import Entry, Head
from capability.store.dump import Dump, Item
from capability.store.records import Owner, Record, Revocation, Rule, in_utc

VERSION: Final = 1
"""The version of what is written; the only one that is read."""

MAX_LINE: Final = 4 << 20
"""Bytes of a line, which is more than any command can bring into a store."""


def lines_of(dump: Dump) -> Iterator[bytes]:
    """Yields a dump line by line, each with its new line."""
    digest = hashlib.sha256()
    heads = {writer: [head.number, head.hash.hex()] for writer, head in sorted(dump.heads.items())}
    header = {"cap_store": VERSION, "revision": dump.revision, "items": dump.count, "heads": heads}
    line = _line(header)
    count = 0
    for item in dump.items:
        digest.update(line)
        yield line
        line = _line(_data(item))
        count += 1
    digest.update(line)
    yield line
    yield _line({"end": count, "sha256": digest.hexdigest()})


def dump_of(lines: Iterable[bytes]) -> Dump:
    """Returns the dump that lines hold; its items are read as they are asked for.

    Raises StoreDumpError, at once or when the items are read, for what was cut off, changed, or is none.
    """
    reader = _Reader(lines)
    header = reader.next()
    if not isinstance(header, dict) or "cap_store" not in header:
        raise StoreDumpError("that is no dump of a store")
    if header["cap_store"] != VERSION:
        raise StoreDumpError("the dump was made by another version, and cannot be read")
    try:
        heads = {
            _text(writer): Head(_number(number), _hash(text))
            for writer, (number, text) in header["heads"].items()
        }
        return Dump(_number(header["revision"]), _number(header["items"]), heads, reader.items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreDumpError("the first line of the dump cannot be read") from error


class _Reader:
    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._digest = hashlib.sha256()
        self._before = ""
        self._number = 0

    def next(self) -> Any:
        line = next(self._lines, b"")
        if not line.endswith(b"\n"):
            raise StoreDumpError("the dump was cut off" if self._number else "that is no dump of a store")
        self._number += 1
        self._before = self._digest.hexdigest()
        self._digest.update(line)
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            if self._number == 1:
                raise StoreDumpError("that is no dump of a store") from error
            raise self._unreadable() from error

    def items(self) -> Iterator[Item]:
        count = 0
        while True:
            data = self.next()
            if isinstance(data, dict) and "end" in data:
                break
            try:
                item = _item(data)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise self._unreadable() from error
            count += 1
            yield item
        if data != {"end": count, "sha256": self._before}:
            raise StoreDumpError("the dump was changed, or lines of it are missing")
        if next(self._lines, b""):
            raise StoreDumpError("something follows the end of the dump")

    def _unreadable(self) -> StoreDumpError:
        return StoreDumpError(f"line {self._number} of the dump cannot be read")


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def _data(item: Item) -> dict[str, Any]:
    if isinstance(item, Entry):
        return {
            "line": {
                "writer": item.writer,
                "number": item.number,
                "text": item.text,
                "hash": item.hash.hex(),
            }
        }
    if isinstance(item, Revocation):
        return {
            "revocation": {
                "id": item.id.hex(),
                "reason": item.reason,
                "actor": item.actor,
                "at": _written(item.at),
                "revision": item.revision,
                "expires": _written(item.expires),
            }
        }
    if isinstance(item, Rule):
        return {
            "rule": {
                "owner": None if item.owner is None else str(item.owner),
                "tenant": item.tenant,
                "before": _written(item.before),
                "reason": item.reason,
                "actor": item.actor,
                "at": _written(item.at),
                "revision": item.revision,
            }
        }
    return {
        "record": {
            "id": item.id,
            "root": item.root.hex(),
            "name": item.name,
            "owner": None if item.owner is None else str(item.owner),
            "tenant": item.tenant,
            "applications": item.applications,
            "scopes": item.scopes,
            "root_key": item.root_key,
            "key_id": item.key_id,
            "created": _written(item.created),
            "expires": _written(item.expires),
            "created_by": item.created_by,
            "last_used": _written(item.last_used),
        }
    }


def _item(data: Any) -> Item:
    """Returns what a line holds; raises what `items` catches for anything else."""
    ((kind, of),) = data.items()
    if kind == "line":
        return Entry(_text(of["writer"]), _number(of["number"]), _text(of["text"]), _hash(of["hash"]))
    if kind == "revocation":
        return Revocation(
            id=_bytes(of["id"]),
            reason=_word(of["reason"]),
            actor=_word(of["actor"]),
            at=_moment(of["at"]),
            revision=_number(of["revision"]),
            expires=_optional_moment(of["expires"]),
        )
    if kind == "rule":
        owner, tenant = _word(of["owner"]), _word(of["tenant"])
        if (owner is None) == (tenant is None):
            raise ValueError("a rule means an owner or a tenant")
        if tenant == "":
            raise ValueError("a tenant has a name")
        return Rule(
            owner=None if owner is None else Owner.parse(owner),
            tenant=tenant,
            before=_optional_moment(of["before"]),
            reason=_word(of["reason"]),
            actor=_word(of["actor"]),
            at=_moment(of["at"]),
            revision=_number(of["revision"]),
        )
    if kind == "record":
        return Record(
            root=_bytes(of["root"]),
            id=_text(of["id"]),
            name=of["name"],
            owner=None if of["owner"] is None else Owner.parse(_text(of["owner"])),
            tenant=of["tenant"],
            applications=_texts(of["applications"]),
            scopes=_texts(of["scopes"]),
            root_key=of["root_key"],
            key_id=None if of["key_id"] is None else _key_id(of["key_id"]),
            created=_moment(of["created"]),
            expires=_optional_moment(of["expires"]),
            created_by=of["created_by"],
            last_used=_optional_moment(of["last_used"]),
        )
    raise ValueError("a line of no known kind")


def _text(value: Any) -> str:
    """Returns a text that a store can keep."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()
    return value


def _word(value: Any) -> str | None:
    return None if value is None else _text(value)


def _texts(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(map(_text, value))


def _number(value: Any) -> int:
    """Returns a number that every store can keep, and count on from: Redis has 53 bits for it."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise TypeError("not a number from 0 up")
    return value


def _key_id(value: Any) -> int:
    if _number(value) >= 1 << 32:
        raise ValueError("not the id of a key")
    return int(value)


def _bytes(value: Any) -> bytes:
    found = bytes.fromhex(_text(value))
    if not found:
        raise ValueError("an id is not empty")
    return found


def _hash(value: Any) -> bytes:
    found = _bytes(value)
    if len(found) != hashlib.sha256().digest_size:
        raise ValueError("not a hash")
    return found


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="microseconds")


def _moment(value: Any) -> datetime:
    return in_utc(datetime.fromisoformat(_text(value)))


def _optional_moment(value: Any) -> datetime | None:
    return None if value is None else _moment(value)
