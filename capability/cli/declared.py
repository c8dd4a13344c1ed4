"""What a command takes, declared without click, so that the commonest calls need not load it.

A process of `cap attenuate` works for a few milliseconds, and loading click takes longer than that. So a
Command reads the plainest of command lines itself, by the same declarations of which click's command is
made. Whatever is not exactly one of its words (help, `-ofoo`, a mistake) it leaves to click, which then
reads the whole line and says what it says to everybody.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    import click

    from capability.cli.output import Result

_Function = TypeVar("_Function", bound=Callable[..., Any])

JSON_FLAG: Final = "--json"


class Argument:
    """One word that may stand anywhere among the options. As a decorator, it gives click's command one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, function: _Function) -> _Function:
        import click

        return click.argument(self.name, required=False)(function)


class Option:
    """An option of text, or one that is there or not. As a decorator, it gives click's command one."""

    def __init__(
        self,
        *flags: str,
        name: str,
        help: str,
        metavar: str | None = None,
        multiple: bool = False,
        is_flag: bool = False,
        envvar: str | None = None,
    ) -> None:
        self.flags = flags
        self.name = name
        self.help = help
        self.metavar = metavar
        self.multiple = multiple
        self.is_flag = is_flag
        self.envvar = envvar

    def __call__(self, function: _Function) -> _Function:
        import click

        return click.option(
            *self.flags,
            self.name,
            help=self.help,
            metavar=self.metavar,
            multiple=self.multiple,
            is_flag=self.is_flag or None,  # False would make an option whose value may be left out
            envvar=self.envvar,
            show_envvar=self.envvar is not None,
        )(function)

    def absent(self) -> Any:
        """Returns its value where the command line does not name it."""
        if self.is_flag:
            return False
        if self.multiple:
            return ()
        return os.environ.get(self.envvar) or None if self.envvar else None


class Options:
    """Options in the order in which help lists them. As a decorator, it gives click's command all of them."""

    def __init__(self, *options: Option) -> None:
        self._options = options

    def __iter__(self) -> Iterator[Option]:
        return iter(self._options)

    def __call__(self, function: _Function) -> _Function:
        for option in reversed(self._options):
            function = option(function)
        return function


class Call(NamedTuple):
    """A command line that was read: the arguments of the command's function, and whether JSON is wanted."""

    values: Mapping[str, Any]
    as_json: bool


class Command:
    """A command that is run with click or without. Its function takes a Session and what is declared."""

    def __init__(
        self,
        name: str,
        examples: tuple[str, ...],
        argument: Argument,
        options: Sequence[Option],
        function: "Callable[..., Result]",
    ) -> None:
        self.name = name
        self.examples = examples
        self.argument = argument
        self.options = tuple(options)
        self.function = function

    def read(self, words: Sequence[str]) -> Call | None:
        """Returns what `words` say, or None where that is for click to say.

        What is returned is what click would make of them.
        """
        by_flag = {flag: option for option in self.options for flag in option.flags}
        values: dict[str, Any] = {option.name: option.absent() for option in self.options}
        values[self.argument.name] = None
        as_json = False
        remaining = iter(words)
        for word in remaining:
            option = by_flag.get(word)
            if word == JSON_FLAG:
                as_json = True
            elif option is None:
                if not _is_plain(word) or values[self.argument.name] is not None:
                    return None
                values[self.argument.name] = word
            elif option.is_flag:
                values[option.name] = True
            else:
                value = next(remaining, "")
                if not _is_plain(value):
                    return None
                values[option.name] = (*values[option.name], value) if option.multiple else value
        return Call(values, as_json)

    def as_click(self) -> "click.Command":
        """Returns the command as click's."""
        import click

        from capability.cli.group import command

        function = self.argument(Options(*self.options)(click.pass_obj(self.function)))
        return command(self.name, *self.examples)(function)


def declared(
    name: str, *examples: str, argument: Argument, options: Sequence[Option]
) -> "Callable[[Callable[..., Result]], Command]":
    """Makes a Command of a function that returns a Result."""
    return lambda function: Command(name, examples, argument, options, function)


def _is_plain(word: str) -> bool:
    return word == "-" or (word != "" and not word.startswith("-"))
