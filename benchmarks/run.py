"""Times this project beside biscuit-python, on tokens that both read: `python -m benchmarks.run`.

Writes benchmarks/results.json, the table in docs/performance.md and the plots beside it. Names of cases as
arguments measure only those, and write nothing.
"""

import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from benchmarks import closure, decisions, making, others, report, resources, stages, startup
from benchmarks.curves import curves
from benchmarks.measure import Row
from benchmarks.plots import draw

PARTS: dict[str, Callable[[], Iterable[Row]]] = {
    "decisions": decisions.rows,
    "making": making.rows,
    "stages": stages.rows,
    "closure": closure.rows,
    "others": others.rows,
    "startup": startup.rows,
}
PACKAGES = ("biscuit-python", "pymacaroons2", "PyJWT", "PyNaCl", "cryptography", "protobuf")


def main(arguments: list[str]) -> int:
    """Measures everything, or the parts that are named; returns the exit code."""
    unknown = set(arguments) - PARTS.keys() - {"resources"}
    if unknown:
        print(f"error: no part {', '.join(sorted(unknown))}", file=sys.stderr)
        print(f"hint: one of {', '.join((*PARTS, 'resources'))}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name, part in PARTS.items():
        if not arguments or name in arguments:
            rows += _measured(name, part())
    growth: dict[str, Any] = {}
    if not arguments or "resources" in arguments:
        growth = resources.cached_tokens()
        rows += _measured("resources", resources.rows(growth))
    print(report.text(rows))
    if not arguments:
        drawn = curves(growth)
        report.write(rows, drawn, _context())
        draw(drawn, report.DOCUMENT.parent)
        print(f"written: {report.RESULTS.name}, {report.DOCUMENT.name} and its plots")
    return 0


def _measured(name: str, rows: Iterable[Row]) -> list[Row]:
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    return list(rows)


def _context() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": {name: version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
