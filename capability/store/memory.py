"""A store in this process's memory: for tests, and for services that are fed revocations another way."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self

from capability.errors import StoreDumpError, StoreNotEmpty, StoreRolledBack, StoreUnavailable
from capability.revocation import RevocationStatus, key_mark
from capability.store.audit import STORE_WRITER, Entry, Event, Head, Watch, link, problems, unwatched
from capability.store.dump import Dump, Item, checked
from capability.store.events import (
    loaded,
    minted,
    prune_bound,
    pruned,
    revoked_all_of,
    revoked_ids,
)
from capability.store.records import (
    EVERYTHING,
    Changes,
    Feed,
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

    in_memory = True
    """What it answers takes no input or output: see `Guard.blocking`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)
        self._records: dict[bytes, Record] = {}
        self._used: dict[bytes, datetime] = {}
        self._revoked: dict[bytes, Revocation] = {}
        self._rules: list[tuple[Rule, frozenset[bytes], int]] = []  # with the number of records so far
        self._trail: dict[str, list[Entry]] = {}
        self._heads: dict[str, Head] = {}
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
            rule = Rule(owner, tenant, until, reason, actor, moment, self._revision + 1)
            if any(not self._is_revoked(each) for each in self._meant_by(rule)):
                self._add_rule(rule)
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
            return tuple(rule for rule, _, _ in self._rules)

    def changes(self, since: int) -> Changes:
        """Returns what was revoked after revision `since`."""
        with self.feed(since) as feed:
            return feed.collected()

    @contextmanager
    def feed(self, since: int) -> Iterator[Feed]:
        """Returns the same, an id at a time."""
        with self._lock:
            self._check_open()
            if since > self._revision:
                raise StoreRolledBack(since, self._revision)
            revision = self._revision
            ids = [each.id for each in self._revoked.values() if each.revision > since]
            for rule, meant, _ in self._rules:
                if rule.revision > since:
                    ids += sorted(meant)
        yield Feed(iter(ids), revision)

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
            for event in events:
                entry = link(event, writer, self._heads.get(writer))
                self._trail.setdefault(writer, []).append(entry)
                self._heads[writer] = Head(entry.number, entry.hash)

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
            return dict(self._heads)

    def audit_problems(self, *, watch: Watch = unwatched) -> tuple[str, ...]:
        """Returns what is wrong with the audit trail at this moment."""
        with self._lock:
            return tuple(problems(watch(self.audit()), self.heads()))

    def problems(self) -> tuple[str, ...]:
        """Returns what is damaged: here, nothing but the trail could be."""
        return self.audit_problems()

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Returns all that the store holds at one moment."""
        with self._lock:
            self._check_open()
            items: list[Item] = []
            rules = list(self._rules)
            for number, each in enumerate(self._records.values(), start=1):
                items.append(self._seen(each))
                while rules and rules[0][2] == number:
                    items.append(rules.pop(0)[0])
            items += self._revoked.values()
            items += self.audit()
            dump = Dump(self._revision, len(items), self.heads(), iter(items))
        yield dump

    def load(self, dump: Dump, *, actor: str | None = None) -> None:
        """Puts a dump into this store, all or nothing."""
        check_words(actor)
        copy = MemoryStore()
        for item in checked(dump):
            copy._add(item)
        copy._revision, copy._heads = dump.revision, dict(dump.heads)
        copy.note([loaded(dump.revision, dump.count, actor)])
        with self._lock:
            self._check_open()
            if self._records or self._heads or self._revision:
                raise StoreNotEmpty
            self._records, self._used, self._revoked = copy._records, copy._used, copy._revoked
            self._rules, self._trail, self._heads = copy._rules, copy._trail, copy._heads
            self._revision = copy._revision
            self._moved.notify_all()

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

    def _add(self, item: Item) -> None:
        if isinstance(item, Entry):
            self._trail.setdefault(item.writer, []).append(item)
        elif isinstance(item, Rule):
            self._add_rule(item)
        elif isinstance(item, Revocation):
            if item.id in self._revoked:
                raise StoreDumpError("an id was revoked twice")
            self._revoked[item.id] = item
        else:
            if item.root in self._records or any(each.id == item.id for each in self._records.values()):
                raise StoreDumpError("a token was registered twice")
            self._records[item.root] = item.seen_by(revoked=False, last_used=None)
            if item.last_used is not None:
                self._used[item.root] = item.last_used

    def _add_rule(self, rule: Rule) -> None:
        self._rules.append((rule, self._meant_by(rule), len(self._records)))

    def _meant_by(self, rule: Rule) -> frozenset[bytes]:
        return frozenset(each.root for each in self._records.values() if rule.names(each))

    def _is_revoked(self, revocation_id: bytes) -> bool:
        return revocation_id in self._revoked or any(revocation_id in meant for _, meant, _ in self._rules)

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
