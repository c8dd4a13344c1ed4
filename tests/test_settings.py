"""A guard by the settings of the environment and of cap.toml."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from capability import BiscuitBuilder, ConfigurationError, Guard, KeyFormatError, KeyPair, KeySet, StoreError
from capability.recording import RecordedGuard
from capability.store import create_store
from capability.store.memory import MemoryStore
from capability.store.signed import export_full

PACKAGE = str(Path(__file__).parents[1])
ROOT = KeyPair()
POLICY = 'allow if user("ann")'
TOKEN = BiscuitBuilder('user("ann")').build(ROOT.private_key)
BASE = {"CAP_PUBLIC_KEY": repr(ROOT.public_key), "CAP_POLICY": POLICY, "CAP_STORE": "none"}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def allowed(guard: Guard) -> bool:
    return guard.check(TOKEN.to_base64()).allowed


def test_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BASE.items():
        monkeypatch.setenv(name, value)
    assert allowed(Guard.from_env())


def test_keys_and_policies_from_files(tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(POLICY)
    (tmp_path / "text").write_text(f"{ROOT.public_key!r}\n")
    (tmp_path / "pem").write_text(ROOT.public_key.to_pem())
    (tmp_path / "der").write_bytes(ROOT.public_key.to_der())
    (tmp_path / "keys").write_text(KeySet.from_keys({None: ROOT.public_key}).to_json())
    files = {**BASE, "CAP_POLICY": "policy"}
    for name in ("text", "pem", "der"):
        assert allowed(Guard.from_env({**files, "CAP_PUBLIC_KEY": name}))
    assert allowed(Guard.from_env({**files, "CAP_PUBLIC_KEY": "", "CAP_KEYS": "keys"}))
    with pytest.raises(ConfigurationError, match="both"):
        Guard.from_env({**files, "CAP_KEYS": "keys"})


def test_cap_toml_says_what_the_environment_does_not(tmp_path: Path) -> None:
    (tmp_path / "policy.datalog").write_text(POLICY)
    create_store("sqlite:///cap.db").close()
    text = f'public_key = "{ROOT.public_key!r}"\npolicy = "policy.datalog"\nstore = "sqlite:///cap.db"\n'
    (tmp_path / "cap.toml").write_text(text)
    guard = Guard.from_env({})
    assert allowed(guard)
    assert guard.blocking
    (tmp_path / "policy.datalog").rename(tmp_path / "a policy (of ours)")
    (tmp_path / "spaces.toml").write_text(text.replace("policy.datalog", "a policy (of ours)"))
    assert allowed(Guard.from_env({"CAP_CONFIG": "spaces.toml"}))
    (tmp_path / "a policy (of ours)").rename(tmp_path / "policy.datalog")
    (tmp_path / "other.toml").write_text(text + "max_stale = 5\n")
    followed = Guard.from_env({"CAP_CONFIG": "other.toml"})
    assert allowed(followed)
    assert not followed.blocking
    assert not allowed(Guard.from_env({"CAP_POLICY": 'allow if user("bob")'}))


def test_a_revoked_token_is_refused() -> None:
    with create_store("sqlite:///cap.db") as store:
        strict = Guard.from_env({**BASE, "CAP_STORE": "sqlite:///cap.db"})
        assert allowed(strict)
        store.revoke(TOKEN.canonical_revocation_ids)
        followed = Guard.from_env({**BASE, "CAP_STORE": "sqlite:///cap.db", "CAP_MAX_STALE": "5"})
        assert not allowed(strict)
        assert not allowed(followed)


def test_signed_revocations_in_place_of_a_store(tmp_path: Path) -> None:
    store, signer = MemoryStore(), KeyPair()
    for name in ("free", "hit"):
        lasts = timedelta(days=1)
        (tmp_path / name).write_bytes(export_full(store, signer.private_key, valid_for=lasts, name="acme"))
        store.revoke(TOKEN.canonical_revocation_ids)
    (tmp_path / "signer.pub").write_text(repr(signer.public_key))
    (tmp_path / "policy").write_text(POLICY)
    signed = {
        **{name: value for name, value in BASE.items() if name != "CAP_STORE"},
        "CAP_REVOCATIONS": "free",
        "CAP_REVOCATIONS_KEY": "signer.pub",
        "CAP_REVOCATIONS_NAME": "acme",
    }
    guard = Guard.from_env(signed)
    assert allowed(guard)
    assert not guard.blocking
    assert not allowed(Guard.from_env({**signed, "CAP_REVOCATIONS": "hit"}))
    lines = [f'{key} = "{value}"' for key, value in {
        "public_key": repr(ROOT.public_key), "policy": "policy",
        "revocations": "hit", "revocations_key": "signer.pub", "revocations_name": "acme",
    }.items()]  # fmt: skip
    (tmp_path / "cap.toml").write_text("\n".join(lines))
    assert not allowed(Guard.from_env({}))
    for wrong in ({"CAP_REVOCATIONS_NAME": "other"}, {"CAP_REVOCATIONS_KEY": repr(ROOT.public_key)}):
        with pytest.raises(StoreError):
            Guard.from_env({**signed, **wrong})
    for wrong, match in (
        ({"CAP_STORE": "none"}, "both"),
        ({"CAP_REGISTERED_ONLY": "1"}, "registered"),
        ({"CAP_MAX_STALE": "5"}, "max_stale"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            Guard.from_env({**signed, **wrong})


@pytest.mark.parametrize("missing", sorted(BASE))
def test_what_is_missing_is_never_guessed(missing: str) -> None:
    with pytest.raises(ConfigurationError, match="no ") as caught:
        Guard.from_env({name: value for name, value in BASE.items() if name != missing})
    assert caught.value.code == "config.missing"
    assert missing in caught.value.hint


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_a_bound_that_is_none(value: str) -> None:
    create_store("sqlite:///cap.db").close()
    with pytest.raises(ConfigurationError, match="CAP_MAX_STALE"):
        Guard.from_env({**BASE, "CAP_STORE": "sqlite:///cap.db", "CAP_MAX_STALE": value})


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b" " * (1 << 21))
    for name, error in {
        "missing": ConfigurationError,
        "bytes": KeyFormatError,
        "large": ConfigurationError,
        ".": ConfigurationError,
    }.items():
        with pytest.raises(error):
            Guard.from_env({**BASE, "CAP_PUBLIC_KEY": name})
    with pytest.raises(ConfigurationError, match="UTF-8"):
        Guard.from_env({**BASE, "CAP_POLICY": "bytes"})
    with pytest.raises(StoreError):
        Guard.from_env({**BASE, "CAP_STORE": "sqlite:///missing.db"})
    (tmp_path / "keys").write_text(json.dumps({}))
    with pytest.raises(KeyFormatError):
        Guard.from_env({**BASE, "CAP_PUBLIC_KEY": "", "CAP_KEYS": "keys"})


def test_prefixes() -> None:
    guard = Guard.from_env({**BASE, "CAP_PREFIX": "sk_live_", "CAP_PREFIXES": "sk_test_,sk_old_"})
    for prefix in ("", "sk_live_", "sk_test_", "sk_old_"):
        assert guard.check(prefix + TOKEN.to_base64()).allowed
    assert not guard.check("sk_other_" + TOKEN.to_base64()).allowed
    with pytest.raises(ConfigurationError, match="prefix"):
        Guard.from_env({**BASE, "CAP_PREFIX": "sk"})


def configured(folder: Path, audit: str) -> None:
    create_store(f"sqlite:///{folder}/cap.db").close()
    (folder / "cap.toml").write_text(
        f'public_key = "{ROOT.public_key!r}"\npolicy = \'{POLICY}\'\nstore = "sqlite:///cap.db"\n{audit}'
    )


def test_decisions_are_written_where_cap_toml_says_so(tmp_path: Path) -> None:
    configured(tmp_path, '[audit]\ndecisions = "all"\ncapacity = 2\nwhen_full = "deny"\n')
    guard = Guard.from_env({"CAP_POLICY": POLICY})
    assert isinstance(guard, RecordedGuard)
    assert allowed(guard)
    assert guard.recorder.flush()
    with create_store("sqlite:///cap.db") as store:
        assert [each.data["outcome"] for each in store.audit()] == ["allowed"]
    (tmp_path / "cap.db").unlink()
    answers = [guard.check("nonsense").outcome.value for _ in range(3)]
    assert answers == ["invalid_token"] * 3
    assert guard.recorder.stats().dropped == 1
    guard.recorder.close()


def test_what_waits_at_the_end_of_a_process_is_written(tmp_path: Path) -> None:
    configured(tmp_path, "[audit]\n")
    code = f"from capability import Guard; Guard.from_env({{'CAP_POLICY': {POLICY!r}}}).check('x')"
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": PACKAGE}
    )
    with create_store("sqlite:///cap.db") as store:
        assert [each.data["outcome"] for each in store.audit()] == ["invalid_token"]


@pytest.mark.parametrize(
    "audit",
    [
        "audit = 1\n",
        '[audit]\ndecision = "all"\n',
        '[audit]\ndecisions = "some"\n',
        "[audit]\ndecisions = 1\n",
        "[audit]\ncapacity = 0\n",
        "[audit]\ncapacity = true\n",
        '[audit]\nwhen_full = "wait"\n',
    ],
)
def test_a_trail_that_cannot_be_meant(tmp_path: Path, audit: str) -> None:
    configured(tmp_path, audit)
    with pytest.raises(ConfigurationError, match="audit"):
        Guard.from_env({"CAP_POLICY": POLICY})


def test_a_trail_needs_a_store(tmp_path: Path) -> None:
    configured(tmp_path, "[audit]\n")
    with pytest.raises(ConfigurationError, match="without a store"):
        Guard.from_env(BASE)
