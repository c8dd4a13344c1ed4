"""One case on both engines, and what they tell differently."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from capability.datalog.parser import parse_block
from capability.datalog.program import Program
from capability.datalog.residual import Residuals
from capability.keys import PublicKey
from tests.differential.canonical import canonical
from tests.differential.cases import PUBLIC_KEYS, Case
from tests.differential.engines import (
    LIMIT,
    OURS,
    PEER,
    Refused,
    Report,
    accepts,
    builder,
    load,
    mint,
    query_of,
    read,
    report,
    token_texts,
)
from tests.paths import ANSWERING, LIMITS, engine_answer, engine_rows, grouped_answer, residual_answer
from tests.reference.evaluator import authorize

RERUNS: Final = 30
"""How often the peer is run again before an outcome of its own counts as its only one."""
PATHS: Final[Counter[str]] = Counter()
"""How our compiled path decided the cases so far."""
_RESIDUALS: Final = Residuals(LIMITS, eager_shapes=10**9)


@dataclass(frozen=True)
class Finding:
    """Something that the engines tell differently about a case."""

    case: Case
    aspect: str
    """`accepts`, `token`, `stated`, `outcome`, `world` or `answers`, and after a colon of what.

    Or `path`: what our engine says, and what our compiled path does.
    """
    ours: Any
    peers: tuple[Any, ...]
    """What the peer told: different things if its runs differ."""

    @property
    def kind(self) -> str:
        return self.aspect.partition(":")[0]

    @property
    def loaded(self) -> str:
        """Which snapshot was loaded, if any."""
        return self.aspect.partition(":")[2]

    @property
    def varies(self) -> bool:
        """Whether the peer does not decide the same thing each time."""
        return len(self.peers) > 1

    def __str__(self) -> str:
        told = "".join(f"\n  peer: {text!r}" for text in self.peers)
        return f"{self.aspect}\n  ours: {self.ours!r}{told}\n{self.case.describe()}"


@dataclass(frozen=True)
class Result:
    """What came of a case: our outcome, and the findings; `discarded` when the peer reached a limit."""

    outcome: str
    findings: tuple[Finding, ...] = ()
    discarded: bool = False


def compare(case: Case) -> Result:
    """Runs a case on both engines."""
    try:
        data = mint(case)
        token, peers_token = read(OURS, case, data), read(PEER, case, data)
        ours, peers = builder(OURS, case), builder(PEER, case)
        query, peers_query = query_of(OURS, case.query), query_of(PEER, case.query)
    except Refused:
        accepted, peers_accept = accepts(OURS, case), accepts(PEER, case)
        if accepted == peers_accept and not all(accepted.values()):
            return Result("refused")
        return Result("refused", (Finding(case, "accepts", accepted, (peers_accept,)),))
    findings = list(_compare_tokens(case, token, peers_token))
    findings += _compare_paths(case, token, ours.program)
    authorizer = ours.build(token)
    fresh = authorizer.raw_snapshot()
    told = report(authorizer, query)

    def again() -> Report:
        return report(builder(PEER, case).build(peers_token), peers_query)

    first = peers.build(peers_token)
    peers_fresh = first.raw_snapshot()
    peer_told = report(first, peers_query)
    if LIMIT in (peer_told.outcome, *peer_told.answers):
        return Result("discarded", discarded=True)
    findings += _differences(case, "", told, peer_told, again)
    if case.snapshots and all(finding.kind == "token" for finding in findings):
        findings += _compare_builders(case, ours, peers)
        findings += _load_ours(case, told, {"fresh": fresh, "run": authorizer.raw_snapshot()}, peers_query)
        findings += _load_peers(case, told, {"fresh": peers_fresh, "run": first.raw_snapshot()}, query)
    return Result(told.outcome, tuple(findings))


def _compare_tokens(case: Case, ours: Any, peers: Any) -> Iterator[Finding]:
    mine, theirs = token_texts(ours), token_texts(peers)
    for name, value in mine.items():
        if value != theirs[name] and canonical(value) != canonical(theirs[name]):
            yield Finding(case, f"token:{name}", canonical(value), (canonical(theirs[name]),))


def _compare_paths(case: Case, token: Any, program: Program) -> Iterator[Finding]:
    blocks = [
        (block.program, None if key is None else key.scope)
        for block, key in zip(token.blocks, token.external_keys, strict=True)
    ]
    answer = residual_answer(_RESIDUALS, blocks, program)
    PATHS[answer if isinstance(answer, str) else f"decided {answer[0] >= 0}"] += 1
    if not isinstance(answer, str):
        expected = engine_answer(blocks, program)
        if answer != expected:
            yield Finding(case, "path", expected, (answer,))
    grouped = grouped_answer(ANSWERING, blocks, program)
    if not isinstance(grouped, str):
        PATHS["grouped"] += 1
        told = (engine_answer(blocks, program), engine_rows(blocks, program))
        if grouped != told:
            yield Finding(case, "path", told, (grouped,))


def _differences(
    case: Case, loaded: str, ours: Report, peers: Report, again: Callable[[], Report]
) -> Iterator[Finding]:
    """Yields what differs between two reports; the peer is asked again, in case that its runs differ."""
    suffix = f":{loaded}" if loaded else ""
    runs = [peers]
    for aspect in ("stated", "outcome", "world", "answers"):
        told, peer_told = getattr(ours, aspect), getattr(peers, aspect)
        # Of a world that failed to run there is nothing to compare: an engine may have stopped anywhere.
        if told == peer_told or (aspect in ("stated", "world") and not (told and peer_told)):
            continue
        told = canonical(told)
        if told == canonical(peer_told):
            continue
        while len(runs) < RERUNS:
            runs.append(again())
        all_told = dict.fromkeys(canonical(getattr(run, aspect)) for run in runs)
        yield Finding(case, aspect + suffix, told, tuple(all_told))


def _compare_builders(case: Case, ours: Any, peers: Any) -> Iterator[Finding]:
    """Yields what differs once each engine has read the other's snapshot of a builder."""
    for api, other, snapshot in ((OURS, peers, ours.raw_snapshot()), (PEER, ours, peers.raw_snapshot())):
        reader = PEER if api is OURS else OURS
        try:
            loaded = load(reader, snapshot, of_builder=True)
        except Refused as error:
            yield Finding(case, "accepts:builder", "", (str(error),))
        else:
            pair = (repr(other), repr(loaded)) if reader is PEER else (repr(loaded), repr(other))
            if canonical(pair[0]) != canonical(pair[1]):
                yield Finding(case, "stated:builder", pair[0], pair[1:])


def _load_ours(case: Case, told: Report, snapshots: dict[str, bytes], query: Any) -> Iterator[Finding]:
    """Yields what the peer tells differently of authorizers that it read from our snapshots."""
    if _has_externs(case):
        return
    for state, snapshot in snapshots.items():
        again = partial(_loaded_report, PEER, snapshot, query)
        try:
            peers = again()
        except Refused as error:
            yield Finding(case, f"accepts:our {state} snapshot", "", (str(error),))
            continue
        yield from _differences(case, f"our {state} snapshot", _as_loaded(told, state), peers, again)


def _load_peers(case: Case, told: Report, snapshots: dict[str, bytes], query: Any) -> Iterator[Finding]:
    """Yields what we tell differently of authorizers that we read from the peer's snapshots."""
    if _has_externs(case):
        return
    for state, snapshot in snapshots.items():
        try:
            ours = _loaded_report(OURS, snapshot, query)
        except Refused as error:
            yield Finding(case, f"accepts:peer's {state} snapshot", str(error), ("",))
            continue
        expected = _as_loaded(told, state)
        yield from _differences(case, f"peer's {state} snapshot", ours, expected, partial(_same, expected))


def _loaded_report(api: Any, snapshot: bytes, query: Any) -> Report:
    return report(load(api, snapshot, of_builder=False), query)


def _same(told: Report) -> Report:
    return told


def _as_loaded(told: Report, state: str) -> Report:
    """Returns what an authorizer says that was loaded from a snapshot taken before or after it ran."""
    return replace(told, stated=told.world) if state == "run" else told


def _has_externs(case: Case) -> bool:
    return "extern::" in "".join(
        [case.authorizer.source, case.query, *(block.source for block in case.blocks)]
    )


def our_report(case: Case) -> Report | None:
    """Returns what this engine alone tells of a case; None when a source of it is refused."""
    try:
        return report(builder(OURS, case).build(read(OURS, case, mint(case))), query_of(OURS, case.query))
    except Refused:
        return None


def reference_errs(case: Case) -> bool:
    """Returns whether the naive evaluator, which tries every binding, fails; it knows no extern functions."""
    if _has_externs(case):
        return False
    program = builder(OURS, case).program
    keys = [
        None if block.signer is None else PublicKey(PUBLIC_KEYS[block.signer]).scope for block in case.blocks
    ]
    programs = [parse_block(block.source) for block in case.blocks]
    return authorize(list(zip(programs, keys, strict=True)), program).decision == "error"
