"""What a holder states, to be believed or to fake what people read: facts, times, trust, and display."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from capability import Biscuit, BlockBuilder, Guard, Outcome, UnverifiedBiscuit
from spec.generate.datalog import LE, LT, Date, Statement, Tokens, Var, check, p, rule
from spec.generate.signing import ROOT, chain
from tests.attacks.doors import UNHURRIED, guard, public, text_of
from tests.cli.conftest import Shell

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
T, X = Var("t"), Var("x")


def at_now(policy: str = "allow if true") -> Guard:
    return Guard(public(ROOT.public), policy, clock=lambda: NOW, limits=UNHURRIED)


def two_blocks(authority: list[Statement], later: list[Statement]) -> bytes:
    tokens = Tokens()
    return chain(tokens.block(*authority, version=6), tokens.block(*later, version=6)).open()


class TestTimes:
    """Several time() facts: the ambient time comes from the authorizer alone."""

    EXPIRED = check(p("time", T), (T, Date(SECONDS - 1), LE))
    EXPIRED_FOR_ALL = check(p("time", T), (T, Date(SECONDS - 1), LE), kind=1)
    EARLY = p("time", Date(0))

    @pytest.mark.parametrize("expiry", [EXPIRED, EXPIRED_FOR_ALL], ids=["check if", "check all"])
    def test_time_of_a_later_block(self, expiry: Statement) -> None:
        """A time() that the holder states, or derives, does not revive an authority that has expired."""
        for stated in (self.EARLY, rule(p("time", Date(0)), p("time", T))):
            assert at_now().check(two_blocks([expiry], [stated])).outcome is Outcome.EXPIRED

    def test_time_of_the_same_block(self) -> None:
        """With its own time() a block fools its own `check if` and no other, `check all` not at all."""
        own = at_now().check(two_blocks([], [self.EXPIRED, self.EARLY]))
        assert own.allowed, "who writes a block may write a check into it that holds"
        assert at_now().check(two_blocks([], [self.EXPIRED_FOR_ALL, self.EARLY])).outcome is Outcome.EXPIRED

    def test_expiry_by_attenuation(self) -> None:
        """No time() of the authority or of a later block makes `attenuate(expires=)` hold."""
        tokens = Tokens()
        timely = chain(tokens.block(self.EARLY, version=6)).open()
        held = Biscuit.from_bytes(timely, public(ROOT.public)).attenuate(expires=NOW.replace(year=2029))
        assert at_now().check(held.to_bytes()).outcome is Outcome.EXPIRED
        later = held.append(BlockBuilder("time(1970-01-01T00:00:00Z)"))
        assert at_now().check(later.to_bytes()).outcome is Outcome.EXPIRED

    def test_time_of_the_caller(self) -> None:
        """A request cannot state the time, whatever it is called."""
        with pytest.raises(TypeError):
            at_now().check(two_blocks([], []), time=0)


class TestTrust:
    """Facts that are stated first, mixed, or renamed, to pass for the authority's."""

    def test_stating_first_what_the_authority_derives(self) -> None:
        """Dedupe pitfall: the holder states first what the authority derives, for that to vanish."""
        authority: list[Statement] = [
            p("user", 1),
            rule(p("member", X), p("user", X)),
            rule(p("in", X), p("member", X)),
        ]
        stolen: list[Statement] = [p("member", 1), p("in", 1), p("user", 1)]
        assert at_now("allow if in(1)").check(two_blocks(authority, stolen)).allowed
        banned = at_now("deny if in(1); allow if true")
        assert banned.check(two_blocks(authority, stolen)).outcome is Outcome.DENIED
        rejected = [*authority, check(p("in", X), kind=2)]
        assert at_now().check(two_blocks(rejected, stolen)).outcome is Outcome.DENIED
        derived: list[Statement] = [rule(p("in", 1), p("user", 1)), rule(p("member", 1), p("user", 1))]
        assert banned.check(two_blocks(authority, derived)).outcome is Outcome.DENIED

    def test_trust_by_overlap(self) -> None:
        """A fact that is derived from a trusted and an untrusted one is untrusted, however far it travels."""
        authority: list[Statement] = [p("user", 1)]
        mixed: list[Statement] = [
            p("mine", 1),
            rule(p("admin", X), p("user", X), p("mine", X)),
            rule(p("root", X), p("admin", X), p("user", X)),
            rule(p("owner", X), p("user", X)),
        ]
        token = two_blocks(authority, mixed)
        for fact in ("mine", "admin", "root", "owner"):
            assert not at_now(f"allow if {fact}(1)").check(token).allowed
            assert not at_now(f"allow if {fact}($x), user($x)").check(token).allowed
        assert at_now("allow if user(1)").check(token).allowed

    def test_rules_of_the_authority_do_not_read_the_holder(self) -> None:
        """The authority's rule is fed by a later block's fact, or by one that is derived there."""
        authority: list[Statement] = [rule(p("admin", X), p("vouched", X))]
        stated: list[Statement] = [p("vouched", 1)]
        derived: list[Statement] = [p("a", 1), rule(p("vouched", X), p("a", X))]
        for fed in (stated, derived):
            assert not at_now("allow if admin(1)").check(two_blocks(authority, fed)).allowed

    def test_request_facts_of_the_holder(self) -> None:
        """A later block that states the operation adds nothing to what the caller said."""
        token = two_blocks([check(p("operation", "read"))], [p("operation", "read")])
        assert at_now().check(token, operation="read").allowed
        assert not at_now().check(token, operation="write").allowed
        assert not at_now().check(token).allowed
        assert not at_now('allow if operation("read")').check(token, operation="write").allowed

    def test_trusting_previous_reaches_no_later_block(self) -> None:
        """A block that trusts `previous` believes what stood before it, never what is appended behind."""
        tokens = Tokens()
        asking = tokens.block(check(p("vouched", 1), scopes=[1]), version=4)
        held = chain(tokens.block(p("user", 1)), asking, tokens.block(p("vouched", 1))).open()
        assert at_now().check(held).outcome is Outcome.DENIED


SPOOFS = {
    "quote": 'x"); admin("me',
    "newline": "x\ncheck if true;\nblock 9, by the issuer",
    "return": "x\rvalid for     everything",
    "escape sequence": "x\x1b[2J\x1b[1;1Hallowed",
    "8-bit sequence": "x\x9b2J",
    "bidirectional": "x\u202egnp.exe\u2066",
    "isolates": "\u2067\u2068\u2069\u200f\u061c",
    "zero width": "ad\u200bmin\u2060\ufeff",
    "line separator": "x\u2028check if true;\u2029",
    "tag characters": "x\U000e0041\U000e007f",
    "nothing": "\x00",
    "backslash": '\\"\\n\\',
}


class TestDisplay:
    """Strings with quotes, newlines, control or bidirectional characters, to fake what is shown."""

    @pytest.mark.parametrize("spoof", SPOOFS.values(), ids=list(SPOOFS))
    def test_inspect(self, spoof: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`cap inspect`, in lines and as JSON: a subject, a fact, a check, a listed value, a context."""
        statements: list[Statement] = [
            p("user", spoof),
            p("n", [spoof], {spoof: spoof}),
            check(p("operation", spoof)),
            check(p("time", T), (T, Date(SECONDS), LT)),
        ]
        payload = Tokens().block(*statements, version=6, context=spoof)
        token = text_of(chain(payload).open())
        shell = Shell(tmp_path, monkeypatch)
        shown = shell.cap("inspect", stdin=token)
        assert shown.exit == 0
        plain = text_of(chain(Tokens().block(*_renamed(statements, spoof), version=6, context="x")).open())
        lines = shown.text.split("\n")
        assert len(lines) == len(shell.cap("inspect", stdin=plain).text.split("\n"))
        assert all(line.isprintable() for line in lines)
        assert sum(line.startswith("block ") for line in lines) == 1
        assert json.loads(shell.cap("inspect", "--json", stdin=token).stdout)["subject"] == spoof

    @pytest.mark.parametrize("spoof", SPOOFS.values(), ids=list(SPOOFS))
    def test_reason_of_a_decision(self, spoof: str) -> None:
        """The one line that says why: it stays one line, and shows what it quotes."""
        token = two_blocks([p("n", spoof)], [check(p("n", X), (X, spoof + "!", LT)), check(p("m", spoof))])
        decision = guard().check(token)
        assert not decision.allowed
        assert decision.reason.isprintable()
        unheld = guard().check(two_blocks([], [check(p("m", spoof))]), operation=spoof)
        assert unheld.outcome is Outcome.DENIED
        assert unheld.reason.isprintable()

    @pytest.mark.parametrize("spoof", SPOOFS.values(), ids=list(SPOOFS))
    def test_repr(self, spoof: str) -> None:
        """What a debugger or a log shows of a token: escaped, and never the proof."""
        token = chain(Tokens().block(p("n", spoof), context=spoof))
        shown = repr(UnverifiedBiscuit.from_bytes(token.open()))
        assert all(line.isprintable() for line in shown.split("\n"))
        assert token.last.secret.hex() not in shown


def _renamed(statements: list[Statement], spoof: str) -> list[Statement]:
    """The same statements with a harmless string."""
    return [
        p("user", "x"),
        p("n", ["x"], {"x": "x"}),
        check(p("operation", "x")),
        *statements[3:],
    ]
