"""The command ``ml-dash export``."""

from __future__ import annotations

import click

from ml_dash._printable import clean
from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import find_run, json_option, root_option, run_argument

KINDS = ("csv", "parquet", "zip")


@click.command()
@run_argument()
@root_option
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="Format of the export.")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(),
    metavar="PATH",
    help="Where to write it. Default: ./NAME-csv, ./NAME-parquet or ./NAME.zip.",
)
@click.option("--raw", is_flag=True, help="In CSV, put no apostrophe before text that a spreadsheet would run.")
@click.option("--force", is_flag=True, help="Replace an existing file, or the folder of an earlier export.")
@json_option
def export(run: str, root: str, kind: str, path: str | None, raw: bool, force: bool, as_json: bool) -> None:
    """Copy RUN into files that other programs read.

    csv and parquet make a folder with tables: metrics/NAME, tracks/TOPIC, frames/TOPIC (the index), params, logs and
    files. Nested values become dotted columns; in CSV a list is JSON text, and text that begins like a formula (=, +, -,
    @, a tab or the end of a line; no number) gets an apostrophe in front, unless --raw is given. zip packs the run's own folder; unpack it
    in a folder of runs. The export appears when it is complete, or not at all. A live run is exported as it is now.
    """
    from ml_dash.export.run import export_run

    reader = find_run(run, root)
    with output.Progress("exporting") as progress:
        progress.begin(reader.prefix)
        made = export_run(reader, kind, path, force=force, raw=raw, advance=progress.advance)
    if as_json:
        output.write_json(
            {"run": reader.prefix, "kind": kind, "path": made.path, "files": made.files, "bytes": made.size}
        )
    else:
        count = formatting.plural(made.files, "file")
        output.write([f"{clean(made.path)}  {count}, {formatting.size(made.size)}"])
