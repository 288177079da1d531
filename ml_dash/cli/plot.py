"""The command ``ml-dash plot``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ml_dash._printable import clean
from ml_dash.cli import output
from ml_dash.cli.arguments import find_run, json_option, metric_argument, root_option, run_argument
from ml_dash.cli.exits import CommandError, WrongCallError
from ml_dash.storage.atomic import replacing

if TYPE_CHECKING:
    from ml_dash.cli.series import Series
    from ml_dash.query.downsample import Floats

PIPED_WIDTH, PIPED_HEIGHT = 100, 24
"""Columns and lines of a plot if standard output is not a terminal."""

HIGHEST = 30
"""Most lines of a plot on a tall terminal: a curve that is stretched further is no clearer."""

PNG_WIDTH, PNG_HEIGHT = 960, 540
"""Pixels of a picture: a page or a slide shows it without scaling."""


@click.command()
@run_argument()
@metric_argument("METRIC[/FIELD]")
@root_option
@click.option("--field", help="The field, if METRIC names only the metric.")
@click.option(
    "--x",
    "axis",
    metavar="AXIS",
    help="Horizontal axis: step, time, index, or another field of the metric. Default: the field that counts steps, or the index.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw into a PNG file instead; an existing file is replaced.",
)
@click.option(
    "--width", type=click.IntRange(min=1), metavar="N", help="Columns of the plot, or pixels of the PNG (960)."
)
@click.option(
    "--height", type=click.IntRange(min=1), metavar="N", help="Lines of the plot, or pixels of the PNG (540)."
)
@json_option
def plot(
    run: str,
    metric: str,
    root: str,
    field: str | None,
    axis: str | None,
    png: str | None,
    width: int | None,
    height: int | None,
    as_json: bool,
) -> None:
    """Draw METRIC of RUN in the terminal, or into a PNG file.

    METRIC is a metric with one field, METRIC/FIELD, or a field of the unnamed metric. --json prints the points of the
    curve instead.
    """
    import numpy as np

    from ml_dash.cli.series import find_series

    if png is not None and not png.lower().endswith(".png"):
        raise WrongCallError(f"--png {png!r}: it makes a PNG picture; let the name end in .png")
    reader = find_run(run, root)
    series = find_series(reader, metric, field)
    x, x_label = series.x(axis)
    if not np.any(np.isfinite(series.values) & np.isfinite(x)):
        raise CommandError(f"{series.label} of {reader.prefix} has no finite value to draw")
    if png is not None:
        _write_png(png, reader.prefix, series, x, x_label, width or PNG_WIDTH, height or PNG_HEIGHT)
    if as_json:
        names = {"run": reader.prefix, "metric": series.metric, "field": series.field, "x_label": x_label}
        points = {"x": x.tolist(), "y": series.values.tolist()}
        output.write_json(names | points | ({"png": os.path.abspath(png)} if png else {}))
    elif png is not None:
        output.write([clean(os.path.abspath(png))])
    else:
        output.write(_lines(reader.prefix, series, x, x_label, width, height))


def _lines(run: str, series: Series, x: Floats, x_label: str, width: int | None, height: int | None) -> list[str]:
    from ml_dash.cli import terminal_plot
    from ml_dash.cli.table import Cell, Column, table

    columns = width or output.width() or PIPED_WIDTH
    lines = height or min(HIGHEST, (output.height() or PIPED_HEIGHT) - 2)
    names: list[Cell] = [(series.label, "bold"), (run, "dim")]
    title = table([Column(least=10), Column(least=10, keep_end=True)], [names], columns)
    drawn = terminal_plot.plot(
        x, series.values, columns, lines - 1, x_label=clean(x_label), unicode=output.has_unicode()
    )
    return [*title, *drawn]


def _write_png(path: str, run: str, series: Series, x: Floats, x_label: str, width: int, height: int) -> None:
    from ml_dash.cli.png_plot import draw

    picture = draw(x, series.values, width, height, title=f"{series.label} - {run}", x_label=x_label)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise CommandError(f"the folder {folder!r} does not exist; the picture was to go there")
    with replacing(path) as file:
        file.write(picture)
