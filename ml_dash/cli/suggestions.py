"""What ``ls`` says of a name that no run has: a column, a parameter, a tag, a prefix."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ml_dash.cli.exits import CommandError, WrongCallError
from ml_dash.cli.filters import comparison
from ml_dash.storage.names import closest

if TYPE_CHECKING:
    from ml_dash.catalog.rows import Row

SEARCHED_RUNS = 200
"""Runs whose metrics are read in full before a column is said to be unknown. Where there are more, it is left empty: a
value that one of the others logged once, long ago, is no mistake."""

NAMED = 8
"""Names that a message lists if none is close."""


def no_run_fits(rows: Sequence[Row], tags: Iterable[str], params: Iterable[str]) -> str:
    """Why nothing is listed: a tag or a parameter that no run has, or only that all of them together fit none.

    Args:
        rows: every run.
        tags: those that were asked for.
        params: the conditions that were.
    """
    for tag in tags:
        if not any(tag in row.tags for row in rows):
            return f"no run has the tag {tag!r}; {_advice(tag, _of_all(row.tags for row in rows), 'the tags are')}"
    for condition in params:
        name = comparison(condition)[0]
        if not any(name in row.params for row in rows):
            known = _of_all(row.params for row in rows)
            return f"no run has a parameter {name!r}; {_advice(name, known, 'the parameters are')}"
    return f"none of {len(rows):,} runs fits"


def require_columns(names: Sequence[str], shown: Sequence[Row], rows: Sequence[Row]) -> None:
    """See that some run has each column that was asked for.

    Args:
        names: the columns.
        shown: the runs that are listed.
        rows: every run.

    Raises:
        WrongCallError: no run has it; the text names the closest one that there is.
    """
    from ml_dash.cli.listing import COLUMNS, raw_value

    for name in names:
        if name in COLUMNS or any(raw_value(row, name) is not None or name in row.params for row in shown):
            continue
        if any(name in row.params for row in rows) or _is_logged(name, rows):
            continue
        near = closest(name, [*COLUMNS, *_of_all(row.params for row in rows), *_of_all(map(_fields, rows[-50:]))])
        advice = f"did you mean {near!r}?" if near else f"there is {', '.join(COLUMNS)}, and what runs logged"
        raise WrongCallError(
            f"--columns {name!r}: no column, and no run has a parameter or METRIC/FIELD of that name; {advice}"
        )


def not_below(place: str, root: str, rows: Sequence[Row]) -> CommandError:
    """The error for what is neither a folder nor where runs are below the root."""
    parts = [row.prefix.split("/") for row in rows]
    known = dict.fromkeys("/".join(part[:length]) for part in parts for length in range(1, len(part) + 1))
    ends = {prefix.rsplit("/", 1)[-1]: prefix for prefix in reversed(known)}
    near = closest(place.strip("/"), [*known, *ends])
    advice = f"; did you mean {ends.get(near, near)!r}?" if near else ""
    return CommandError(f"{place!r} is no folder, and no prefix of runs below {os.path.abspath(root)!r}{advice}")


def _is_logged(name: str, rows: Sequence[Row]) -> bool:
    """Whether a run has METRIC/FIELD anywhere in its journals, or may have it; the unnamed metric's is only FIELD."""
    metric, _, field = name.rpartition("/")
    from ml_dash.query.metric_stats import field_stats
    from ml_dash.storage import metric_reading

    journals = (metric_reading.metric_shards(row.folder, metric or None) for row in rows)
    having = [found for found in journals if found]
    return len(having) > SEARCHED_RUNS or any(field in field_stats(found)["fields"] for found in having)


def _fields(row: Row) -> Iterator[str]:
    from ml_dash.catalog.rows import last_values
    from ml_dash.cli.series import label_of
    from ml_dash.query.run import RunReader

    for metric in RunReader(row.folder, row.prefix).metrics.list():
        yield from (label_of(metric, field) for field in last_values(row.folder, metric) if field != "_ts")


def _of_all(names: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def _advice(name: str, known: list[str], what: str) -> str:
    near = closest(name, known)
    if near:
        return f"did you mean {near!r}?"
    more = f" and {len(known) - NAMED:,} more" if len(known) > NAMED else ""
    return f"{what} {', '.join(known[:NAMED])}{more}" if known else "none has any"
