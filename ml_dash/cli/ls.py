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
    from ml_dash.catalog.filter import Condition
    from ml_dash.catalog.rows import Row

STATUSES = ("running", "completed", "failed", "cancelled", "live", "none")
"""As in ``catalog.filter``, which is not loaded to show a help text."""

SORTS = ("created", "name", "status", "duration")


@click.command()
@click.argument("place", type=click.Path(), required=False, metavar="[PLACE]")
@root_option
@click.option(
    "-w",
    "--where",
    metavar="CONDITION",
    help="Only runs that meet it: 'lr < 1e-3 and (status = failed or tags has ppo)', 'created > 2d', "
    "'train/loss.min < 0.1', 'model.name ~ resnet', 'status in (failed, cancelled)', 'not has(lr)'.",
)
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
@click.option(
    "--until",
    metavar="TIME",
    help="Only runs created until then; a date is its first instant, which leaves out that day.",
)
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
    where: str | None,
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

    Without PLACE it is all of --root. PLACE may also be a condition as for --where.

    On a terminal, parameters that differ between the runs are shown as far as there is room. With --json there is one
    object on each line. The exit status is 1 if there is no run.
    """
    from ml_dash.cli.filters import options_condition

    options = options_condition(where, match, tags, statuses, params, since, until)
    root, everything, condition = _find(place, root, options)
    rows = _meeting(condition, everything)
    if not everything:
        raise CommandError(nothing_in(root))
    if not rows:
        from ml_dash.catalog.suggestions import unknown_tag

        raise CommandError(unknown_tag(condition, everything) or f"none of {len(everything):,} runs fits")
    rows.sort(key=_ORDERS[sort])
    rows = rows[-limit:] if limit else rows
    if reverse:
        rows.reverse()
    names = [name.strip() for name in columns.split(",") if name.strip()] if columns else None
    if names:
        from ml_dash.cli.suggestions import require_columns

        require_columns(names, rows, everything)
    if as_json and names is None:
        write_json_lines(row.summary() for row in rows)
        return
    from ml_dash.cli.listing import listing, raw_value

    if as_json:
        write_json_lines(
            row.summary() | {"columns": {name: raw_value(row, name) for name in names or ()}} for row in rows
        )
    else:
        write(listing(rows, names, len(everything)))


def _find(place: str | None, root: str, options: Condition) -> tuple[str, list[Row], Condition]:
    """Return the folder of runs, the runs in it or below a prefix in it, and their condition with its names checked."""
    is_given = click.get_current_context().get_parameter_source("root") is not ParameterSource.DEFAULT
    if place is None or (os.path.isdir(place) and not is_given):
        folder = root if place is None else place
        everything = _read(folder)
        return folder, everything, _checked(options, everything)
    from ml_dash.catalog.filter import Prefix, all_of, is_condition, parse

    if not os.path.isdir(root) and not is_given and not is_condition(place):
        return place, _read(place), options  # says that there is no such folder
    everything = _read(root)
    options = _checked(options, everything)
    rows = _meeting(_checked(Prefix(place), everything, check_words=False), everything)
    if rows or not everything:
        return root, rows, options
    if is_condition(place):
        return root, everything, all_of([_checked(parse(place), everything), options])
    from ml_dash.cli.suggestions import not_below

    raise not_below(place, root, everything)


def _checked(condition: Condition, rows: list[Row], *, check_words: bool = True) -> Condition:
    """Return a condition as ``suggestions.checked`` does, without loading it for none."""
    from ml_dash.catalog.filter import And

    if condition == And(()):
        return condition
    from ml_dash.catalog.suggestions import checked, with_exact_prefixes
    from ml_dash.errors import InvalidValueError

    try:
        return checked(condition, rows) if check_words else with_exact_prefixes(condition, rows)
    except InvalidValueError as error:
        raise CommandError(str(error)) from None


def _meeting(condition: Condition, rows: list[Row]) -> list[Row]:
    """Return the rows that meet a condition."""
    from ml_dash.catalog.filter import And
    from ml_dash.catalog.matching import matcher
    from ml_dash.storage.file_index import without_collector

    if condition == And(()):
        return rows
    with without_collector():
        return list(filter(matcher(condition), rows))


def _read(folder: str) -> list[Row]:
    """Return every run below a folder; one line on stderr names folders that cannot be read."""
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


_ORDERS: dict[str, Callable[[Any], Any]] = {
    "created": lambda row: (row.created or 0.0, row.prefix),
    "name": lambda row: row.prefix,
    "status": lambda row: (row.status, row.created or 0.0, row.prefix),
    "duration": lambda row: (row.duration or 0.0, row.prefix),
}
