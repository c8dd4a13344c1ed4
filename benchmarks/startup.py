"""The command line: whole processes, beside one that starts Python and does nothing."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import Row
from benchmarks.workload import Issuer

_ROUNDS: Final = 31
_CAP: Final = [str(Path(sys.executable).with_name("cap"))]
_NOTHING: Final = [sys.executable, "-c", "pass"]
_CLICK: Final = [sys.executable, "-c", "import click"]
_IMPORT_LINE: Final = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|(\s+)([\w.]+)")
_SHOWN: Final = 6
_ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An installed package has bytecode; one that may not write it would be compiled anew in each process."""


def rows() -> Iterator[Row]:
    """Yields the lines about processes."""
    issuer = Issuer()
    with tempfile.TemporaryDirectory() as folder:
        token, key = Path(folder, "token"), Path(folder, "root.pub")
        policy = Path(folder, "policy.datalog")
        token.write_text(issuer.token(3) + "\n", "ascii")
        key.write_text(f"{issuer.our_public}\n", "ascii")
        policy.write_text("allow if user($u), application($a), operation($o)", "ascii")
        narrow = ["attenuate", "--operation", "read", "--expires", "1h", str(token)]
        ask = ["--public-key", str(key), "-a", "orders", "-o", "read", "-r", "/orders/1", str(token)]
        yield _row("`import click` alone", _CLICK, None)
        yield _row("`cap attenuate`, 3 blocks", [*_CAP, *narrow], 6)
        yield _row("`cap verify`, 3 blocks", [*_CAP, "verify", *ask], 12)
        yield _row("`cap verify --policy`, 3 blocks", [*_CAP, "verify", "--policy", str(policy), *ask], None)
        yield _row("`cap --help`", [*_CAP, "--help"], None)
        yield from _imports("`cap attenuate`", narrow)
        yield from _imports("`cap verify`", ["verify", *ask])


def _row(what: str, command: list[str], bar: float | None) -> Row:
    ours: list[float] = []
    nothing: list[float] = []
    for number in range(_ROUNDS + 1):
        pair = [(command, ours), (_NOTHING, nothing)]
        for arguments, times in pair[:: -1 if number % 2 else 1]:
            times.append(_wall(arguments))
    del ours[0], nothing[0]  # the first may have had to write bytecode
    ratios = [mine / other for mine, other in zip(ours, nothing, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(
        "start-up",
        what,
        statistics.median(ours),
        statistics.median(nothing),
        middle,
        bar,
        low=low,
        high=high,
        beside="`python -c pass`",
    )


def _imports(what: str, arguments: list[str]) -> Iterator[Row]:
    """Yields which packages the time of a command goes to, as Python tells it, greatest first.

    Telling takes time too: the sum is more than what the command takes without.
    """
    command = [sys.executable, "-X", "importtime", "-c", "from capability.cli import main; main()"]
    done = subprocess.run(
        [*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=_ENVIRONMENT
    )
    packages: dict[str, float] = defaultdict(float)
    for microseconds, _, module in _IMPORT_LINE.findall(done.stderr):
        name = module.partition(".")[0].lstrip("_")
        packages["the standard library" if _is_standard(module) else name] += int(microseconds) / 1e6
    for name, seconds in sorted(packages.items(), key=lambda item: -item[1])[:_SHOWN]:
        yield Row("start-up", f"{what}: importing {name}", seconds, None, None)


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _wall(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_ENVIRONMENT)
    return time.perf_counter() - started
