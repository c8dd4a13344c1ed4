"""Which store a command uses, and what is said where there is none."""

import json
import sys

import pytest

from tests.cli.conftest import Shell

READ = ("-a", "orders", "-o", "read")


def test_no_store_means_to_verify_what_it_means_to_a_guard(issuer: Shell) -> None:
    """It is not the store in the data folder either, where the token is registered and revoked."""
    issuer.ok("revoke", "token", "--yes")
    assert issuer.cap("verify", "token", *READ).exit == 1
    decided = issuer.cap("verify", "token", *READ, "--json", env={"CAP_STORE": "none"})
    assert (decided.exit, decided.json["revocation_checked"]) == (0, False)
    assert issuer.cap("verify", "token", *READ, "--store", "none").exit == 0
    for words in (("--registered-only",), ("--min-revision", "0")):
        refused = issuer.cap("verify", "token", *READ, *words, env={"CAP_STORE": "none"})
        assert (refused.exit, refused.text) == (5, "")


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("show", "tok_x"),
        ("revoke", "token", "--yes"),
        ("mint", "a(1);"),
        ("audit", "list"),
        ("store", "init"),
        ("store", "check"),
        ("revoked", "export", "--out", "list", "--valid-for", "1d"),
    ],
)
def test_no_store_is_none_to_write_to(issuer: Shell, words: tuple[str, ...]) -> None:
    run = issuer.cap(*words, "--json", env={"CAP_STORE": "none"})
    assert run.exit == 2
    assert json.loads(run.stdout)["error"]["code"] == "usage.no_store"
    assert "the store is 'none', and this command needs one" in run.stderr


def test_keys_are_made_where_there_is_no_store(issuer: Shell) -> None:
    issuer.ok("keygen", "other.key", env={"CAP_STORE": "none"})


def test_a_store_that_lags_was_not_rolled_back(issuer: Shell) -> None:
    issuer.ok("revoke", "token", "--yes")
    run = issuer.cap("verify", "token", *READ, "--min-revision", "9")
    assert run.exit == 5
    assert "the store is at revision 1, and revision 9 was asked for" in run.stderr
    assert "old copy" not in run.stderr


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [("psycopg", "postgresql://a@127.0.0.1/b", "postgres"), ("redis", "redis://127.0.0.1:1/0", "redis")],
)
@pytest.mark.parametrize("words", [("list",), ("verify", "token", *READ)])
def test_a_package_that_is_missing_is_named(
    issuer: Shell,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    url: str,
    extra: str,
    words: tuple[str, ...],
) -> None:
    for name in [each for each in sys.modules if each.startswith(f"capability.store.{extra}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(f"capability.store.{extra}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    run = issuer.cap(*words, "--store", url)
    assert run.exit == 5
    assert run.stderr.splitlines()[-1] == f"hint: pip install 'capability-tokens[{extra}]'"
