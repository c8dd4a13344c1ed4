"""What a guard remembers of a token that it has seen, and how that decides a request at once.

Kept for each text: its ids, until when its root key is valid, and for each shape of request that was asked
the residual (`capability.datalog.residual`) of token and policy; where there is none, the evaluation of token
and policy up to the request. Not kept: any decision. Revocation, the time and the request are looked at on
every call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from capability.answers import Patterns, Row
from capability.attenuation import DEFAULT_VOCABULARY
from capability.authorization import Evaluation, Plan
from capability.cache import Cache
from capability.datalog.limits import Limits
from capability.datalog.program import KeyScope, PolicyKind, Program
from capability.datalog.shapes import RequestFact
from capability.datalog.terms import DATE
from capability.decision import Answer, Outcome
from capability.inspection import expiry, subject, window
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.request import RequestShape
from capability.revocation import RevocationIds, RevocationStatus
from capability.tokens import Biscuit
from capability.verified import READ_FACTOR, VerifiedChains

if TYPE_CHECKING:
    from capability.datalog.preparation import Residual
    from capability.datalog.residual import Residuals

KNOWN_SIZE: Final = 3072
"""What is remembered of a text beside its own length takes about this many bytes, its share of the chains
included.
"""

_TABLE_SIZE: Final = 1024
"""How much of a table is part of KNOWN_SIZE, in bytes."""
_FACT_SIZE: Final = 400
"""What a fact of a kept evaluation takes, in bytes, about."""
_TIME: Final = RequestFact(DEFAULT_VOCABULARY.time, (DATE,))
_MAX_FORMS: Final = 8
"""How many shapes of request are remembered for one token."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What a guard may remember: tokens by their text, and verified chains.

    Fewer than 2 tokens switch it off. Sizes are in bytes, estimated.
    """

    max_tokens: int = 100_000
    max_token_size: int = 512 * 1024 * 1024
    max_read_size: int = 64 * 1024 * 1024


DEFAULT_CACHE: Final = CacheLimits()
_NONE: Final[tuple[Row, ...]] = ()
"""What a decision that is no allow answers."""


class Form:
    """A token and a policy, made ready for requests of one shape."""

    __slots__ = (
        "_answering",
        "_answers",
        "_judge",
        "holds",
        "run",
        "shape",
        "size",
        "table",
    )

    def __init__(self, residual: "Residual", plan: Plan, shape: RequestShape, patterns: Patterns) -> None:
        self.shape = shape
        self.size = max(0, residual.size - _TABLE_SIZE)
        """What it takes beyond what every token does, in bytes, about."""
        self._answering = patterns if residual.answering else None
        self._answers: tuple[Any, ...] = (
            residual.answers if residual.answering else patterns.select(residual.answers)
        )
        self.run = residual.run
        self.table = residual.table
        judge = residual.kin.judge
        if judge is None or not judge.shared:
            judge = residual.kin.judge = _Judge(residual, plan)
        self._judge: _Judge = judge
        self.holds = judge.holds
        """Whether each policy allows, by its index."""

    def decide(self, now: int, values: tuple[Any, ...]) -> tuple[Outcome, Any]:
        """Returns ALLOWED, DENIED or EXPIRED, and for `answers` what is to be answered.

        Raises Unsure where the engine must decide.
        """
        found = self.run(self.table, now, *values)
        if not found[1] and self.holds[found[0]]:
            return Outcome.ALLOWED, found
        return self.refusal(now, found)

    def refusal(self, now: int, found: Any) -> tuple[Outcome, Any]:
        """Returns what `decide` does, where `run` found no policy that holds without a failed check."""
        return self._judge.refusal(found[0], found[1], self.table, now), _NONE

    def answers(self, derived: Any) -> tuple[Answer, ...]:
        """Returns the answers of a decision from what `decide` gave beside its outcome."""
        if derived is _NONE:
            return ()
        if self._answering is None:
            return self._answers
        return self._answering.select((*self._answers, *derived[2]))


class _Judge:
    """What the answers of a residual come to: one for all tokens of a family, which share all but a table.

    INVARIANT: not shared where the end of a check could depend on more of a token than one slot of its table.
    """

    __slots__ = ("_allow", "_always", "_ends", "_untimed", "holds", "shared")

    def __init__(self, residual: "Residual", plan: Plan) -> None:
        # -1, for no policy, finds the last one
        self._allow = (*(policy.kind is PolicyKind.ALLOW for policy in plan.program.policies), False)
        self._always = _ends(plan, residual.failed_always)
        self.holds = self._allow if not self._always else (False,) * len(self._allow)
        ends = _ends(plan, residual.checks)
        self.shared = all(slots is not None and len(slots) <= 1 for slots in residual.dates)
        self._ends = tuple(
            (None, end)
            if end is None or not self.shared or not slots
            else (slots[0], end - residual.table[slots[0]])
            for end, slots in zip(ends, residual.dates, strict=True)
        )
        self._untimed = sum(1 << n for n, end in enumerate(ends) if end is None)

    def refusal(self, policy: int, failed: int, table: tuple[Any, ...], now: int) -> Outcome:
        """Returns EXPIRED if an allow policy matched and the time of all that failed is over, else DENIED."""
        if failed & self._untimed or not self._allow[policy]:
            return Outcome.DENIED
        ends = list(self._always)
        for number, (slot, end) in enumerate(self._ends):
            if failed >> number & 1 and end is not None:
                ends.append(end if slot is None else table[slot] + end)
        return Outcome.EXPIRED if all(end is not None and now >= end for end in ends) else Outcome.DENIED


class About(NamedTuple):
    """What a decision says of a token beside its ids."""

    subject: str | None
    expires_at: datetime | None
    key_id: int | None


def about(biscuit: Biscuit) -> About:
    """Returns what decisions say of `biscuit`."""
    return About(
        subject(biscuit.blocks[0].program),
        expiry(block.program for block in biscuit.blocks),
        biscuit.root_key_id(),
    )


class Known:
    """What is remembered of one text: nothing here says whether it is allowed anything."""

    __slots__ = ("about", "base", "cleared", "forms", "ids", "valid_until")

    def __init__(self, ids: RevocationIds, valid_until: float) -> None:
        """`ids` are those of the blocks and then the root key's mark.

        `valid_until` is when the root key expires, in seconds since 1970.
        """
        self.ids = ids
        self.valid_until = valid_until
        self.about: About | None = None
        self.base: Evaluation | None = None
        """Token and policy, run to the fixpoint; for `fork` alone. Only where the engine is needed again."""
        self.forms: dict[object, Form | None] = {}
        self.cleared: RevocationStatus | None = None
        """When the ids were last looked up and none was revoked:
        good for as long as the revision is that one.
        """

    def wants(self, form: object) -> bool:
        """Returns whether requests of this form are to be prepared: these are not, nor are many others."""
        return form not in self.forms and len(self.forms) < _MAX_FORMS


class Setup:
    """What `replace` swaps; a check reads it once.

    INVARIANT: what is remembered of a text belongs to these keys and this policy, and goes with them.
    """

    __slots__ = ("_limits", "_residuals", "cache", "chains", "keys", "known", "patterns", "program")

    def __init__(
        self,
        keys: KeySet | PublicKey,
        program: Program,
        cache: CacheLimits,
        limits: Limits,
        patterns: Patterns,
        chains: VerifiedChains | None = None,
    ) -> None:
        self.keys = keys
        self.program = program
        self.cache = cache
        prefixes = 4 * cache.max_tokens if cache.max_tokens > 1 else 0
        self.chains = VerifiedChains(prefixes, cache.max_read_size) if chains is None else chains
        self.known: Cache[str | bytes, Known] = Cache(cache.max_tokens, cache.max_token_size)
        self.patterns = patterns
        self._limits = limits
        self._residuals: Residuals | None = None

    @property
    def residuals(self) -> "Residuals":
        """What is prepared for tokens of this policy; loaded when something is, so never where no token is
        remembered.
        """
        if self._residuals is None:
            from capability.datalog.residual import Residuals

            self._residuals = Residuals(self._limits, answers=self.patterns.signatures)
        return self._residuals

    def forget(self) -> None:
        """Drops all that is remembered."""
        self.chains.clear()
        self.known.clear()
        if self._residuals is not None:
            self._residuals.forget()

    def prepare(self, plan: Plan, shape: RequestShape) -> Form | None:
        """Returns the form for requests of `shape`, None where the engine decides each of them.

        Raises NotYet while that is not known.
        """
        residual = self.residuals.prepare(_blocks(plan), plan.program, (_TIME, *shape.facts))
        return None if residual is None else Form(residual, plan, shape, self.patterns)

    def prepare_at_once(self, plan: Plan, shape: RequestShape) -> Form | None:
        """Returns what `prepare` would, if that takes no evaluation as tokens like this one were seen."""
        residual = self.residuals.at_once(_blocks(plan), plan.program, (_TIME, *shape.facts))
        return None if residual is None else Form(residual, plan, shape, self.patterns)

    def remember(self, token: str | bytes, known: Known) -> None:
        """Keeps what is known of `token`, or keeps it again when it has become larger."""
        size = KNOWN_SIZE + len(token) + sum(form.size for form in known.forms.values() if form is not None)
        if known.base is not None:
            size += READ_FACTOR * len(token) + _FACT_SIZE * known.base.world.fact_count
        self.known.put(token, known, size)


def _blocks(plan: Plan) -> list[tuple[Program, KeyScope | None]]:
    return [(block.program, block.external_key) for block in plan.blocks]


def _ends(plan: Plan, checks: Sequence[tuple[int | None, int]]) -> list[int | None]:
    """Returns for each check when the time that it asks for is over, None for one that asks for no time."""
    ends = []
    for block, index in checks:
        program = plan.program if block is None else plan.blocks[block].program
        found = window(program.checks[index])
        ends.append(None if found is None else found.ended_at)
    return ends
