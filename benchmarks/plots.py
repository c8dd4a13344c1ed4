"""Draws the curves as PNG files for docs/; `python -m benchmarks.plots` draws those of results.json again."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import report
from benchmarks.curves import COLD, PREPARED, WHOLE, Curve

_STYLES: Final[dict[str, dict[str, Any]]] = {
    WHOLE: {"color": "#b45309", "linestyle": "-", "marker": "s"},
    PREPARED: {"color": "#b45309", "linestyle": "--", "marker": "s", "markerfacecolor": "white"},
    COLD: {"color": "#1d4ed8", "linestyle": "-", "marker": "o"},
}
_OTHER: Final[dict[str, Any]] = {
    "color": "#1d4ed8",
    "linestyle": "--",
    "marker": "o",
    "markerfacecolor": "white",
}


def file_name(curve_name: str) -> str:
    """Returns the name of a curve's file."""
    return f"time-over-{curve_name}.png"


def draw(curves: Iterable[Curve], folder: Path) -> None:
    """Writes one file for each curve."""
    mpl.rcParams["font.size"] = 9
    for curve in curves:
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for label, seconds in curve.seconds.items():
            microseconds = [taken * 1e6 for taken in seconds]
            axes.plot(curve.numbers, microseconds, label=label, markersize=4, **_STYLES.get(label, _OTHER))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(curve.numbers, [f"{number:,}" for number in curve.numbers])
        axes.minorticks_off()
        axes.set_xlabel(curve.over)
        axes.set_ylabel("µs a decision")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 1), high * 8)  # room for the legend
        figure.savefig(folder / file_name(curve.name), dpi=130, metadata={"Software": None})


def main() -> None:
    """Draws what was measured last."""
    results = json.loads(report.RESULTS.read_text("utf-8"))
    draw([Curve(**curve) for curve in results["curves"]], report.DOCUMENT.parent)


if __name__ == "__main__":
    main()
