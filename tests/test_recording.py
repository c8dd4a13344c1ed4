"""Decisions reach the trail, in order and counted, without making anyone wait for the store."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from capability.builders import BlockBuilder
from capability.decision import Outcome
from capability.errors import StoreUnavailable
from capability.keys import KeyPair
from capability.recording import FULL, MAX_TEXT, RecordedGuard, Recorder, request_id
from capability.store import Record, create_store
from capability.store.audit import STORE_WRITER, Event
from capability.store.memory import MemoryStore
from capability.tokens import BiscuitBuilder
from tests.servers import wait_until

ROOT = KeyPair()
TOKEN = BiscuitBuilder('user("ann")').build(ROOT.private_key)
TEXT = TOKEN.to_base64()
NEVER = 3600.0


class Failing(MemoryStore):
    """A store that is down when it is told to be."""

    down = False

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        if self.down:
            raise StoreUnavailable("down")
        super().note(events, writer=writer)


@pytest.fixture
def store() -> Iterator[Failing]:
    with Failing() as store:
        store.register(Record(root=TOKEN.canonical_revocation_ids[0]))
        yield store


def guard(recorder: Recorder) -> RecordedGuard:
    return RecordedGuard(ROOT.public_key, 'allow if operation("read")', recorder=recorder)


def lines(store: MemoryStore) -> list[str]:
    return [each.data["outcome"] for each in store.audit(writer="svc")]


@pytest.mark.parametrize(
    ("which", "expected"),
    [("none", []), ("denied", ["denied", "invalid_token"]), ("all", ["allowed", "denied", "invalid_token"])],
)
def test_what_is_configured_is_written(store: Failing, which: str, expected: list[str]) -> None:
    with Recorder(store, decisions=which, writer="svc", interval=NEVER) as recorder:  # type: ignore[arg-type]
        asked = guard(recorder)
        asked.check(TEXT, operation="read")
        asked.check(TEXT, operation="write")
        asked.check("nonsense", operation="read")
    assert lines(store) == expected
    assert recorder.stats().written == len(expected)
    assert store.audit_problems() == ()


def test_a_form_s_decisions_are_written_too(store: Failing) -> None:
    with Recorder(
        store, decisions="all", capacity=2, when_full="deny", writer="svc", interval=NEVER
    ) as recorder:
        form = guard(recorder).form(("operation", str))
        assert form.check(TEXT, "read").allowed
        assert not form.check(TEXT, "write").allowed
        recorder.flush()
        store.down = True
        assert [form.check(TEXT, "read").allowed for _ in range(3)] == [True, True, False]
        assert not form.allows_at_once(TEXT, ("read",))
        with pytest.raises(Exception, match="written down"):
            form.require(TEXT, "read")
        store.down = False
    assert lines(store) == ["allowed", "denied", "allowed", "allowed"]


def test_a_line_says_what_was_decided_and_holds_no_token(store: Failing) -> None:
    with Recorder(store, writer="svc", interval=NEVER) as recorder, request_id("req-7"):
        decision = guard(recorder).check(TEXT, operation="write")
    (entry,) = store.audit(writer="svc")
    assert entry.data["request"] == "req-7"
    assert entry.data["revocation_ids"] == [TOKEN.canonical_revocation_ids[0].hex()]
    assert entry.data["decision"] == decision.decision_id
    assert entry.data["reason"] == decision.reason
    assert TEXT[:40] not in entry.text


def test_what_is_no_unicode_stops_nobody(tmp_path: Path) -> None:
    """A request id comes from a client, and Python hands bytes that are no text over as lone surrogates."""
    with create_store(f"sqlite:///{tmp_path}/cap.db") as store:
        with Recorder(store, writer="svc", interval=NEVER) as recorder:
            for name in ("a\udcff\0", "b"):
                with request_id(name):
                    guard(recorder).check(TEXT, operation="write")
        assert [each.data["request"] for each in store.audit(writer="svc")] == ["a\udcff\0", "b"]
        assert store.audit_problems() == ()


def test_the_request_of_another_thread_is_another(store: Failing) -> None:
    with Recorder(store, writer="svc", interval=NEVER) as recorder:
        asked = guard(recorder)

        def ask(name: str) -> None:
            with request_id(name):
                asked.check(TEXT, operation="write")

        threads = [threading.Thread(target=ask, args=(name,)) for name in "abc"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        asked.check(TEXT, operation="write")
    assert sorted(str(each.data.get("request")) for each in store.audit(writer="svc")) == [
        "None",
        "a",
        "b",
        "c",
    ]


def test_last_uses_are_told_once_for_each_token_and_force_no_details(store: Failing) -> None:
    with Recorder(store, writer="svc", interval=NEVER) as recorder:
        asked = guard(recorder)
        decisions = [asked.check(TEXT, operation="read") for _ in range(10)]
    assert all(each._details is not None for each in decisions[1:])
    found = store.registered(TOKEN.canonical_revocation_ids[0])
    assert found is not None
    assert found.last_used is not None


def test_what_does_not_fit_is_counted(store: Failing) -> None:
    store.down = True
    with Recorder(store, decisions="all", capacity=3, writer="svc", interval=NEVER) as recorder:
        asked = guard(recorder)
        assert [asked.check(TEXT, operation="read").allowed for _ in range(5)] == [True] * 5
        assert not recorder.flush()
        stats = recorder.stats()
        assert (stats.waiting, stats.dropped, stats.written, stats.error) == (3, 2, 0, "down")
        store.down = False
        assert recorder.flush()
    assert lines(store) == ["allowed"] * 3
    assert (recorder.stats().written, recorder.stats().dropped) == (3, 2)


def test_what_cannot_be_written_is_not_allowed_where_that_is_asked(store: Failing) -> None:
    store.down = True
    with Recorder(
        store, decisions="all", capacity=2, when_full="deny", writer="svc", interval=NEVER
    ) as recorder:
        asked = guard(recorder)
        decisions = [asked.check(TEXT, operation="read") for _ in range(4)]
        assert [each.allowed for each in decisions] == [True, True, False, False]
        assert (decisions[3].outcome, decisions[3].code) == (Outcome.STORE_UNAVAILABLE, FULL)
        with pytest.raises(Exception, match="written down"):
            asked.require(TEXT, operation="read")
        assert recorder.stats().denied == 3
        store.down = False
        recorder.flush()
        assert asked.check(TEXT, operation="read").allowed
    assert asked.check(TEXT, operation="read").code == FULL


def test_half_full_is_not_waited_out(store: Failing) -> None:
    with Recorder(store, decisions="all", capacity=4, writer="svc", interval=NEVER) as recorder:
        guard(recorder).check(TEXT, operation="read")
        guard(recorder).check(TEXT, operation="read")
        wait_until(lambda: recorder.stats().written == 2)


def test_half_full_before_its_thread_waits_is_not_waited_out(
    store: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: None)
        recorder = Recorder(store, decisions="all", capacity=4, writer="svc", interval=NEVER)
    guard(recorder).check(TEXT, operation="read")
    guard(recorder).check(TEXT, operation="read")
    recorder._thread.start()
    wait_until(lambda: recorder.stats().written == 2)
    recorder.close()


def test_a_store_that_is_down_is_not_asked_without_a_pause(store: Failing) -> None:
    asked: list[str] = []

    class Noting(Failing):
        down = True

        def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
            asked.append(writer)
            super().note(events, writer=writer)

    with Recorder(Noting(), decisions="all", capacity=4, writer="svc", interval=NEVER) as recorder:
        for _ in range(4):
            guard(recorder).check(TEXT, operation="read")
        wait_until(lambda: recorder.stats().error == "down")
        recorder._thread.join(0.05)
        assert len(asked) == 1
    assert recorder.stats().dropped == 4


def test_what_a_store_never_took_is_dropped_at_the_end(store: Failing) -> None:
    store.down = True
    with Recorder(store, writer="svc", interval=NEVER) as recorder:
        guard(recorder).check(TEXT, operation="write")
    assert (recorder.stats().dropped, recorder.stats().waiting) == (1, 0)


def test_the_thread_writes_by_itself(store: Failing) -> None:
    written = threading.Event()

    class Telling(Failing):
        def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
            super().note(events, writer=writer)
            written.set()

    with Recorder(Telling(), writer="svc", interval=0.01) as recorder:
        guard(recorder).check(TEXT, operation="write")
        assert written.wait(60)


@pytest.mark.parametrize(
    "options", [{"capacity": 0}, {"interval": 0}, {"decisions": "some"}, {"when_full": "wait"}]
)
def test_bad_settings_are_refused(store: Failing, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"recorder|decisions"):
        Recorder(store, **options)  # type: ignore[arg-type]


def test_what_a_client_may_choose_is_bounded_in_the_trail(store: Failing) -> None:
    """The name of a request may be what a client sent, and the check in a token what its holder wrote."""
    long = TOKEN.append(BlockBuilder(f'check if operation("{"x" * 40_000}")')).to_base64()
    with Recorder(store, writer="svc", interval=NEVER) as recorder, request_id("r" * 40_000):
        denied = guard(recorder).check(long, operation="read")
        recorder.offer(denied, None, {"path": "/" + "p" * 40_000, "count": 1})
    for line in store.audit(writer="svc"):
        assert len(line.text) < 4 * MAX_TEXT
        assert line.data["request"].endswith("rrr...")
    assert line.data["path"].startswith("/ppp")
    assert line.data["count"] == 1


@pytest.mark.parametrize("writer", ["", "\udcff", "a\0"])
def test_a_writer_is_a_name_that_every_store_can_keep(store: Failing, writer: str) -> None:
    with pytest.raises(ValueError, match="writer"):
        Recorder(store, writer=writer)
