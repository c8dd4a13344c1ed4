"""Tokens: built, read, verified, narrowed and sealed, beside biscuit-python."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import biscuit_auth
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from capability.attenuation import Vocabulary, restriction
from capability.builders import BlockBuilder
from capability.datalog.errors import ParameterError, ParseError
from capability.errors import (
    BiscuitBlockError,
    BiscuitBuildError,
    BiscuitSerializationError,
    BiscuitValidationError,
    FormatError,
    SealedError,
    SignatureError,
    StoreUnavailable,
    UnknownRootKey,
)
from capability.keys import Algorithm, KeyPair, PrivateKey, PublicKey
from capability.keyset import KeySet
from capability.tokens import Biscuit, BiscuitBuilder, UnverifiedBiscuit
from capability.wire import envelope as wire
from capability.wire.envelope import Envelope, FinalSignature, NextSecret

ROOT = KeyPair.from_private_key(PrivateKey("ed25519-private/" + "11" * 32))
OTHER = KeyPair.from_private_key(PrivateKey("ed25519-private/" + "22" * 32))
P256 = KeyPair(Algorithm.Secp256r1)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SOURCES = [
    'right("orders", "read");\nright("orders", "write");\n',
    "check if time($t), $t < 2030-01-01T00:00:00Z;\n",
    'check all operation($o), {"read"}.contains($o);\nreject if resource("/secret");\n',
]


def mint(*sources: str, root: KeyPair = ROOT, root_key_id: int | None = None) -> Biscuit:
    first, *others = sources or SOURCES
    builder = BiscuitBuilder(first)
    if root_key_id is not None:
        builder.set_root_key_id(root_key_id)
    token = builder.build(root.private_key)
    for source in others:
        token = token.append(BlockBuilder(source))
    return token


def sources(token: Any) -> list[str]:
    return [token.block_source(index) for index in range(token.block_count())]


@pytest.mark.parametrize("root", [ROOT, P256], ids=["ed25519", "secp256r1"])
def test_each_engine_reads_and_narrows_the_other_s_tokens(root: KeyPair) -> None:
    peer_root = biscuit_auth.PublicKey(repr(root.public_key))
    ours = mint(root=root)
    theirs = biscuit_auth.Biscuit.from_base64(ours.to_base64(), peer_root)
    assert sources(theirs) == sources(ours) == SOURCES
    assert theirs.revocation_ids == ours.revocation_ids
    theirs = theirs.append(biscuit_auth.BlockBuilder('check if right("orders", "write"); new_symbol(1)'))
    again = Biscuit.from_base64(theirs.to_base64(), root.public_key)
    assert sources(again) == sources(theirs)
    last = again.append(BlockBuilder("check if new_symbol(1), other_symbol(2)"))
    assert sources(biscuit_auth.Biscuit.from_bytes(last.to_bytes(), peer_root)) == sources(last)


def test_the_debug_text_is_the_peer_s() -> None:
    token = mint('f("a"); r($x) <- f($x) trusting ' + repr(OTHER.public_key), "check if f($y)", "")
    theirs = biscuit_auth.Biscuit.from_bytes(token.to_bytes(), biscuit_auth.PublicKey(repr(ROOT.public_key)))
    assert repr(token) == repr(theirs)
    assert repr(UnverifiedBiscuit.from_bytes(token.to_bytes())) == "Unverified" + repr(token)


def test_the_debug_text_escapes_what_could_fake_it() -> None:
    builder = BiscuitBuilder('f("\\u{202e}")'.replace("\\u{202e}", "\u202e\x1b[2J"))
    builder.set_context('"\n    blocks: []')
    text = repr(builder.build(ROOT.private_key))
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert text.count("\n    blocks: [") == 1


@pytest.mark.parametrize("seal", [False, True])
def test_no_repr_or_error_holds_the_proof(seal: bool) -> None:
    token = mint()
    if seal:
        token = token.seal()
    envelope = wire.decode(token.to_bytes())
    proof = envelope.proof
    secret = proof.secret if isinstance(proof, NextSecret) else proof.signature
    unverified = UnverifiedBiscuit.from_bytes(token.to_bytes())
    texts = [repr(token), str(token), repr(unverified), repr(token.blocks), repr(envelope)]
    with pytest.raises(SignatureError) as caught:
        unverified.verify(OTHER.public_key)
    texts.append(str(caught.value))
    for text in texts:
        assert secret.hex() not in text
        assert token.to_base64() not in text


def test_a_biscuit_knows_its_root_and_its_ids() -> None:
    token = mint(root_key_id=5)
    again = Biscuit.from_base64(token.to_base64(), lambda key_id: ROOT.public_key)
    for biscuit in (token, again, token.append(BlockBuilder("f(1)")), token.seal()):
        assert biscuit.root_key == ROOT.public_key
        assert biscuit.root_key_id() == 5
        assert [identifier.hex() for identifier in biscuit.canonical_revocation_ids] == biscuit.revocation_ids
    assert mint().root_key_id() is None


def test_canonical_ids_of_a_p256_token_do_not_depend_on_who_wrote_it() -> None:
    envelope = wire.decode(mint(SOURCES[0], root=P256).to_bytes())
    block = envelope.blocks[0]
    r, s = decode_dss_signature(block.signature)
    twin = replace(block, signature=encode_dss_signature(r, P256_ORDER - s))
    other = Biscuit.from_bytes(wire.encode(replace(envelope, blocks=(twin,))), P256.public_key)
    assert other.revocation_ids == [twin.signature.hex()]
    assert other.canonical_revocation_ids == (block.signature,)


TEXTS: list[Callable[[str], str]] = [str, "biscuit:{}".format, lambda text: text.rstrip("=")]


@pytest.mark.parametrize("change", TEXTS)
def test_text_may_have_a_prefix_and_lack_its_padding(change: Callable[[str], str]) -> None:
    text = change(mint().to_base64())
    assert sources(Biscuit.from_base64(text, ROOT.public_key)) == SOURCES
    assert sources(UnverifiedBiscuit.from_base64(text)) == SOURCES


def test_a_key_set_chooses_the_root() -> None:
    keys = KeySet.from_keys({1: OTHER.public_key, 2: ROOT.public_key})
    token = mint(root_key_id=2)
    assert Biscuit.from_base64(token.to_base64(), keys).root_key == ROOT.public_key
    assert UnverifiedBiscuit.from_base64(token.to_base64()).verify(keys).root_key == ROOT.public_key
    with pytest.raises(SignatureError):
        Biscuit.from_base64(mint(root_key_id=1).to_base64(), keys)
    with pytest.raises(UnknownRootKey):
        Biscuit.from_base64(mint(root_key_id=3).to_base64(), keys)


def test_a_function_that_cannot_ask_says_so_and_every_other_failure_is_an_unknown_key() -> None:
    text = mint(root_key_id=9).to_base64()

    def unavailable(key_id: int | None) -> PublicKey:
        raise StoreUnavailable("the key service does not answer")

    def unknown(key_id: int | None) -> PublicKey:
        return {1: ROOT.public_key}[key_id or 0]

    with pytest.raises(StoreUnavailable):
        Biscuit.from_base64(text, unavailable)
    with pytest.raises(UnknownRootKey) as caught:
        Biscuit.from_base64(text, unknown)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(UnknownRootKey):
        Biscuit.from_base64(text, lambda key_id: PublicKey("ed25519/no key"))
    with pytest.raises(UnknownRootKey):
        Biscuit.from_base64(text, lambda key_id: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("root", [None, "ed25519/" + "00" * 32, ROOT, ROOT.private_key, {9: ROOT.public_key}])
def test_a_root_of_another_type_is_a_type_error(root: Any) -> None:
    with pytest.raises(TypeError, match="root"):
        Biscuit.from_base64(mint().to_base64(), root)
    with pytest.raises(TypeError, match="root"):
        UnverifiedBiscuit.from_base64(mint().to_base64()).verify(root)


def test_any_flipped_bit_is_refused() -> None:
    data = mint(SOURCES[0], SOURCES[1]).to_bytes()
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(BiscuitValidationError):
                Biscuit.from_bytes(bytes(changed), ROOT.public_key)


def test_any_truncation_or_extension_is_refused() -> None:
    data = mint(SOURCES[0], SOURCES[1]).to_bytes()
    for end in range(len(data)):
        with pytest.raises(BiscuitValidationError):
            UnverifiedBiscuit.from_bytes(data[:end]).verify(ROOT.public_key)
    with pytest.raises(FormatError):
        Biscuit.from_bytes(data + b"\x00", ROOT.public_key)


def test_a_root_key_id_is_only_a_hint() -> None:
    envelope = wire.decode(mint(root_key_id=1).to_bytes())
    moved = Envelope(2, envelope.blocks, envelope.proof)
    assert Biscuit.from_bytes(wire.encode(moved), ROOT.public_key).root_key_id() == 2
    with pytest.raises(SignatureError):
        Biscuit.from_bytes(wire.encode(moved), KeySet.from_keys({1: ROOT.public_key, 2: OTHER.public_key}))


def test_blocks_cannot_be_dropped_reordered_or_doubled() -> None:
    envelope = wire.decode(mint().to_bytes())
    a, b, c = envelope.blocks
    for blocks in ((a, b), (a, c, b), (b, a, c), (a, b, b, c), (a, c), (a,), (b, c), (a, b, c, c)):
        with pytest.raises(SignatureError):
            Biscuit.from_bytes(
                wire.encode(Envelope(envelope.root_key_id, blocks, envelope.proof)), ROOT.public_key
            )


def test_unverified_says_what_is_there_and_verify_refuses_it() -> None:
    envelope = wire.decode(mint().to_bytes())
    foreign = wire.decode(mint('right("everything")').to_bytes())
    forged = Envelope(None, (foreign.blocks[0], *envelope.blocks[1:]), envelope.proof)
    unverified = UnverifiedBiscuit.from_bytes(wire.encode(forged))
    assert unverified.block_source(0) == 'right("everything");\n'
    with pytest.raises(SignatureError):
        unverified.verify(ROOT.public_key)


def test_verified_and_unverified_are_unrelated_types() -> None:
    token = UnverifiedBiscuit.from_bytes(mint().to_bytes())
    assert not isinstance(token, Biscuit)
    assert not isinstance(token.verify(ROOT.public_key), UnverifiedBiscuit)
    assert not hasattr(token, "root_key")
    assert not hasattr(token, "canonical_revocation_ids")
    assert type(token.attenuate(operations=["read"]).seal()) is UnverifiedBiscuit
    assert type(mint().attenuate(operations=["read"]).seal()) is Biscuit


@pytest.mark.parametrize("kind", [Biscuit, UnverifiedBiscuit])
def test_tokens_are_made_in_no_other_way(kind: Any) -> None:
    with pytest.raises(TypeError, match="from_base64"):
        kind()
    token: Any = mint() if kind is Biscuit else UnverifiedBiscuit.from_bytes(mint().to_bytes())
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(token)
    with pytest.raises(AttributeError):
        token.root_key = OTHER.public_key
    with pytest.raises(AttributeError):
        token.blocks = ()


@pytest.mark.parametrize("reader", ["from_bytes", "from_base64"])
def test_sizes_are_bounded_before_signatures(reader: str) -> None:
    token = mint(SOURCES[0], SOURCES[1])
    data: Any = token.to_bytes() if reader == "from_bytes" else token.to_base64()
    size = len(token.to_bytes())
    read, read_unverified = getattr(Biscuit, reader), getattr(UnverifiedBiscuit, reader)
    assert read(data, ROOT.public_key, max_bytes=size, max_blocks=2).block_count() == 2
    assert read_unverified(data, max_bytes=size, max_blocks=2).block_count() == 2
    for bounds in ({"max_bytes": size - 1}, {"max_blocks": 1}):
        with pytest.raises(FormatError) as caught:
            read(data, OTHER.public_key, **bounds)
        assert caught.value.code == "format.size"
        with pytest.raises(FormatError):
            read_unverified(data, **bounds)


def test_text_too_long_is_refused_before_it_is_decoded() -> None:
    for read in (lambda text: Biscuit.from_base64(text, ROOT.public_key), UnverifiedBiscuit.from_base64):
        with pytest.raises(FormatError) as caught:
            read("!" * 100_000)
        assert caught.value.code == "format.size"


def test_no_token_is_written_that_readers_refuse() -> None:
    token = mint("f(1)")
    for _ in range(63):
        token = token.append(BlockBuilder())
    assert Biscuit.from_bytes(token.to_bytes(), ROOT.public_key).block_count() == 64
    longer = token.append(BlockBuilder())
    with pytest.raises(BiscuitSerializationError, match="64 blocks"):
        longer.to_base64()
    data = longer.to_bytes(max_blocks=65)
    assert Biscuit.from_bytes(data, ROOT.public_key, max_blocks=65).block_count() == 65
    long = BiscuitBuilder("f({x})", {"x": "x" * 65536}).build(ROOT.private_key)
    with pytest.raises(BiscuitSerializationError, match="65536 bytes"):
        long.to_bytes()
    assert len(long.to_base64(max_bytes=70_000)) > 65536


@pytest.mark.parametrize("verified", [True, False])
def test_a_sealed_token_verifies_and_takes_nothing(verified: bool) -> None:
    token: Biscuit | UnverifiedBiscuit = mint()
    if not verified:
        token = UnverifiedBiscuit.from_bytes(token.to_bytes())
    assert not token.sealed
    sealed = token.seal()
    assert sealed.sealed
    assert isinstance(wire.decode(sealed.to_bytes()).proof, FinalSignature)
    again = Biscuit.from_base64(sealed.to_base64(), ROOT.public_key)
    assert again.sealed
    assert sources(again) == SOURCES
    assert again.revocation_ids == token.revocation_ids
    actions: list[Callable[[], object]] = [
        lambda: sealed.append(BlockBuilder("f(1)")),
        lambda: sealed.attenuate(operations=["read"]),
        sealed.seal,
        sealed.third_party_request,
    ]
    for action in actions:
        with pytest.raises(SealedError) as caught:
            action()
        assert isinstance(caught.value, BiscuitBuildError)
        assert isinstance(caught.value, BiscuitBlockError)


def test_the_peer_reads_a_sealed_token() -> None:
    sealed = mint().seal()
    theirs = biscuit_auth.Biscuit.from_bytes(sealed.to_bytes(), biscuit_auth.PublicKey(repr(ROOT.public_key)))
    assert sources(theirs) == SOURCES
    with pytest.raises(biscuit_auth.BiscuitBuildError):
        theirs.append(biscuit_auth.BlockBuilder("f(1)"))


@pytest.mark.parametrize("verified", [True, False])
def test_a_proof_of_another_key_is_refused(verified: bool) -> None:
    envelope = wire.decode(mint().to_bytes())
    for secret in (OTHER.private_key.to_bytes(), b"", bytes(31)):
        stolen = wire.encode(Envelope(None, envelope.blocks, NextSecret(secret)))
        if verified:
            with pytest.raises(SignatureError):
                Biscuit.from_bytes(stolen, ROOT.public_key)
        else:
            with pytest.raises(SignatureError):
                UnverifiedBiscuit.from_bytes(stolen).append(BlockBuilder("f(1)"))


def test_contexts_travel_and_are_not_datalog() -> None:
    builder = BiscuitBuilder("f(1)")
    builder.set_context("minted by hand")
    block = BlockBuilder("check if true")
    block.set_context("")
    token = builder.build(ROOT.private_key).append(block).append(BlockBuilder("g(1)"))
    again = Biscuit.from_bytes(token.to_bytes(), ROOT.public_key)
    for result in (token, again, UnverifiedBiscuit.from_bytes(token.to_bytes())):
        assert [result.context(index) for index in range(3)] == ["minted by hand", "", None]
    assert again.block_source(0) == "f(1);\n"


@pytest.mark.parametrize("index", [-1, 3, 100])
@pytest.mark.parametrize("method", ["block", "block_source", "block_external_key", "context"])
def test_there_is_no_block_of_another_index(method: str, index: int) -> None:
    for token in (mint(), UnverifiedBiscuit.from_bytes(mint().to_bytes())):
        with pytest.raises(BiscuitBlockError, match="no block"):
            getattr(token, method)(index)


def test_a_block_level_clause_reaches_the_token_and_is_shown() -> None:
    source = "trusting previous, " + repr(OTHER.public_key) + ";\ncheck if f(1);\n"
    again = Biscuit.from_bytes(mint("f(1)", source).to_bytes(), ROOT.public_key)
    assert again.block_source(1) == source
    assert len(again.block(1).program.scopes) == 2
    assert "scopes: [previous, ed25519/" in repr(again)


def test_tokens_do_not_change_when_narrower_ones_are_made() -> None:
    token = mint("f(1)")
    before = token.to_bytes()
    first = token.append(BlockBuilder("first_symbol(1)"))
    second = token.append(BlockBuilder(f"second_symbol(1); check if true trusting {OTHER.public_key!r}"))
    assert token.to_bytes() == before
    assert token.block_count() == 1
    for narrow in (first, second):
        assert sources(Biscuit.from_bytes(narrow.to_bytes(), ROOT.public_key)) == sources(narrow)
    assert second.block(1).symbols == ("second_symbol",)


@pytest.mark.parametrize("kind", ["verified", "unverified"])
def test_attenuate_appends_the_restriction_and_the_source(kind: str) -> None:
    token: Biscuit | UnverifiedBiscuit = mint(SOURCES[0])
    if kind == "unverified":
        token = UnverifiedBiscuit.from_bytes(token.to_bytes())
    now = datetime(2026, 11, 1, tzinfo=UTC)
    narrow = token.attenuate(
        applications=["orders"],
        expires=timedelta(hours=1),
        source="check if ip({ip}) trusting {key}",
        parameters={"ip": "10.0.0.1"},
        scope_parameters={"key": OTHER.public_key},
        now=now,
    )
    again = Biscuit.from_base64(narrow.to_base64(), ROOT.public_key)
    checks = restriction(applications=["orders"], expires=timedelta(hours=1), now=now).checks
    assert again.block(1).program.checks[:2] == checks
    assert again.block_source(1) == (
        'check all application($a), {"orders"}.contains($a);\n'
        "check all time($t), $t <= 2026-11-01T01:00:00Z;\n"
        f'check if ip("10.0.0.1") trusting {OTHER.public_key!r};\n'
    )


def test_attenuate_takes_every_argument_of_restriction() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    arguments: dict[str, Any] = {
        "applications": ["a"],
        "operations": ["o"],
        "tenants": ["t"],
        "resources": ["/r"],
        "expires": timedelta(hours=2),
        "not_before": timedelta(hours=1),
        "now": now,
        "vocabulary": Vocabulary(application="app", time="now"),
    }
    assert mint("f(1)").attenuate(**arguments).block(1).program == restriction(**arguments)


def test_a_source_s_clause_does_not_reach_the_restriction() -> None:
    narrow = mint("f(1)").attenuate(operations=["read"], source="trusting previous; check if f(1)")
    assert narrow.block_source(1) == (
        'check all operation($o), {"read"}.contains($o);\ncheck if f(1) trusting previous;\n'
    )


def test_attenuate_refuses_to_narrow_nothing() -> None:
    for source in (None, "", "// nothing"):
        with pytest.raises(ValueError, match="nothing was named"):
            mint().attenuate(source=source)
    with pytest.raises(ParseError):
        mint().attenuate(source="allow if true")
    with pytest.raises(ParameterError):
        mint().attenuate(source="check if f({x})")
    with pytest.raises(ValueError, match="operations is empty"):
        mint().attenuate(operations=[])


class Vault:
    """A root key that stays elsewhere, or one that is broken."""

    def __init__(self, pair: KeyPair, answers: KeyPair | None = None) -> None:
        self.public_key = pair.public_key
        self._answers = answers or pair

    def sign(self, message: bytes) -> bytes:
        return self._answers.private_key.sign(message)


@pytest.mark.parametrize("root", [ROOT, P256], ids=["ed25519", "secp256r1"])
def test_any_signer_can_be_the_root(root: KeyPair) -> None:
    token = BiscuitBuilder("f(1)").build(Vault(root))
    assert Biscuit.from_base64(token.to_base64(), root.public_key).root_key == root.public_key


def test_a_signer_that_signs_with_another_key_makes_no_biscuit() -> None:
    with pytest.raises(BiscuitBuildError, match="not its key's"):
        BiscuitBuilder("f(1)").build(Vault(ROOT, answers=OTHER))


def test_a_builder_can_be_built_again_and_kept() -> None:
    builder = BiscuitBuilder("f(1)")
    first, second = builder.build(ROOT.private_key), builder.build(ROOT.private_key)
    assert first.revocation_ids != second.revocation_ids
    builder.add_code("f(2)")
    assert first.block_source(0) == "f(1);\n"


@pytest.mark.parametrize(("value", "error"), [(-1, OverflowError), (2**32, OverflowError), ("1", TypeError)])
def test_a_root_key_id_is_a_32_bit_number(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        BiscuitBuilder("f(1)").set_root_key_id(value)
    builder = BiscuitBuilder("f(1)")
    builder.set_root_key_id(2**32 - 1)
    assert builder.build(ROOT.private_key).root_key_id() == 2**32 - 1
