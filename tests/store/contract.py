"""What every store must do. A backend's test module subclasses `StoreContract` and says how to make one."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from capability.errors import StoreDumpError, StoreNotEmpty, StoreRolledBack, StoreUnavailable
from capability.revocation import RevisedSource, RevocationSource, RevocationStatus, key_mark
from capability.store import Dump, Owner, Record, Revocation, Rule, Selection, Store
from capability.store.audit import Entry, Event, Head
from capability.store.dump import Item
from capability.store.follower import Follower
from capability.store.protocol import WakingStore

A, B, C = b"\x01" * 64, b"\x02" * 64, b"\x00\xff" * 36
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = "ed25519/" + "ab" * 32
ANN, BOT = Owner("user", "ann"), Owner("agent", "ann")


def record(root: bytes, **values: Any) -> Record:
    return Record(root=root, **{"created": NOON, **values})


class StoreContract(ABC):
    """The suite. Tests take `store`, a fresh and empty one."""

    @abstractmethod
    def make_store(self, tmp_path: Any) -> Store: ...

    @pytest.fixture
    def store(self, tmp_path: Any) -> Any:
        with self.make_store(tmp_path) as store:
            yield store

    @pytest.fixture
    def other(self, tmp_path: Any) -> Any:
        """A second store, apart from `store`, which is just as empty."""
        folder = tmp_path / "other"
        folder.mkdir()
        with self.make_store(folder) as store:
            yield store

    def test_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)
        assert isinstance(store, RevocationSource)
        assert isinstance(store, RevisedSource)

    def test_nothing_is_revoked_at_first(self, store: Store) -> None:
        assert store.status([A, B]) == RevocationStatus(None, 0)
        assert store.revocations() == ()

    def test_no_ids_are_not_revoked(self, store: Store) -> None:
        store.revoke([A])
        assert store.status([]).revoked_id is None

    def test_revoked_anywhere_in_the_chain(self, store: Store) -> None:
        store.revoke([B])
        for chain in ([B], [A, B], [B, A], [A, C, B]):
            assert store.status(chain).revoked_id == B
        assert store.status([A, C]).revoked_id is None

    def test_status_names_the_first_of_the_chain(self, store: Store) -> None:
        store.revoke([A, B, C])
        assert store.status([C, A, B]).revoked_id == C
        assert store.status([B, A]).revoked_id == B

    def test_ids_match_whole(self, store: Store) -> None:
        store.revoke([A])
        for other in (A[:-1], A + b"\x00", A.hex().encode(), b"\x01"):
            assert store.status([other]).revoked_id is None

    def test_zero_bytes_and_long_ids_are_kept(self, store: Store) -> None:
        for revocation_id in (b"\x00", b"\x00\x00", bytes(range(256))):
            store.revoke([revocation_id])
        assert store.status([b"\x00\x00"]).revoked_id == b"\x00\x00"
        assert store.status([b"\x00\x00\x00"]).revoked_id is None

    def test_revision_grows_with_every_change(self, store: Store) -> None:
        revisions = [store.revoke([A]), store.revoke([B]), store.revoke([C])]
        assert revisions == [1, 2, 3]
        assert store.status([A]).revision == 3

    def test_revoking_again_changes_nothing(self, store: Store) -> None:
        store.revoke([A], reason="lost", actor="ann", at=NOON)
        assert store.revoke([A], reason="other", actor="bob") == 1
        (only,) = store.revocations()
        assert (only.reason, only.actor, only.at, only.revision) == ("lost", "ann", NOON, 1)

    def test_revoking_a_mix_adds_what_is_new(self, store: Store) -> None:
        store.revoke([A])
        assert store.revoke([A, B, B]) == 2
        assert [(each.id, each.revision) for each in store.revocations()] == [(A, 1), (B, 2)]

    def test_revoking_nothing_changes_nothing(self, store: Store) -> None:
        store.revoke([A])
        assert store.revoke([]) == 1

    def test_listing_is_in_the_order_of_revocation(self, store: Store) -> None:
        store.revoke([C, A], reason="leak", at=NOON)
        store.revoke([B], at=NOON - timedelta(days=1))
        listed = store.revocations()
        assert [each.id for each in listed] == [C, A, B]
        assert [each.revision for each in listed] == [1, 1, 2]

    def test_time_is_kept_in_utc(self, store: Store) -> None:
        store.revoke([A], at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))
        (only,) = store.revocations()
        assert only.at == NOON
        assert only.at.utcoffset() == timedelta(0)

    def test_time_is_now_unless_given(self, store: Store) -> None:
        before = datetime.now(UTC)
        store.revoke([A])
        assert before <= store.revocations()[0].at <= datetime.now(UTC)

    def test_words_are_kept_as_they_are(self, store: Store) -> None:
        reason = "'); DROP TABLE revocations; -- \n\u202e\u00e9\U0001f511"
        store.revoke([A], reason=reason, actor="")
        (only,) = store.revocations()
        assert (only.reason, only.actor) == (reason, "")

    def test_hex_is_refused(self, store: Store) -> None:
        text: Any = A.hex()
        with pytest.raises(TypeError):
            store.revoke([text])
        with pytest.raises(TypeError):
            store.status([text])

    def test_empty_id_is_refused_and_nothing_is_kept(self, store: Store) -> None:
        with pytest.raises(ValueError, match="empty"):
            store.revoke([A, b""])
        assert store.revocations() == ()

    def test_words_that_are_no_text_are_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="Unicode"):
            store.revoke([A], reason="\udcff")
        with pytest.raises(ValueError, match="Unicode"):
            store.revoke([A], actor="\udcff")
        assert store.revocations() == ()

    def test_naive_time_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="time zone"):
            store.revoke([A], at=datetime(2026, 3, 1))

    def test_many_ids_at_once(self, store: Store) -> None:
        ids = [number.to_bytes(8, "big") for number in range(1, 2_101)]
        assert store.revoke(ids) == 1
        assert store.status([A, *ids]).revoked_id == ids[0]
        assert store.status([A, ids[-1]]).revoked_id == ids[-1]

    def test_a_closed_store_does_not_answer(self, store: Store) -> None:
        store.close()
        for call in (
            lambda: store.status([A]),
            lambda: store.revoke([A]),
            store.revocations,
            store.revision,
            store.rules,
            lambda: store.changes(0),
            lambda: store.register(record(A)),
            store.records,
            lambda: store.registered(A),
            lambda: store.touch({A: NOON}),
            lambda: store.revoke_selected(Selection(name="x")),
            lambda: store.revoke_all_of(ANN),
            store.prune,
            lambda: store.note([Event("key")]),
            lambda: list(store.audit()),
            store.heads,
            store.audit_problems,
            lambda: store.dump().__enter__(),
            lambda: store.load(Dump(0, 0, {}, iter(()))),
        ):
            with pytest.raises(StoreUnavailable):
                call()

    def test_threads_share_one_store(self, store: Store) -> None:
        revisions: list[int] = []

        def revoke(worker: int) -> None:
            for number in range(20):
                revisions.append(store.revoke([bytes([worker + 1, number])]))
                store.status([A, bytes([worker + 1, number])])

        threads = [threading.Thread(target=revoke, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(revisions) == list(range(1, 81))
        assert len(store.revocations()) == 80

    # The registry

    def test_a_record_comes_back_as_it_was(self, store: Store) -> None:
        whole = record(
            A,
            name="laptop \u00fc\U0001f511",
            owner=Owner("service", "a:b"),
            tenant="acme",
            applications=("orders", "ui"),
            scopes=(),
            root_key=KEY,
            key_id=2**32 - 1,
            created=NOON + timedelta(microseconds=1),
            expires=NOON + 90 * DAY,
            created_by="root",
        )
        bare = record(B)
        for each in (whole, bare):
            store.register(each)
        assert store.records() == (whole, bare)
        assert store.registered(A) == whole
        assert store.registered(C) is None

    def test_a_token_is_registered_once(self, store: Store) -> None:
        first = record(A)
        store.register(first)
        for again in (record(A), record(B, id=first.id)):
            with pytest.raises(ValueError, match="already"):
                store.register(again)
        assert store.records() == (first,)
        assert store.audit_problems() == ()

    def test_records_are_selected(self, store: Store) -> None:
        a = record(A, name="a", owner=ANN, tenant="acme", applications=("orders",), expires=NOON + DAY)
        b = record(B, name="b", owner=BOT, tenant="acme", applications=("ui", "x"), expires=NOON + 2 * DAY)
        c = record(C, name="a", owner=ANN, tenant="other")
        for each in (a, b, c):
            store.register(each)
        for selection, found in {
            Selection(): (a, b, c),
            Selection(id=b.id): (b,),
            Selection(id="tok_none"): (),
            Selection(name="a"): (a, c),
            Selection(owner=ANN): (a, c),
            Selection(owner=BOT): (b,),
            Selection(tenant="acme"): (a, b),
            Selection(tenant="acme", owner=ANN): (a,),
            Selection(application="orders"): (a, c),
            Selection(application="x"): (b, c),
            Selection(application="none"): (c,),
            Selection(expires_before=NOON + 2 * DAY): (a,),
            Selection(expires_before=NOON + 3 * DAY, expires_after=NOON + DAY): (b,),
            Selection(expires_after=NOON + DAY): (b, c),
        }.items():
            assert store.records(selection) == found, selection

    def test_records_come_in_pages(self, store: Store) -> None:
        all_records = [record(bytes([n + 1])) for n in range(7)]
        for each in all_records:
            store.register(each)
        pages = [store.records(limit=3)]
        while len(pages[-1]) == 3:
            pages.append(store.records(limit=3, after=pages[-1][-1].id))
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [each for page in pages for each in page] == all_records

    def test_last_use_only_moves_on(self, store: Store) -> None:
        store.register(record(A))
        for moment in (NOON, NOON + DAY, NOON):
            store.touch({A: moment, B: moment})
        found = store.registered(A)
        assert found is not None
        assert found.last_used == NOON + DAY
        assert store.registered(B) is None

    def test_a_record_says_whether_it_is_revoked(self, store: Store) -> None:
        for each in (A, B):
            store.register(record(each, root_key=KEY if each == B else None))
        assert store.records(Selection(revoked=True)) == ()
        store.revoke([A])
        assert [each.revoked for each in store.records()] == [True, False]
        store.revoke([key_mark(KEY)])
        assert [each.root for each in store.records(Selection(revoked=True))] == [A, B]
        assert store.records(Selection(revoked=False)) == ()

    # Revocation of what is registered

    def test_all_of_a_selection(self, store: Store) -> None:
        for root, name in ((A, "x"), (B, "y"), (C, "x")):
            store.register(record(root, name=name, expires=NOON + DAY))
        assert store.revoke_selected(Selection(name="x"), reason="why", actor="ann", at=NOON) == 1
        assert [each.id for each in store.revocations()] == [A, C]
        assert {each.expires for each in store.revocations()} == {NOON + DAY}
        assert store.status([B]).revoked_id is None
        assert store.revoke_selected(Selection(name="x")) == 1
        assert store.revoke_selected(Selection(name="none")) == 1

    def test_all_of_an_owner_are_one_rule(self, store: Store) -> None:
        for root, owner in ((A, ANN), (B, BOT), (C, ANN)):
            store.register(record(root, owner=owner))
        assert store.revoke_all_of(ANN, reason="left", actor="hr", at=NOON) == 1
        assert store.status([A]) == RevocationStatus(A, 1)
        assert store.status([C, b"narrower"]).revoked_id == C
        assert store.status([B]).revoked_id is None
        assert store.revocations() == ()
        (rule,) = store.rules()
        assert (rule.owner, rule.tenant, rule.before) == (ANN, None, None)
        assert (rule.reason, rule.actor, rule.at, rule.revision) == ("left", "hr", NOON, 1)
        assert store.revoke_all_of(ANN, reason="again") == 1
        assert len(store.rules()) == 1

    def test_what_is_registered_later_is_not_meant(self, store: Store) -> None:
        """Not by the clock: the new token of who came back may be made by a machine whose clock is slow."""
        store.register(record(A, owner=ANN))
        store.revoke_all_of(ANN)
        store.register(record(B, owner=ANN, created=NOON - DAY))
        assert store.status([B]).revoked_id is None
        assert store.status([A]).revoked_id == A
        assert store.revoke_all_of(ANN) == 2
        assert store.status([B]).revoked_id == B

    def test_all_of_a_tenant_before_a_time(self, store: Store) -> None:
        for root, created in ((A, NOON - DAY), (B, NOON), (C, NOON + DAY)):
            store.register(record(root, tenant="acme", created=created))
        assert store.revoke_all_of(tenant="acme", before=NOON) == 1
        assert [each.root for each in store.records(Selection(revoked=True))] == [A]
        assert store.revoke_all_of(tenant="acme", before=NOON) == 1
        assert store.revoke_all_of(tenant="none") == 1
        assert store.revoke_all_of(tenant="acme", before=NOON + timedelta(microseconds=1)) == 2
        assert [each.root for each in store.records(Selection(revoked=True))] == [A, B]

    def test_a_rule_means_an_owner_or_a_tenant(self, store: Store) -> None:
        with pytest.raises(ValueError, match="exactly one"):
            store.revoke_all_of()
        with pytest.raises(ValueError, match="exactly one"):
            store.revoke_all_of(ANN, "acme")

    def test_all_of_a_root_key_are_one_id(self, store: Store) -> None:
        store.revoke([key_mark(KEY)])
        assert store.status([A, key_mark(KEY)]).revoked_id == key_mark(KEY)
        for other in (key_mark(KEY + "0"), key_mark("ed25519/")):
            assert store.status([A, other]).revoked_id is None

    # The feed

    def test_changes_lead_from_any_revision_to_now(self, store: Store) -> None:
        for root, owner in ((A, ANN), (B, BOT), (b"other", None)):
            store.register(record(root, owner=owner))
        assert (store.changes(0).ids, store.changes(0).revision) == ((), 0)
        store.revoke([C])
        store.revoke_all_of(ANN)
        store.revoke([B, C, A])
        assert store.revision() == 3
        known: dict[int, set[bytes]] = {0: set(), 1: {C}, 2: {C, A}, 3: {C, A, B}}
        for since, held in known.items():
            changes = store.changes(since)
            assert held | set(changes.ids) == known[3]
            assert changes.revision == 3
        assert store.changes(3).ids == ()

    @pytest.mark.parametrize("page", [1, 2, 3, 1000])
    def test_a_feed_is_one_moment_however_it_is_read(
        self, store: Store, page: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("postgres.feed.PAGE", "redis.feed.IDS", "redis.registry.PAGE"):
            monkeypatch.setattr(f"capability.store.{name}", page)
        roots = [bytes([number]) for number in range(1, 6)]
        for root in roots:
            store.register(record(root, owner=ANN, tenant="acme"))
        store.revoke([A, B, C])
        store.revoke([b"d", b"e"])
        store.revoke_all_of(ANN, before=datetime.now(UTC) + timedelta(days=1))
        with store.feed(1) as feed:
            first = next(feed.ids)
            store.revoke([b"later"])
            assert {first, *feed.ids} == {b"d", b"e", *roots}
            assert feed.revision == 3
        assert store.changes(0).ids[:5] == (A, B, C, b"d", b"e")
        assert set(store.changes(0).ids) == {A, B, C, b"d", b"e", *roots, b"later"}
        assert store.changes(4).ids == ()

    def test_a_revision_from_the_future_is_a_rollback(self, store: Store) -> None:
        store.revoke([A])
        with pytest.raises(StoreRolledBack):
            store.changes(2)
        with pytest.raises(StoreRolledBack), store.feed(2):
            pass

    # Pruning

    def test_only_what_has_expired_is_pruned(self, store: Store) -> None:
        store.revoke([A], expires=NOON)
        store.revoke([B], expires=NOON + DAY)
        store.revoke([C])
        store.revoke([key_mark(KEY)])
        assert store.prune(now=NOON + DAY - timedelta(microseconds=1)) == 0
        assert store.prune(now=NOON + DAY) == 1
        assert [each.id for each in store.revocations()] == [B, C, key_mark(KEY)]
        assert store.prune(now=NOON + 9999 * DAY) == 1
        assert [each.id for each in store.revocations()] == [C, key_mark(KEY)]
        assert store.revision() == 4

    def test_a_record_knows_when_its_revocation_may_go(self, store: Store) -> None:
        store.register(record(A, name="x", expires=NOON))
        store.register(record(B, name="x"))
        store.revoke_selected(Selection(name="x"))
        assert store.prune(now=NOON + 2 * DAY) == 1
        assert [each.id for each in store.revocations()] == [B]

    # The audit trail

    def test_what_changes_the_store_is_written_down(self, store: Store) -> None:
        token = record(A, name="laptop", owner=ANN, created_by="root")
        store.register(token, actor="admin")
        store.revoke([A], reason="lost", actor="bob", at=NOON, expires=NOON)
        store.revoke_all_of(ANN, actor="eve")
        store.prune(now=NOON + 2 * DAY, actor="cron")
        entries = list(store.audit())
        assert [each.data["action"] for each in entries] == ["mint", "revoke", "revoke", "prune"]
        assert [each.data["actor"] for each in entries] == ["admin", "bob", "eve", "cron"]
        assert entries[0].data["record"] == token.id
        assert entries[1].data["revocation_ids"] == [A.hex()]
        assert entries[1].data["at"] == "2026-03-01T12:00:00.000000+00:00"
        assert entries[2].data["owner"] == "user:ann"
        assert entries[3].data["count"] == 1
        assert store.audit_problems() == ()

    def test_writers_have_chains_of_their_own(self, store: Store) -> None:
        for number in range(3):
            store.note([Event("decision", outcome="denied", request=str(number))], writer="b")
            store.note([Event("decision", outcome="allowed")] * 2, writer="a")
        store.note([], writer="c")
        assert [(each.writer, each.number) for each in store.audit()] == [
            *(("a", number) for number in range(1, 7)),
            *(("b", number) for number in range(1, 4)),
        ]
        assert [each.data["request"] for each in store.audit(writer="b")] == ["0", "1", "2"]
        assert list(store.audit(writer="c")) == []
        assert {name: head.number for name, head in store.heads().items()} == {"a": 6, "b": 3}
        assert store.audit_problems() == ()

    def test_a_line_stays_short_however_many_ids(self, store: Store) -> None:
        store.revoke([number.to_bytes(64, "big") for number in range(1, 1_001)])
        (entry,) = store.audit()
        assert len(entry.text) < 500
        assert (entry.data["revocation_id_count"], entry.data["revision"]) == (1_000, 1)

    def test_a_check_of_the_trail_tells_how_far_it_is(self, store: Store) -> None:
        filled(store)
        seen: list[Entry] = []

        def watch(entries: Iterable[Entry]) -> Iterator[Entry]:
            for each in entries:
                seen.append(each)
                yield each

        assert store.audit_problems(watch=watch) == ()
        assert seen == [*store.audit()]

    # Moving to another store

    def test_all_that_a_store_holds_moves_to_another(self, store: Store, other: Store) -> None:
        for target in (filled(store), other):
            if target is other:
                with store.dump() as dump:
                    other.load(dump, actor="ops")
            with target.dump() as held:
                assert held.revision == 4
                items = [*held.items]
                assert len(items) == held.count
                copied = [each for each in items if not isinstance(each, Entry)]
            assert target.status([A]).revoked_id == A
            assert target.status([B]).revoked_id == B
            # registered after the rule
            assert target.status([C]).revoked_id is None
            assert target.registered(C) is not None
            assert target.registered(C).last_used == NOON + DAY  # type: ignore[union-attr]
            if target is store:
                before, heads = copied, dict(held.heads)
        assert copied == before
        assert other.revision() == 4
        assert other.rules() == store.rules()
        assert other.revocations() == store.revocations()
        assert other.changes(0) == store.changes(0)
        assert other.audit_problems() == ()
        assert [*other.audit(writer="svc")] == [*store.audit(writer="svc")]
        *lines, last = other.audit(writer="store")
        assert lines == [*store.audit(writer="store")]
        assert (last.data["action"], last.data["actor"], last.data["revision"]) == ("import", "ops", 4)
        assert heads.keys() == {"store", "svc"}
        assert other.revoke([C]) == 5
        assert other.revoke_all_of(ANN) == 5

    def test_an_empty_store_moves_too(self, store: Store, other: Store) -> None:
        with store.dump() as dump:
            assert (dump.revision, dump.count, dump.heads) == (0, 0, {})
            other.load(dump)
        assert [each.data["action"] for each in other.audit()] == ["import"]

    def test_a_dump_goes_into_an_empty_store_only(self, store: Store) -> None:
        for fill in (
            lambda: store.note([Event("key")]),
            lambda: store.register(record(A)),
            lambda: store.revoke([A]),
        ):
            fill()
            lines = len(list(store.audit()))
            with pytest.raises(StoreNotEmpty):
                store.load(Dump(9, 0, {}, iter(())))
            assert len(list(store.audit())) == lines
        assert store.revision() == 1

    @pytest.mark.parametrize(
        "items",
        [
            [record(A), record(A)],
            [record(A, id="tok_" + "a" * 16), record(B, id="tok_" + "a" * 16)],
            [Revocation(A, None, None, NOON, 1), Revocation(A, None, None, NOON, 2)],
            [Revocation(A, None, None, NOON, 3)],
            [Revocation(A, None, None, NOON, 0)],
            [Rule(ANN, None, None, None, None, NOON, 2), Rule(BOT, None, None, None, None, NOON, 1)],
            [Entry("svc", 1, "{}", b"\0" * 32)],
            [Entry("a", 2, "{}", b"\0" * 32), Entry("a", 1, "{}", b"\0" * 32)],
            [Entry("a", 3, "{}", b"\0" * 32)],
        ],
    )
    def test_what_no_store_could_hold_is_not_loaded(self, store: Store, items: list[Item]) -> None:
        heads = {"a": Head(2, b"\0" * 32)}
        with pytest.raises(StoreDumpError):
            store.load(Dump(2, len(items), heads, iter(items)))
        assert_empty(store)

    def test_a_dump_that_ends_too_early_leaves_nothing(self, store: Store) -> None:
        def items() -> Iterator[Item]:
            yield record(A)
            yield Revocation(A, None, None, NOON, 1)
            raise StoreDumpError("cut off")

        with pytest.raises(StoreDumpError, match="cut off"):
            store.load(Dump(1, 3, {}, items()))
        assert_empty(store)
        with pytest.raises(StoreDumpError):
            store.load(Dump(1, 2, {}, iter([record(A)])))
        assert_empty(store)
        store.load(Dump(1, 1, {}, iter([record(A)])))
        assert store.registered(A) is not None

    def test_a_trail_that_was_cut_off_is_found_in_the_copy(self, store: Store, other: Store) -> None:
        filled(store)
        with store.dump() as dump:
            items = [each for each in dump.items if not isinstance(each, Entry) or each.number != 2]
            other.load(Dump(dump.revision, len(items), dump.heads, iter(items)))
        assert len(other.audit_problems()) == 2
        assert "missing" in other.audit_problems()[0]

    def test_what_is_written_during_a_dump_is_not_in_it(self, store: Store) -> None:
        store.register(record(A))
        with store.dump() as dump:
            store.register(record(B))
            store.revoke([A])
            assert dump.revision == 0
            assert [type(each) for each in dump.items] == [Record, Entry]
        assert store.revision() == 1


class WakingContract(StoreContract):
    """The suite of a store that wakes who follows it."""

    def test_it_wakes_who_waits(self, store: WakingStore) -> None:
        assert isinstance(store, WakingStore)
        store.register(record(A, owner=ANN))
        changes: list[Callable[[], int]] = [lambda: store.revoke([B]), lambda: store.revoke_all_of(ANN)]
        for revision, revoke in enumerate(changes):
            woken = threading.Event()

            def wait(revision: int = revision, woken: threading.Event = woken) -> None:
                while store.revision() <= revision:  # waking too early is allowed
                    store.wait(revision, 60)
                woken.set()

            thread = threading.Thread(target=wait)
            thread.start()
            assert not woken.wait(0.05)
            revoke()
            assert woken.wait(30)
            thread.join()

    def test_what_came_before_is_not_waited_for(self, store: WakingStore) -> None:
        store.revoke([A])
        started = time.monotonic()
        store.wait(0, 60)
        assert time.monotonic() - started < 30

    def test_closing_ends_the_waiting(self, store: WakingStore) -> None:
        timer = threading.Timer(0.05, store.close)
        timer.start()
        with pytest.raises(StoreUnavailable):
            store.wait(0, 60)
        timer.join()

    def test_it_waits_no_longer_than_it_is_told(self, store: WakingStore) -> None:
        started = time.monotonic()
        store.wait(0, 0.05)
        assert time.monotonic() - started < 30

    def test_a_follower_is_woken(self, store: WakingStore) -> None:
        with Follower(store, max_stale=None, interval=60) as follower:
            for number in range(5):
                assert follower.wait_for(store.revoke([bytes([number + 1])]), timeout=30)
            store.close()  # ends the follower's wait too


def filled(store: Store) -> Store:
    """Returns the store with something of everything, at revision 4."""
    store.register(record(A, name="laptop \u00fc", owner=ANN, applications=("orders",), scopes=()))
    store.register(record(B, tenant="acme", owner=BOT, root_key=KEY, key_id=7, expires=NOON + DAY))
    store.revoke([b"unregistered"], reason="why \u202e", actor="ann", at=NOON, expires=NOON + DAY)
    store.revoke_all_of(ANN, reason="left", actor="hr", at=NOON)
    store.revoke_all_of(tenant="acme", before=NOON + DAY, at=NOON)
    store.register(record(C, owner=ANN, tenant="acme"))
    store.touch({C: NOON + DAY})
    store.revoke([key_mark("ed25519/00")])
    store.note([Event("decision", outcome="denied", at=NOON)] * 3, writer="svc")
    return store


def assert_empty(store: Store) -> None:
    assert store.revision() == 0
    assert store.records() == ()
    assert store.revocations() == ()
    assert store.rules() == ()
    assert list(store.audit()) == []
    assert store.heads() == {}
