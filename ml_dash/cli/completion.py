"""``ml-dash completion``."""

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
def completion(shell: str | None, as_json: bool) -> None:
    """Print the script that completes commands, options and runs in SHELL: bash, zsh or fish.

    Without SHELL it is the one of the variable SHELL. Put one of these into the shell's start file:

    \b
      eval "$(ml-dash completion bash)"        # ~/.bashrc
      eval "$(ml-dash completion zsh)"         # ~/.zshrc
      ml-dash completion fish | source         # ~/.config/fish/config.fish
    """  # noqa: D301 - click's mark before lines that it must not wrap
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise WrongCallError(f"which shell? the variable SHELL names {name or 'none'}; say bash, zsh or fish")
    script = _script(name)
    if as_json:
        write_json({"shell": name, "script": script})
    else:
        write([script])


def _script(shell: str) -> str:
    from click.shell_completion import get_completion_class

    from ml_dash.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click has all of SHELLS"
    complete = kind(cli, {}, "ml-dash", "_ML_DASH_COMPLETE")
    # Not complete.source(): that starts a bash to ask for its version.
    return str(complete.source_template % complete.source_vars())
