"""The command ``ml-dash``: the list of its commands, each of which is loaded when it is called."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Any, NoReturn

import click

from ml_dash._version import __version__
from ml_dash.cli.exits import NOT_FOUND, errors_as_exit_status, print_message
from ml_dash.cli.output import prepare_streams

COMMANDS: dict[str, tuple[str, str]] = {
    "ls": ("ml_dash.cli.ls:ls", "List the runs below a folder, and filter them."),
    "show": ("ml_dash.cli.show:show", "Show what a run recorded, on one screen."),
    "tail": ("ml_dash.cli.tail:tail", "Show the newest log lines and points of a run, and follow it."),
    "diff": ("ml_dash.cli.diff:diff", "Show how two runs differ: parameters, environment, code, metrics."),
    "plot": ("ml_dash.cli.plot:plot", "Draw a metric in the terminal, or into a PNG file."),
    "export": ("ml_dash.cli.export:export", "Copy a run into CSV or Parquet files, or into a zip archive."),
    "video": ("ml_dash.cli.video:video", "Make a video of a frame stream."),
    "verify": ("ml_dash.cli.verify:verify", "Check every file, journal and checksum of runs, and repair them."),
    "rm": ("ml_dash.cli.rm:rm", "Remove runs."),
    "doctor": ("ml_dash.cli.doctor:doctor", "Check this machine: memory, disk, locks, packages, speed."),
    "version": ("ml_dash.cli.version:version", "Print the version."),
    "completion": ("ml_dash.cli.completion:completion", "Print the completion script for a shell."),
}
"""Each command as ``module:function`` and its line in ``ml-dash --help``, which would take too long if it loaded them."""


class LazyGroup(click.Group):
    """A group whose commands are loaded when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of ``--help``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Load a command; None if no command has this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called.

        Raises:
            click.UsageError: there is no such command; the message names the closest one.
        """
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from ml_dash.storage.names import closest

            near = closest(args[0], COMMANDS)
            ctx.fail(f"no command {args[0]!r}; " + (f"did you mean {near!r}?" if near else "see ml-dash --help"))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments; click prints ``--help`` and ``--version`` here."""
        with errors_as_exit_status():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was called."""
        with errors_as_exit_status():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Look at runs that ml_dash recorded, check, export and remove them.

    RUN is the folder of a run, its prefix below the root (alice/walker/seed-1), or the end of a prefix that only one
    run has (seed-1). No command sends anything over the network.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """Run ``ml-dash`` and exit with its status."""
    if not prepare_streams():
        sys.exit(NOT_FOUND)
    # A warning names a file of a run, or a folder, that is left out: a line for a person, without the place in our code.
    warnings.showwarning = lambda message, *_, **__: print_message(str(message))
    if os.environ.get("_ML_DASH_COMPLETE"):  # of a shell's completion script
        from ml_dash.cli.shells import register

        register()
    sys.exit(cli.main(prog_name="ml-dash"))
