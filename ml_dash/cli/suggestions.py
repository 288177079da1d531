"""Errors of ``ls`` on a column or a prefix that no run has."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ml_dash.catalog.rows import Row
from ml_dash.catalog.suggestions import is_known, nearest
from ml_dash.cli.exits import CommandError, WrongCallError
from ml_dash.cli.listing import COLUMNS, raw_value
from ml_dash.storage.names import closest


def require_columns(names: Sequence[str], shown: Sequence[Row], rows: Sequence[Row]) -> None:
    """Check that a run has each column.

    Args:
        names: the columns.
        shown: the runs that are listed.
        rows: every run.

    Raises:
        WrongCallError: no run has it; the text names the closest column that there is.
    """
    for name in names:
        if name in COLUMNS or any(raw_value(row, name) is not None for row in shown) or is_known(name, rows):
            continue
        near = nearest(name, rows, COLUMNS)
        advice = f"did you mean {near!r}?" if near else f"there is {', '.join(COLUMNS)}, and what runs logged"
        raise WrongCallError(
            f"--columns {name!r}: no column, and no run has a parameter or METRIC/FIELD of that name; {advice}"
        )


def not_below(place: str, root: str, rows: Sequence[Row]) -> CommandError:
    """The error for a PLACE that is no folder, no prefix of a run and no condition."""
    parts = [row.prefix.split("/") for row in rows]
    known = dict.fromkeys("/".join(part[:length]) for part in parts for length in range(1, len(part) + 1))
    ends = {prefix.rsplit("/", 1)[-1]: prefix for prefix in reversed(known)}
    near = closest(place.strip("/"), [*known, *ends])
    advice = f"; did you mean {ends.get(near, near)!r}?" if near else ""
    return CommandError(f"{place!r} is no folder, and no prefix of runs below {os.path.abspath(root)!r}{advice}")
