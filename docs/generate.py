"""Writes what is generated in docs/: the command reference and the drawing of the layers.

`python -m docs.generate` writes; the tests of the repository fail when something is not current.
"""

import importlib
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

DOCS = Path(__file__).parent
WIDTH = 100

CLI_HEADER = """\
# The `cap` command

Generated from the commands' own `--help` by `make docs`.

The result goes to stdout; `error:` and `hint:` go to stderr, and the exit code tells the kind of error.
"""


def _commands(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Yields the full name and the help of `command` and of all below it, in the order of the help."""
    context = click.Context(
        command,
        parent,
        info_name=name,
        **{**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH},
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for below_name in command.list_commands(context):
            below = command.get_command(context, below_name)
            if below is not None and not below.hidden:
                yield from _commands(below, below_name, context)


def cli_reference() -> str:
    """Returns docs/cli.md: the help of every command, and the settings of cap.toml."""
    root = importlib.import_module("capability.cli.entry").cap
    sections = [CLI_HEADER]
    for path, text in _commands(root, "cap"):
        help_lines = "\n".join(line.rstrip() for line in text.splitlines())
        sections.append(f"{'#' * (path.count(' ') + 2)} {path}\n\n```text\n{help_lines}\n```\n")
    configuration = inspect.getdoc(importlib.import_module("capability.configuration"))
    sections.append(f"## Configuration\n\n{configuration}\n")
    return "\n".join(sections)


def architecture() -> str:
    """Returns docs/architecture.md with the layers as pyproject.toml declares them."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))
    package = project["tool"]["importlinter"]["contracts"][0]
    drawing = "```text\n" + "\n".join(package["layers"]) + "\n```"
    text = (DOCS / "architecture.md").read_text("utf-8")
    before, rest = text.split("<!-- layers -->", 1)
    _, after = rest.split("<!-- /layers -->", 1)
    return f"{before}<!-- layers -->\n{drawing}\n<!-- /layers -->{after}"


GENERATED = {DOCS / "cli.md": cli_reference, DOCS / "architecture.md": architecture}


def outdated() -> list[str]:
    """Returns the names of the generated files that are not what would be written now."""
    return [
        path.name
        for path, content in GENERATED.items()
        if not path.exists() or path.read_text("utf-8") != content()
    ]


if __name__ == "__main__":
    for path, content in GENERATED.items():
        path.write_text(content(), "utf-8")
