"""What every store must do. A backend's test module subclasses `StoreContract` and says how to make one."""

import threading
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from capability.errors import StoreUnavailable
from capability.revocation import RevocationSource, RevocationStatus
from capability.store import Store

A, B, C = b"\x01" * 64, b"\x02" * 64, b"\x00\xff" * 36
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class StoreContract(ABC):
    """The suite. Tests take `store`, a fresh and empty one."""

    @abstractmethod
    def make_store(self, tmp_path: Any) -> Store: ...

    @pytest.fixture
    def store(self, tmp_path: Any) -> Any:
        with self.make_store(tmp_path) as store:
            yield store

    def test_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)
        assert isinstance(store, RevocationSource)

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
        for call in (lambda: store.status([A]), lambda: store.revoke([A]), store.revocations):
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
