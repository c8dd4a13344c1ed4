"""The deliberate differences that random cases meet: a row of spec/DIFFERENCES.md each, and when it applies.

Two more rows, `printing-order` and `printing-escapes`, are out of the way before anything is compared
(`canonical`). Each predicate is as narrow as its row: it looks at what was told, and asks a witness where
there is one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from tests.differential.cases import Block, Case
from tests.differential.compare import Finding, compare, our_report, reference_errs
from tests.differential.engines import failed_to_run

_REJECT: Final = "reject if "
_OR: Final = " or "


@dataclass(frozen=True)
class Difference:
    """A row of the table by its name, and the largest share of random cases that it may explain."""

    row: str
    applies: Callable[[Finding], bool]
    share: float


def _another_error_is_named(finding: Finding) -> bool:
    """Both fail to run; which of several errors is named depends on which binding comes first.

    That there are several shows in the peer's runs, or in what we name once a statement less is there.
    """
    if finding.kind not in ("outcome", "answers") or not failed_to_run(finding.ours):
        return False
    if not all(map(failed_to_run, finding.peers)):
        return False
    return finding.varies or any(
        getattr(report, finding.kind) in finding.peers
        for report in map(our_report, finding.case.smaller())
        if report is not None
    )


def _error_beats_match(finding: Finding) -> bool:
    """We fail to run because of one binding; the peer decides by another one if that comes first."""
    if finding.kind not in ("outcome", "answers") or not failed_to_run(finding.ours):
        return False
    if all(map(failed_to_run, finding.peers)):
        return False
    # INVARIANT: somebody else must see the error too: the peer in another run, or the reference.
    return any(map(failed_to_run, finding.peers)) or (
        finding.kind == "outcome" and reference_errs(finding.case)
    )


def _rejects_on_any_query(finding: Finding) -> bool:
    """There a `reject if A or B` fails only when both match, and B is not tried when A does not match.

    Written as two checks, it must be decided alike.
    """
    split = _with_split_rejections(finding.case)
    if finding.kind != "outcome" or (split.blocks, split.authorizer) == (
        finding.case.blocks,
        finding.case.authorizer,
    ):
        return False
    return None not in explanations(compare(split).findings)


def _with_split_rejections(case: Case) -> Case:
    return replace(
        case, blocks=tuple(map(_split, case.blocks)), authorizer=_split(case.authorizer), snapshots=False
    )


def _split(block: Block) -> Block:
    statements: list[str] = []
    for statement in block.statements:
        if statement.startswith(_REJECT):
            queries = statement.removeprefix(_REJECT).split(_OR)
            statements += [f"{_REJECT}{query}" for query in queries]
        else:
            statements.append(statement)
    return replace(block, statements=tuple(statements))


def _block_clause_is_not_printed(finding: Finding) -> bool:
    """The peer does not print the `trusting` at the head of a block; it prints all else alike."""
    if finding.aspect != "token:sources":
        return False
    without = [
        source.partition(";\n")[2] if block.has_clause else source
        for source, block in zip(finding.ours, finding.case.blocks, strict=True)
    ]
    return finding.peers == (without,)


def _snapshot_of_a_third_party_world(finding: Finding) -> bool:
    """The peer does not read snapshots of worlds with third-party blocks, its own included."""
    return finding.kind == "accepts" and finding.loaded.startswith("our ") and finding.case.has_third_party


DIFFERENCES: Final = (
    Difference("error-beats-match", _another_error_is_named, 0.01),
    Difference("error-beats-match", _error_beats_match, 0.02),
    Difference("reject-if-alternatives", _rejects_on_any_query, 0.04),
    Difference("block-trusting", _block_clause_is_not_printed, 0.1),
    Difference("third-party-snapshots", _snapshot_of_a_third_party_world, 0.1),
)


def explanation(finding: Finding) -> Difference | None:
    """Returns the difference that explains a finding; None means that the engines disagree."""
    return next((difference for difference in DIFFERENCES if difference.applies(finding)), None)


def explanations(findings: Iterable[Finding]) -> set[Difference | None]:
    """Returns what explains findings, and None if something does not."""
    return set(map(explanation, findings))
