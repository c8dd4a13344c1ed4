"""`cap revoked export` and `verify`, and `cap verify --revocations`."""

import pytest

from tests.cli.conftest import OTHER, ROOT, Shell


@pytest.fixture
def branch(issuer: Shell) -> Shell:
    """A shell and a store, which only --store names; `other` is revoked in it, `token` is not."""
    other = issuer.ok("mint", "--store", "sqlite:///cap.db", "-a", "orders", "--expires", "90d")
    issuer.write("other", other)
    issuer.ok("revoke", "other", "--yes", "--store", "sqlite:///cap.db")
    return issuer


def test_a_verifier_goes_by_a_signed_file(branch: Shell) -> None:
    said = branch.ok("revoked", "export", "--out", "list", "--valid-for", "1d", "--store", "sqlite:///cap.db")
    assert said.startswith("signed all that is revoked: 1 id, ")
    assert branch.ok("revoked", "verify", "list").startswith("good: 1 id, at revision 1, ")
    run = branch.cap("verify", "other", "-a", "orders", "--revocations", "list")
    assert (run.exit, run.text.split(":")[0]) == (1, "revoked")
    request = ("verify", "token", "-a", "orders", "-o", "read")
    assert branch.cap(*request, "--revocations", "list").exit == 0
    branch.write("cap.toml", 'public_key = "root.key.pub"\nrevocations = "list"\n')
    assert branch.cap("verify", "other", "-a", "orders").exit == 1
    assert branch.cap("verify", "other", "-a", "orders", env={"CAP_REVOCATIONS": "missing"}).exit == 5
    assert branch.cap(*request, "--json").json["revocation_revision"] == 1


def test_deltas(branch: Shell) -> None:
    store = ("--store", "sqlite:///cap.db")
    branch.ok("revoked", "export", "--out", "list", "--valid-for", "1d", *store)
    branch.ok("revoke", "token", "--yes", *store)
    run = branch.cap(
        *(
            "revoked",
            "export",
            "--out",
            "delta",
            "--valid-for",
            "1d",
            "--delta-from",
            "list",
            "--json",
            *store,
        )
    )
    assert (run.json["base"], run.json["revision"], run.json["ids"]) == (1, 2, 1)
    again = branch.cap(*("revoked", "export", "--out", "d2", "--valid-for", "1d", "--since", "1", *store))
    assert "what was revoked after revision 1: 1 id" in again.text
    alone = branch.cap("revoked", "verify", "delta", "--json")
    assert (alone.exit, alone.json["error"]["code"]) == (5, "revocations.base")
    both = (branch.folder / "list").read_bytes() + (branch.folder / "delta").read_bytes()
    branch.write("both", both)
    assert branch.ok("revoked", "verify", "both").startswith("good: 2 ids, at revision 2, ")
    assert branch.cap("verify", "token", "-a", "orders", "-o", "read", "--revocations", "both").exit == 1


def test_lists_of_several_stores(branch: Shell) -> None:
    store = ("--store", "sqlite:///cap.db")
    export = ("revoked", "export", "--valid-for", "1d", *store)
    branch.ok(*export, "--out", "list", "--name", "acme")
    assert branch.cap(*export, "--out", "d", "--delta-from", "list", "--json").json["name"] == "acme"
    assert branch.cap(*export, "--out", "d", "--delta-from", "list", "--name", "b").exit == 5
    assert branch.cap(*export, "--out", "d", "--name", "b" * 256).exit == 2
    assert branch.ok("revoked", "verify", "list", "--revocations-name", "acme")
    run = branch.cap("revoked", "verify", "list", "--revocations-name", "other", "--json")
    assert (run.exit, run.json["error"]["code"]) == (5, "revocations.name")
    request = ("verify", "token", "-a", "orders", "-o", "read", "--revocations", "list")
    assert branch.cap(*request, "--revocations-name", "acme").exit == 0
    run = branch.cap(*request, "--revocations-name", "other", "--json")
    assert (run.exit, run.json["code"]) == (5, "revocations.name")


def test_a_key_of_its_own(branch: Shell) -> None:
    branch.write("revoked.key", OTHER.text(), mode=0o600)
    branch.ok(
        *("revoked", "export", "--out", "list", "--valid-for", "1d", "--private-key", "revoked.key"),
        *("--store", "sqlite:///cap.db"),
    )
    request = ("verify", "token", "-a", "orders", "-o", "read", "--revocations", "list")
    run = branch.cap(*request, "--json")
    assert (run.exit, run.json["code"]) == (5, "revocations.signature")
    assert branch.cap(*request, "--revocations-key", repr(OTHER.public_key)).exit == 0
    assert branch.cap(*request, "--revocations-key", repr(ROOT.public_key)).exit == 5
    assert branch.ok("revoked", "verify", "list", "--revocations-key", repr(OTHER.public_key))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--valid-for", "0s"), "--valid-for is a duration"),
        (("--valid-for", "2026-12-01T00:00:00Z"), "--valid-for is a duration"),
        (("--valid-for", "1d", "--since", "1", "--delta-from", "x"), "both --since and --delta-from"),
        (("--valid-for", "1d", "--since", "-1"), "--since"),
        ((), "--valid-for"),
    ],
)
def test_exports_that_are_asked_for_wrongly(branch: Shell, arguments: tuple[str, ...], error: str) -> None:
    run = branch.cap("revoked", "export", "--out", "list", *arguments, "--store", "sqlite:///cap.db")
    assert run.exit == 2
    assert error in run.stderr
    assert not (branch.folder / "list").exists()


def test_a_delta_from_a_file_of_another_key(branch: Shell) -> None:
    branch.write("other.key", OTHER.text(), mode=0o600)
    export = ("revoked", "export", "--valid-for", "1d", "--store", "sqlite:///cap.db")
    branch.ok(*export, "--out", "list")
    run = branch.cap(*export, "--out", "delta", "--delta-from", "list", "--private-key", "other.key")
    assert (run.exit, (branch.folder / "delta").exists()) == (5, False)
    assert (
        run.stderr.splitlines()[-1] == "hint: name the private key that signed that file with --private-key"
    )


def test_a_store_and_a_file_at_once(branch: Shell) -> None:
    run = branch.cap("verify", "token", "--revocations", "list", "--store", "sqlite:///cap.db")
    assert run.exit == 2
    assert "both a store and signed revocations" in run.stderr
    run = branch.cap("verify", "token", env={"CAP_REVOCATIONS": "list", "CAP_STORE": "sqlite:///cap.db"})
    assert run.exit == 2
    assert "both a store and signed revocations" in run.stderr


@pytest.mark.parametrize("more", [{}, {"CAP_REVOCATIONS": "gone"}])
def test_a_flag_wins_over_the_environment(branch: Shell, more: dict[str, str]) -> None:
    """What the variable names is not there, so that asking it would be an error."""
    branch.ok("revoked", "export", "--out", "list", "--valid-for", "1d", "--store", "sqlite:///cap.db")
    elsewhere = {"CAP_STORE": "sqlite:///gone.db", **more}
    for application in (("-a", "orders"), ("-aorders",)):  # both ways to read a command line
        request = ("verify", "token", "-o", "read", *application)
        branch.ok(*request, "--revocations", "list", env=elsewhere)
        branch.ok(*request, "--store", "sqlite:///cap.db", env={"CAP_REVOCATIONS": "gone"})
        assert branch.cap(*request, env=elsewhere).exit != 0


def test_a_store_behind_a_revision(branch: Shell) -> None:
    run = branch.cap(
        *("revoked", "export", "--out", "list", "--valid-for", "1d", "--since", "9"),
        *("--store", "sqlite:///cap.db"),
    )
    assert run.exit == 5
