"""What an operator meets, in metrics, logs, settings and answers, stands in the docs."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import capability.sidecar
from capability import Guard
from capability.http.problems import PROBLEMS, Problem
from capability.sidecar.logs import line_of
from capability.sidecar.metrics import exposition
from capability.sidecar.profiles import Original
from capability.sidecar.settings import FIXED, APISettings, RouteSettings, Settings
from capability.sidecar.table import _LISTENER_NAMES, _ROUTE_NAMES
from capability.sidecar.tally import REASONS, Board
from tests.sidecar.tokens import ROOT

DOCS = Path(__file__).parents[2] / "docs"


def part(name: str, heading: str) -> str:
    """Returns what stands below a heading, up to the next of its level."""
    text = (DOCS / name).read_text("utf-8")
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def named(text: str) -> set[str]:
    """Returns all that stands in code style; a list of labels in braces is no part of a name."""
    return {each.partition("{")[0] for each in re.findall(r"`([^`]+)`", text)}


def first_cells(text: str) -> set[str]:
    """Returns all names in the first cells of tables."""
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return {name for row in rows for name in named(row)}


def test_every_metric_is_explained_and_no_other() -> None:
    found = text_string_to_metric_families(exposition(Board(1)).decode())
    exposed = {f"{each.name}_total" if each.type == "counter" else each.name for each in found}
    text = part("sidecar.md", "Metrics and logs")
    assert {name for name in first_cells(text) if name.startswith("cap_")} == exposed
    assert set(REASONS) <= named(text)


def test_every_field_of_the_log_is_explained() -> None:
    decision = Guard(ROOT.public_key, "allow if user($u)").check("no token")
    line = line_of(datetime.now(UTC), decision, Original("GET", "/", "", None), "default")
    assert set(line) <= named(part("sidecar.md", "Metrics and logs"))


def test_every_setting_is_explained() -> None:
    configuration = part("sidecar.md", "Configuration")
    rows = dict.fromkeys(("", "[[serve.listen]]", "[[serve.route]]", "[serve.api]"), "")
    for cell in re.findall(r"^\| (.+?) \|", configuration, re.MULTILINE):
        table = next((each for each in rows if each and each in cell), "")
        rows[table] += cell
    own = {each.name for each in fields(Settings)} - {"listen", "routes", "api", "prefixes", "never_revoked"}
    of_all_routes = {each.name for each in fields(RouteSettings)} - {"name", "host", "path", "source"}
    assert named(rows[""]) == own | of_all_routes
    assert named(rows["[[serve.listen]]"]) == {"[[serve.listen]]", *_LISTENER_NAMES}
    assert named(rows["[[serve.route]]"]) == {"[[serve.route]]", *_ROUTE_NAMES}
    assert named(rows["[serve.api]"]) == {"[serve.api]", *(each.name for each in fields(APISettings))}


def test_what_needs_a_restart_is_said() -> None:
    sentence = next(
        each for each in part("sidecar.md", "Configuration").split("\n") if "start of a process" in each
    )
    assert named(sentence.partition(" hold from ")[0]) == set(FIXED)


def problems() -> Iterator[Problem]:
    for module in pkgutil.iter_modules(capability.sidecar.__path__, "capability.sidecar."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Problem) and value not in PROBLEMS:
                yield value


def test_every_problem_of_the_sidecar_is_explained_with_its_status() -> None:
    text = part("problems.md", "Of the sidecar")
    told = dict(re.findall(r"^### `(\S+)`\n\n([\d, ]+)\. ", text, re.MULTILINE))
    statuses: dict[str, set[str]] = {}
    for problem in problems():
        statuses.setdefault(problem.type, set()).add(str(problem.status))
    assert {name: set(each.split(", ")) for name, each in told.items()} == statuses


def test_the_map_of_the_sidecar_has_each_module() -> None:
    """Whoever looks for a part finds it in the package's docstring."""
    modules = {each.name for each in pkgutil.iter_modules(capability.sidecar.__path__)}
    assert modules <= set(re.findall(r"\w+", capability.sidecar.__doc__ or ""))
