"""``ml-dash ls``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ml_dash.cli.arguments import json_option, nothing_in, require_folder, root_option
from ml_dash.cli.exits import CommandError, print_message
from ml_dash.cli.output import write, write_json_lines

if TYPE_CHECKING:
    from ml_dash.catalog.rows import Row

STATUSES = ("running", "completed", "failed", "cancelled", "live", "none")
SORTS = ("created", "name", "status", "duration")


@click.command()
@click.argument("place", type=click.Path(), required=False, metavar="[PLACE]")
@root_option
@click.option(
    "--match", metavar="GLOB", help="Only prefixes that match, or the runs below one: 'alice/*/seed-?', alice/walker."
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only runs with this tag. Repeat it for several.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES, case_sensitive=False),
    help="Only runs of this status; live is a running one that was heard of within the last minute. Repeatable.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="CONDITION",
    help="Only runs whose parameter fits: lr=0.001, 'lr>1e-4', 'env!=Hopper', 'env~walk'. Repeatable.",
)
@click.option(
    "--since", metavar="TIME", help="Only runs created since: 90min, 12h, 2d, 1w, or a date such as 2026-03-01."
)
@click.option("--until", metavar="TIME", help="Only runs created until then.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="created",
    show_default=True,
    help="What they are ordered by; the newest or longest come last.",
)
@click.option("--reverse", is_flag=True, help="Turn the order around.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the newest so many, or the last in another order.",
)
@click.option(
    "--columns",
    metavar="NAMES",
    help="What to show of each, separated by commas: run, status, created, duration, tags, host, pid, reason, folder, a parameter's name, or METRIC/FIELD for a last value.",
)
@json_option
def ls(
    place: str | None,
    root: str,
    match: str | None,
    tags: tuple[str, ...],
    statuses: tuple[str, ...],
    params: tuple[str, ...],
    since: str | None,
    until: str | None,
    sort: str,
    reverse: bool,
    limit: int | None,
    columns: str | None,
    as_json: bool,
) -> None:
    """List the runs below PLACE, the newest last: a folder of runs, or a prefix or a glob below --root.

    Without PLACE it is all of --root.

    On a terminal, parameters that differ between the runs are shown as far as there is room. With --json there is one
    object on each line. The exit status is 1 if there is no run.
    """
    from ml_dash.cli import filters

    wanted = filters.conditions(match, tags, statuses, params, since, until)
    root, everything = _below(place, root)
    rows = [row for row in everything if all(fits(row) for fits in wanted)]
    if not rows:
        from ml_dash.cli.suggestions import no_run_fits

        raise CommandError(no_run_fits(everything, tags, params) if everything else nothing_in(root))
    rows.sort(key=_ORDERS[sort])
    rows = rows[-limit:] if limit else rows
    if reverse:
        rows.reverse()
    names = [name.strip() for name in columns.split(",") if name.strip()] if columns else None
    if names:
        from ml_dash.cli.suggestions import require_columns

        require_columns(names, rows, everything)
    if as_json:
        write_json_lines(_as_json(row, names) for row in rows)
    else:
        from ml_dash.cli.listing import listing

        write(listing(rows, names, len(everything)))


def _below(place: str | None, root: str) -> tuple[str, list[Row]]:
    """The folder that is looked at, and the runs of the place that is meant."""
    from ml_dash.cli.filters import by_prefix

    is_given = click.get_current_context().get_parameter_source("root") is not ParameterSource.DEFAULT
    if place is None:
        return root, _read(root)
    if not os.path.isdir(root) or (os.path.isdir(place) and not is_given):
        folder = root if is_given else place
        return folder, _read(folder)
    everything, is_below = _read(root), by_prefix(place)
    rows = [row for row in everything if is_below(row)]
    if everything and not rows:
        from ml_dash.cli.suggestions import not_below

        raise not_below(place, root, everything)
    return root, rows


def _read(folder: str) -> list[Row]:
    """Every run below a folder; one line on stderr names what cannot be read."""
    from ml_dash.catalog.rows import read_rows
    from ml_dash.storage.scan import Unreadable, left_out

    path = require_folder(folder)
    unreadable: list[Unreadable] = []
    rows = read_rows(path, unreadable)
    if unreadable:
        said = left_out(unreadable, path)
        if not rows:
            raise CommandError(f"no run below {path!r} can be read; {said}")
        print_message(said)
    return rows


def _as_json(row: Row, names: list[str] | None) -> dict[str, Any]:
    if names is None:
        return row.summary()
    from ml_dash.cli.listing import raw_value

    return row.summary() | {"columns": {name: raw_value(row, name) for name in names}}


_ORDERS: dict[str, Callable[[Any], Any]] = {
    "created": lambda row: (row.created or 0.0, row.prefix),
    "name": lambda row: row.prefix,
    "status": lambda row: (row.status, row.created or 0.0, row.prefix),
    "duration": lambda row: (row.duration or 0.0, row.prefix),
}
