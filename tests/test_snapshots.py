"""Snapshots: each engine reads the other's, and nothing that is not one is read."""

import base64
from datetime import timedelta
from typing import Any

import biscuit_auth
import pytest
from hypothesis import given
from hypothesis import strategies as st

import capability
from capability import (
    Authorizer,
    AuthorizerBuilder,
    BiscuitBuilder,
    BiscuitValidationError,
    BlockBuilder,
    Denied,
    FormatError,
    KeyPair,
    LimitReached,
    Limits,
    Rule,
    UnsupportedVersion,
)
from capability.datalog.parser import parse_program
from capability.datalog.program import Predicate
from capability.datalog.terms import INTEGER
from capability.wire import schema
from capability.wire.snapshot import LoadedBlock, Snapshot, decode_snapshot, encode_snapshot

SECRET = "ed25519-private/" + "11" * 32
SOURCES = [
    "",
    "allow if true",
    'operation("read"); time(2030-01-01T00:00:00Z); allow if user("a") or user("b"); deny if true',
    "derived($u) <- user($u); check if derived($u); check if false; allow if derived($u)",
    'check all user($u), $u.starts_with("a") || $u == "b", {"a"}.contains($u); deny if 1 == 2',
    'a([1, {"k": null}]); a(hex:00ff); a({true, false}); allow if a($x), $x == 1 trusting previous',
    'x(1); y($v) <- x($v), [1, 2].any($p -> $p == $v); allow if "z".extern::f()',
    "allow if user($u) trusting ed25519/a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f0",
]
BLOCKS = [
    ('user("a"); right("x", "read"); own($u) <- user($u);',),
    ('user("a");', 'user("b"); seen($u) <- user($u); check if seen($u);', "check if operation($o), $o < 1;"),
]


def pair(api: Any) -> Any:
    return api.KeyPair.from_private_key(api.PrivateKey(SECRET))


def builder_of(api: Any, source: str) -> Any:
    builder = api.AuthorizerBuilder(source)
    limits = builder.limits()
    limits.max_time = timedelta(seconds=10)
    builder.set_limits(limits)
    return builder


def authorizer_of(api: Any, source: str, blocks: tuple[str, ...]) -> Any:
    token = api.BiscuitBuilder(blocks[0]).build(pair(api).private_key)
    for block in blocks[1:]:
        token = token.append(api.BlockBuilder(block))
    return builder_of(api, source).build(token)


def result_of(authorizer: Any) -> Any:
    try:
        return authorizer.authorize()
    except (biscuit_auth.AuthorizationError, capability.AuthorizationError) as error:
        return str(error)


@pytest.mark.parametrize("source", SOURCES)
def test_builders_are_read_both_ways(source: str) -> None:
    ours, peers = builder_of(capability, source), builder_of(biscuit_auth, source)
    assert repr(AuthorizerBuilder.from_base64_snapshot(peers.base64_snapshot())) == repr(ours)
    assert repr(AuthorizerBuilder.from_raw_snapshot(peers.raw_snapshot())) == repr(ours)
    assert repr(AuthorizerBuilder.from_raw_snapshot(ours.raw_snapshot())) == repr(ours)
    read_by_peer = biscuit_auth.AuthorizerBuilder.from_base64_snapshot(ours.base64_snapshot())
    assert repr(read_by_peer) == repr(peers)
    assert repr(biscuit_auth.AuthorizerBuilder.from_raw_snapshot(ours.raw_snapshot())) == repr(peers)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("run_first", [False, True])
def test_authorizers_are_read_both_ways(source: str, blocks: tuple[str, ...], run_first: bool) -> None:
    ours, peers = authorizer_of(capability, source, blocks), authorizer_of(biscuit_auth, source, blocks)
    if run_first:
        assert result_of(ours) == result_of(peers)
    from_peer = Authorizer.from_base64_snapshot(peers.base64_snapshot())
    from_us = biscuit_auth.Authorizer.from_base64_snapshot(ours.base64_snapshot())
    again = Authorizer.from_raw_snapshot(ours.raw_snapshot())
    assert repr(from_peer) == repr(from_us) == repr(again) == repr(ours) == repr(peers)
    expected = result_of(authorizer_of(capability, source, blocks))
    assert result_of(from_peer) == result_of(from_us) == result_of(again) == expected
    assert repr(from_peer) == repr(from_us) == repr(again)


def test_a_third_party_block_is_kept() -> None:
    root, third_party = KeyPair(), KeyPair()
    token = BiscuitBuilder("a(1)").build(root.private_key)
    block = token.third_party_request().create_block(third_party.private_key, BlockBuilder('g("own words")'))
    token = token.append_third_party(third_party.public_key, block)
    source = "allow if g($x) trusting {key}"
    authorizer = AuthorizerBuilder(source, {}, {"key": third_party.public_key}).build(token)
    loaded = Authorizer.from_raw_snapshot(authorizer.raw_snapshot())
    assert loaded.authorize() == authorizer.authorize() == 0
    assert repr(loaded) == repr(authorizer)


def test_contexts_and_versions_are_kept() -> None:
    block = BlockBuilder("check if true trusting previous")
    block.set_context("for the night shift")
    token = BiscuitBuilder("a(1)").build(KeyPair().private_key).append(block)
    snapshot = decode_snapshot(AuthorizerBuilder("allow if true").build(token).raw_snapshot())
    assert [loaded.context for loaded in snapshot.blocks] == [None, "for the night shift"]
    assert [loaded.version for loaded in snapshot.blocks] == [3, 4]


def test_a_block_level_trusting_is_kept() -> None:
    builder = AuthorizerBuilder("trusting previous; check if a(1); allow if true")
    token = BiscuitBuilder("a(1)").build(KeyPair().private_key)
    loaded = AuthorizerBuilder.from_raw_snapshot(builder.raw_snapshot())
    assert repr(loaded) == repr(builder)
    for authorizer in (builder.build(token), loaded.build(token)):
        with pytest.raises(Denied):
            authorizer.authorize()
        with pytest.raises(Denied):
            Authorizer.from_raw_snapshot(authorizer.raw_snapshot()).authorize()


def test_a_deadline_is_written_back_and_not_enforced() -> None:
    peers = biscuit_auth.AuthorizerBuilder("allow if true")
    loaded = AuthorizerBuilder.from_raw_snapshot(peers.raw_snapshot())
    assert loaded.limits().max_time is None
    assert (loaded.limits().max_facts, loaded.limits().max_iterations) == (1000, 100)
    assert decode_snapshot(loaded.raw_snapshot()).max_time == 1_000_000
    authorizer = loaded.build_unauthenticated()
    assert decode_snapshot(authorizer.raw_snapshot()).max_time == 1_000_000
    assert decode_snapshot(
        Authorizer.from_raw_snapshot(authorizer.raw_snapshot()).raw_snapshot()
    ).max_time == (1_000_000)
    loaded.set_limits(Limits(max_time=2.5))
    assert decode_snapshot(loaded.raw_snapshot()).max_time == 2_500_000_000


def test_limits_on_facts_and_rounds_are_enforced_when_loaded() -> None:
    builder = AuthorizerBuilder("a(1); a(2); b($x) <- a($x); allow if true")
    builder.set_limits(Limits(max_facts=3))
    loaded = AuthorizerBuilder.from_raw_snapshot(builder.raw_snapshot())
    with pytest.raises(LimitReached) as caught:
        loaded.build_unauthenticated().authorize()
    assert caught.value.code == "limit.facts"


def test_what_has_run_says_so_and_nothing_else_does() -> None:
    authorizer = AuthorizerBuilder("a(1); b($x) <- a($x); allow if true").build_unauthenticated()
    before = decode_snapshot(authorizer.raw_snapshot())
    assert (before.execution_time, before.iterations, len(before.facts)) == (0, 0, 1)
    authorizer.authorize()
    after = decode_snapshot(authorizer.raw_snapshot())
    assert after.execution_time > 0
    assert (after.iterations > 0, len(after.facts)) == (True, 2)
    builder = decode_snapshot(AuthorizerBuilder("a(1); allow if true").raw_snapshot())
    assert (builder.execution_time, builder.iterations, builder.facts, builder.blocks) == (0, 0, (), ())


def test_one_that_failed_is_written_as_one_that_did_not_run() -> None:
    authorizer = AuthorizerBuilder("a(1); b($x) <- a($x), 1 / 0 == $x; allow if true").build_unauthenticated()
    before = authorizer.raw_snapshot()
    with pytest.raises(capability.ExecutionFailed):
        authorizer.authorize()
    assert authorizer.raw_snapshot() == before


def test_a_snapshot_that_claims_to_have_run_is_run_all_the_same() -> None:
    program = parse_program("a(1); b($x) <- a($x); check if b(1); allow if true")
    claimed = encode_snapshot(Snapshot(1000, 100, 10**9, program, iterations=1, execution_time=1))
    assert Authorizer.from_raw_snapshot(claimed).authorize() == 0


def test_facts_of_an_earlier_run_keep_their_origins() -> None:
    program = parse_program("allow if b(1)")
    blocks = (LoadedBlock(parse_program("a(1)")), LoadedBlock(parse_program("a(2)")))
    fact = Predicate("b", ((INTEGER, 1),))
    for origin, allowed in ((1, True), (2, True), (4, False), (6, False), (3, True)):
        data = encode_snapshot(Snapshot(1000, 100, 10**9, program, blocks, ((origin, fact),)))
        assert Authorizer.from_raw_snapshot(data).decide().allowed is allowed


def test_queries_on_a_loaded_authorizer() -> None:
    authorizer = authorizer_of(biscuit_auth, "allow if true", BLOCKS[0])
    loaded = Authorizer.from_base64_snapshot(authorizer.base64_snapshot())
    assert repr(loaded.query(Rule("z($u) <- own($u)"))) == '[z("a")]'


@pytest.mark.parametrize("text", ["", "AAAA", "!!!", "zzz", "CgkI6AcQZBjAhD0QABr1", "====", "é"])
def test_text_that_is_no_snapshot(text: str) -> None:
    for kind in (Authorizer, AuthorizerBuilder):
        with pytest.raises(FormatError):
            kind.from_base64_snapshot(text)
    for peers in (biscuit_auth.Authorizer, biscuit_auth.AuthorizerBuilder):
        with pytest.raises(biscuit_auth.BiscuitValidationError):
            peers.from_base64_snapshot(text)


def test_an_authorizer_is_not_a_builder() -> None:
    authorizer = authorizer_of(capability, "allow if true", BLOCKS[0])
    with pytest.raises(FormatError, match="not of its builder"):
        AuthorizerBuilder.from_raw_snapshot(authorizer.raw_snapshot())


def message(source: str = "a(1); allow if true") -> schema.AuthorizerSnapshot:
    read = schema.AuthorizerSnapshot()
    read.ParseFromString(authorizer_of(capability, source, BLOCKS[0]).raw_snapshot())
    return read


def refused(changed: schema.AuthorizerSnapshot) -> BiscuitValidationError:
    with pytest.raises(BiscuitValidationError) as caught:
        Authorizer.from_raw_snapshot(changed.SerializeToString())
    return caught.value


def test_facts_without_an_origin_are_refused() -> None:
    changed = message()
    del changed.world.generated_facts[0].origins[:]
    assert refused(changed).code == "format.snapshot"


def test_facts_of_a_block_that_is_not_there_are_refused() -> None:
    changed = message()
    changed.world.generated_facts[0].origins[0].origin = 1
    assert refused(changed).code == "format.snapshot"


def test_unknown_versions_are_refused() -> None:
    for version in (2, 7):
        changed = message()
        changed.world.version = version
        assert isinstance(refused(changed), UnsupportedVersion)
        changed = message()
        changed.world.blocks[0].version = version
        assert isinstance(refused(changed), UnsupportedVersion)


def test_an_unknown_kind_of_policy_is_refused() -> None:
    changed = message()
    changed.world.authorizer_policies[0].kind = 2
    assert refused(changed).code == "format.kind"


def test_undeclared_symbols_are_refused() -> None:
    changed = message()
    del changed.world.symbols[-1]
    assert refused(changed).code == "format.symbol"


def test_the_authority_is_no_third_party() -> None:
    changed = message()
    key = changed.world.blocks[0].external_key
    key.algorithm, key.key = 0, KeyPair().public_key.to_bytes()
    assert isinstance(refused(changed), BiscuitValidationError)
    changed = message()
    key = changed.world.authorizer_block.external_key
    key.algorithm, key.key = 0, KeyPair().public_key.to_bytes()
    assert isinstance(refused(changed), BiscuitValidationError)


def test_a_rule_with_an_unbound_head_is_refused() -> None:
    changed = message("b($x) <- a($x); allow if true")
    del changed.world.authorizer_block.rules[0].body[:]
    changed.world.authorizer_block.rules[0].body.add().name = 2
    changed.world.authorizer_block.rules[0].body[0].terms.add().integer = 1
    assert isinstance(refused(changed), capability.LanguageError)


@given(st.data())
def test_a_flipped_bit_or_a_cut_is_refused_or_read_as_a_snapshot(data: st.DataObject) -> None:
    raw = bytearray(authorizer_of(capability, SOURCES[4], BLOCKS[1]).raw_snapshot())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[at // 8] ^= 1 << (at % 8)
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    try:
        loaded = Authorizer.from_raw_snapshot(bytes(raw))
    except BiscuitValidationError:
        return
    loaded.decide()


def test_what_is_written_as_text_is_the_bytes() -> None:
    builder = AuthorizerBuilder("a(1)")
    assert base64.urlsafe_b64decode(builder.base64_snapshot()) == builder.raw_snapshot()
