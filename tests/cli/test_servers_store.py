"""The commands on a store of a server, and where its password may stand."""

import pytest

from tests.cli.conftest import Shell
from tests.servers import PostgresServer, RedisServer


def test_all_that_a_store_is_for(issuer: Shell, postgres: PostgresServer, database: str) -> None:
    use(issuer, postgres.url(database), postgres.url(database, password="not-this-one"))


def test_all_that_a_store_in_redis_is_for(issuer: Shell, redis_server: RedisServer, redis_url: str) -> None:
    use(issuer, redis_url, redis_server.url(login="cap:not-this-one@"))


def use(issuer: Shell, url: str, wrong_password: str) -> None:
    issuer.env["CAP_STORE"] = url
    assert issuer.cap("list").exit == 5
    assert "revision 0" in issuer.ok("store", "init")
    token = issuer.ok("mint", 'user("ann");', "--name", "laptop", "--owner", "ann")
    assert "laptop" in issuer.ok("list")
    assert issuer.cap("verify", stdin=token).exit == 0
    assert "revision 1" in issuer.ok("revoke", "--owner", "ann", "--yes")
    assert issuer.cap("verify", stdin=token).exit == 1
    assert "revision 1" in issuer.ok("store", "check")
    for arguments in (
        ["audit", "verify"],
        ["revoked"],
        ["store", "prune"],
        ["store", "migrate"],
        ["audit", "list"],
    ):
        issuer.ok(*arguments)
    issuer.env["CAP_STORE"] = wrong_password
    for arguments in (["list"], ["verify"], ["store", "init"]):
        run = issuer.cap(*arguments, stdin=token)
        assert run.exit == 5
        assert "not-this-one" not in run.stderr + run.text


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret@h/db", "postgresql://u@h/db?password=secret", "redis://:secret@h/0"]
)
def test_a_password_is_no_argument(issuer: Shell, url: str) -> None:
    for arguments in (["list"], ["store", "init"], ["verify", "token"]):
        run = issuer.cap(*arguments, "--store", url)
        assert run.exit == 2
        assert "argument" in run.stderr
        assert "secret" not in run.stderr


def test_a_password_is_not_in_a_file_that_others_can_read(issuer: Shell) -> None:
    settings = (issuer.folder / "cap.toml").read_text() if (issuer.folder / "cap.toml").exists() else ""
    issuer.write("cap.toml", settings + '\nstore = "postgresql://u:secret@127.0.0.1:1/db"\n', mode=0o644)
    run = issuer.cap("list")
    assert run.exit == 2
    assert "others can read the password" in run.stderr
    assert "secret" not in run.stderr
    (issuer.folder / "cap.toml").chmod(0o600)
    run = issuer.cap("list")
    assert run.exit == 5
    assert "secret" not in run.stderr
