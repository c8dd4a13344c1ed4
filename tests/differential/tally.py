"""Many cases: what came of them, and the smallest form of one that the engines decide differently."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.differential.cases import Case, random_case
from tests.differential.compare import Finding, compare
from tests.differential.differences import DIFFERENCES, explanation
from tests.differential.engines import failed_to_run


@dataclass
class Tally:
    """Counts of outcomes (ours) and of explained differences, and every disagreement."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    disagreements: list[Finding] = field(default_factory=list)

    def add(self, case: Case) -> list[Finding]:
        """Runs a case, counts it, and returns what the engines disagree about."""
        result = compare(case)
        self.cases += 1
        self.outcomes[outcome_class(result.outcome)] += 1
        found = [(finding, explanation(finding)) for finding in result.findings]
        self.explained.update({difference.row for _, difference in found if difference is not None})
        wrong = [finding for finding, difference in found if difference is None]
        self.disagreements += wrong
        return wrong

    def too_often_explained(self) -> Iterator[str]:
        """Yields the rows that explain more cases than such a row should."""
        for row in {difference.row for difference in DIFFERENCES}:
            share = max(difference.share for difference in DIFFERENCES if difference.row == row)
            if self.explained[row] > share * self.cases:
                yield f"{row}: {self.explained[row]} of {self.cases} cases"

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        explained = ", ".join(f"{count} {row}" for row, count in self.explained.most_common())
        return f"{self.cases} cases: {outcomes}; deliberate differences: {explained or 'none'}"


def outcome_class(outcome: str) -> str:
    """Returns what kind of outcome a text is: `allowed`, `error`, or a form of `denied`."""
    if outcome in ("refused", "discarded"):
        return outcome
    if failed_to_run(outcome):
        return "error"
    if outcome.startswith("allowed "):
        return "allowed"
    if not outcome.endswith("the following checks failed: "):
        return "denied by checks"
    return "denied by policy" if "a deny policy matched" in outcome else "denied without policy"


def tally(seeds: Iterable[int]) -> Tally:
    """Returns what comes of the cases of `seeds`."""
    counted = Tally()
    for seed in seeds:
        counted.add(random_case(seed))
    return counted


def smallest(finding: Finding) -> Finding:
    """Returns a finding of the same kind in a case from which nothing more can be taken away."""
    while True:
        for case in finding.case.smaller():
            again = next((other for other in Tally().add(case) if other.kind == finding.kind), None)
            if again is not None:
                finding = again
                break
        else:
            return finding
