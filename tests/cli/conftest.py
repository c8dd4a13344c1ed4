"""Runs `cap` as a user would, in a folder and an environment of its own."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import capability
from capability.cli import main
from capability.keys import PrivateKey

PACKAGE_ROOT = Path(capability.__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """What one command left behind."""

    exit: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Shell:
    """A folder, an environment without anyone's settings, and `cap`.

    `cap` runs it in this process, which is fast; `process` starts one, for what depends on being one.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_CONFIG_HOME": str(folder / "home" / "config"),
            "XDG_DATA_HOME": str(folder / "home" / "data"),
            "PYTHONPATH": str(PACKAGE_ROOT),
            "PYTHONWARNINGS": "error",
        }
        (folder / "home").mkdir()

    def cap(
        self, *arguments: str, stdin: bytes | str | None = None, env: Mapping[str, str] | None = None
    ) -> Run:
        """Runs a command in this process; without `stdin` it reads /dev/null."""
        with self._monkeypatch.context() as patch:
            for name in list(os.environ):
                if name.startswith("CAP_"):
                    patch.delenv(name)
            for name, value in {**self.env, **(env or {})}.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            path = os.devnull
            if stdin is not None:
                path = str(self.folder / "home" / "stdin")
                Path(path).write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
            stdout, stderr = io.BytesIO(), io.BytesIO()
            with open(path) as source:
                patch.setattr(sys, "stdin", source)
                patch.setattr(sys, "stdout", io.TextIOWrapper(stdout, write_through=True))
                patch.setattr(sys, "stderr", io.TextIOWrapper(stderr, write_through=True))
                code = main(list(arguments))
                return Run(int(code), stdout.getvalue(), stderr.getvalue().decode())

    def ok(
        self, *arguments: str, stdin: bytes | str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Runs a command that must succeed; returns what it printed, without the last new line."""
        run = self.cap(*arguments, stdin=stdin, env=env)
        assert run.exit == 0, run.stderr
        return run.text.removesuffix("\n")

    def process(self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> Run:
        """Runs a command in a process of its own."""
        options.setdefault("stdin", subprocess.DEVNULL)
        if "input" in options:
            del options["stdin"]
        done = subprocess.run(
            [sys.executable, "-m", "capability.cli", *arguments],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **options},
        )
        return Run(done.returncode, done.stdout or b"", (done.stderr or b"").decode())

    def write(self, name: str, content: bytes | str, *, mode: int = 0o644) -> str:
        """Writes a file and returns its name."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return name


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in an empty folder."""
    return Shell(tmp_path, monkeypatch)


ROOT = PrivateKey("ed25519-private/" + "11" * 32)
OTHER = PrivateKey("ed25519-private/" + "22" * 32)
P256 = PrivateKey("secp256r1-private/" + "33" * 32)

OVER = ("check all time($time), $time <= 2020-01-01T00:00:00Z", "--never-expires")
"""Arguments with which a token is minted that has expired: `--expires` refuses a time that is over."""


@pytest.fixture
def issuer(shell: Shell) -> Shell:
    """A shell with root.key, root.key.pub, a cap.toml that names them, and `token`: orders, read, write."""
    shell.write("root.key", ROOT.text(), mode=0o600)
    shell.write("root.key.pub", repr(ROOT.public_key))
    shell.write("cap.toml", 'private_key = "root.key"\npublic_key = "root.key.pub"\n')
    token = shell.ok(
        "mint", 'right("orders", "read");', "-a", "orders", "-o", "read", "-o", "write", "--expires", "90d"
    )
    shell.write("token", token)
    return shell
