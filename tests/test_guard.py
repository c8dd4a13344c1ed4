"""The guard: every outcome and their order, what a request may say, and no token that makes it raise."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capability import (
    Algorithm,
    AuthorizationError,
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    Denied,
    Fact,
    Guard,
    KeyEntry,
    KeyPair,
    KeySet,
    Limits,
    Outcome,
    ParameterError,
    ParseError,
    RevocationStatus,
    Revoked,
    StoreUnavailable,
)
from capability.datalog.parser import parse_program
from capability.datalog.program import Predicate, Program, Rule
from capability.datalog.terms import VARIABLE
from capability.revocation import key_mark
from capability.store import Owner, Record
from capability.store.allowlist import AllowList
from capability.store.memory import MemoryStore
from capability.store.sqlite import SQLiteStore
from capability.store.sqlite import create as create_sqlite
from capability.wire import schema
from capability.wire.text import from_text, to_text

ROOT = KeyPair()
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
POLICY = "allow if application($a), operation($o), right($a, $o)"


def mint(source: str = 'user("alice"); right("orders", "read"); right("orders", "write");') -> Biscuit:
    return BiscuitBuilder(source).build(ROOT.private_key)


def guard_of(policy: str = POLICY, **options: Any) -> Guard:
    return Guard(ROOT.public_key, policy, **{"clock": at(NOW), **options})


def at(moment: float | datetime) -> Callable[[], float | datetime]:
    """A clock that stands still."""
    return lambda: moment


def narrowed(**restrictions: Any) -> str:
    return mint().attenuate(now=NOW, **restrictions).to_base64()


READ: dict[str, Any] = {"operation": "read", "application": "orders"}


class TestOutcomes:
    def test_allowed(self) -> None:
        decision = guard_of().check(narrowed(expires=timedelta(hours=1)), **READ)
        assert (decision.outcome, decision.allowed, decision.code) == (Outcome.ALLOWED, True, "allowed")
        assert decision.policy is not None
        assert (decision.policy.kind, decision.policy.index) == ("allow", 0)
        assert decision.reason == f"allowed by policy 0: {POLICY}"
        assert decision.subject == "alice"
        assert decision.expires_at == NOW + timedelta(hours=1)
        assert decision.decided_at == NOW
        assert decision.request == (
            'operation("read")',
            'application("orders")',
            "time(2030-01-01T12:00:00Z)",
        )
        assert decision.steps > 0
        assert decision.limits == Limits(max_steps=50_000, max_time=0.1)

    def test_denied_by_a_check(self) -> None:
        decision = guard_of().check(narrowed(operations=["read"]), operation="write", application="orders")
        assert (decision.outcome, decision.code) == (Outcome.DENIED, "denied")
        (failed,) = decision.failed_checks
        assert (failed.block, failed.index) == (1, 0)
        assert failed.source == 'check all operation($o), {"read"}.contains($o)'
        assert failed.why == 'it does not hold for operation("write")'
        assert failed.source in decision.reason
        assert failed.why in decision.reason

    def test_denied_by_the_policy(self) -> None:
        decision = guard_of().check(narrowed(operations=["delete"]), operation="delete", application="orders")
        assert (decision.outcome, decision.policy, decision.failed_checks) == (Outcome.DENIED, None, ())
        assert decision.reason == (
            'no policy matched (policy 0: it does not hold for application("orders"), operation("delete"),'
            ' right("orders", "read") and right("orders", "write"))'
        )
        decision = guard_of().check(mint().to_base64(), operation="read")
        assert decision.reason == (
            "no policy matched (policy 0: it needs application(...), which the caller did not supply)"
        )
        decision = guard_of('deny if user("alice"); allow if true').check(mint().to_base64())
        assert decision.reason == 'denied by policy 0: deny if user("alice")'

    def test_a_fact_that_the_caller_did_not_supply(self) -> None:
        decision = guard_of("allow if true").check(narrowed(tenants=["acme"]))
        assert decision.failed_checks[0].why == "it needs tenant(...), which the caller did not supply"

    @pytest.mark.parametrize(
        ("source", "why"),
        [
            ("check if a(1)", "it needs a(...), which the caller did not supply"),
            ("check if a(1), user($u), b(1)", "it needs a(...) and b(...), which the caller did not supply"),
            ("d($x) <- a($x); check if d(1)", "it needs d(...), which no rule derived"),
            ("check if c(1)", "it needs c(...) from a block that it trusts"),
            ("check if user($u, $v)", "it needs user(...), which the caller did not supply"),
            ('check if user("bob") or a(1)', None),
            ("check if false", "it does not hold"),
            ("reject if user($u)", 'it rejects user("alice")'),
            ("reject if true", "what it rejects holds"),
            ("check if right($r, $x), $x == $r", 'it does not hold for right("orders", "read") and'),
            ("check if n($n), $n > 9", "it does not hold for n(0), n(1), n(2), n(3) and 2 more"),
        ],
    )
    def test_why_a_check_failed(self, source: str, why: str | None) -> None:
        numbers = "; ".join(f"n({number})" for number in range(6))
        token = mint(f'user("alice"); right("orders", "read"); right("orders", "write"); {numbers}; {source}')
        token = token.append(BlockBuilder("c(1)"))
        (failed,) = guard_of("allow if true").check(token.to_base64()).failed_checks
        if why is None:
            assert failed.why == (
                'it does not hold for user("alice"); and it needs a(...), which the caller did not supply'
            )
        else:
            assert failed.why.startswith(why)

    def test_explaining_many_failed_checks_is_bounded(self) -> None:
        facts = "; ".join(f"n({number})" for number in range(900))
        checks = "; ".join(f"check if n($x), $x < -{number}" for number in range(1, 40))
        guard = guard_of("allow if true", limits=Limits())
        decision = guard.check(mint(f"{facts}; {checks}").to_base64())
        assert len(decision.failed_checks) == 39
        assert [bool(check.why) for check in decision.failed_checks] == [True] * 8 + [False] * 31
        assert decision.reason.endswith("; 38 more failed")

    def test_expired(self) -> None:
        token = narrowed(expires=timedelta(hours=1))
        for seconds, outcome in ((0, Outcome.ALLOWED), (1, Outcome.EXPIRED)):
            late = NOW + timedelta(hours=1, seconds=seconds)
            decision = guard_of(clock=at(late)).check(token, **READ)
            assert decision.outcome is outcome
        assert decision.code == "expired"
        assert decision.failed_checks[0].why == (
            "it expired at 2030-01-01T13:00:00Z, and it is 2030-01-01T13:00:01Z"
        )

    def test_expired_and_wrong_otherwise_is_denied(self) -> None:
        token = narrowed(operations=["write"], expires=timedelta(hours=1))
        late = guard_of(clock=at(NOW + timedelta(days=1)))
        assert late.check(token, **READ).outcome is Outcome.DENIED
        assert late.check(token, operation="write", application="none").outcome is Outcome.DENIED
        assert late.check(token, operation="write", application="orders").outcome is Outcome.EXPIRED

    def test_not_valid_yet_is_denied(self) -> None:
        decision = guard_of().check(narrowed(not_before=NOW + timedelta(days=1)), **READ)
        assert decision.outcome is Outcome.DENIED
        assert decision.failed_checks[0].why == (
            "it is not valid before 2030-01-02T12:00:00Z, and it is 2030-01-01T12:00:00Z"
        )

    def test_an_execution_error(self) -> None:
        decision = guard_of().check(narrowed(source="check if 1 / 0 == 1"), **READ)
        assert (decision.outcome, decision.code) == (
            Outcome.EXECUTION_ERROR,
            "execution.division_by_zero",
        )

    def test_a_limit(self) -> None:
        facts = "".join(f"n({number});" for number in range(40))
        decision = guard_of().check(
            narrowed(source=f"{facts} check if n($a), n($b), n($c), n($d), n($e), $a == -1"), **READ
        )
        assert decision.outcome is Outcome.LIMIT_REACHED
        assert decision.code in ("limit.steps", "limit.time")
        decision = guard_of(limits=Limits(max_facts=2)).check(mint().to_base64(), **READ)
        assert decision.code == "limit.facts"

    @pytest.mark.parametrize(
        ("token", "code"),
        [
            ("", "format."),
            ("not a token", "format.text"),
            ("AAAA", "format."),
            (b"", "format."),
            (b"\x00\xff", "format."),
            (Biscuit.builder().build(KeyPair().private_key).to_base64(), "signature.invalid"),
        ],
    )
    def test_an_invalid_token(self, token: str | bytes, code: str) -> None:
        decision = guard_of("allow if true").check(token)
        assert decision.outcome is Outcome.INVALID_TOKEN
        assert decision.code.startswith(code)
        assert (decision.subject, decision.revocation_ids) == (None, ())

    def test_a_rule_that_cannot_be_run_makes_the_token_invalid(self) -> None:
        block = BlockBuilder()
        unbound = Predicate("operation", ((VARIABLE, "o"),))
        block.add_program(Program(rules=(Rule(unbound, (Predicate("a", ((VARIABLE, "x"),)),)),)))
        decision = guard_of("allow if true").check(mint().append(block).to_base64())
        assert (decision.outcome, decision.code) == (Outcome.INVALID_TOKEN, "language.block")

    def test_bytes_are_taken_too(self) -> None:
        assert guard_of().check(mint().to_bytes(), **READ).allowed


class TestRevocation:
    def test_any_block_of_the_chain(self) -> None:
        token = mint().attenuate(operations=["read"]).attenuate(applications=["orders"])
        for index, identifier in enumerate(token.canonical_revocation_ids):
            store = MemoryStore()
            store.revoke([identifier])
            decision = guard_of(revocations=store).check(token.to_base64(), **READ)
            assert (decision.outcome, decision.code) == (Outcome.REVOKED, "revoked")
            assert decision.revoked_id == identifier.hex() == token.revocation_ids[index]
            assert f"block {index}" in decision.reason
            assert (decision.policy, decision.steps) == (None, 0)

    def test_another_token_is_not_revoked(self) -> None:
        store = MemoryStore()
        revision = store.revoke(mint("a(1)").canonical_revocation_ids)
        decision = guard_of(revocations=store).check(narrowed(operations=["read"]), **READ)
        assert decision.allowed
        assert (decision.revocation_revision, decision.revocation_age) == (revision, 0.0)

    def test_a_parent_that_is_not_the_revoked_child(self) -> None:
        parent = mint()
        store = MemoryStore()
        store.revoke(parent.attenuate(operations=["read"]).canonical_revocation_ids[1:])
        assert guard_of(revocations=store).check(parent.to_base64(), **READ).allowed

    def test_revoked_outranks_expired_and_errors(self) -> None:
        token = mint("check if 1 / 0 == 1; check if time($t), $t < 2020-01-01T00:00:00Z")
        store = MemoryStore()
        store.revoke(token.canonical_revocation_ids)
        assert guard_of(revocations=store).check(token.to_base64()).outcome is Outcome.REVOKED

    def test_a_forged_token_is_not_looked_up(self) -> None:
        class Asked(MemoryStore):
            def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
                raise AssertionError("asked about a token that was not verified")

        forged = Biscuit.builder().build(KeyPair().private_key)
        assert guard_of(revocations=Asked()).check(forged.to_base64()).outcome is Outcome.INVALID_TOKEN

    def test_the_twin_of_an_ecdsa_signature_is_revoked_too(self) -> None:
        root = KeyPair(Algorithm.Secp256r1)
        token = BiscuitBuilder('user("a")').build(root.private_key)
        message = schema.Biscuit()
        message.ParseFromString(token.to_bytes())
        message.authority.signature = twin(message.authority.signature)
        store = MemoryStore()
        guard = Guard(root.public_key, "allow if true", store)
        texts = (token.to_base64(), to_text(message.SerializeToString()))
        assert texts[0] != texts[1]
        assert [guard.check(text).outcome for text in texts] == [Outcome.ALLOWED, Outcome.ALLOWED]
        store.revoke(token.canonical_revocation_ids)
        assert [guard.check(text).outcome for text in texts] == [Outcome.REVOKED, Outcome.REVOKED]

    def test_all_tokens_of_a_root_key(self) -> None:
        pairs = {1: ROOT, 2: KeyPair()}
        keys = KeySet.from_keys({key_id: pair.public_key for key_id, pair in pairs.items()})
        store = MemoryStore()
        guard = guard_of("allow if true", revocations=store)
        guard.replace(keys=keys)
        texts = []
        for key_id, pair in pairs.items():
            builder = BiscuitBuilder("a(1)")
            builder.set_root_key_id(key_id)
            texts.append(builder.build(pair.private_key).to_base64())
        for _ in range(4):  # until the warm path answers
            assert all(guard.check(text).allowed for text in texts)
        store.revoke([key_mark(repr(ROOT.public_key))])
        decisions = [guard.check(text) for text in texts]
        assert [each.outcome for each in decisions] == [Outcome.REVOKED, Outcome.ALLOWED]
        assert decisions[0].reason.startswith("revoked: its root key (")
        message = schema.Biscuit()
        message.ParseFromString(from_text(texts[0]))
        message.ClearField("root_key_id")
        alone = guard_of("allow if true", revocations=store)  # a key id that was left out does not help
        assert alone.check(to_text(message.SerializeToString())).outcome is Outcome.REVOKED

    def test_all_tokens_of_an_owner(self) -> None:
        store = MemoryStore()
        guard = guard_of(revocations=store)
        token = mint()
        owner = Owner("user", "alice")
        store.register(Record(root=token.canonical_revocation_ids[0], owner=owner))
        text = token.attenuate(operations=["read"]).to_base64()
        for _ in range(4):
            assert guard.check(text, **READ).allowed
        store.revoke_all_of(owner)
        assert guard.check(text, **READ).outcome is Outcome.REVOKED

    def test_only_registered_tokens(self) -> None:
        store = MemoryStore()
        guard = guard_of(revocations=AllowList(store))
        token = mint()
        decision = guard.check(token.to_base64(), **READ)
        assert decision.outcome is Outcome.REVOKED
        assert decision.reason.startswith("revoked: it is not registered (")
        store.register(Record(root=token.canonical_revocation_ids[0]))
        for _ in range(4):
            assert guard.check(token.to_base64(), **READ).allowed
        store.revoke(token.canonical_revocation_ids)
        assert "block 0" in guard.check(token.to_base64(), **READ).reason

    def test_a_store_that_is_closed(self) -> None:
        store = MemoryStore()
        store.close()
        decision = guard_of(revocations=store).check(mint().to_base64(), **READ)
        assert (decision.outcome, decision.code) == (Outcome.STORE_UNAVAILABLE, "store.unavailable")
        assert decision.subject == "alice"

    def test_a_store_whose_file_is_gone_or_damaged(self, tmp_path: Path) -> None:
        path = tmp_path / "cap.db"
        create_sqlite(path)
        with SQLiteStore(path) as store:
            guard = guard_of(revocations=store)
            assert guard.check(mint().to_base64(), **READ).allowed
            for file in tmp_path.iterdir():
                file.unlink()
            assert guard.check(mint().to_base64(), **READ).outcome is Outcome.STORE_UNAVAILABLE
            path.write_bytes(b"no database at all, and longer than a header" * 100)
            decision = guard.check(mint().to_base64(), **READ)
            assert (decision.outcome, decision.code) == (Outcome.STORE_UNAVAILABLE, "store.schema")

    def test_a_store_that_fails_in_its_own_way(self) -> None:
        class Broken:
            def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
                raise StoreUnavailable("replica is catching up", code="store.lagging")

        decision = guard_of(revocations=Broken()).check(mint().to_base64(), **READ)
        assert (decision.outcome, decision.code) == (Outcome.STORE_UNAVAILABLE, "store.lagging")


def twin(signature: bytes) -> bytes:
    """The other signature (r, n - s) that verifies wherever the DER signature (r, s) does."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    length = signature[3]
    first = signature[2 : 4 + length]
    number = order - int.from_bytes(signature[6 + length :], "big")
    raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
    body = first + bytes([2, len(raw)]) + raw
    return bytes([0x30, len(body)]) + body


class TestRequests:
    def test_each_keyword_is_a_fact(self) -> None:
        guard = guard_of("allow if size(7), admin(true), key(hex:00ff), since(2030-01-01T00:00:00Z)")
        since = datetime(2030, 1, 1, tzinfo=UTC)
        assert guard.check(mint().to_base64(), size=7, admin=True, key=b"\x00\xff", since=since).allowed
        assert not guard.check(mint().to_base64(), size=7, admin=1, key=b"\x00\xff", since=since).allowed

    def test_none_states_nothing(self) -> None:
        decision = guard_of("allow if true").check(mint().to_base64(), operation=None, region=None)
        assert decision.request == ("time(2030-01-01T12:00:00Z)",)

    def test_values_cannot_be_datalog(self) -> None:
        value = 'read"); right("orders", "admin'
        decision = guard_of().check(mint().to_base64(), operation=value, application="orders")
        assert not decision.allowed
        assert decision.request[0] == 'operation("read\\"); right(\\"orders\\", \\"admin")'

    def test_several_values_are_several_requests_which_all_must_be_allowed(self) -> None:
        token, guard = narrowed(operations=["read", "list"]), guard_of("allow if true")
        assert guard.check(token, operation=["read", "list"]).allowed
        assert guard.check(token, operation=("read",)).allowed
        lists: tuple[list[str] | set[str], ...] = (["read", "write"], ["write", "read"], {"read", "write"})
        for several in lists:
            decision = guard.check(token, operation=several)
            assert decision.outcome is Outcome.DENIED
            assert 'operation("write")' in decision.request
            assert 'operation("read")' not in decision.request

    def test_several_values_never_stand_in_one_world(self) -> None:
        # with both facts in one world, each `check if` would find the one that it likes
        built = mint().append(BlockBuilder('check if operation("read")'))
        text = built.append(BlockBuilder('check if operation("write")')).to_base64()
        assert not guard_of("allow if true").check(text, operation=["read", "write"]).allowed

    def test_all_combinations_are_asked(self) -> None:
        guard = guard_of('deny if operation("write"), resource("/b"); allow if operation($o), resource($r)')
        text = mint().to_base64()
        assert not guard.check(text, operation=["read", "write"], resource=["/a", "/b"]).allowed
        decision = guard.check(text, operation="read", resource=["/a", "/b"])
        assert decision.allowed
        assert decision.request == (
            'operation("read")',
            'resource("/a")',
            "time(2030-01-01T12:00:00Z)",
            'resource("/b")',
        )
        assert decision.steps > guard.check(text, operation="read", resource="/a").steps

    def test_facts(self) -> None:
        guard = guard_of('allow if group("a"), group("b"), ip("::1", 6)')
        facts = [Fact('group("a")'), Fact('group("b")'), Fact("ip({address}, 6)", {"address": "::1"})]
        assert guard.check(mint().to_base64(), facts=facts).allowed
        assert not guard.check(mint().to_base64(), facts=facts[1:]).allowed

    @pytest.mark.parametrize(
        "request_",
        [
            {"operation": []},
            {"operation": ()},
            {"operation": 2**63},
            {"operation": "\ud800"},
            {"since": datetime(1969, 1, 1, tzinfo=UTC)},
            {"facts": [Fact('operation("read")'), Fact('operation("write")')]},
            {"facts": [Fact('operation("read")')], "operation": "write"},
            {"facts": [Fact('region("a")')], "region": "b"},
            {"facts": [Fact("time(2020-01-01T00:00:00Z)")]},
            {"not a name": 1},
            {"é": 1},
            {"a": list(range(100)), "b": list(range(100))},
        ],
    )
    def test_values_that_are_refused(self, request_: dict[str, Any]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            guard_of("allow if true").check(mint().to_base64(), **request_)

    @pytest.mark.parametrize(
        "request_",
        [
            {"time": NOW},
            {"time": [NOW]},
            {"operation": 1.5},
            {"operation": {"read": True}},
            {"operation": [None]},
            {"operation": [["read"]]},
            {"operation": object()},
            {"since": datetime(2030, 1, 1)},
            {"facts": ['operation("read")']},
            {"facts": 'operation("read")'},
        ],
    )
    def test_types_that_are_refused(self, request_: dict[str, Any]) -> None:
        with pytest.raises(TypeError):
            guard_of("allow if true").check(mint().to_base64(), **request_)

    def test_a_fact_with_an_open_parameter(self) -> None:
        with pytest.raises(ParameterError):
            guard_of("allow if true").check(mint().to_base64(), facts=[Fact("a({x})")])

    def test_tokens_of_the_wrong_type(self) -> None:
        for token in (None, mint(), 7, bytearray(mint().to_bytes())):
            with pytest.raises(TypeError):
                guard_of("allow if true").check(token)  # type: ignore[arg-type]


class TestTime:
    def test_it_comes_from_the_clock(self) -> None:
        token = mint().append(BlockBuilder("check if time(2030-01-01T12:00:00Z)")).to_base64()
        clocks: list[Any] = [
            lambda: NOW,
            lambda: NOW.timestamp(),
            lambda: NOW.timestamp() + 0.9,
            lambda: int(NOW.timestamp()),
            lambda: NOW.astimezone(tz=None),
        ]
        for clock in clocks:
            assert guard_of("allow if true", clock=clock).check(token).allowed

    def test_without_a_clock_it_is_now(self) -> None:
        guard = Guard(
            ROOT.public_key, "allow if time($t), $t >= {start}", parameters={"start": datetime.now(UTC)}
        )
        assert guard.check(mint().to_base64()).allowed

    def test_a_holder_cannot_state_it(self) -> None:
        token = mint().append(
            BlockBuilder("time(2020-01-01T00:00:00Z); check if time($t), $t < 2021-01-01T00:00:00Z")
        )
        assert guard_of("allow if true").check(token.to_base64()).allowed
        token = mint().attenuate(expires=NOW - timedelta(days=1), now=NOW - timedelta(days=2))
        token = token.append(BlockBuilder("time(2020-01-01T00:00:00Z)"))
        assert guard_of("allow if true").check(token.to_base64()).outcome is Outcome.EXPIRED

    def test_a_policy_cannot_state_it(self) -> None:
        for policy in ("time(2020-01-01T00:00:00Z); allow if true", "time($t) <- t($t); allow if true"):
            with pytest.raises(ValueError, match="guard's clock"):
                guard_of(policy)

    def test_a_clock_that_cannot_be_right(self) -> None:
        with pytest.raises(TypeError):
            guard_of(clock=at(datetime(2030, 1, 1))).check(mint().to_base64())
        for seconds in (-1, 1e15, float("nan")):
            with pytest.raises(ValueError, match="clock"):
                guard_of(clock=at(seconds)).check(mint().to_base64())

    def test_keys_expire_by_it(self) -> None:
        keys = KeySet([KeyEntry(ROOT.public_key, expires_at=NOW + timedelta(hours=1))])
        for hours, outcome in ((0, Outcome.ALLOWED), (2, Outcome.INVALID_TOKEN)):
            guard = Guard(keys, POLICY, clock=at(NOW + timedelta(hours=hours)))
            assert guard.check(mint().to_base64(), **READ).outcome is outcome


class TestSetup:
    def test_a_key_set(self) -> None:
        other = KeyPair()
        keys = KeySet([KeyEntry(ROOT.public_key, 1), KeyEntry(other.public_key, 2)])
        guard = Guard(keys, "allow if true")
        builder = BiscuitBuilder("a(1)")
        for key_id, pair, outcome in (
            (1, ROOT, Outcome.ALLOWED),
            (2, other, Outcome.ALLOWED),
            (2, ROOT, Outcome.INVALID_TOKEN),
            (3, ROOT, Outcome.INVALID_TOKEN),
        ):
            builder.set_root_key_id(key_id)
            decision = guard.check(builder.build(pair.private_key).to_base64())
            assert decision.outcome is outcome
            assert decision.key_id == (key_id if decision.allowed else None)
        assert decision.code == "key.unknown"

    def test_a_policy_as_a_program_and_with_parameters(self) -> None:
        assert guard_of(parse_program(POLICY)).check(mint().to_base64(), **READ).allowed  # type: ignore[arg-type]
        guard = guard_of(
            "allow if user({who}); allow if g(1) trusting {key}",
            parameters={"who": "alice"},
            scope_parameters={"key": KeyPair().public_key},
        )
        assert guard.check(mint().to_base64()).allowed

    def test_extern_functions(self) -> None:
        guard = guard_of('allow if user($u), $u.extern::f() == "ALICE"', extern_funcs={"f": str.upper})
        assert guard.check(mint().to_base64()).allowed
        guard = guard_of("allow if user($u), $u.extern::f()", extern_funcs={"f": int})
        assert guard.check(mint().to_base64()).code == "execution.extern_failed"

    def test_policies_that_cannot_be_used(self) -> None:
        with pytest.raises(ParseError):
            guard_of("allow unless true")
        with pytest.raises(ParameterError):
            guard_of("allow if user({who})")
        with pytest.raises(TypeError):
            guard_of(7)  # type: ignore[arg-type]

    def test_wrong_types(self) -> None:
        wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((repr(ROOT.public_key), POLICY), {}),
            ((lambda _: ROOT.public_key, POLICY), {}),
            ((ROOT.private_key, POLICY), {}),
            ((ROOT.public_key, POLICY, {"id"}), {}),
            ((ROOT.public_key, POLICY), {"limits": 50_000}),
            ((ROOT.public_key, POLICY), {"extern_funcs": {"f": 1}}),
        ]
        for arguments, options in wrong:
            with pytest.raises(TypeError):
                Guard(*arguments, **options)

    def test_replacing_keys_and_policy(self) -> None:
        guard, other = guard_of(), KeyPair()
        guard.replace(policy="deny if true")
        assert guard.check(mint().to_base64(), **READ).reason == "denied by policy 0: deny if true"
        guard.replace(keys=other.public_key, policy="allow if true")
        assert guard.check(mint().to_base64(), **READ).outcome is Outcome.INVALID_TOKEN
        assert guard.check(BiscuitBuilder("a(1)").build(other.private_key).to_base64()).allowed

    def test_a_replacement_that_fails_changes_nothing(self) -> None:
        guard = guard_of()
        with pytest.raises(ParseError):
            guard.replace(keys=KeyPair().public_key, policy="nonsense")
        with pytest.raises(TypeError):
            guard.replace(keys="ed25519/00", policy="deny if true")  # type: ignore[arg-type]
        assert guard.check(mint().to_base64(), **READ).allowed

    def test_replacing_is_atomic(self) -> None:
        # each setup denies the other's tokens; a mixture would deny or allow both
        other = KeyPair()
        texts = {
            "a": BiscuitBuilder('user("a")').build(ROOT.private_key).to_base64(),
            "b": BiscuitBuilder('user("b")').build(other.private_key).to_base64(),
        }
        guard = Guard(ROOT.public_key, 'allow if user("a")')
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                guard.replace(keys=other.public_key, policy='allow if user("b")')
                guard.replace(keys=ROOT.public_key, policy='allow if user("a")')

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            outcomes = {guard.check(text).outcome for _ in range(100) for text in texts.values()}
        finally:
            stop.set()
            thread.join()
        assert outcomes <= {Outcome.ALLOWED, Outcome.INVALID_TOKEN}

    def test_repr_tells_no_policy(self) -> None:
        assert repr(guard_of()) == "<Guard with 1 policies>"


class TestRequire:
    def test_it_returns_an_allow(self) -> None:
        assert guard_of().require(mint().to_base64(), **READ).allowed

    def test_it_raises_anything_else_with_the_decision(self) -> None:
        with pytest.raises(Denied, match=r"^authorization failed: no matching policy was found") as denied:
            guard_of().require(mint().to_base64(), operation="delete", application="orders")
        assert denied.value.decision is not None
        assert denied.value.decision.outcome is Outcome.DENIED
        store, token = MemoryStore(), mint()
        store.revoke(token.canonical_revocation_ids)
        with pytest.raises(Revoked) as revoked:
            guard_of(revocations=store).require(token.to_base64(), **READ)
        assert revoked.value.decision is not None
        assert revoked.value.decision.revoked_id == token.revocation_ids[0]
        with pytest.raises(AuthorizationError) as invalid:
            guard_of().require("not a token", **READ)
        assert invalid.value.code == "format.text"


def test_no_decision_holds_the_token() -> None:
    text = narrowed(operations=["read"])
    for decision in (guard_of().check(text, **READ), guard_of().check(text + "AAAA", **READ)):
        assert text[:60] not in decision.to_json()


def test_what_a_holder_writes_is_shown_escaped() -> None:
    token = mint().append(BlockBuilder('check if operation("\u202e\x1b[2J")'))
    reason = guard_of("allow if true").check(token.to_base64()).reason
    assert "\\u{202e}" in reason
    assert reason.isprintable()


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    assert guard_of("allow if true").check(data).outcome is Outcome.INVALID_TOKEN


@given(st.text(max_size=100))
def test_no_text_makes_it_raise(text: str) -> None:
    assert guard_of("allow if true").check(text).outcome is Outcome.INVALID_TOKEN


FLIPPED = bytes(mint().attenuate(operations=["read"]).to_bytes())


@given(st.integers(0, len(FLIPPED) * 8 - 1))
def test_any_flipped_bit_is_refused(at: int) -> None:
    data = bytearray(FLIPPED)
    data[at // 8] ^= 1 << (at % 8)
    assert guard_of("allow if true").check(bytes(data), operation="read").outcome is Outcome.INVALID_TOKEN


RESTRICTIONS = st.fixed_dictionaries(
    {},
    optional={
        "operations": st.lists(st.sampled_from(["read", "write", "list"]), min_size=1),
        "applications": st.lists(st.sampled_from(["orders", "mail"]), min_size=1),
        "resources": st.lists(st.sampled_from(["/", "/a", "/a/b"]), min_size=1),
        "tenants": st.just(["acme"]),
        "source": st.sampled_from(
            ['operation("read"); right("mail", "read")', "check if true", "reject if resource($r)"]
        ),
    },
).filter(bool)


@given(
    st.lists(RESTRICTIONS, min_size=1, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "operation": st.sampled_from(["read", "write", "list"]),
            "application": st.sampled_from(["orders", "mail"]),
            "resource": st.sampled_from(["/a", "/a/b", "/ab"]),
            "tenant": st.just("acme"),
        },
    ),
)
def test_attenuation_never_grants(restrictions: list[dict[str, Any]], request: dict[str, Any]) -> None:
    guard, token = guard_of(), mint()
    allowed = [guard.check(token.to_base64(), **request).allowed]
    for restriction in restrictions:
        token = token.attenuate(**restriction)
        allowed.append(guard.check(token.to_base64(), **request).allowed)
    assert allowed == sorted(allowed, reverse=True)
