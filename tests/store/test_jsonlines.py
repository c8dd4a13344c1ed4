"""A dump as JSON lines comes back as it was, or not at all."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from capability.errors import StoreDumpError
from capability.store import Record
from capability.store.dump import Dump, Item, checked
from capability.store.jsonlines import dump_of, lines_of
from capability.store.memory import MemoryStore
from tests.store.contract import filled


def written() -> list[bytes]:
    with filled(MemoryStore()).dump() as dump:
        return list(lines_of(dump))


def read(lines: list[bytes]) -> list[Item]:
    return list(checked(dump_of(iter(lines))))


def test_all_comes_back() -> None:
    store = filled(MemoryStore())
    with store.dump() as dump, store.dump() as again:
        found = dump_of(lines_of(again))
        assert (found.revision, found.count, found.heads) == (dump.revision, dump.count, dump.heads)
        found_items, items = list(found.items), list(dump.items)
    # whether it is revoked follows from the rest
    assert sum(isinstance(each, Record) and each.revoked for each in items) == 2
    assert [str(each).replace("revoked=True", "revoked=False") for each in items] == [*map(str, found_items)]


def test_lines_are_ascii_and_hold_each_item() -> None:
    lines = written()
    assert all(line.isascii() and line.endswith(b"\n") for line in lines)
    header, end = json.loads(lines[0]), json.loads(lines[-1])
    assert (header["cap_store"], header["revision"]) == (1, 4)
    assert header["items"] == end["end"] == len(lines) - 2


def test_each_truncation_is_noticed() -> None:
    whole = written()
    for count in range(len(whole)):
        with pytest.raises(StoreDumpError):
            read(whole[:count])
        with pytest.raises(StoreDumpError):
            read([*whole[:count], whole[count][:-1]])


def test_each_missing_swapped_and_doubled_line_is_noticed() -> None:
    whole = written()
    for index in range(len(whole) - 1):
        for lines in (
            whole[:index] + whole[index + 1 :],
            [*whole[: index + 1], *whole[index:]],
            [*whole[:index], whole[index + 1], whole[index], *whole[index + 2 :]],
        ):
            with pytest.raises(StoreDumpError):
                read(lines)
    with pytest.raises(StoreDumpError, match="follows"):
        read([*whole, b"{}\n"])


def test_each_changed_byte_is_noticed() -> None:
    whole = written()
    for index, line in enumerate(whole):
        for place in range(0, len(line) - 1, 7):
            changed = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
            with pytest.raises(StoreDumpError):
                read([*whole[:index], changed, *whole[index + 1 :]])


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b'{"cap_store": 2}\n',
        b'{"cap_store": 1}\n',
        b'{"cap_store": 1, "revision": -1, "items": 0, "heads": {}}\n',
        b'{"cap_store": 1, "revision": true, "items": 0, "heads": {}}\n',
        b'{"cap_store": 1, "revision": 0, "items": 0, "heads": {"a": [1]}}\n',
        b'{"cap_store": 1, "revision": 0, "items": 0, "heads": {"a": [1, "00"]}}\n',
        b'{"cap_store": 1, "revision": 0, "items": 0, "heads": []}\n',
        b'{"cap_store": 1, "revision": 0, "items": 0, "heads": {"\\ud800": [1, "' + b"00" * 32 + b'"]}}\n',
        b'{"cap_store": 1, "revision": 9007199254740992, "items": 0, "heads": {}}\n',
    ],
)
def test_what_is_no_dump_is_refused(header: bytes) -> None:
    with pytest.raises(StoreDumpError):
        read([header])


def reshaped(kind: str, change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    """Returns a dump in which one item was changed on purpose, with a hash that fits."""
    import hashlib

    lines = written()
    index = next(number for number, line in enumerate(lines) if line.startswith(b'{"' + kind.encode()))
    data = json.loads(lines[index])
    change(data[kind])
    lines[index] = json.dumps(data).encode() + b"\n"
    end = json.loads(lines[-1])
    end["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return [*lines[:-1], json.dumps(end).encode() + b"\n"]


def test_an_unchanged_item_passes() -> None:
    assert len(read(reshaped("record", lambda data: None))) == len(written()) - 2


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("record", "root", ""),
        ("record", "root", "xx"),
        ("record", "root", None),
        ("record", "id", "tok_"),
        ("record", "name", 1),
        ("record", "name", "\ud800"),
        ("record", "owner", "service:"),
        ("record", "applications", "orders"),
        ("record", "applications", [1]),
        ("record", "scopes", {}),
        ("record", "key_id", -1),
        ("record", "key_id", True),
        ("record", "key_id", 2**32),
        ("record", "created", None),
        ("record", "created", "2026-03-01T12:00:00"),
        ("record", "created", "0001-01-01T00:00:00+14:00"),
        ("record", "expires", 5),
        ("revocation", "id", ""),
        ("revocation", "id", 5),
        ("revocation", "reason", "\ud800"),
        ("revocation", "actor", []),
        ("revocation", "at", "yesterday"),
        ("revocation", "revision", "1"),
        ("revocation", "revision", 2**63),
        ("rule", "owner", None),
        ("rule", "tenant", "acme"),
        ("rule", "before", "never"),
        ("rule", "before", "9999-12-31T23:59:59-14:00"),
        ("rule", "tenant", ""),
        ("line", "text", None),
        ("line", "text", "\ud800"),
        ("line", "writer", "\ud800"),
        ("line", "number", 0),
        ("line", "number", 1.0),
        ("line", "hash", "00"),
    ],
)
def test_an_item_that_none_wrote_is_refused(kind: str, name: str, value: object) -> None:
    with pytest.raises(StoreDumpError):
        read(reshaped(kind, lambda data: data.update({name: value})))


def test_reading_takes_no_more_than_an_item() -> None:
    asked: list[int] = []

    def items() -> Any:
        with filled(MemoryStore()).dump() as dump:
            for number, item in enumerate(dump.items):
                asked.append(number)
                yield item

    lines = lines_of(Dump(4, 9, {}, items()))
    next(lines)
    assert asked == [0]
