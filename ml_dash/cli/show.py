"""``ml-dash show``."""

from __future__ import annotations

from typing import Any

import click

from ml_dash.cli.arguments import json_option, pick, root_option, run_argument
from ml_dash.cli.output import write, write_json

LOG_LINES = 5


@click.command()
@run_argument()
@root_option
@click.option("--all", "everything", is_flag=True, help="Every parameter and metric, however many lines that takes.")
@click.option(
    "-n",
    "--log-lines",
    type=click.IntRange(min=0),
    metavar="N",
    default=LOG_LINES,
    show_default=True,
    help="Lines of the log's end.",
)
@json_option
def show(run: str, root: str, everything: bool, log_lines: int, as_json: bool) -> None:
    """Show what RUN recorded: how it ended, parameters, metrics, streams, files, and the end of its log.

    On a terminal it fits the screen: where there is more, a line says so, and --all shows it.
    """
    from ml_dash.query import overview

    found = pick(run, root)
    about: dict[str, Any] = overview.overview(found, log_lines)
    if as_json:
        write_json(about | {"metrics": overview.metric_facts(found)})
        return
    from ml_dash.cli.screen import screen

    write(screen(found, about, everything=everything))
