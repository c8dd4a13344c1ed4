"""URLs: which store each names, and which are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from capability.errors import StoreError, StoreUnavailable, StoreURLError
from capability.store import create_store, open_store, sqlite_path
from capability.store.memory import MemoryStore


def test_memory() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    assert isinstance(create_store("memory:"), MemoryStore)


def test_sqlite_absolute(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    with create_store(url) as store:
        store.revoke([b"x"])
    with open_store(url) as store:
        assert store.status([b"x"]).revoked_id == b"x"


def test_sqlite_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with create_store("sqlite:///cap.db") as store:
        # A relative path means the folder of the moment it was opened in.
        monkeypatch.chdir("/")
        store.revoke([b"x"])
    assert (tmp_path / "cap.db").is_file()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///cap.db", "cap.db"),
        ("sqlite:////var/lib/cap.db", "/var/lib/cap.db"),
        ("sqlite:///a b/ü%20.db", "a b/ü%20.db"),
    ],
)
def test_paths(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cap.db",
        "/var/cap.db",
        "sqlite:",
        "sqlite://cap.db",
        "sqlite:///",
        "sqlite:///folder/",
        "sqlite:///:memory:",
        "sqlite:///cap.db?mode=ro",
        "sqlite:///cap.db#x",
        "sqlite:///cap\0.db",
        "SQLITE:///cap.db",
        "memory",
        "memory:x",
        "mysql://ann:secret@db/cap",
        "password=secret host=db",
        "secret@db/cap",
        "postgresql://ann:p@secret@db/cap",
        "postgresql://ann:p@secret@db,db2/cap",
        "postgresql://ann:p@db/cap?host=ann:secret@db",
        "postgresql://ann:secret@db/cap?no_such_setting=secret",
        "postgres://ann:secret@db:secret/cap",
        "postgresql://ann:secret%zz@db/cap",
        "redis:",
        "redis://ann:secret@db:port/0",
        "redis://ann:secret@db/x",
        "redis://ann:se#secret@db/0",
        "redis://ann:se?secret@db/0",
        "redis://ann:secret@db/0?secret=1",
        "redis://ann:secret@db/0?prefix=",
        "redis://ann:secret@db/0?prefix=a&prefix=b",
        "redis://ann:secret@db/0?durability=often",
        "redis://ann:secret@db/0?timeout=secret",
        "redis://ann:secret@db/0?ca=ca.pem",
        "redis+unix://run/secret.sock",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    for function in (open_store, create_store):
        with pytest.raises(StoreURLError) as caught:
            function(url)
        assert isinstance(caught.value, StoreError)
        assert isinstance(caught.value, ValueError)
        assert caught.value.code == "store.url"
        assert "secret" not in str(caught.value)


def test_open_does_not_create(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path}/cap.db")
    assert list(tmp_path.iterdir()) == []


def test_a_server_s_store_needs_its_library() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from capability.errors import StoreUnavailable; from capability.store import open_store\n"
        "try: open_store('postgresql://db/cap')\n"
        "except StoreUnavailable as error: assert 'capability-tokens[postgres]' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_only_a_sqlite_url_imports_sqlite() -> None:
    program = (
        "import sys; from capability.store import open_store; open_store('memory:');"
        "assert not {'sqlite3', 'sqlite_utils', 'psycopg'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
