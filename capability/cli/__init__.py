"""The `cap` command, one module for each family of commands.

Nothing is imported here but the way in: what a command needs is imported when it runs.
"""

from capability.cli.entry import main

__all__ = ["main"]
