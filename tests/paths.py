"""Decides a case on both paths, the engine's and the residual's, and holds the two together.

The authorizer's facts that have scalar terms only stand for the request: the residual is made without them
and run with them, as a guard does: each for itself, and those of one name and types as rows of one argument.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from capability.answers import Row, told
from capability.authorization import Evaluation, Plan
from capability.datalog.errors import DatalogError
from capability.datalog.lifting import scalar
from capability.datalog.limits import Limits
from capability.datalog.program import KeyScope, Program
from capability.datalog.residual import Residuals
from capability.datalog.shapes import RequestFact, Unsure
from capability.request import taken_apart
from capability.wire.snapshot import LoadedBlock

LIMITS = Limits()
MAX_REQUEST = 6

SIGNATURES = frozenset((name, arity) for name in "pqr" for arity in range(1, 4))
"""What is asked for as answers: all that random programs derive."""
ANSWERING = Residuals(LIMITS, eager_shapes=10**9, answers=SIGNATURES)

Answer = tuple[int, frozenset[tuple[int | None, int]]]
"""The policy that matched (-1: none), and the failed checks by block and index."""


def engine_answer(blocks: Sequence[tuple[Program, KeyScope | None]], authorizer: Program) -> Answer | None:
    """Returns what the engine says, None for an error."""
    plan = Plan([LoadedBlock(program, key) for program, key in blocks], authorizer)
    evaluation = Evaluation(plan, LIMITS)
    try:
        evaluation.run()
        verdict = evaluation.judge()
    except DatalogError:
        return None
    failed = frozenset((failure.block, failure.index) for failure in verdict.failures)
    return (-1 if verdict.policy is None else verdict.policy.index, failed)


def residual_answer(
    residuals: Residuals, blocks: Sequence[tuple[Program, KeyScope | None]], authorizer: Program
) -> Answer | str:
    """Returns what the residual says, or why it says nothing: "no residual" or "unsure"."""
    asked = [fact for fact in authorizer.facts if all(scalar(kind) for kind, _ in fact.terms)][-MAX_REQUEST:]
    rest = replace(authorizer, facts=tuple(fact for fact in authorizer.facts if fact not in asked))
    request = tuple(RequestFact(fact.name, tuple(kind for kind, _ in fact.terms)) for fact in asked)
    residual = residuals.prepare(blocks, rest, request)
    if residual is None:
        return "no residual"
    try:
        policy, failed = residual.run(residual.table, *[value for fact in asked for _, value in fact.terms])
    except Unsure:
        return "unsure"
    bits = {name for bit, name in enumerate(residual.checks) if failed >> bit & 1}
    return (policy, frozenset({*bits, *residual.failed_always}))


def grouped_answer(
    residuals: Residuals, blocks: Sequence[tuple[Program, KeyScope | None]], authorizer: Program
) -> tuple[Answer, frozenset[Row]] | str:
    """Returns what the residual for rows of facts says, and what it answers; or why it says nothing."""
    asked = [fact for fact in authorizer.facts if all(scalar(kind) for kind, _ in fact.terms)]
    rest = replace(authorizer, facts=tuple(fact for fact in authorizer.facts if fact not in asked))
    apart = taken_apart(asked, 0)
    assert apart is not None
    shape, values = apart
    residual = residuals.prepare(blocks, rest, shape.facts)
    if residual is None:
        return "no residual"
    try:
        found = residual.run(residual.table, *values)
    except Unsure:
        return "unsure"
    bits = {name for bit, name in enumerate(residual.checks) if found[1] >> bit & 1}
    rows = {*residual.answers, *(found[2] if residual.answering else ())}
    return (found[0], frozenset({*bits, *residual.failed_always})), frozenset(rows)


def engine_rows(blocks: Sequence[tuple[Program, KeyScope | None]], authorizer: Program) -> frozenset[Row]:
    """Returns what the engine answers of a case that it decides."""
    asked = [fact for fact in authorizer.facts if all(scalar(kind) for kind, _ in fact.terms)]
    rest = replace(authorizer, facts=tuple(fact for fact in authorizer.facts if fact not in asked))
    evaluation = Evaluation(Plan([LoadedBlock(program, key) for program, key in blocks], rest), LIMITS)
    evaluation.run()
    fork = evaluation.fork()
    fork.run(asked)
    return frozenset(told(fork, SIGNATURES))


def assert_paths_agree(
    residuals: Residuals,
    blocks: Sequence[tuple[Program, KeyScope | None]],
    authorizer: Program,
    seen: Counter[str],
) -> None:
    """Fails unless the residual, where it answers, answers as the engine; counts what happened in `seen`."""
    answer = residual_answer(residuals, blocks, authorizer)
    if isinstance(answer, str):
        seen[answer] += 1
        return
    expected = engine_answer(blocks, authorizer)
    assert answer == expected
    _assert_grouped_agrees(blocks, authorizer, expected, seen)
    seen["allowed" if answer[0] >= 0 and not answer[1] else "not allowed"] += 1


def _assert_grouped_agrees(
    blocks: Sequence[tuple[Program, KeyScope | None]],
    authorizer: Program,
    expected: Answer | None,
    seen: Counter[str],
) -> None:
    grouped = grouped_answer(ANSWERING, blocks, authorizer)
    if not isinstance(grouped, str):
        assert grouped == (expected, engine_rows(blocks, authorizer))
        seen["grouped"] += 1
        seen["rows answered"] += len(grouped[1])
