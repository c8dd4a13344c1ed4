"""`cap completion`."""

import click

from capability.cli.group import command
from capability.cli.output import Result


@command(
    "completion",
    "cap completion bash >> ~/.bashrc",
    "cap completion zsh >> ~/.zshrc",
    "cap completion fish > ~/.config/fish/completions/cap.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> Result:
    """Print what makes SHELL complete commands and options of cap."""
    from click.shell_completion import get_completion_class

    from capability.cli.entry import cap
    from capability.cli.start import COMPLETE

    found = get_completion_class(shell)
    assert found is not None
    script = found(cap, {}, "cap", COMPLETE).source()
    return Result(script.strip(), {"shell": shell, "script": script})
