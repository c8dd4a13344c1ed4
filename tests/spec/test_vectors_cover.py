"""The vectors are whole: many enough, every operator, every attack, every code, and made anew the same."""

import json
import re

import pytest

from capability import errors
from capability.datalog.errors import EvaluationReason, LimitKind
from capability.datalog.program import Binary, BinaryKind, Closure, Op, Unary, UnaryKind
from spec.generate.files import DIRECTORY, TOPICS, contents
from tests.spec.test_vectors import RUNNERS, VECTORS, load

SPEC = DIRECTORY.parent

ATTACKS = {
    "a key table that the holder alters": "third_parties/public-key-confusion",
    "a symbol table that the holder alters": "third_parties/symbol-confusion",
    "a request with the legacy key": "third_parties/request-with-legacy-key",
    "a request with the legacy key table": "third_parties/request-with-legacy-key-table",
    "a third-party block on another token": "third_parties/third-party-block-replayed",
    "a third-party block under another key": "third_parties/third-party-block-under-another-key",
    "a third-party block without its signature": "third_parties/third-party-signature-stripped",
    "a third-party block without its version": "third_parties/third-party-version-stripped",
    "CVE-2022-31053": "attacks/block-version-2",
    "a small-order root key": "attacks/root-key-identity",
    "a non-canonical root key": "attacks/root-key-y-equal-to-the-prime",
    "a small-order next key": "attacks/next-key-of-small-order",
    "a small-order external key": "attacks/external-key-of-small-order",
    "S >= L": "attacks/s-not-reduced",
    "small-order R": "attacks/small-order-r",
    "ECDSA that is not strict DER": "attacks/ecdsa-long-length",
    "an uncompressed point": "attacks/uncompressed-point",
    "the twin of a revoked ECDSA signature": "attacks/revoked-ecdsa-twin",
    "trailing bytes": "attacks/trailing-bytes",
    "truncation": "attacks/truncated",
    "blocks reordered": "attacks/blocks-reordered",
    "a block duplicated": "attacks/block-duplicated",
    "a block removed": "attacks/last-block-removed",
    "an empty proof": "attacks/proof-empty",
    "the secret of another key": "attacks/proof-of-another-key",
    "an undeclared symbol": "contents/symbol-undeclared",
    "a redeclared symbol": "contents/symbol-redeclared",
    "an unknown scope key": "contents/key-undeclared",
    "a version that the contents exceed": "formats/version-reject-if-too-low",
    "nesting that exhausts a stack": "abuse/nesting-far-too-deep",
    "an unknown outer field": "attacks/trailing-field",
    "a changed root key id": "attacks/root-key-id-changed",
    "base64 of another spelling": "formats/trailing-bits",
    "known signatures over another payload": "attacks/payload-changed",
    "a regular expression that burns CPU": "abuse/regex-that-backtracks",
    "a join that burns CPU": "abuse/join-that-explodes",
    "a huge token": "attacks/token-too-long",
    "a huge string": "authorization/string-too-long",
    "rules that flood the world": "abuse/rule-that-floods-the-world",
    "quotes in a string": "abuse/printed-quote",
    "new lines in a string": "abuse/printed-newline",
    "control characters in a string": "abuse/shown-control",
    "bidirectional characters in a string": "abuse/shown-bidirectional",
    "several times": "abuse/time-stated-twice",
    "signed revocations of another key": "revocations/refused-another-key",
    "signed revocations that were altered": "revocations/refused-altered",
    "signed revocations of an earlier day": "revocations/refused-older-revision",
    "signed revocations past their end": "revocations/refused-expired",
    "a time stated by the holder": "abuse/time-stated-by-a-later-block",
}

WITHOUT_VECTOR = {
    "capability": "a base class",
    "token.invalid": "a base class",
    "format.invalid": "a base class",
    "authorization": "a base class",
    "execution": "a base class",
    "limit": "a base class",
    "config": "a service's settings",
    "store": "a base class",
    "store.unavailable": "a store's failure",
    "store.schema": "a store's failure",
    "store.url": "a store's failure",
    "store.rollback": "a store's failure",
    "revocations.invalid": "a base class",
    "store.not_empty": "a store's failure",
    "store.dump": "a store's failure",
    "token.block": "misuse of the API",
    "token.sealed": "misuse of the API",
    "token.serialization": "misuse of the API",
    "limit.time": "depends on the machine",
    "execution.invalid_stack": "such expressions are refused when they are read",
    "execution.nesting": "values that deep cannot be built within the bounds on a token",
}


def codes() -> set[str]:
    """Returns the code of every error class, and of every reason to fail or stop."""
    classes = {value for value in vars(errors).values() if isinstance(value, type)}
    found = {kind.code for kind in classes if issubclass(kind, errors.CapabilityError)}
    found |= {f"execution.{reason.value}" for reason in EvaluationReason}
    return found | {f"limit.{kind.value}" for kind in LimitKind}


def written_codes() -> set[str]:
    """Returns the codes that errors are given where they are raised."""
    sources = (path.read_text(encoding="utf-8") for path in (SPEC.parent / "capability").rglob("*.py"))
    return {code for source in sources for code in re.findall(r'\bcode ?= ?"(\w+\.\w+)"', source)}


def expected_codes() -> set[str]:
    return {vector["expect"] for vector in VECTORS.values() if "expect" in vector}


def label(kind: UnaryKind | BinaryKind) -> str:
    """Returns the name of an operator: numbers of the two enums overlap."""
    return f"{type(kind).__name__}.{kind.name}"


def operators(ops: tuple[Op, ...]) -> set[str]:
    found: set[str] = set()
    for op in ops:
        if isinstance(op, Closure):
            found |= operators(op.ops)
        elif isinstance(op, Unary | Binary):
            found.add(label(op.kind))
    return found


def operators_by_outcome() -> dict[str, set[str]]:
    """Returns which operators stand in the vectors that are allowed, denied and failing."""
    found: dict[str, set[str]] = {"allowed": set(), "denied": set(), "execution": set()}
    for name, vector in VECTORS.items():
        if name.startswith("operators/"):
            check = load(vector).block(0).program.checks[0]
            for expression in check.queries[0].expressions:
                found[vector["expect"].partition(".")[0]] |= operators(expression.ops)
    return found


def named(text: str) -> list[str]:
    """Returns what a document names: vectors as `topic/name`, and tests by their paths."""
    return re.findall(r"`((?:tests/[\w/]+\.py)|(?:[a-z_]+/[a-z0-9-]+))`", text)


@pytest.mark.parametrize("document", ["SPEC.md", "DIFFERENCES.md"])
def test_documents_name_what_there_is(document: str) -> None:
    names = named((SPEC / document).read_text(encoding="utf-8"))
    assert len(names) > 20
    for name in names:
        assert name in VECTORS or (SPEC.parent / name).exists(), name


def test_every_code_is_specified() -> None:
    words = (SPEC / "SPEC.md").read_text(encoding="utf-8")
    assert len(written_codes()) > 30
    for code in codes() | written_codes() | expected_codes() - {"ok"}:
        family, dot, reason = code.partition(".")
        assert f"`{code}`" in words or (dot and f"`{family}." in words and f"`.{reason}`" in words), code


def test_there_are_enough() -> None:
    assert len(VECTORS) >= 600


def test_names_are_unique_and_say_what_they_are_about() -> None:
    listed = [vector for file in DIRECTORY.glob("*.json") for vector in json.loads(file.read_text())]
    assert len(listed) == len(VECTORS)
    assert {vector["kind"] for vector in listed} == set(RUNNERS)
    assert all(vector["about"].endswith(".") for vector in listed)


@pytest.mark.parametrize("outcome", ["allowed", "denied", "execution"])
def test_every_operator_holds_and_fails_and_errs(outcome: str) -> None:
    everything = {label(kind) for kind in (*UnaryKind, *BinaryKind)}
    assert operators_by_outcome()[outcome] == everything


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_is_refused(attack: str) -> None:
    assert ATTACKS[attack] in VECTORS


def test_every_code_is_met() -> None:
    assert codes() - expected_codes() == set(WITHOUT_VECTOR)


@pytest.mark.parametrize("topic", TOPICS)
def test_generators_write_what_is_committed(topic: str) -> None:
    assert contents(topic) == (DIRECTORY / f"{topic}.json").read_text(encoding="utf-8")


def test_every_file_has_a_generator() -> None:
    assert {file.stem for file in DIRECTORY.iterdir()} == set(TOPICS)


def test_generators_import_nothing_of_the_engine() -> None:
    for file in (SPEC / "generate").glob("*.py"):
        words = file.read_text(encoding="utf-8")
        assert "import capability" not in words, file
        assert "from capability" not in words, file
