"""The table of docs/proxies.md, as the runs saw it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.proxies.proxies import PROXIES
from tests.proxies.run import Run, Seen
from tests.proxies.scenarios import SCENARIOS

PAGE: Final = Path(__file__).resolve().parents[2] / "docs/proxies.md"
BEGIN: Final = "<!-- table -->\n"
END: Final = "<!-- /table -->"


def cell(seen: Seen) -> str:
    """Returns what the client saw and, by letters, what the service did."""
    status = {None: "none", 0: "closed"}.get(seen.status, str(seen.status))
    return f"{status} {seen.letters}".strip()


def column(run: Run) -> list[str]:
    """Returns a proxy's cells, from above."""
    return [cell(run.seen[scenario.name]) for scenario in SCENARIOS]


def table(runs: Mapping[str, Run]) -> str:
    """Returns the table for all proxies."""
    rows = [
        ["scenario", *(PROXIES[name].title for name in runs)],
        ["---"] * (len(runs) + 1),
        *(
            list(row)
            for row in zip(
                (scenario.name for scenario in SCENARIOS), *map(column, runs.values()), strict=True
            )
        ),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def written_column(title: str) -> list[str]:
    """Returns the cells of the committed table for the proxy of that title."""
    inner = PAGE.read_text("utf-8").split(BEGIN)[1].split(END)[0]
    rows = [[each.strip() for each in line.strip("|").split("|")] for line in inner.splitlines()]
    return [row[rows[0].index(title)] for row in rows[2:]]


def write(runs: Mapping[str, Run]) -> None:
    """Puts the table of these runs into the page."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}{table(runs)}{END}{after}", "utf-8")
