"""Several root keys by key id, and their rotation.

A key is rotated by data alone: publish the new key beside the old one, mint with the new one, let the old one
expire after the longest life of its tokens, and take it out later.

| state | `expires_at` | |
| --- | --- | --- |
| active | none | verifies, and new tokens may be signed with it |
| retiring | to come | verifies, but new tokens should be signed with another one |
| retired | past | is refused; it stays in the set only so that the refusal can say why |
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from capability.errors import KeyFormatError, UnknownRootKey
from capability.keys import PublicKey

_RFC_3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_MEMBERS: Final = frozenset({"algorithm", "key_bytes", "key_id", "issuer", "expires_at"})


class KeyState(StrEnum):
    """Where a key stands in its rotation."""

    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A root key of a set; its `key_id` is None when it is for the tokens that name no key.

    Raises KeyFormatError for a key id that is not a u32, and for an `expires_at` without a time zone.
    """

    key: PublicKey
    key_id: int | None = None
    issuer: str | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.key_id is not None and not 0 <= self.key_id < 2**32:
            raise KeyFormatError(f"the key id {self.key_id} is not a number of 32 bits")
        if self.expires_at is not None:
            if self.expires_at.utcoffset() is None:
                raise KeyFormatError("the expiry of a key has no time zone")
            try:
                self.expires_at.astimezone(UTC)
            except OverflowError as error:
                raise KeyFormatError("the expiry of a key is out of range") from error

    def state(self, at: datetime) -> KeyState:
        """Returns the state at the time `at`; a key is retired from the very second of its expiry."""
        if self.expires_at is None:
            return KeyState.ACTIVE
        return KeyState.RETIRING if at < self.expires_at else KeyState.RETIRED


class KeySet:
    """An immutable set of root keys. Can be called like a function from a key id to a key.

    Raises KeyFormatError for two keys with one id, and for one key under two ids: retiring one of these would
    not retire the key. (It may stand under an id and without one.) `clock` returns an aware datetime.
    """

    __slots__ = ("_clock", "_entries", "_version")

    def __init__(
        self, entries: Iterable[KeyEntry], *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clock = clock
        self._entries: dict[int | None, KeyEntry] = {}
        ids: dict[PublicKey, int] = {}
        for entry in entries:
            if entry.key_id in self._entries:
                raise KeyFormatError(f"two keys have the key id {_shown(entry.key_id)}")
            if entry.key_id is not None and ids.setdefault(entry.key, entry.key_id) != entry.key_id:
                raise KeyFormatError(f"one key has the key ids {ids[entry.key]} and {entry.key_id}")
            self._entries[entry.key_id] = entry
        self._version = hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_keys(
        cls,
        keys: Mapping[int | None, PublicKey],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> "KeySet":
        """Returns the set of active keys by key id; the id None is for tokens that name none."""
        return cls((KeyEntry(key, key_id) for key_id, key in keys.items()), clock=clock)

    @classmethod
    def from_json(
        cls, text: str | bytes, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> "KeySet":
        """Reads a list of Biscuit web keys; raises KeyFormatError.

        Each is an object of `algorithm`, `key_bytes` (hex), `key_id`, perhaps `issuer` and `expires_at` (RFC
        3339). Other members are refused: a misspelt `expires_at` would be a key that never expires.
        """
        try:
            items = json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise KeyFormatError("not the JSON of a key set") from error
        if not isinstance(items, list):
            raise KeyFormatError("a key set is a JSON list of web keys")
        return cls([_read_entry(item, at) for at, item in enumerate(items)], clock=clock)

    def to_json(self) -> str:
        """Returns the set as a list of Biscuit web keys, in the order of their ids; `from_json` reads it."""
        return json.dumps([_write_entry(entry) for entry in self], indent=2)

    @property
    def version(self) -> str:
        """A hash of the content, to be part of the key of every cache that depends on the keys."""
        return self._version

    def select(self, key_id: int | None, at: datetime | None = None) -> PublicKey:
        """Returns the root key for a token that names `key_id`; `at` defaults to the clock's time.

        A token that names none is for the key without an id or, where there is none, the only key of the set.
        Raises UnknownRootKey; its code is `key.unknown`, `key.retired`, or `key.ambiguous` when a token names
        no key and there are several.
        """
        entry = self._entries.get(key_id)
        if entry is None and key_id is None:
            if len(self._entries) > 1:
                raise UnknownRootKey(
                    "the token names no root key, and there are several", code="key.ambiguous"
                )
            entry = next(iter(self._entries.values()), None)
        if entry is None:
            raise UnknownRootKey(f"no root key has the key id {_shown(key_id)}")
        if entry.state(self._clock() if at is None else at) is KeyState.RETIRED:
            raise UnknownRootKey(f"the root key {_shown(entry.key_id)} is retired", code="key.retired")
        return entry.key

    __call__ = select

    def retire(self, key_id: int | None, at: datetime) -> "KeySet":
        """Returns the set in which the key with `key_id` expires at `at`; raises UnknownRootKey."""
        if key_id not in self._entries:
            raise UnknownRootKey(f"no root key has the key id {_shown(key_id)}")
        entries = {**self._entries, key_id: replace(self._entries[key_id], expires_at=at)}
        return KeySet(entries.values(), clock=self._clock)

    def __iter__(self) -> Iterator[KeyEntry]:
        return iter(
            sorted(self._entries.values(), key=lambda entry: -1 if entry.key_id is None else entry.key_id)
        )

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._version == other._version if isinstance(other, KeySet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._version)

    def __repr__(self) -> str:
        return f"<KeySet {self._version[:12]}, key ids {', '.join(_shown(entry.key_id) for entry in self)}>"


def _shown(key_id: int | None) -> str:
    return "none" if key_id is None else str(key_id)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(members)
    if len(result) != len(members):
        raise ValueError("a member is there twice")
    return result


def _read_entry(item: object, at: int) -> KeyEntry:
    if not isinstance(item, dict) or not _MEMBERS.issuperset(item):
        raise KeyFormatError(f"web key {at}: an object with no members but {', '.join(sorted(_MEMBERS))}")
    key_id, issuer = item.get("key_id"), item.get("issuer")
    if key_id is not None and type(key_id) is not int:
        raise KeyFormatError(f"web key {at}: key_id is a number")
    if issuer is not None and not isinstance(issuer, str):
        raise KeyFormatError(f"web key {at}: issuer is a string")
    try:
        key = PublicKey(f"{item.get('algorithm')}/{item.get('key_bytes')}")
        return KeyEntry(key, key_id, issuer, _read_time(item.get("expires_at")))
    except ValueError as error:
        raise KeyFormatError(f"web key {at}: {error}") from error


def _read_time(text: object) -> datetime | None:
    if text is None:
        return None
    if not isinstance(text, str) or _RFC_3339.fullmatch(text) is None:
        raise ValueError("expires_at is an RFC 3339 time")
    return datetime.fromisoformat(text.upper())


def _write_entry(entry: KeyEntry) -> dict[str, str | int]:
    item: dict[str, str | int] = {
        "algorithm": entry.key.algorithm.label,
        "key_bytes": entry.key.to_bytes().hex(),
    }
    if entry.key_id is not None:
        item["key_id"] = entry.key_id
    if entry.issuer is not None:
        item["issuer"] = entry.issuer
    if entry.expires_at is not None:
        item["expires_at"] = entry.expires_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return item
