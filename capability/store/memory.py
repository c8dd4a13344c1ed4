"""A store in this process's memory: for tests, and for services that are fed revocations another way."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self

from capability.errors import StoreRolledBack, StoreUnavailable
from capability.revocation import RevocationStatus, key_mark
from capability.store.audit import STORE_WRITER, Entry, Event, Head, link, problems
from capability.store.events import (
    minted,
    prune_bound,
    pruned,
    revoked_all_of,
    revoked_ids,
)
from capability.store.records import (
    EVERYTHING,
    Changes,
    Owner,
    Record,
    Revocation,
    Rule,
    Selection,
    check_one,
    check_words,
    checked_ids,
    in_utc,
)


class MemoryStore:
    """Keeps everything in dictionaries. It starts empty, so by itself it makes nothing stay revoked."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)
        self._records: dict[bytes, Record] = {}
        self._used: dict[bytes, datetime] = {}
        self._revoked: dict[bytes, Revocation] = {}
        self._rules: list[tuple[Rule, frozenset[bytes]]] = []
        self._trail: dict[str, list[Entry]] = {}
        self._revision = 0
        self._open = True

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is revoked, if any, and the revision."""
        ids = checked_ids(revocation_ids)
        with self._lock:
            self._check_open()
            return RevocationStatus(next(filter(self._is_revoked, ids), None), self._revision)

    def revision(self) -> int:
        """Returns the revision; every revocation that has returned is in it."""
        self._check_open()
        return self._revision

    def register(self, record: Record, *, actor: str | None = None) -> None:
        """Adds a record. Raises ValueError when its id or its root is registered already."""
        check_words(actor)
        with self._lock:
            self._check_open()
            if record.root in self._records or any(each.id == record.id for each in self._records.values()):
                raise ValueError("the token is registered already")
            self._records[record.root] = record.seen_by(revoked=False, last_used=None)
            self.note([minted(record, actor)])

    def records(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None, after: str | None = None
    ) -> tuple[Record, ...]:
        """Returns the records that are meant, oldest first: at most `limit`, from behind the id `after`."""
        with self._lock:
            self._check_open()
            all_records = [self._seen(each) for each in self._records.values()]
            start = next((n + 1 for n, each in enumerate(all_records) if each.id == after), 0)
            return tuple(each for each in all_records[start:] if selection.fits(each))[:limit]

    def registered(self, root: bytes) -> Record | None:
        """Returns the record of the token whose root block has this id."""
        with self._lock:
            self._check_open()
            found = self._records.get(root)
            return None if found is None else self._seen(found)

    def touch(self, uses: Mapping[bytes, datetime]) -> None:
        """Notes when tokens, by the ids of their roots, were last used; earlier times change nothing."""
        moments = {root: in_utc(moment) for root, moment in uses.items()}
        with self._lock:
            self._check_open()
            for root, moment in moments.items():
                self._used[root] = max(moment, self._used.get(root, moment))

    def revoke(
        self,
        revocation_ids: Sequence[bytes],
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
        expires: datetime | None = None,
    ) -> int:
        """Revokes every id and returns the revision, from which on they are revoked."""
        ids = checked_ids(revocation_ids)
        check_words(reason, actor)
        moment = in_utc(at or datetime.now(UTC))
        until = None if expires is None else in_utc(expires)
        with self._lock:
            self._check_open()
            return self._revoke(dict.fromkeys(ids, until), reason, actor, moment)

    def revoke_selected(
        self,
        selection: Selection,
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes the tokens of all records that are meant."""
        check_words(reason, actor)
        moment = in_utc(at or datetime.now(UTC))
        with self._lock:
            meant = {each.root: each.expires for each in self.records(selection)}
            return self._revoke(meant, reason, actor, moment)

    def revoke_all_of(
        self,
        owner: Owner | None = None,
        tenant: str | None = None,
        *,
        before: datetime | None = None,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes all tokens of an owner or of a tenant that are registered by now."""
        check_one(owner, tenant)
        check_words(reason, actor, tenant)
        moment = in_utc(at or datetime.now(UTC))
        until = None if before is None else in_utc(before)
        with self._lock:
            self._check_open()
            meant = frozenset(
                each.root
                for each in self._records.values()
                if (each.owner == owner if owner is not None else each.tenant == tenant)
                and (until is None or each.created < until)
            )
            if any(not self._is_revoked(each) for each in meant):
                self._rules.append(
                    (Rule(owner, tenant, until, reason, actor, moment, self._revision + 1), meant)
                )
                self._grow()
            self.note([revoked_all_of(owner, tenant, until, reason, actor, moment, self._revision)])
            return self._revision

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revoked ids in the order they were revoked."""
        with self._lock:
            self._check_open()
            return tuple(self._revoked.values())

    def rules(self) -> tuple[Rule, ...]:
        """Returns all rules in the order they were made."""
        with self._lock:
            self._check_open()
            return tuple(rule for rule, _ in self._rules)

    def changes(self, since: int) -> Changes:
        """Returns what was revoked after revision `since`."""
        with self._lock:
            self._check_open()
            if since > self._revision:
                raise StoreRolledBack(since, self._revision)
            ids = [each.id for each in self._revoked.values() if each.revision > since]
            for rule, meant in self._rules:
                if rule.revision > since:
                    ids += sorted(meant)
            return Changes(tuple(dict.fromkeys(ids)), self._revision)

    def wait(self, revision: int, timeout: float) -> None:
        """Returns when the revision has moved past `revision`, or after `timeout` seconds."""
        with self._moved:
            self._moved.wait_for(lambda: self._revision > revision or not self._open, timeout)
            self._check_open()

    def prune(self, *, now: datetime | None = None, actor: str | None = None) -> int:
        """Drops the revocations of tokens that have expired a day ago or earlier; returns how many."""
        check_words(actor)
        bound = prune_bound(now)
        with self._lock:
            self._check_open()
            kept = {
                each.id: each
                for each in self._revoked.values()
                if each.expires is None or each.expires > bound
            }
            count = len(self._revoked) - len(kept)
            self._revoked = kept
            if count:
                self.note([pruned(count, bound, actor)])
            return count

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        """Appends events to the chain of `writer`."""
        with self._lock:
            self._check_open()
            chain = self._trail.setdefault(writer, [])
            for event in events:
                chain.append(link(event, writer, _head(chain)))

    def audit(self, *, writer: str | None = None) -> Iterator[Entry]:
        """Yields the lines of the trail."""
        with self._lock:
            self._check_open()
            names = sorted(self._trail) if writer is None else [writer]
            return iter([entry for name in names for entry in self._trail.get(name, ())])

    def heads(self) -> dict[str, Head]:
        """Returns the end of each writer's chain."""
        with self._lock:
            self._check_open()
            heads = {name: _head(chain) for name, chain in self._trail.items()}
            return {name: head for name, head in heads.items() if head is not None}

    def audit_problems(self) -> tuple[str, ...]:
        """Returns what is wrong with the audit trail at this moment."""
        with self._lock:
            return tuple(problems(self.audit(), self.heads()))

    def problems(self) -> tuple[str, ...]:
        """Returns what is damaged: here, nothing but the trail could be."""
        return self.audit_problems()

    def close(self) -> None:
        """Forgets nothing, but answers no more."""
        with self._lock:
            self._open = False
            self._moved.notify_all()

    def _revoke(
        self, ids: Mapping[bytes, datetime | None], reason: str | None, actor: str | None, moment: datetime
    ) -> int:
        self._check_open()
        added = [each for each in ids if each not in self._revoked]
        for each in added:
            self._revoked[each] = Revocation(each, reason, actor, moment, self._revision + 1, ids[each])
        if added:
            self._grow()
        self.note([revoked_ids(tuple(ids), reason, actor, moment, self._revision)])
        return self._revision

    def _grow(self) -> None:
        self._revision += 1
        self._moved.notify_all()

    def _is_revoked(self, revocation_id: bytes) -> bool:
        return revocation_id in self._revoked or any(revocation_id in meant for _, meant in self._rules)

    def _seen(self, record: Record) -> Record:
        revoked = self._is_revoked(record.root) or (
            record.root_key is not None and key_mark(record.root_key) in self._revoked
        )
        return record.seen_by(revoked=revoked, last_used=self._used.get(record.root))

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _head(chain: Sequence[Entry]) -> Head | None:
    return Head(chain[-1].number, chain[-1].hash) if chain else None
