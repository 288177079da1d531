"""What ``ls`` shows of its rows: which columns, and their cells."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from typing import Any

from ml_dash.catalog.rows import Row
from ml_dash.cli import formatting, output
from ml_dash.cli.formatting import display_width
from ml_dash.cli.table import GAP, Cell, Column, cell_text, table

COMPARED_ROWS = 500
"""Runs whose parameters are read to find those that differ: some screens full, and a tenth of a second."""

PARAM_WIDTH = 16
"""Columns that a parameter gets at most when nobody asked for it."""

TAGS_FROM = 60
"""Columns of a terminal from which on there is room for tags."""

BASE = ("run", "status", "created", "duration", "tags")

_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "yellow", "live": "bold cyan"}


def listing(rows: list[Row], names: list[str] | None, total: int) -> list[str]:
    """The lines: a heading, a line for each run, and on a terminal how many there are."""
    width = output.width()
    chosen = list(names or BASE)
    if names is None and ((width or TAGS_FROM) < TAGS_FROM or not any(row.tags for row in rows)):
        chosen.remove("tags")
    columns = [_column(name, piped=width is None) for name in chosen]
    now = datetime.datetime.now(datetime.UTC) if width is not None else None
    lines = [[_cell(row, name, now) for name in chosen] for row in rows]
    if names is None and width is not None and 1 < len(rows) <= COMPARED_ROWS:
        _add_params(rows, columns, lines, width)
    found = table(columns, lines, width)
    if width is None:
        return found
    counts = formatting.wrap(count_line(rows, total), width)
    return [*found, *(output.paint(line, "dim") for line in counts)]


def count_line(rows: list[Row], total: int) -> str:
    """How many runs of each status there are: ``8 runs: 7 completed, 1 failed``."""
    states = Counter("live" if row.is_live else row.status or "without a status" for row in rows)
    text = f"{formatting.plural(len(rows), 'run')}: " + ", ".join(
        f"{count:,} {state}" for state, count in states.most_common()
    )
    return text if len(rows) == total else f"{text}; {total:,} in all"


def raw_value(row: Row, name: str) -> Any:
    """What a column holds of a run; a name that is no column's is a parameter's, or METRIC/FIELD, or FIELD of the unnamed metric."""
    if name in _VALUES:
        return _VALUES[name](row)
    if name in row.params:
        return row.params[name]
    metric, _, field = name.rpartition("/")
    return row.last(metric, field)


_VALUES: dict[str, Callable[[Row], Any]] = {
    "run": lambda row: row.prefix,
    "name": lambda row: row.prefix.rsplit("/", 1)[-1],
    "status": lambda row: row.document.get("status"),
    "created": lambda row: row.document.get("created_at"),
    "ended": lambda row: row.document.get("ended_at"),
    "duration": lambda row: row.duration,
    "tags": lambda row: row.tags,
    "project": lambda row: row.document.get("project"),
    "host": lambda row: row.document.get("host"),
    "pid": lambda row: row.document.get("pid"),
    "reason": lambda row: row.document.get("status_reason"),
    "folder": lambda row: row.folder,
}


COLUMNS = tuple(_VALUES)
"""The columns that every run has; others are parameters, or values of metrics."""


def _column(name: str, *, piped: bool) -> Column:
    if name in {"run", "folder"}:
        return Column(name.upper(), least=10, keep_end=True, style="bold" if name == "run" else "")
    if name in {"tags", "reason"}:
        return Column(name.upper(), least=8)
    if name == "duration" and piped:
        return Column("DURATION_S", right=True)
    if name in {"created", "duration", "ended"}:
        return Column(name.upper(), right=True)
    return Column(name.upper() if name in _VALUES else formatting.clean(name), least=0 if name in _VALUES else 6)


def _cell(row: Row, name: str, now: datetime.datetime | None) -> Cell:
    """One cell; without ``now`` it is for a program: times in full."""
    if name == "status":
        return _status(row) if now else "live" if row.is_live else row.status or "-"
    if name == "duration":
        return formatting.duration(row.duration) if now else "-" if row.duration is None else f"{row.duration:.3f}"
    if name == "tags":
        return ",".join(map(formatting.clean, row.tags)) or "-"
    value = raw_value(row, name)
    if name in {"created", "ended"} and now is not None:
        return _ago(value, now)
    return formatting.number(value) if now is not None and isinstance(value, float) else _plain(value)


def _status(row: Row) -> Cell:
    if row.is_live:
        return (f"running {'●' if output.has_unicode() else '*'}", _STYLES["live"])
    # Whoever wrote it is gone without a word.
    text = "running?" if row.status == "running" else row.status or "-"
    return (text, _STYLES.get(row.status, ""))


def _ago(text: Any, now: datetime.datetime) -> str:
    from ml_dash.storage.documents import to_datetime

    moment = to_datetime(text)
    return "-" if moment is None else formatting.age(moment, now)


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return formatting.clean(value) if isinstance(value, str) else formatting.value_text(value)


def _add_params(rows: list[Row], columns: list[Column], lines: list[list[Cell]], width: int) -> None:
    """Add the parameters that differ between the runs, as many as fit beside what is there."""
    used = sum(
        len(GAP) + max(display_width(column.title), *(display_width(cell_text(line[place])) for line in lines))
        for place, column in enumerate(columns)
    )
    for name in _differing(rows):
        found = [_param(row, name) for row in rows]
        needed = min(PARAM_WIDTH, max(display_width(formatting.clean(name)), *map(display_width, found)))
        if used + needed > width:
            continue
        used += needed + len(GAP)
        columns.append(Column(formatting.clean(name), least=min(needed, PARAM_WIDTH)))
        for line, text in zip(lines, found, strict=True):
            line.append(text)


def _param(row: Row, name: str) -> str:
    value = row.params.get(name)
    return formatting.number(value) if isinstance(value, float) else _plain(value)


def _differing(rows: list[Row]) -> list[str]:
    """Parameters of which there are different values, in the order in which they were set."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.params.items():
            values.setdefault(name, set()).add(repr(value))
    return [name for name, found in values.items() if len(found) > 1]
