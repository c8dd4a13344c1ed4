"""The fixtures of the plugin, in a pytest of their own."""

import os
import subprocess
import sys
from pathlib import Path

PLUGIN = "capability.integrations.pytest_plugin"

TESTS = """
def test_minting(cap_guard, cap_mint):
    guard = cap_guard('allow if user("ann"), operation("read")', token_facts=["user"])
    assert guard.check(cap_mint('user("ann")'), operation="read").allowed
    assert guard.check(cap_mint('user({name})', {"name": "ann"}), operation="read").allowed
    assert not guard.check(cap_mint('user("ann")', operation="write"), operation="read").allowed
    assert guard.check(cap_mint('user("ann")', expires=-60), operation="read").outcome == "expired"
    assert guard.check(cap_mint.headers('user("ann")')["Authorization"][7:], operation="read").allowed


def test_revoking(cap_guard, cap_mint, cap_store):
    guard, text = cap_guard(), cap_mint()
    assert guard.check(text).allowed
    assert cap_mint.revoke(text) == cap_store.revision()
    assert guard.check(text).outcome == "revoked"
    assert guard.check(cap_mint()).allowed


def test_an_issuer_of_one_s_own(cap_root, cap_mint):
    from capability import Biscuit
    assert Biscuit.from_base64(cap_mint(), cap_root.public_key).block_count() == 1
"""


def test_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", str(tmp_path)]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    played = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "3 passed" in played.stdout


def test_a_run_that_does_not_use_it_pays_little() -> None:
    heavy = ("lark", "nacl", "google.protobuf")
    program = f"import {PLUGIN}, sys; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
