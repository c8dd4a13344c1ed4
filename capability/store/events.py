"""What a store writes into its own audit chain, the same words whatever keeps the data."""

from datetime import UTC, datetime, timedelta
from typing import Final

from capability.store.audit import Event
from capability.store.records import Owner, Record, in_utc

GRACE: Final = timedelta(days=1)
"""How long after its token's expiry a revocation is kept: a verifier's clock may be slow."""


def prune_bound(now: datetime | None) -> datetime:
    """Returns the time up to which a token must have expired for its revocation to be dropped."""
    return in_utc(now or datetime.now(UTC)) - GRACE


def minted(record: Record, actor: str | None) -> Event:
    """A token was minted and registered."""
    return Event(
        "mint",
        actor=actor or record.created_by,
        record=record.id,
        revocation_ids=(record.root.hex(),),
        details={
            "name": record.name,
            "owner": None if record.owner is None else str(record.owner),
            "tenant": record.tenant,
        },
    )


def revoked_ids(
    ids: tuple[bytes, ...], reason: str | None, actor: str | None, at: datetime, revision: int
) -> Event:
    """Ids were revoked, or had been before."""
    return Event(
        "revoke",
        actor=actor,
        revocation_ids=tuple(each.hex() for each in ids),
        reason=reason,
        at=at,
        details={"revision": revision},
    )


def revoked_all_of(
    owner: Owner | None,
    tenant: str | None,
    before: datetime | None,
    reason: str | None,
    actor: str | None,
    at: datetime,
    revision: int,
) -> Event:
    """A rule was made, or meant nothing that was not revoked before."""
    return Event(
        "revoke",
        actor=actor,
        reason=reason,
        at=at,
        details={
            "owner": None if owner is None else str(owner),
            "tenant": tenant,
            "before": None if before is None else before.isoformat(timespec="microseconds"),
            "revision": revision,
        },
    )


def key_changed(
    change: str,
    key: str,
    *,
    key_id: int | None = None,
    until: datetime | None = None,
    actor: str | None = None,
) -> Event:
    """A root key was made, added to a key set, or retired; `key` is the public one, as text."""
    return Event(
        "key",
        actor=actor,
        details={
            "change": change,
            "key": key,
            "key_id": key_id,
            "until": None if until is None else in_utc(until).isoformat(timespec="microseconds"),
        },
    )


def pruned(count: int, bound: datetime, actor: str | None) -> Event:
    """Revocations of expired tokens were dropped."""
    return Event(
        "prune",
        actor=actor,
        details={"count": count, "expired_by": bound.isoformat(timespec="microseconds")},
    )


def loaded(revision: int, count: int, actor: str | None) -> Event:
    """A dump of another store was loaded into this one."""
    return Event("import", actor=actor, details={"revision": revision, "count": count})
