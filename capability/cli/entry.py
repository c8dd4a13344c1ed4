"""`cap` as click knows it: its commands, what they have in common, and what is said to a wrong call."""

from pathlib import Path

import click

from capability.cli.failures import Failure, usage
from capability.cli.group import JSON, LazyGroup, suggestion
from capability.cli.inputs import Session
from capability.cli.output import Result, print_result
from capability.cli.start import COMPLETE


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"cap, version {version('capability-tokens')}")
        except PackageNotFoundError:
            click.echo("cap, not installed, from its source")
        context.exit()


@click.group(
    "cap",
    cls=LazyGroup,
    lazy={
        "keygen": ("keygen", "keygen", "Make a key pair."),
        "keys": ("keysets", "keys", "Rotate root keys: the set that verifiers go by."),
        "mint": ("mint", "mint", "Make a token."),
        "attenuate": ("narrow", "attenuate", "Narrow a token; needs no key."),
        "seal": ("narrow", "seal", "Make a token that cannot be narrowed further."),
        "inspect": ("show", "inspect", "Show what a token allows and holds."),
        "verify": ("decide", "verify", "Decide whether a token allows a request."),
        "run": ("running", "run", "Run a command with a narrower token."),
        "serve": ("serve", "serve", "Serve the check beside a service."),
        "query": ("query", "query", "Run a rule against a token's facts."),
        "list": ("registry", "list_", "List the tokens that were minted."),
        "show": ("registry", "show", "Show what is registered of a token."),
        "revoke": ("revoking", "revoke", "Revoke a token and all that descend from it."),
        "revoked": ("revoked", "revoked", "List what is revoked, look a token up, or sign the list."),
        "wait": ("waiting", "wait", "Wait until a store has a revision."),
        "audit": ("audit", "audit", "See what was done, and that nothing was taken out."),
        "store": ("storing", "store", "Make, check and move the store."),
        "third-party": ("thirdparty", "third_party", "Have someone else sign a block."),
        "completion": ("completion", "completion", "Print a script for your shell's completion."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="CAP_CONFIG",
    show_envvar=True,
    help="Read this configuration, not the nearest cap.toml.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
@click.pass_context
def cap(context: click.Context, config: Path | None) -> None:
    """Make, narrow, check and revoke capability tokens.

    A token comes from a file, from stdin (`-`, or what is piped in) or from $CAP_TOKEN; never from the
    command line, where every process could read it. Settings come from flags, then from CAP_... variables,
    then from cap.toml: the nearest one upwards, else the one in your configuration folder.

    Exit codes: 0 done or allowed, 1 denied, 2 usage, 3 bad token or key, 4 bad Datalog, 5 store
    unavailable, 6 limit reached.
    """
    context.obj = Session(config)


def complete(instruction: str) -> int:
    """Answers a shell that asks how a command line could go on."""
    from click.shell_completion import shell_complete

    return shell_complete(cap, {}, "cap", COMPLETE, instruction)


def run(words: list[str]) -> int:
    """Runs a command and returns the exit code. Raises Failure for a command line that is none."""
    try:
        with cap.make_context("cap", words) as context:
            result = cap.invoke(context)
            assert isinstance(result, Result)
            print_result(result, as_json=context.meta.get(JSON, False))
            return result.exit
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort as stop:
        raise KeyboardInterrupt from stop
    except click.NoSuchOption as error:
        raise _no_such_option(error) from error
    except click.UsageError as error:
        raise usage(error.format_message(), f"see `{_command_path(error)} --help`") from error
    except click.ClickException as error:
        raise usage(error.format_message(), "see `cap --help`") from error


def _no_such_option(error: click.NoSuchOption) -> Failure:
    options: list[str] = []
    if error.ctx is not None:
        options = [name for each in error.ctx.command.get_params(error.ctx) for name in each.opts]
    hint = suggestion(error.option_name, options, _command_path(error))
    return usage(f"there is no option {error.option_name}", hint)


def _command_path(error: click.UsageError) -> str:
    return "cap" if error.ctx is None else error.ctx.command_path
