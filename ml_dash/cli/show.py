"""The command ``ml-dash show``."""

from __future__ import annotations

from typing import Any

import click

from ml_dash.cli.arguments import find_run, json_option, root_option, run_argument
from ml_dash.cli.output import write, write_json


@click.command()
@run_argument()
@root_option
@click.option(
    "--all", "everything", is_flag=True, help="Show every parameter, metric and stream, however many lines that takes."
)
@click.option(
    "-n",
    "--log-lines",
    type=click.IntRange(min=0),
    metavar="N",
    default=5,
    show_default=True,
    help="Number of log lines, the newest.",
)
@json_option
def show(run: str, root: str, everything: bool, log_lines: int, as_json: bool) -> None:
    """Show what RUN recorded: its status, parameters, metrics, streams, files, and the end of its log.

    On a terminal the output fits the screen; a line says how much was left out, and --all shows it.
    """
    from ml_dash.query import overview

    reader = find_run(run, root)
    about: dict[str, Any] = overview.overview(reader, log_lines)
    if as_json:
        write_json(about | {"metrics": overview.metric_summaries(reader)})
        return
    from ml_dash.cli.screen import screen

    write(screen(reader, about, everything=everything))
