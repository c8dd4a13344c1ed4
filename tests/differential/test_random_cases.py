"""10,000 random cases with fixed seeds: this engine and biscuit-python tell the same of each."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from capability.datalog.engine import World
from capability.keys import KeyPair, PrivateKey
from tests.differential.canonical import canonical
from tests.differential.cases import EXTERNAL_KEYS, PUBLIC_KEYS, Block, Case, random_case
from tests.differential.compare import PATHS, Finding
from tests.differential.differences import DIFFERENCES, explanation
from tests.differential.tally import Tally, smallest, tally

CASES = 10_000
CHUNK = 250
LEAST = {
    "allowed": 0.15,
    "error": 0.1,
    "denied by checks": 0.2,
    "denied by policy": 0.02,
    "denied without policy": 0.02,
}
"""The least share of each outcome in every chunk."""
ROOT = Path(__file__).resolve().parents[2]

CASE = Case(
    seed=0,
    blocks=(Block(("n(1)", "n(2)")), Block(("check if n(1)",))),
    authorizer=Block(('user("a")', "reject if false or true", "allow if true")),
    query="found($x) <- n($x)",
    minted_here=True,
    printed=False,
    snapshots=True,
    p256_root=False,
)


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_both_engines_tell_the_same(first: int) -> None:
    counted = tally(range(first, first + CHUNK))
    if counted.disagreements:
        pytest.fail(f"{len(counted.disagreements)} disagreements\n\n{smallest(counted.disagreements[0])}")
    rare = {outcome for outcome, share in LEAST.items() if counted.outcomes[outcome] < share * CHUNK}
    assert not rare, f"too few: {rare}; {counted}"
    assert counted.outcomes["refused"] + counted.outcomes["discarded"] <= 0.02 * CHUNK, counted
    assert not list(counted.too_often_explained()), counted


def test_the_compiled_path_decides_many_of_them() -> None:
    PATHS.clear()
    tally(range(100))
    assert PATHS["decided True"] >= 10, PATHS
    assert PATHS["decided False"] >= 2, PATHS


def test_a_seed_stands_for_one_case() -> None:
    program = "from tests.differential.cases import *; print([random_case(seed) for seed in range(50)])"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed, "PYTHONUTF8": "1"},
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(told) == 1
    assert str(random_case(49)).encode() in told.pop()


def test_every_exemption_is_a_row_of_the_table() -> None:
    table = (ROOT / "spec" / "DIFFERENCES.md").read_text(encoding="utf-8")
    rows = {difference.row for difference in DIFFERENCES} | {"printing-order", "printing-escapes"}
    assert not {row for row in rows if f"| `{row}` |" not in table}


def test_the_keys_of_third_parties_are_what_sources_name() -> None:
    pairs = [KeyPair.from_private_key(PrivateKey(text)) for text in EXTERNAL_KEYS]
    assert tuple(repr(pair.public_key) for pair in pairs) == PUBLIC_KEYS


def test_a_wrong_engine_is_found_out_and_its_case_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "matches_all", World.matches)
    wrong = [finding for seed in range(100) for finding in Tally().add(random_case(seed))]
    assert wrong
    found = smallest(wrong[0]).case
    statements = [statement for block in (*found.blocks, found.authorizer) for statement in block.statements]
    assert any(statement.startswith("check all") for statement in statements)
    assert len(statements) <= 3


ALLOWED = "allowed 0"
DENIED = "authorization failed: an allow policy matched (policy index: 0), and the following checks failed: "
ERROR = "Datalog  execution failure: Overflow"


@pytest.mark.parametrize(
    ("aspect", "ours", "peers"),
    [
        ("outcome", ALLOWED, (f"{DENIED}Check n°0 in block n°1: check if n(1)",)),
        ("outcome", ALLOWED, (ALLOWED, ERROR)),
        ("outcome", ERROR, (ALLOWED,)),
        ("outcome", ERROR, ("Datalog  execution failure: Division by zero",)),
        ("answers", (ERROR,), ("found(1)",)),
        ("answers", ("found(1)",), ("found(1)", "found(2)")),
        ("world", "n(1)", ("n(2)",)),
        ("token:sources", ["a", "b"], (["a", "c"],)),
        ("accepts:our run snapshot", "", ("refused",)),
        ("accepts", "", ("refused",)),
    ],
)
def test_nothing_else_is_explained(aspect: str, ours: object, peers: tuple[object, ...]) -> None:
    plain = replace(CASE, authorizer=Block(("allow if true",)))
    assert explanation(Finding(plain, aspect, ours, peers)) is None


def test_a_difference_that_the_table_has_is_explained() -> None:
    counted = Tally()
    counted.add(CASE)
    assert counted.disagreements == []
    assert counted.explained == Counter({"reject-if-alternatives": 1})


def test_texts_in_one_form() -> None:
    ours = '// Facts:\n// origin: 0\na({"b", "c"});\nb([{2: 1, "x": {1}}], "a\\"b\\\\c\\nd");'
    peers = '// Facts:\n// origin: 0\nb([{"x": {1}, 2: 1}], "a"b\\c\nd");\na({"c", "b"});'
    assert canonical(ours) == canonical(peers)
    for text in ("a([2, 1], f(y, x))", 'a({"x, y"}, {[2, 1]})'):
        assert canonical(text) == text
