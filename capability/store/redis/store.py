"""The store itself. What is done on the server is in store.lua."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Self

from capability.errors import StoreSchemaError, StoreUnavailable
from capability.revocation import RevocationStatus
from capability.store import events
from capability.store.audit import STORE_WRITER, Entry, Event, Head, Watch, problems, unwatched
from capability.store.dump import Dump, Item
from capability.store.moments import micros
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
from capability.store.redis.address import Address
from capability.store.redis.feed import fed
from capability.store.redis.registry import PAGE, one, selected
from capability.store.redis.rows import (
    act_text,
    index_names,
    record_text,
    revocation_of,
    rule_of,
)
from capability.store.redis.server import Server, pause
from capability.store.redis.trail import chain, either, ends_of, lines_of
from capability.store.redis.transfer import Loading, records_and_rules

CONTENTION_SECONDS: Final = 30.0
"""How long a change tries again because others were first, before the store counts as unavailable."""

_LINES: Final = 500
"""Lines of the audit trail that one script appends."""


def create(address: Address) -> None:
    """Makes an empty store, unless there is one already. Several processes may try at once."""
    server = Server(address)
    try:
        server.start("create", secrets.token_hex(16))
    finally:
        server.close()


class RedisStore:
    """The store at `address`, which must exist (`create` makes it).

    A store that is behind `min_revision`, or behind what this object has seen, raises StoreRolledBack;
    another one in its place raises StoreSchemaError.
    """

    def __init__(self, address: Address, *, min_revision: int = 0) -> None:
        self.address = address
        self._server = Server(address, min_revision=min_revision)
        self._heads: dict[str, str] = {}
        try:
            self._server.start("migrate")
        except BaseException:
            self._server.close()
            raise

    def __repr__(self) -> str:
        return f"RedisStore({self.address})"

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is revoked, if any, and the revision."""
        ids = checked_ids(revocation_ids)
        _, revision, index = self._server.ask("status", *ids)
        return RevocationStatus(ids[index - 1] if index else None, int(revision))

    def revision(self) -> int:
        """Returns the revision, in one round trip to the server."""
        return self._server.revision()

    def register(self, record: Record, *, actor: str | None = None) -> None:
        """Adds a record. Raises ValueError when its id or its root is registered already."""
        check_words(actor)
        expires = "" if record.expires is None else micros(record.expires)
        kept = (record_text(record), record.root, record.id, expires)

        def arguments(head: str, revision: int) -> list[Any]:
            return [*kept, head, *lines_of([events.minted(record, actor)], head), *index_names(record)]

        if self._change("register", arguments)[0] == b"exists":
            raise ValueError("the token is registered already")

    def records(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None, after: str | None = None
    ) -> tuple[Record, ...]:
        """Returns the records that are meant, oldest first: at most `limit`, from behind the id `after`.

        Each is as it was at one moment; of more than a thousand, not all at the same.
        """
        return tuple(islice(selected(self._server, selection, after), limit))

    def registered(self, root: bytes) -> Record | None:
        """Returns the record of the token whose root block has this id."""
        return one(self._server, "roots", root)

    def touch(self, uses: Mapping[bytes, datetime]) -> None:
        """Notes when tokens, by the ids of their roots, were last used; earlier times change nothing."""
        values: list[Any] = []
        for root, used in uses.items():
            values += [root, micros(in_utc(used))]
        for start in range(0, len(values), 2 * PAGE):
            self._server.ask("touch", *values[start : start + 2 * PAGE])

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
        now = in_utc(at or datetime.now(UTC))
        until = None if expires is None else in_utc(expires)
        return self._revoke(lambda: dict.fromkeys(ids, until), reason, actor, now)

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
        now = in_utc(at or datetime.now(UTC))
        return self._revoke(
            lambda: {each.root: each.expires for each in selected(self._server, selection, None)},
            reason,
            actor,
            now,
        )

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
        now = in_utc(at or datetime.now(UTC))
        until = None if before is None else in_utc(before)
        who = f"tenant:{tenant}" if owner is None else f"owner:{owner}"

        def arguments(head: str, revision: int) -> list[Any]:
            return [
                *(head, revision, act_text(reason, actor, now)),
                *either(
                    head,
                    revision,
                    lambda at_revision: events.revoked_all_of(
                        owner, tenant, until, reason, actor, now, at_revision
                    ),
                ),
                *(who, "-" if until is None else micros(until)),
            ]

        return int(self._change("rule", arguments)[1])

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revoked ids in the order they were revoked."""
        return tuple(self._revocations(int(self._server.ask("check")[1])))

    def rules(self) -> tuple[Rule, ...]:
        """Returns all rules in the order they were made."""
        rows = self._server.ask("rules")[2]
        return tuple(sorted(map(rule_of, rows), key=lambda rule: rule.revision))

    def changes(self, since: int) -> Changes:
        """Returns what was revoked after revision `since`."""
        with self.feed(since) as feed:
            return feed.collected()

    @contextmanager
    def feed(self, since: int) -> Iterator[Feed]:
        """Returns the same, an id at a time.

        What a revision brought is never added to, so pages make up one moment.
        """
        revision = int(self._server.ask("check", seen=since)[1])
        yield Feed(fed(self._server, since, revision), revision)

    def wait(self, revision: int, timeout: float) -> None:
        """Returns when the revision has moved past `revision`, or after `timeout` seconds."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            # In short turns, so that closing the store ends it.
            if self._server.wait(revision, min(left, 0.5)):
                return

    def prune(self, *, now: datetime | None = None, actor: str | None = None) -> int:
        """Drops the revocations of tokens that have expired a day ago or earlier; returns how many."""
        check_words(actor)
        bound = events.prune_bound(now)
        while True:
            count = int(self._server.ask("prunable", micros(bound))[2])
            if not count:
                return 0

            def arguments(head: str, revision: int, count: int = count) -> list[Any]:
                lines = lines_of([events.pruned(count, bound, actor)], head)
                return [head, micros(bound), count, *lines]

            if self._change("prune", arguments)[0] == b"ok":
                return count

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        """Appends events to the chain of `writer`."""
        source = iter(events)
        while part := list(islice(source, _LINES)):

            def arguments(head: str, revision: int, part: list[Event] = part) -> list[Any]:
                return [writer, head, *lines_of(part, head, writer)]

            self._change("note", arguments, writer)

    def audit(self, *, writer: str | None = None) -> Iterator[Entry]:
        """Yields the lines of the trail, read a thousand at a time."""
        ends = ends_of(self._server.ask("heads")[2])
        for name in sorted(ends) if writer is None else [writer]:
            if name in ends:
                yield from chain(self._server, name, ends[name][1])

    def heads(self) -> dict[str, Head]:
        """Returns the end of each writer's chain."""
        return {name: head for name, (head, _) in ends_of(self._server.ask("heads")[2]).items()}

    def audit_problems(self, *, watch: Watch = unwatched) -> tuple[str, ...]:
        """Returns what is wrong with the audit trail at this moment."""
        ends = ends_of(self._server.ask("heads")[2])
        entries = (entry for name in sorted(ends) for entry in chain(self._server, name, ends[name][1]))
        return tuple(problems(watch(entries), {name: head for name, (head, _) in ends.items()}))

    def problems(self) -> tuple[str, ...]:
        """Returns what is damaged: keys that are lost, indexes, what cannot be read, and the audit trail."""
        try:
            for index in self._server.ask("indexes")[2]:
                self._server.ask("sizes", index)
            for _ in selected(self._server, EVERYTHING, None):
                pass
            self.revocations()
            self.rules()
            with self.feed(0) as feed:
                for _ in feed.ids:
                    pass
            return self.audit_problems()
        except StoreSchemaError as error:
            return (str(error),)

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Returns all that the store holds at one moment, but for pruning and last uses, which go on."""
        _, revision, serial, rules, ids, lines, rows = self._server.ask("moment")
        heads = {writer: head for writer, (head, _) in ends_of(rows).items()}
        yield Dump(
            revision=int(revision),
            count=serial + rules + ids + lines,
            heads=heads,
            items=self._items(serial, int(revision), heads),
        )

    def load(self, dump: Dump, *, actor: str | None = None) -> None:
        """Puts a dump into this store, all or nothing."""
        check_words(actor)
        Loading(self._server).load(dump, actor)

    def close(self) -> None:
        """Closes the connections. Nothing can be asked afterwards."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _revoke(
        self,
        meant: Callable[[], Mapping[bytes, datetime | None]],
        reason: str | None,
        actor: str | None,
        now: datetime,
    ) -> int:
        def arguments(head: str, revision: int) -> list[Any]:
            found = meant()  # asked again when someone was first: it may have been a new record
            ids = tuple(found)
            values: list[Any] = []
            for each, until in found.items():
                values += [each, "" if until is None else micros(until)]
            return [
                *(head, revision, act_text(reason, actor, now)),
                *either(
                    head,
                    revision,
                    lambda at_revision: events.revoked_ids(ids, reason, actor, now, at_revision),
                ),
                *values,
            ]

        return int(self._change("revoke", arguments)[1])

    def _change(
        self, command: str, arguments: Callable[[str, int], list[Any]], writer: str = STORE_WRITER
    ) -> list[Any]:
        """Makes a change behind the end of a chain, again and again until no one else was first.

        The hash of a line covers the line before it, so whoever was first has moved the end, and a change
        that rests on what was read before is never made.
        """
        until = time.monotonic() + CONTENTION_SECONDS
        attempt = 0
        head, revision = self._heads.get(writer, ""), self._server.seen
        while True:
            answer = self._server.change(command, *arguments(head, revision))
            revision = int(answer[1])
            if answer[0] != b"again":
                if len(answer) > 2:
                    self._heads[writer] = answer[2].decode()
                return answer
            if time.monotonic() > until:
                raise StoreUnavailable("others change the store all the time, and this change was not made")
            head = answer[2].decode()
            pause(attempt)
            attempt += 1

    def _revocations(self, revision: int) -> Iterator[Revocation]:
        start, end = "-", f"{revision}-{2**64 - 1}"
        while True:
            _, _, rows, last = self._server.ask("revocations", start, end, PAGE)
            yield from map(revocation_of, rows)
            if last is None:
                return
            start = f"({last.decode()}"

    def _items(self, serial: int, revision: int, ends: Mapping[str, Head]) -> Iterator[Item]:
        yield from records_and_rules(self._server, serial, revision)
        yield from self._revocations(revision)
        for writer in sorted(ends):
            yield from chain(self._server, writer, ends[writer].number)
