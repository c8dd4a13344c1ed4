"""Chains of audit lines: what breaks them is found; and records, which refuse what cannot be."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from capability.store.audit import Entry, Event, Head, digest, link, problems
from capability.store.records import Owner, Record, Selection, new_public_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def chain(length: int, writer: str = "w") -> list[Entry]:
    entries: list[Entry] = []
    head: Head | None = None
    for number in range(length):
        entries.append(link(Event("decision", request=str(number), at=NOON), writer, head))
        head = Head(entries[-1].number, entries[-1].hash)
    return entries


def heads(entries: list[Entry]) -> dict[str, Head]:
    return {each.writer: Head(each.number, each.hash) for each in entries}


def test_a_whole_chain() -> None:
    entries = [*chain(4), *chain(2, "v")]
    assert list(problems(entries, heads(entries))) == []
    mixed = [entries[each] for each in (4, 0, 1, 5, 2, 3)]
    assert list(problems(mixed, heads(entries))) == []


@pytest.mark.parametrize("number", range(4))
def test_any_line_taken_out_or_altered_is_found(number: int) -> None:
    entries = chain(4)
    assert list(problems(entries[:number] + entries[number + 1 :], heads(entries)))
    for altered in (
        replace(entries[number], text=entries[number].text.replace("decision", "mint")),
        replace(entries[number], hash=bytes(32)),
        replace(entries[number], number=9),
        replace(entries[number], text="{"),
    ):
        assert list(problems([*entries[:number], altered, *entries[number + 1 :]], heads(entries)))


def test_lines_that_changed_places_are_found() -> None:
    entries = chain(4)
    entries[1], entries[2] = entries[2], entries[1]
    assert list(problems(entries, heads(chain(4))))


@pytest.mark.parametrize("text", ["[1]", "5", "null", "no JSON", "[" * 100_000, "9" * 5_000, '{"writer": 1}'])
def test_what_is_no_line_is_found_although_its_hash_fits(text: str) -> None:
    """Who writes to the file can make any text a link of a chain, and must not keep others from seeing it."""
    entry = Entry("w", 1, text, digest(bytes(32), text))
    (problem,) = problems([entry], heads([entry]))
    assert "line 1" in problem
    assert entry.data == ({"writer": 1} if text.startswith("{") else {"unreadable": text})
    assert entry.hash.hex() in entry.line()


def test_a_chain_without_its_head_is_found() -> None:
    assert list(problems(chain(3), {}))
    assert list(problems([], heads(chain(3))))
    assert list(problems(chain(2), heads(chain(3))))


def test_an_exported_line_has_its_hash() -> None:
    (entry,) = chain(1)
    assert f'"hash": "{entry.hash.hex()}"' in entry.line()
    assert "\n" not in entry.line()


@pytest.mark.parametrize(
    "values",
    [
        {"root": b""},
        {"id": "tok_short"},
        {"id": "sk_" + "a" * 16},
        {"name": ""},
        {"tenant": "\udcff"},
        {"created_by": "\udcff"},
        {"applications": ("",)},
        {"scopes": ("\udcff",)},
        {"created": datetime(2026, 1, 1)},
        {"expires": datetime(2026, 1, 1)},
    ],
)
def test_a_record_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- each has its own words
        Record(**{"root": b"x", **values})


def test_a_root_in_hex_is_refused() -> None:
    text: Any = "ab" * 64
    with pytest.raises(TypeError):
        Record(root=text)


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("ann", Owner("user", "ann")),
        ("service:api", Owner("service", "api")),
        ("urn:x", Owner("user", "urn:x")),
        ("user:user:ann", Owner("user", "user:ann")),
    ],
)
def test_owners(text: str, owner: Owner) -> None:
    assert Owner.parse(text) == owner
    assert Owner.parse(str(owner)) == owner


@pytest.mark.parametrize("arguments", [("robot", "x"), ("user", ""), ("user", "\udcff")])
def test_owners_that_cannot_be(arguments: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="owner"):
        Owner(*arguments)


def test_ids_of_records_differ_and_say_nothing() -> None:
    ids = {new_public_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(each) == 20 for each in ids)


def test_a_selection_of_nothing_is_everything() -> None:
    assert Selection().fits(Record(root=b"x"))
