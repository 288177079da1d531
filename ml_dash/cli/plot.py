"""``ml-dash plot``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ml_dash.cli import output
from ml_dash.cli.arguments import json_option, metric_argument, pick, root_option, run_argument
from ml_dash.cli.exits import CommandError, WrongCallError
from ml_dash.storage.atomic import replacing

if TYPE_CHECKING:
    from ml_dash.cli.series import Series
    from ml_dash.query.downsample import Floats

PIPED_WIDTH, PIPED_HEIGHT = 100, 24
"""Columns and lines where there is no terminal to ask."""

HIGHEST = 30
"""Lines of a plot on a tall terminal: a curve that is stretched further is no clearer."""

PNG_WIDTH, PNG_HEIGHT = 960, 540
"""Pixels of a picture: what a page or a slide shows without scaling."""


@click.command()
@run_argument()
@metric_argument("METRIC[/FIELD]")
@root_option
@click.option("--field", help="The field, where METRIC names the metric alone.")
@click.option(
    "--x",
    "axis",
    metavar="AXIS",
    help="What goes to the right: step, time, index, or another field of the metric. By default the field that counts steps, or the index.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw into a PNG file instead; a file that is there is replaced.",
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

    METRIC is a metric with one field, METRIC/FIELD, or a field of the unnamed metric. With --json the points that
    would be drawn are printed.
    """
    from ml_dash.cli import series

    if png is not None and not png.lower().endswith(".png"):
        raise WrongCallError(f"--png {png!r}: it makes a PNG picture; let the name end in .png")
    found = pick(run, root)
    chosen = series.find_series(found, metric, field)
    x, label = chosen.x(axis)
    _require_values(chosen, x, found.prefix)
    if png is not None:
        _write_png(png, found.prefix, chosen, x, label, width or PNG_WIDTH, height or PNG_HEIGHT)
    if as_json:
        output.write_json(_as_json(found.prefix, chosen, x, label) | ({"png": os.path.abspath(png)} if png else {}))
    elif png is not None:
        output.write([os.path.abspath(png)])
    else:
        output.write(_lines(found.prefix, chosen, x, label, width, height))


def _require_values(chosen: Series, x: Floats, run: str) -> None:
    import numpy as np

    if not np.any(np.isfinite(chosen.values) & np.isfinite(x)):
        raise CommandError(f"{chosen.label} of {run} has no finite value to draw")


def _lines(run: str, chosen: Series, x: Floats, label: str, width: int | None, height: int | None) -> list[str]:
    from ml_dash.cli import formatting, terminal_plot
    from ml_dash.cli.table import Cell, Column, table

    columns = width or output.width() or PIPED_WIDTH
    lines = height or min(HIGHEST, (output.height() or PIPED_HEIGHT) - 2)
    names: list[Cell] = [(formatting.clean(chosen.label), "bold"), (formatting.clean(run), "dim")]
    title = table([Column(least=10), Column(least=10, keep_end=True)], [names], columns)
    drawn = terminal_plot.plot(
        x, chosen.values, columns, lines - 1, x_label=formatting.clean(label), unicode=output.has_unicode()
    )
    return [*title, *drawn]


def _as_json(run: str, chosen: Series, x: Floats, label: str) -> dict[str, object]:
    return {
        "run": run,
        "metric": chosen.metric,
        "field": chosen.field,
        "x_label": label,
        "x": x.tolist(),
        "y": chosen.values.tolist(),
    }


def _write_png(path: str, run: str, chosen: Series, x: Floats, label: str, width: int, height: int) -> None:
    from ml_dash.cli.png_plot import draw

    picture = draw(x, chosen.values, width, height, title=f"{chosen.label} - {run}", x_label=label)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise CommandError(f"the folder {folder!r} does not exist; the picture was to go there")
    with replacing(path) as file:
        file.write(picture)
