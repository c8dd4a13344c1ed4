"""A guard that saw tokens like this one decides as one that never saw any; `fuzz --relatives` tries more."""

from collections.abc import Sequence

import pytest

from capability.datalog.families import Signature
from capability.datalog.program import Program
from tests.differential.first_sight import Sights, disagreement, sights, smallest
from tests.differential.relatives import random_relatives

CASES = 80


def test_relatives_are_decided_as_if_they_were_alone() -> None:
    counted = Sights()
    wrong = sights(range(CASES), counted)
    assert wrong is None, wrong
    assert counted.at_first_sight > CASES / 3, counted
    assert min(counted.outcomes[outcome] for outcome in ("allowed", "denied", "expired")) > 3, counted


def test_a_seed_stands_for_one_case() -> None:
    assert random_relatives(7) == random_relatives(7)
    assert random_relatives(7).describe() != random_relatives(8).describe()


def _all_columns(known: Sequence[Program], changing: frozenset[Signature]) -> set[tuple[str, int, int]]:
    facts = [fact for program in known for fact in program.facts]
    return {(fact.name, len(fact.terms), column) for fact in facts for column in range(len(fact.terms))}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        pytest.param("families._silent_columns", _all_columns, id="constants that are asked for"),
        pytest.param("families.Family.table_of", lambda family, _: family.table, id="another's table"),
    ],
)
def test_a_family_that_takes_too_much_for_equal_is_found_out(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: object
) -> None:
    monkeypatch.setattr(f"capability.datalog.{name}", wrong)
    cases = (random_relatives(seed) for seed in range(CASES))
    found = next((case for case in cases if disagreement(case, Sights()) is not None), None)
    assert found is not None
    assert len(smallest(found).steps) <= 4
