"""Whole sessions in a shell, compared with what stands in transcripts/.

A line that begins with `$ ` is a command; what follows is what it prints, stdout and stderr, and `[n]` its
exit code where that is not 0. What differs from run to run stands there as a word: KEY, ID, TIME, ...
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

FOLDER = Path(__file__).parent / "transcripts"
END = "-- end of step --"

WORDS = (
    (re.compile(r"(ed25519|secp256r1)/[0-9a-f]{64,66}"), "KEY"),
    (re.compile(r"\b([0-9a-f]{128}|30[0-9a-f]{130,150})\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{16}\.\.\."), "PREFIX..."),
    (re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b\d+ (days|hours|minutes) ago"), "PAST"),
    (re.compile(r"^size( +)\d+ ", re.MULTILINE), r"size\1NUMBER "),
)


def steps(text: str) -> list[tuple[str, str]]:
    """Returns commands and what they print."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return [(command, "\n".join(lines).strip("\n")) for command, lines in found]


def normal(text: str) -> str:
    for pattern, word in WORDS:
        text = pattern.sub(word, text)
    return text


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(shell: Shell, path: Path) -> None:
    wrapper = shell.folder / "home" / "cap"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m capability.cli "$@"\n')
    wrapper.chmod(0o755)
    expected = steps(path.read_text())
    script = "exec 2>&1 </dev/null\n" + "".join(
        f'{command}\nstatus=$?; [ $status -eq 0 ] || echo "[$status]"; echo "{END}"\n'
        for command, _ in expected
    )
    (shell.folder / "home" / "script").write_text(script)
    work = shell.folder / "work"
    work.mkdir()
    done = subprocess.run(
        ["sh", str(shell.folder / "home" / "script")],
        cwd=work,
        env={**shell.env, "PATH": f"{wrapper.parent}:{shell.env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    outputs = done.stdout.split(f"{END}\n")
    assert len(outputs) == len(expected) + 1, done.stdout
    for (command, wanted), got in zip(expected, outputs, strict=False):
        assert normal(got.strip("\n")) == normal(wanted), command


def test_transcripts_hold_no_secret() -> None:
    for path in FOLDER.glob("*.txt"):
        assert not re.search(r"-private/|[A-Za-z0-9_-]{100,}", path.read_text())
