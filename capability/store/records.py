"""What a store keeps: records of tokens, revocations, and the rules that revoke many at once.

A record never holds a token's text, so a store that leaks gives nobody access.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Self

OWNER_KINDS: Final = ("user", "service", "agent")
"""What an owner can be."""

ID_PREFIX: Final = "tok_"
_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_ID: Final = re.compile(f"{ID_PREFIX}[{_ID_ALPHABET}]{{16}}")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a token; written `user:ann`. The id may hold any character, a colon too."""

    kind: str
    id: str

    def __post_init__(self) -> None:
        if self.kind not in OWNER_KINDS:
            raise ValueError(f"an owner is one of {', '.join(OWNER_KINDS)}, not {self.kind!r}")
        check_text("the id of an owner", self.id)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the owner that `user:ann` means; a text without a known kind is the id of a user."""
        kind, separator, rest = text.partition(":")
        return cls(kind, rest) if separator and kind in OWNER_KINDS else cls("user", text)

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


def new_public_id() -> str:
    """Returns a fresh `tok_...`: 80 random bits, which name a token and open nothing."""
    return ID_PREFIX + "".join(secrets.choice(_ID_ALPHABET) for _ in range(16))


@dataclass(frozen=True, slots=True)
class Record:
    """One minted token, known by the canonical revocation id of its root block.

    `applications` and `scopes` (its operations) are None where the token is not restricted; `expires` is
    None when it lives for ever. `last_used` and `revoked` are the store's to say. Times are aware.
    """

    root: bytes
    id: str = field(default_factory=new_public_id)
    name: str | None = None
    owner: Owner | None = None
    tenant: str | None = None
    applications: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    root_key: str | None = None
    key_id: int | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    expires: datetime | None = None
    created_by: str | None = None
    last_used: datetime | None = None
    revoked: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.root, bytes):
            raise TypeError(f"the root id of a record is bytes, not {type(self.root).__name__}")
        if not self.root:
            raise ValueError("the root id of a record is empty")
        if not _ID.fullmatch(self.id):
            raise ValueError(f"{self.id!r} is not the id of a record: {ID_PREFIX} and 16 characters")
        for what in ("name", "tenant", "root_key", "created_by"):
            value = getattr(self, what)
            if value is not None:
                check_text(f"the {what} of a record", value)
        for values in (self.applications, self.scopes):
            for each in values or ():
                check_text("an application or scope of a record", each)
        for what in ("created", "expires", "last_used"):
            moment = getattr(self, what)
            if moment is not None:
                object.__setattr__(self, what, in_utc(moment))

    def seen_by(self, *, revoked: bool, last_used: datetime | None) -> "Record":
        """Returns the record with what only a store knows."""
        return replace(self, revoked=revoked, last_used=last_used)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are meant: those that fit every field that is not None.

    `application` also fits records without a restriction, which may be used there as well. `expires_before`
    fits no record that lives for ever, nor one that has expired at `expires_after`.
    """

    id: str | None = None
    name: str | None = None
    owner: Owner | None = None
    tenant: str | None = None
    application: str | None = None
    expires_after: datetime | None = None
    expires_before: datetime | None = None
    revoked: bool | None = None

    def fits(self, record: Record) -> bool:
        """Returns whether `record` is meant."""
        return (
            self.id in (None, record.id)
            and self.name in (None, record.name)
            and self.owner in (None, record.owner)
            and self.tenant in (None, record.tenant)
            and self.revoked in (None, record.revoked)
            and (
                self.application is None
                or record.applications is None
                or self.application in record.applications
            )
            and (self.expires_after is None or record.expires is None or record.expires > self.expires_after)
            and (
                self.expires_before is None
                or (record.expires is not None and record.expires < self.expires_before)
            )
        )


EVERYTHING: Final = Selection()
"""All records."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revoked id: why, by whom, when (UTC), and the revision of the store that brought it.

    `expires` is when its token expires anyway, None where that is not known or never.
    """

    id: bytes
    reason: str | None
    actor: str | None
    at: datetime
    revision: int
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Revokes all tokens of an owner or of a tenant that were registered before it, in constant size.

    With `before`, only those that were created earlier than that. Exactly one of `owner` and `tenant` is
    set. What is registered later is never meant, so a rule means the same tokens for ever.
    """

    owner: Owner | None
    tenant: str | None
    before: datetime | None
    reason: str | None
    actor: str | None
    at: datetime
    revision: int

    def names(self, record: Record) -> bool:
        """Returns whether `record` is of whom, and created when, the rule says. A store asks for more."""
        whose = self.owner == record.owner if self.owner is not None else self.tenant == record.tenant
        return whose and (self.before is None or record.created < self.before)


@dataclass(frozen=True, slots=True)
class Changes:
    """The ids that were revoked after one revision, up to and with `revision`; those of rules too."""

    ids: tuple[bytes, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Feed:
    """What Changes says of revision, with ids that are read as they are asked for, and once.

    One may come twice.
    """

    ids: Iterator[bytes]
    revision: int

    def collected(self) -> Changes:
        """Returns all of it, each id once."""
        return Changes(tuple(dict.fromkeys(self.ids)), self.revision)


def check_text(what: str, value: str) -> None:
    """Raises ValueError for a text that is empty or cannot be written as UTF-8; TypeError for no text."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is not valid Unicode") from error


def in_utc(moment: datetime) -> datetime:
    """Returns an aware time in UTC; raises ValueError for a naive one, which means no one moment."""
    if moment.utcoffset() is None:
        raise ValueError("a time needs a time zone")
    return moment.astimezone(UTC)


def checked_ids(revocation_ids: Iterable[bytes]) -> tuple[bytes, ...]:
    """Returns the ids once each, in order. Text is refused: a hex id would be looked up and never found."""
    ids = tuple(dict.fromkeys(revocation_ids))
    for revocation_id in ids:
        if not isinstance(revocation_id, bytes):
            raise TypeError(f"a revocation id is bytes, not {type(revocation_id).__name__}")
        if not revocation_id:
            raise ValueError("a revocation id is not empty")
    return ids


def check_words(*words: str | None) -> None:
    """Raises ValueError for text that cannot be written as UTF-8, as an argument of a command may be."""
    for each in words:
        try:
            (each or "").encode()
        except UnicodeEncodeError as error:
            raise ValueError("the reason or the actor is not valid Unicode") from error


def check_one(owner: Owner | None, tenant: str | None) -> None:
    """Raises ValueError unless exactly one of the two is given."""
    if (owner is None) == (tenant is None):
        raise ValueError("an owner or a tenant is meant, and exactly one of them")
