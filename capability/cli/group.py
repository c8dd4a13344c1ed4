"""Commands as click knows them: groups that import a command when it is called, and the shape of each."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from capability.cli.declared import Command
from capability.cli.failures import usage
from capability.cli.output import Result

JSON = "capability.cli.json"
"""Where a context keeps whether the result is wanted as JSON."""


class LazyGroup(click.Group):
    """A group whose commands are named by module, so that help and completion import none of them.

    `lazy` maps a command's name to (module, attribute, one line of help), in the order of listing.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, tuple[str, str, str]], **options: Any) -> None:
        super().__init__(*arguments, **{"no_args_is_help": False, **options})
        self.lazy = lazy

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.lazy:
            return None
        module, attribute, _ = self.lazy[name]
        found: Command | click.Command = getattr(
            importlib.import_module(f"capability.cli.{module}"), attribute
        )
        return found.as_click() if isinstance(found, Command) else found

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.lazy:
            raise usage(
                f"there is no command {args[0]!r}", suggestion(args[0], self.lazy, context.command_path)
            )
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, _, help_line) in self.lazy.items()])


class DefaultGroup(LazyGroup):
    """A group that is a command too: words that begin with none of its commands are for `default`."""

    def __init__(self, *arguments: Any, default: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.default = default

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.lazy, *context.help_option_names):
            args = [self.default, *args]
        return super().parse_args(context, args)


class CapCommand(click.Command):
    """A command with examples at the end of its help."""

    def __init__(self, *arguments: Any, examples: tuple[str, ...], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = examples

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                # As it is to be typed: wrapped lines would break when pasted.
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def suggestion(word: str, known: Iterable[str], command_path: str) -> str:
    """Returns a hint: what was probably meant, or else where to look."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"see `{command_path} --help`"


def command(name: str, *examples: str, **options: Any) -> Callable[[Callable[..., Result]], click.Command]:
    """Makes a command of a function that returns a Result, and gives it --json."""

    def decorate(function: Callable[..., Result]) -> click.Command:
        made: click.Command = click.command(name, cls=CapCommand, examples=examples, **options)(function)
        made.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                expose_value=False,
                callback=_note_json,
                is_eager=True,
                help="Print the result as JSON; errors too, on stdout.",
            )
        )
        return made

    return decorate


def _note_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    context.find_root().meta[JSON] = value
    return value
