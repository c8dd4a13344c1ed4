"""Runs what the README shows: its shell and Python blocks, in order, as a new user would paste them.

A block of `sh` or `python` is run; a block of `text` right after it is its whole output, in which `...`
stands for anything. A block without output must succeed. All run in one empty directory with an empty home.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT = {"in 90 days": "in 89 days", "in 60 minutes": "in 59 minutes"}
"""What is left of a lifetime, right after its start and when a busy machine took more than half a minute."""

END_OF_BLOCK = "-- end of block {} --"


@dataclass(frozen=True)
class Step:
    """One block of code, and the output that is shown for it, if any is."""

    code: str
    output: str | None


def steps(markdown: str, language: str) -> list[Step]:
    """Returns the blocks of `language`, each with the block of text that follows it."""
    blocks = FENCE.findall(markdown)
    following: list[tuple[str, str]] = [*blocks[1:], ("", "")]
    return [
        Step(code, shown if kind == "text" else None)
        for (name, code), (kind, shown) in zip(blocks, following, strict=True)
        if name == language
    ]


def run_all(blocks: list[Step], command: list[str], separator: str, folder: Path) -> list[tuple[str, int]]:
    """Runs `blocks` in one interpreter; returns the output of each and the status it left behind."""
    home = folder / "home"
    work = folder / "work"
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    script = "".join(
        f"{step.code}{separator.format(END_OF_BLOCK.format(n))}\n" for n, step in enumerate(blocks)
    )
    scripts = Path(sys.executable).parent
    finished = subprocess.run(
        command,
        input=script,
        cwd=work,
        env={"HOME": str(home), "PATH": f"{scripts}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
    )
    results = []
    rest = finished.stdout
    for number in range(len(blocks)):
        output, end, rest = rest.partition(END_OF_BLOCK.format(number))
        assert end, f"block {number} did not end:\n{output}"
        status, _, rest = rest.lstrip().partition("\n")
        results.append((output, int(status)))
    return results


def assert_as_shown(blocks: list[Step], results: list[tuple[str, int]]) -> None:
    for step, (output, status) in zip(blocks, results, strict=True):
        if step.output is None:
            assert status == 0, f"{step.code}\nprinted\n{output}"
        else:
            pattern = ".*?".join(re.escape(part) for part in step.output.strip().split("..."))
            for whole, less in LEFT.items():
                pattern = pattern.replace(re.escape(whole), f"(?:{whole}|{less})")
            assert re.fullmatch(pattern, output.strip(), re.DOTALL), f"{step.code}\nprinted\n{output}"


SHELL = (["bash", "-s"], 'status=$?; echo; echo "{} $status"')
PYTHON = ([sys.executable, "-"], 'print("{} 0", flush=True)')


@pytest.fixture
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def test_shell_tour_of_the_readme(readme: str, tmp_path: Path) -> None:
    blocks = [
        step
        for step in steps(readme, "sh")
        if "make demo" not in step.code and "pip install" not in step.code
    ]
    assert len(blocks) >= 5
    assert_as_shown(blocks, run_all(blocks, *SHELL, tmp_path))


def test_python_tour_of_the_readme(readme: str, tmp_path: Path) -> None:
    blocks = steps(readme, "python")
    assert len(blocks) >= 3
    assert_as_shown(blocks, run_all(blocks, *PYTHON, tmp_path))


def test_a_tour_that_is_not_true_fails(tmp_path: Path) -> None:
    lie = steps("```sh\necho one\n```\n```text\ntwo\n```\n", "sh")
    with pytest.raises(AssertionError, match="echo one"):
        assert_as_shown(lie, run_all(lie, *SHELL, tmp_path))
    failure = steps("```sh\nfalse\n```\n", "sh")
    with pytest.raises(AssertionError, match="false"):
        assert_as_shown(failure, run_all(failure, *SHELL, tmp_path))
