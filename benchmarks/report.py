"""Writes the measurements down: as text, as Markdown, as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Row

RESULTS: Final = Path(__file__).with_name("results.json")
DOCUMENT: Final = Path(__file__).parent.parent / "docs/performance.md"
BEGIN: Final = "<!-- measured: written by `make bench` -->\n"
END: Final = "<!-- end of what was measured -->\n"

_HEAD: Final = ("case", "of", "this project", "beside", "figure", "bar", "")


def line(row: Row) -> tuple[str, ...]:
    """Returns the cells of one row."""
    ours, beside = ("" if value is None else quantity(value, row.unit) for value in (row.ours, row.peer))
    if row.peer is not None and row.beside != "biscuit-python":
        beside += f" ({row.beside})"
    figure = bar = ""
    if row.figure is not None:
        as_ratio = row.peer is not None
        figure = ratio(row.figure) if as_ratio else quantity(row.figure, row.unit)
        if row.low is not None and row.high is not None:
            figure += f" ({ratio(row.low)} to {ratio(row.high)})"
        if row.bar is not None:
            bar = ("≥ " if row.at_least else "≤ ") + (
                ratio(row.bar) if as_ratio else quantity(row.bar, row.unit)
            )
    verdict = {None: "", True: "held", False: "missed"}[row.held]
    return (row.case, row.what, ours, beside, figure, bar, verdict)


def quantity(value: float, unit: str) -> str:
    """Returns a number with its unit, in three digits: seconds as µs, ms or s."""
    if unit == "exponent":
        return f"{value:.2f}"
    if unit != "s":
        return f"{value:,.0f} {unit}"
    for factor, name in ((1e6, "µs"), (1e3, "ms")):
        scaled = value * factor
        if scaled < 1000:
            return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {name}"
    return f"{value:.2f} s"


def ratio(value: float) -> str:
    """Returns a ratio: small ones as a fraction."""
    return f"1/{1 / value:.0f}" if 0 < value < 0.15 else f"{value:.2f}"


def text(rows: Sequence[Row]) -> str:
    """Returns the table for a terminal."""
    lines = [_HEAD, *map(line, rows)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in lines
    )


def markdown(results: dict[str, Any]) -> str:
    """Returns the table for docs/performance.md, from what results.json holds."""
    rows = [Row(**row) for row in results["rows"]]
    held = sum(row.held is True for row in rows)
    barred = sum(row.bar is not None for row in rows)
    lines = [
        f"Python {results['python']}, {results['machine']} with {results['cpus']} CPUs;"
        f" {', '.join(f'{name} {number}' for name, number in results['versions'].items())}."
        f" {held} of {barred} bars held.",
        "",
        "| " + " | ".join(_HEAD) + " |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
        *("| " + " | ".join(_escaped(cell) for cell in line(row)) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def with_table(document: str, table: str) -> str:
    """Returns the document with another table between its marks; raises ValueError without them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the document has no place for the table")
    return f"{before}{begin}\n{table}\n{end}{after}"


def write(rows: Iterable[Row], curves: Iterable[Any], context: dict[str, Any]) -> None:
    """Writes results.json, and the table into docs/performance.md."""
    results = {
        **context,
        "rows": [asdict(row) for row in rows],
        "curves": [asdict(curve) for curve in curves],
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8"), markdown(results)), "utf-8")


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
