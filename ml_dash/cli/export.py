"""``ml-dash export``."""

from __future__ import annotations

import click

from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import json_option, pick, root_option, run_argument

KINDS = ("csv", "parquet", "zip")


@click.command()
@run_argument()
@root_option
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="What to make of it.")
@click.option(
    "-o",
    "--output",
    "place",
    type=click.Path(),
    metavar="PATH",
    help="Where to; default ./NAME-csv, ./NAME-parquet or ./NAME.zip.",
)
@click.option("--force", is_flag=True, help="Replace what is there: a file, or the folder of an earlier export.")
@json_option
def export(run: str, root: str, kind: str, place: str | None, force: bool, as_json: bool) -> None:
    """Copy RUN into files that other programs read.

    csv and parquet make a folder: metrics/NAME, tracks/TOPIC and frames/TOPIC (the index), params, logs and files.
    Nested values have dotted columns; in CSV a list is JSON text. zip packs the run's own folder, to be unpacked into a
    folder of runs. The export appears when it is complete, or not at all; a live run is exported as it is now.
    """
    from ml_dash.export.run import export_run

    found = pick(run, root)
    with output.Progress("exporting") as progress:
        progress.begin(found.prefix)
        made = export_run(found, kind, place, force=force, advance=progress.advance)
    if as_json:
        output.write_json(
            {"run": found.prefix, "kind": kind, "path": made.path, "files": made.files, "bytes": made.size}
        )
        return
    output.write(
        [formatting.clean(f"{made.path}  {formatting.plural(made.files, 'file')}, {formatting.size(made.size)}")]
    )
