"""The command ``ml-dash completion``."""

from __future__ import annotations

import os

import click

from ml_dash.cli.arguments import json_option
from ml_dash.cli.exits import WrongCallError
from ml_dash.cli.output import write, write_json

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@json_option
@click.pass_context
def completion(ctx: click.Context, shell: str | None, as_json: bool) -> None:
    """Print the script with which SHELL completes commands, options and runs.

    SHELL is bash, zsh or fish; by default the shell that the environment variable SHELL names. Add one of these lines
    to the shell's start file:

    \b
      eval "$(ml-dash completion bash)"        # ~/.bashrc
      eval "$(ml-dash completion zsh)"         # ~/.zshrc
      ml-dash completion fish | source         # ~/.config/fish/config.fish
    """  # noqa: D301 - click's mark for lines that it must not wrap
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise WrongCallError(f"which shell? the variable SHELL names {name or 'none'}; say bash, zsh or fish")

    from ml_dash.cli.shells import CLASSES

    complete = CLASSES[name](ctx.find_root().command, {}, "ml-dash", "_ML_DASH_COMPLETE")
    # Not complete.source(): that starts a bash to ask for its version.
    script = complete.source_template % complete.source_vars()
    if as_json:
        write_json({"shell": name, "script": script})
    else:
        write(script.splitlines())
