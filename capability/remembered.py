"""What a guard remembers of a token that it has seen, and how that decides a request at once.

Kept for each text: its ids, until when its root key is valid, and for each form of request that was asked the
residual (`capability.datalog.residual`) of token and policy. Not kept: any decision. Revocation, the time
and the request are looked at on every call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from capability.attenuation import DEFAULT_VOCABULARY
from capability.authorization import Plan
from capability.cache import Cache
from capability.datalog.limits import Limits
from capability.datalog.program import KeyScope, PolicyKind, Program
from capability.datalog.residual import Residual, Residuals
from capability.datalog.shapes import RequestFact
from capability.datalog.terms import BOOL, BYTES, DATE, INTEGER, STRING
from capability.decision import Outcome
from capability.inspection import window
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.revocation import RevocationStatus
from capability.verified import VerifiedChains

KNOWN_SIZE: Final = 3072
"""What is remembered of a text beside its own length takes about this many bytes, its share of the chains
included.
"""

Types: TypeAlias = tuple[type, ...]
"""The Python types of a request's operation, application, resource and tenant; NoneType for what it lacks."""

_KINDS: Final = {str: STRING, int: INTEGER, bool: BOOL, bytes: BYTES}
SINGLE_TYPES: Final = frozenset({*_KINDS, type(None)})
"""Types of values that are one value, stay as they are, and may be prepared for; NoneType says nothing."""
REQUEST_NAMES: Final = (
    DEFAULT_VOCABULARY.operation,
    DEFAULT_VOCABULARY.application,
    DEFAULT_VOCABULARY.resource,
    DEFAULT_VOCABULARY.tenant,
)
_TIME: Final = RequestFact(DEFAULT_VOCABULARY.time, (DATE,))
_MAX_FORMS: Final = 8
"""How many forms of request are remembered for one token."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What a guard may remember: tokens by their text, and verified chains.

    Fewer than 2 tokens switch it off. Sizes are in bytes, estimated.
    """

    max_tokens: int = 100_000
    max_token_size: int = 512 * 1024 * 1024
    max_read_size: int = 64 * 1024 * 1024


DEFAULT_CACHE: Final = CacheLimits()


class Form:
    """A token and a policy, made ready for one form of request."""

    __slots__ = ("_judge", "_run", "_table")
    _judge: "_Judge"

    def __init__(self, residual: Residual, plan: Plan) -> None:
        self._run = residual.run
        self._table = residual.table
        judge = residual.kin.judge
        if judge is None or not judge.shared:
            judge = residual.kin.judge = _Judge(residual, plan)
        self._judge = judge

    def decide(
        self, now: int, operation: object, application: object, resource: object, tenant: object
    ) -> Outcome:
        """Returns ALLOWED, DENIED or EXPIRED; raises Unsure where the engine must decide."""
        policy, failed = self._run(self._table, now, operation, application, resource, tenant)
        if not failed and self._judge.holds[policy]:
            return Outcome.ALLOWED
        return self._judge.refusal(policy, failed, self._table, now)


class _Judge:
    """What the answers of a residual come to: one for all tokens of a family, which share all but a table.

    INVARIANT: not shared where the end of a check could depend on more of a token than one slot of its table.
    """

    __slots__ = ("_allow", "_always", "_ends", "_untimed", "holds", "shared")

    def __init__(self, residual: Residual, plan: Plan) -> None:
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


class Known:
    """What is remembered of one text: nothing here says whether it is allowed anything."""

    __slots__ = ("cleared", "forms", "ids", "valid_until")

    def __init__(self, ids: tuple[bytes, ...], valid_until: float) -> None:
        """`valid_until` is when the root key expires, in seconds since 1970."""
        self.ids = ids
        self.valid_until = valid_until
        self.forms: dict[Types, Form | None] = {}
        self.cleared: RevocationStatus | None = None
        """When the ids were last looked up and none was revoked:
        good for as long as the revision is that one.
        """

    def wants(self, types: Types) -> bool:
        """Returns whether requests of these types are to be prepared: these are not, nor are many others."""
        return types not in self.forms and len(self.forms) < _MAX_FORMS


class Setup:
    """What `replace` swaps; a check reads it once.

    INVARIANT: what is remembered of a text belongs to these keys and this policy, and goes with them.
    """

    __slots__ = ("cache", "chains", "keys", "known", "program", "residuals")

    def __init__(
        self,
        keys: KeySet | PublicKey,
        program: Program,
        cache: CacheLimits,
        limits: Limits,
        chains: VerifiedChains | None = None,
    ) -> None:
        self.keys = keys
        self.program = program
        self.cache = cache
        prefixes = 4 * cache.max_tokens if cache.max_tokens > 1 else 0
        self.chains = VerifiedChains(prefixes, cache.max_read_size) if chains is None else chains
        self.known: Cache[str | bytes, Known] = Cache(cache.max_tokens, cache.max_token_size)
        self.residuals = Residuals(limits)


def prepare(residuals: Residuals, plan: Plan, types: Types) -> Form | None:
    """Returns the form for requests of `types`, None where the engine decides each of them."""
    request = _request(types)
    residual = None if request is None else residuals.prepare(_blocks(plan), plan.program, request)
    return None if residual is None else Form(residual, plan)


def prepare_at_once(residuals: Residuals, plan: Plan, types: Types) -> Form | None:
    """Returns what `prepare` would, if that takes no evaluation as tokens like this one were seen."""
    request = _request(types)
    residual = None if request is None else residuals.at_once(_blocks(plan), plan.program, request)
    return None if residual is None else Form(residual, plan)


@lru_cache(maxsize=256)
def _request(types: Types) -> tuple[RequestFact, ...] | None:
    """Returns what requests of `types` state, None for types that are not prepared for."""
    request = [_TIME]
    for name, type_ in zip(REQUEST_NAMES, types, strict=True):
        if type_ is type(None):
            request.append(RequestFact(name, ()))
        elif type_ in _KINDS:
            request.append(RequestFact(name, (_KINDS[type_],)))
        else:
            return None
    return tuple(request)


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
