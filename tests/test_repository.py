"""The repository's own promises: what is generated is current, what the documents name exists."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from capability.wire import schema_pb2
from docs import generate

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("spec/*.md"), ROOT / "tests/README.md"]
)
LINK = re.compile(r"\[[^\]]+\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)")


def test_generated_documents_are_current() -> None:
    assert generate.outdated() == [], "run: make docs"


def test_an_outdated_document_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "cli.md"
    stale.write_text(generate.cli_reference() + "\n")
    monkeypatch.setattr(generate, "GENERATED", {stale: generate.cli_reference})
    assert generate.outdated() == ["cli.md"]


def test_every_command_stands_in_the_reference() -> None:
    reference = generate.cli_reference()
    for command in ("keygen", "mint", "attenuate", "seal", "inspect", "verify", "query"):
        assert f"## cap {command}\n" in reference
    for command in ("list", "show", "revoke", "revoked", "audit", "store"):
        assert f"## cap {command}\n" in reference
    for command in ("request", "sign", "append"):
        assert f"### cap third-party {command}\n" in reference


def test_protobuf_modules_are_current(tmp_path: Path) -> None:
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("capability/**/*.proto"))
    assert sources == ["capability/sidecar/extauthz.proto", "capability/wire/schema.proto"]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I", "."),
            *(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *sources),
        ],
        cwd=ROOT,
        check=True,
    )
    for source in sources:
        for ending in ("_pb2.py", "_pb2.pyi"):
            name = source.removesuffix(".proto") + ending
            assert (ROOT / name).read_text("utf-8") == (tmp_path / name).read_text("utf-8"), "run: make proto"
    described = (ROOT / "capability/wire/schema.binpb").read_bytes()
    assert described == schema_pb2.DESCRIPTOR.serialized_pb, "run: make proto"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_documents_lead_somewhere(document: Path) -> None:
    broken = [
        link for link in LINK.findall(document.read_text("utf-8")) if not (document.parent / link).exists()
    ]
    assert broken == []


def test_the_table_of_tests_names_what_exists() -> None:
    text = (ROOT / "tests/README.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    tests = re.findall(r"`([a-z0-9_/]+\.py)(?:::(\w+))?`", "\n".join(rows))
    assert len(tests) > 40
    for path, function in tests:
        assert (ROOT / "tests" / path).exists(), path
        if function:
            assert f"def {function}(" in (ROOT / "tests" / path).read_text("utf-8"), f"{path}::{function}"

    vectors = {
        vector["name"]
        for path in (ROOT / "spec/vectors").glob("*.json")
        for vector in json.loads(path.read_text("utf-8"))
    }
    attacks = [row for row in text.partition("## Attacks")[2].splitlines() if row.startswith("|")]
    named = [name for row in attacks for name in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])]
    assert len(named) > 50
    assert set(named) - vectors == set()


def test_every_make_target_is_phony_and_explained() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))


def test_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert version in (ROOT / "CHANGELOG.md").read_text("utf-8")
