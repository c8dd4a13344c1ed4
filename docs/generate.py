"""Writes what is generated in docs/: the command reference and the drawing of the layers.

`python -m docs.generate` writes; the tests of the repository fail when something is not current.
"""

import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

DOCS = Path(__file__).parent
WIDTH = 100

CLI_HEADER = """\
# The `cap` command

Generated from the commands' own `--help` by `make docs`.

Exit codes: 0 allowed or done, 1 denied (revoked included), 2 usage, 3 bad token or key, 4 bad program or policy (execution
errors too), 5 store unavailable, 6 limit reached. The result goes to stdout; `error:` and `hint:` go to stderr.
"""


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the words and the help text of `command` and of all below it, in the order of the help."""
    context = click.Context(command, info_name=" ".join(path), terminal_width=WIDTH, max_content_width=WIDTH)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _commands(below, (*path, name))


def cli_reference() -> str:
    """Returns docs/cli.md: the help of every command."""
    root = importlib.import_module("capability.cli").cap
    sections = [CLI_HEADER]
    for path, text in _commands(root, ("cap",)):
        help_lines = "\n".join(line.rstrip() for line in text.splitlines())
        sections.append(f"{'#' * (len(path) + 1)} {' '.join(path)}\n\n```text\n{help_lines}\n```\n")
    return "\n".join(sections)


def architecture() -> str:
    """Returns docs/architecture.md with the layers as pyproject.toml declares them."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    package = project["tool"]["importlinter"]["contracts"][0]
    drawing = "```text\n" + "\n".join(package["layers"]) + "\n```"
    text = (DOCS / "architecture.md").read_text()
    before, rest = text.split("<!-- layers -->", 1)
    _, after = rest.split("<!-- /layers -->", 1)
    return f"{before}<!-- layers -->\n{drawing}\n<!-- /layers -->{after}"


GENERATED = {DOCS / "cli.md": cli_reference, DOCS / "architecture.md": architecture}


def outdated() -> list[str]:
    """Returns the names of the generated files that are not what would be written now."""
    return [
        path.name
        for path, content in GENERATED.items()
        if not path.exists() or path.read_text() != content()
    ]


if __name__ == "__main__":
    for path, content in GENERATED.items():
        path.write_text(content())
