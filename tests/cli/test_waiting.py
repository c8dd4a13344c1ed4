"""`cap wait`, `--min-revision` and `--registered-only`: a store that cannot tell allows nothing."""

import threading
import time

import pytest

from capability.store import open_store
from tests.cli.conftest import Shell
from tests.cli.test_bad_input import assert_failed

STORE = "sqlite:///cap.db"
VERIFY = ("verify", "token", "-a", "orders", "-o", "read", "--store", STORE)


@pytest.fixture
def stored(issuer: Shell) -> Shell:
    """The issuer's shell with a store in which `token` is registered, and one that is not."""
    issuer.ok("store", "init", "--store", STORE)
    token = issuer.ok("mint", "-a", "orders", "-o", "read", "--store", STORE)
    issuer.write("token", token)
    issuer.write("foreign", issuer.ok("mint", "-a", "orders", "-o", "read", "--no-store"))
    return issuer


def test_only_what_is_registered_passes(stored: Shell) -> None:
    foreign = ("verify", "foreign", *VERIFY[2:])
    assert stored.cap(*foreign).exit == 0
    for words, env in (
        (("--registered-only",), {}),
        ((), {"CAP_REGISTERED_ONLY": "1"}),
    ):
        assert stored.cap(*VERIFY, *words, env=env).exit == 0
        run = stored.cap(*foreign, *words, env=env)
        assert run.exit == 1
        assert "not registered" in run.text
    with (stored.folder / "cap.toml").open("a") as file:
        file.write("registered_only = true\n")
    assert stored.cap(*foreign).exit == 1
    assert stored.cap(*foreign, env={"CAP_REGISTERED_ONLY": "0"}).exit == 0
    assert_failed(stored.cap(*VERIFY, env={"CAP_REGISTERED_ONLY": "maybe"}), 2)


@pytest.mark.parametrize("words", [("--registered-only",), ("--min-revision", "1")])
def test_without_a_store_nobody_can_tell(issuer: Shell, words: tuple[str, ...]) -> None:
    env = {"XDG_DATA_HOME": str(issuer.folder / "nothing")}
    assert_failed(issuer.cap("verify", "token", "-a", "orders", "-o", "read", *words, env=env), 5)


def test_a_store_that_is_behind_is_refused(stored: Shell) -> None:
    assert stored.cap(*VERIFY, "--min-revision", "0").exit == 0
    run = stored.cap(*VERIFY, "--min-revision", "1")
    assert run.exit == 5
    assert run.stdout == b""
    with open_store(f"sqlite:///{stored.folder}/cap.db") as store:
        store.revoke([b"other"])
    assert stored.cap(*VERIFY, "--min-revision", "1").exit == 0
    for bad in ("x", "-1", "1.5", "\u0661"):
        assert_failed(stored.cap(*VERIFY, f"--min-revision={bad}"), 2)


def test_waiting_ends_when_the_revision_is_there(stored: Shell) -> None:
    assert stored.ok("wait", "--revision", "0", "--store", STORE) == "revision 0"
    started = time.monotonic()
    run = stored.cap("wait", "--revision", "1", "--timeout", "0.2", "--store", STORE, "--json")
    assert (run.exit, run.json["error"]["code"]) == (5, "store.behind")
    assert time.monotonic() - started < 25  # and not 30, as long as it waits unless told otherwise

    def revoke() -> None:
        with open_store(f"sqlite:///{stored.folder}/cap.db") as store:
            store.revoke([b"other"])

    timer = threading.Timer(0.2, revoke)
    timer.start()
    assert stored.ok("wait", "--revision", "1", "--store", STORE) == "revision 1"
    timer.join()
    for words in (["--revision", "x"], [], ["--revision", "1", "--timeout", "-1"]):
        assert_failed(stored.cap("wait", "--store", STORE, *words), 2)
    assert_failed(stored.cap("wait", "--revision", "1", "--store", "sqlite:///none.db"), 5)


def test_what_cannot_tell_is_no_allow_list(stored: Shell) -> None:
    """`registered_only` is never passed over: who reads it keeps to it, or does not start."""
    from capability.errors import ConfigurationError
    from capability.settings import settings_from

    with (stored.folder / "cap.toml").open("a") as file:
        file.write("registered_only = true\n")
    run = stored.cap("serve", "--check")
    assert_failed(run, 2)
    assert "registered_only" in run.stderr
    stored.write("policy", "allow if true")
    environment = {"CAP_CONFIG": str(stored.folder / "cap.toml"), "CAP_POLICY": "allow if true"}
    for more in ({"CAP_STORE": "none"}, {"CAP_STORE": "memory:", "CAP_MAX_STALE": "5"}):
        with pytest.raises(ConfigurationError, match="registered"):
            settings_from({**environment, **more})
    found = settings_from({**environment, "CAP_STORE": f"sqlite:///{stored.folder}/cap.db"})
    assert type(found.revocations).__name__ == "AllowList"
