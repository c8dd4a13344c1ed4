"""What every store offers, whatever keeps its data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, Self, runtime_checkable

from capability.revocation import RevisedSource
from capability.store.audit import STORE_WRITER, Entry, Event, Head, Watch, unwatched
from capability.store.dump import Dump
from capability.store.records import EVERYTHING, Changes, Feed, Owner, Record, Revocation, Rule, Selection


@runtime_checkable
class Store(RevisedSource, Protocol):
    """The registry of tokens, what is revoked, and the audit trail. Safe to share between threads.

    Ids are canonical: `Biscuit.canonical_revocation_ids` computes them. A failure of any method is a
    StoreError, never silence: an id that a store could not look up must not pass for one that is not
    revoked. The revision only ever grows, by one for each change of what is revoked; a store that finds
    itself behind a revision that it has seen raises StoreRolledBack. Words and ids are checked before
    anything is written: ValueError for an empty id, a naive time, or text that is not valid Unicode.
    """

    def register(self, record: Record, *, actor: str | None = None) -> None:
        """Adds a record. Raises ValueError when its id or its root is registered already."""
        ...

    def records(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None, after: str | None = None
    ) -> tuple[Record, ...]:
        """Returns the records that are meant, oldest first: at most `limit`, from behind the id `after`."""
        ...

    def registered(self, root: bytes) -> Record | None:
        """Returns the record of the token whose root block has this id."""
        ...

    def touch(self, uses: Mapping[bytes, datetime]) -> None:
        """Notes when tokens, by the ids of their roots, were last used; earlier times change nothing."""
        ...

    def revoke(
        self,
        revocation_ids: Sequence[bytes],
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
        expires: datetime | None = None,
    ) -> int:
        """Revokes every id, all or none, and returns the store's revision, from which on they are revoked.

        The first word stands: what is known of an id that was revoked before is left as it is, and the
        revision grows only when something was added. `at` is aware (now, if None). `expires` is when every
        token that holds one of the ids has expired; only pass what a verified token says.
        """
        ...

    def revoke_selected(
        self,
        selection: Selection,
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes the tokens of all records that are meant, in one transaction, as `revoke` does."""
        ...

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
        """Revokes all tokens of an owner or of a tenant (exactly one of them) that are registered by now.

        With `before`, those that were created earlier. However many there are, this adds one Rule. Tokens
        that are registered later are not meant. Returns the revision, as `revoke` does.
        """
        ...

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revoked ids in the order they were revoked, without those that only rules mean."""
        ...

    def rules(self) -> tuple[Rule, ...]:
        """Returns all rules in the order they were made."""
        ...

    def changes(self, since: int) -> Changes:
        """Returns what was revoked after revision `since`: all of it for 0.

        Rules stand there as the ids of the tokens that they mean. Raises StoreRolledBack when the store is
        behind `since`.
        """
        ...

    def feed(self, since: int) -> AbstractContextManager[Feed]:
        """Returns what `changes` returns, to be read within the context piece by piece.

        So neither here nor at the server memory grows with what was revoked. Reading it raises StoreError.
        """
        ...

    def prune(self, *, now: datetime | None = None, actor: str | None = None) -> int:
        """Drops the revocations of tokens that have expired a day ago or earlier; returns how many.

        Nothing else is ever dropped: not one whose expiry is unknown, not a rule, not a record. The revision
        stays, for nothing that could be used again has changed.
        """
        ...

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        """Appends events to the chain of `writer`."""
        ...

    def audit(self, *, writer: str | None = None) -> Iterator[Entry]:
        """Yields the lines of the trail, of one writer or chain after chain, in the order of numbers."""
        ...

    def heads(self) -> dict[str, Head]:
        """Returns the end of each writer's chain."""
        ...

    def audit_problems(self, *, watch: Watch = unwatched) -> tuple[str, ...]:
        """Returns what is wrong with the audit trail at this moment, a sentence for each break of a chain.

        All lines go through `watch`, which can tell how far this is.
        """
        ...

    def problems(self) -> tuple[str, ...]:
        """Returns what is damaged, a sentence each: what holds the data, and the audit trail."""
        ...

    def dump(self) -> AbstractContextManager[Dump]:
        """Returns all that the store holds at one moment; within the context, its items can be read once.

        What is written meanwhile is not in it, and nobody has to wait. Memory does not grow with the store.
        """
        ...

    def load(self, dump: Dump, *, actor: str | None = None) -> None:
        """Puts a dump into this store, all or nothing, and notes that in the trail (`events.loaded`).

        The store then has the dump's revision. Nobody sees a part of it. Raises StoreNotEmpty unless the
        store is empty (no record, no line of the trail, revision 0), StoreDumpError when the dump cannot be
        what a store held (`dump.checked` tells, and so does the same id twice); and whatever reading its
        items raises.
        """
        ...

    def close(self) -> None:
        """Lets go of files and connections. Nothing can be asked afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


@runtime_checkable
class WakingStore(Store, Protocol):
    """A store that tells when something may have changed, so that a follower need not wait to poll.

    What it tells wakes, and no more: the follower then pulls `changes`, and pulls without being woken too.
    """

    def wait(self, revision: int, timeout: float) -> None:
        """Returns when the revision may have moved past `revision`, or after `timeout` seconds.

        Too early is allowed, now and then. Raises StoreError when the store cannot tell now, and when it is
        closed meanwhile.
        """
        ...
