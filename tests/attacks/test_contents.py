"""Attacks inside blocks: old versions, symbols, keys, sizes, nesting; and on the spelling of a token."""

import base64
from collections.abc import Iterator

import pytest

from capability import Biscuit, Outcome, PublicKey, UnverifiedBiscuit
from capability.store.memory import MemoryStore
from spec.generate.datalog import (
    EQ,
    LAZY_AND,
    NEGATE,
    PARENS,
    Predicate,
    RawTerm,
    Statement,
    Symbol,
    Tokens,
    block,
    check,
    lazy,
    p,
    q,
    rule,
)
from spec.generate.datalog import Check as RawCheck
from spec.generate.protobuf import message, varint
from spec.generate.signing import ROOT, Chain, Part, chain, envelope
from tests.attacks.doors import ALICE, MALLORY, ask, assert_refused, assert_taken, guard, proof, public


class TestVersions:
    """Block versions that are too old, unknown, or lower than the contents need."""

    @pytest.mark.parametrize("version", [None, 0, 1, 2, 7, 2**31, 2**32 - 1])
    def test_versions_that_are_not_read(self, version: int | None) -> None:
        """CVE-2022-31053: versions below 3, whose signatures could be aggregated anew, and unknown ones."""
        assert_refused(chain(block(p("n", 1), version=version)).open(), "format.version")
        tokens = Tokens()
        later = chain(tokens.block(p("n", 1)), Part(tokens.block(p("n", 1), version=version), version=1))
        assert_refused(later.open(), "format.version")

    @pytest.mark.parametrize(
        ("statements", "needed"),
        [
            ([check(p("n", 1), kind=1)], 4),
            ([check(p("n", 1), scopes=[0])], 4),
            ([rule(p("m", 1), p("n", 1), scopes=[ALICE.public])], 4),
            ([check(p("n", 1), kind=2)], 6),
            ([p("n", None)], 6),
            ([check((1, 1, EQ))], 6),
            ([check((True, lazy(True), LAZY_AND))], 6),
        ],
        ids=["check all", "scope", "key", "reject if", "null", "lenient equality", "closure"],
    )
    def test_contents_beyond_the_version(self, statements: list[Statement], needed: int) -> None:
        """A block version that its contents exceed: an older verifier would have read something else."""
        for version in range(3, needed):
            assert_refused(
                chain(Part(block(*statements, version=version), version=1)).open(), "format.version"
            )
        assert ask(chain(block(*statements, version=needed)).open()).outcome is not Outcome.INVALID_TOKEN


class TestTables:
    """Undeclared and redeclared symbols, unknown and redeclared keys, kinds that nobody has defined."""

    @pytest.mark.parametrize("index", [28, 500, 1023, 1025, 2**32, 2**63])
    def test_undeclared_symbol(self, index: int) -> None:
        """Undeclared symbols, as a string, a name, a variable and inside a set."""
        bad = Symbol(index)
        term = RawTerm(message((7, message((1, message((3, index)))))))
        for statement in (p("n", bad), p("n", term)):
            assert_refused(chain(block(statement, extra_symbols=["n"])).open(), "format.symbol")
        assert_refused(chain(block(Predicate(bad, (1,)), extra_symbols=["n"])).open(), "format.symbol")

    @pytest.mark.parametrize("symbol", ["read", "query", "mine"])
    def test_redeclared_symbol(self, symbol: str) -> None:
        """Redeclared symbols: a later block gives a default or a known string a second number."""
        tokens = Tokens()
        first = tokens.block(p("mine", 1))
        second = tokens.block(p("n", 1)).replace(message((1, b"n")), message((1, symbol.encode())))
        assert_refused(chain(first, second).open(), "format.symbol")

    def test_symbol_used_before_it_is_declared(self) -> None:
        """A block that counts on a symbol of a block behind it."""
        ahead = block(p("read", Symbol(1025)), extra_symbols=["one"])
        behind = message((1, b"two")) + message((3, 3))
        assert_refused(chain(ahead, behind).open(), "format.symbol")

    @pytest.mark.parametrize("index", [0, 1, -1, 2**62])
    def test_unknown_scope_key(self, index: int) -> None:
        """Unknown scope keys, negative ones too (which Python would count from the end)."""
        scope = RawTerm(message((2, index)))
        declared = [] if index == 0 else [ALICE.public]
        payload = block(check((True,), scopes=[scope]), version=4, extra_keys=declared)
        assert_refused(chain(payload).open(), "format.key_table")

    def test_redeclared_key(self) -> None:
        """A key declared twice, in one block and in two."""
        twice = block(check((True,)), version=4, extra_keys=[ALICE.public, ALICE.public])
        assert_refused(chain(twice).open(), "format.key_table")
        again = [block(check((True,)), version=4, extra_keys=[ALICE.public]) for _ in range(2)]
        assert_refused(chain(*again).open(), "format.key_table")

    @pytest.mark.parametrize("kind", [3, 99, 2**31 - 1, -1])
    def test_unknown_kind_of_check(self, kind: int) -> None:
        """An unknown kind of check, which protobuf by itself would read as `check if`."""
        payload = block(RawCheck((q(p("n", 1)),), kind), p("n", 1), version=6)
        assert_refused(chain(payload).open(), "format.kind")


class TestNesting:
    """Nesting deep enough to exhaust a stack: refused by its own error, never a RecursionError."""

    @pytest.mark.parametrize("depth", [33, 100, 1000, 3000])
    def test_terms(self, depth: int) -> None:
        """Nesting bomb of arrays, and of maps in maps."""
        for wrap in (_in_array, _in_map):
            term = message((2, 1))
            for _ in range(depth):
                term = wrap(term)
            token = chain(block(p("n", RawTerm(term)), version=6)).open()
            decision = guard().check(token)
            assert decision.outcome is Outcome.INVALID_TOKEN
            assert decision.code in {"format.nesting", "format.wire", "format.size"}

    @pytest.mark.parametrize("depth", [33, 100, 1000, 3000])
    def test_closures(self, depth: int) -> None:
        """Nesting bomb of closures."""
        op = message((1, message((6, 1))))
        for _ in range(depth):
            op = message((4, message((2, op))))
        body = message((1, message((1, 27))), (3, message((1, op))))
        token = chain(Part(message((3, 6), (6, message((1, body)))), version=1)).open()
        decision = guard().check(token)
        assert decision.outcome is Outcome.INVALID_TOKEN
        assert decision.code in {"format.nesting", "format.wire", "format.size"}

    @pytest.mark.parametrize("op", [NEGATE, PARENS], ids=["negate", "parens"])
    def test_operators(self, op: object) -> None:
        """Nesting bomb of ten thousand operators, which nest in no message and would in a printed tree."""
        payload = block(check((True, *[op] * 9_000)), version=3)
        token = chain(payload).open()
        assert guard().check(token).outcome in {Outcome.ALLOWED, Outcome.DENIED, Outcome.LIMIT_REACHED}
        read = UnverifiedBiscuit.from_bytes(token)
        assert len(read.block_source(0)) > 9_000
        assert repr(read)

    def test_groups(self) -> None:
        """Nesting bomb of protobuf's old groups, inside the envelope and inside a block."""
        assert_refused(b"\x0b" * 20_000, "format.wire")
        assert_refused(chain(Part(b"\x0b" * 20_000, version=1)).open(), "format.wire")


def _in_array(term: bytes) -> bytes:
    return message((9, message((1, term))))


def _in_map(term: bytes) -> bytes:
    return message((10, message((1, message((1, message((1, 1))), (2, term))))))


class TestSizes:
    """Tokens that are too long or have too many blocks are refused before any signature is looked at."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """The signatures that were verified so far."""
        seen: list[bytes] = []
        verify = PublicKey.verify

        def recorded(self: PublicKey, message: bytes, signature: bytes) -> None:
            seen.append(signature)
            verify(self, message, signature)

        monkeypatch.setattr(PublicKey, "verify", recorded)
        return seen

    @pytest.mark.parametrize(
        "token",
        [
            chain(block(p("s", "x" * 65_600))).open(),
            chain(*[block()] * 65).open(),
            chain(*[block()] * 65).sealed(),
            envelope([chain(block()).links[0]] * 600, proof(MALLORY)),
        ],
        ids=["64 KiB", "65 blocks", "65 blocks, sealed", "600 times one block"],
    )
    def test_too_long(self, token: bytes, asked: list[bytes]) -> None:
        """Tokens over 64 KiB or 64 blocks, of which the root key is not even asked for."""
        assert_refused(token, "format.size")
        keys: list[int | None] = []

        def provider(key_id: int | None) -> PublicKey:
            keys.append(key_id)
            return public(ROOT.public)

        with pytest.raises(Exception, match=r"longer|more than"):
            Biscuit.from_bytes(token, provider)
        assert (keys, asked) == ([], [])
        assert_taken(chain(*[block()] * 64).open())
        assert asked

    def test_text_is_measured_before_it_is_read(self, asked: list[bytes]) -> None:
        """A gigantic text is not turned into bytes first."""
        decision = guard().check("A" * 50_000_000)
        assert (decision.code, asked) == ("format.size", [])


def spellings(good: Chain) -> Iterator[tuple[str, str]]:
    """Other texts and bytes of one token: what nobody signs, the holder may change."""
    text = base64.urlsafe_b64encode(good.open()).decode()
    yield "as it was", text
    yield "no padding", text.rstrip("=")
    yield "prefix", "biscuit:" + text
    for key_id in (0, 1, 2**32 - 1):
        yield f"key id {key_id}", base64.urlsafe_b64encode(good.open(key_id)).decode()
    yield "key id last", base64.urlsafe_b64encode(good.open() + message((1, 5))).decode()
    yield "sealed", base64.urlsafe_b64encode(good.sealed()).decode()


class TestSpellings:
    """Malleable bytes: other spellings of one token, to escape its revocation."""

    GOOD = chain(block(p("user", "alice"), p("n", 1)))

    @pytest.mark.parametrize(("name", "text"), list(spellings(GOOD)), ids=lambda value: str(value)[:12])
    def test_revocation_holds_for_every_spelling(self, name: str, text: str) -> None:
        """Malleable bytes against a revocation in the store: every form that is read is revoked."""
        store = MemoryStore()
        watch = guard(revocations=store)
        assert watch.check(text).allowed, name
        store.revoke([self.GOOD.signatures[0]])
        assert watch.check(text).outcome is Outcome.REVOKED

    def test_other_encodings_are_not_read(self) -> None:
        """Malleable bytes: overlong numbers, fields given twice, unknown fields at every level."""
        good = self.GOOD.open()
        entry = self.GOOD.links[0]
        overlong = message((2, entry.message() + b"\x28\x80\x00"))
        last = message((4, proof(self.GOOD.last)))
        for data in (
            good[:1] + bytes([good[1] | 0x80, 0x00]) + good[2:] if good[1] < 0x80 else b"\x08\x81\x00" + good,
            overlong + last,
            message((2, entry.message()), (2, entry.message())) + last,
            message((2, entry.message() + message((9, 1)))) + last,
            message((2, entry.message() + message((3, entry.signature)))) + last,
            message((2, entry.message())) + message((4, proof(self.GOOD.last) + message((7, b"")))),
            message((1, 1), (1, 2)) + good,
        ):
            assert_refused(data, "format.wire")
        assert_refused(varint(2 << 3 | 3) + good + varint(2 << 3 | 4), "format.missing")


class TestText:
    """Any flip in the text of a token is refused: alphabet, white space, padding, trailing bits."""

    @pytest.mark.parametrize("size", [0, 1, 2], ids=["no padding", "one =", "two ="])
    def test_any_other_character(self, size: int) -> None:
        """Every character of the text is replaced by every other letter, in turn, and by strangers."""
        token = next(
            data for n in range(9) if len(data := chain(block(p("n", "x" * n))).open()) % 3 == (-size) % 3
        )
        text = base64.urlsafe_b64encode(token).decode()
        assert text.count("=") == size
        watch = guard()
        assert watch.check(text).allowed
        for at in range(0, len(text), 7):
            for stranger in "+/= \n\t\0.,~é*":
                if text[at] != stranger:
                    changed = text[:at] + stranger + text[at + 1 :]
                    assert watch.check(changed).outcome is Outcome.INVALID_TOKEN, (at, stranger)
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for at in (*range(40), *range(len(text) - 12, len(text))):
            for letter in alphabet:
                if text[at] not in (letter, "="):
                    changed = text[:at] + letter + text[at + 1 :]
                    assert watch.check(changed).outcome is Outcome.INVALID_TOKEN, (at, letter)

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: " " + text,
            lambda text: text + "\n",
            lambda text: text[:40] + "\n" + text[40:],
            lambda text: text + "=",
            lambda text: text + "AAAA",
            lambda text: text.rstrip("=")[:-1],
            lambda text: text.replace("-", "+").replace("_", "/") + ("" if set("-_") & set(text) else "+"),
            lambda text: "Biscuit:" + text,
            lambda text: "biscuit:biscuit:" + text,
            lambda text: "\ufeff" + text,
            lambda text: text + "\0",
            lambda text: "=" + text,
            lambda text: text[:8] + "====" + text[8:],
        ],
    )
    def test_other_texts(self, change: object) -> None:
        """White space, another alphabet, padding in the middle or too much, another prefix."""
        assert callable(change)
        text = base64.urlsafe_b64encode(TestSpellings.GOOD.open()).decode()
        decision = guard().check(change(text))
        assert decision.outcome is Outcome.INVALID_TOKEN
        assert decision.code.startswith("format.")
