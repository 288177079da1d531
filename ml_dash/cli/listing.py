"""The table that ``ls`` prints: its columns and cells."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from typing import Any

from ml_dash._printable import Printable, clean, clean_text
from ml_dash.catalog.rows import Row
from ml_dash.cli import formatting, output
from ml_dash.cli.formatting import clip, display_width
from ml_dash.cli.table import GAP, Cell, Column, cell_text, table
from ml_dash.storage.documents import to_datetime

COMPARED_ROWS = 500
"""Largest number of runs whose parameters are compared: a few screens, read in a tenth of a second."""

PARAM_WIDTH = 16
"""Most terminal columns of a parameter that was not asked for by name."""

LONGEST_STATUS = 20
"""Most terminal columns of a status in the line that counts runs."""

TAGS_FROM = 60
"""Width of a terminal from which on tags are shown."""

BASE = ("run", "status", "created", "duration", "tags")

_NAMES = frozenset({"run", "name", "project", "host", "folder"})
"""Columns in which different values look different, also where one of them holds a backslash or ends in a space."""

_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "yellow", "live": "bold cyan"}


def listing(rows: list[Row], names: list[str] | None, total: int) -> list[str]:
    """Return the lines: a heading, one for each run, and on a terminal the number of runs.

    Args:
        rows: the runs.
        names: the columns; None for the usual ones.
        total: number of runs before any was filtered out.
    """
    width = output.width()
    chosen = list(names or BASE)
    if names is None and ((width or TAGS_FROM) < TAGS_FROM or not any(row.tags for row in rows)):
        chosen.remove("tags")
    columns = [_column(name, piped=width is None) for name in chosen]
    now = datetime.datetime.now(datetime.UTC) if width is not None else None
    lines = [[_cell(row, name, now) for name in chosen] for row in rows]
    if names is None and width is not None and 1 < len(rows) <= COMPARED_ROWS:
        _add_params(rows, columns, lines, width)
    shown = table(columns, lines, width)
    if width is None:
        return shown
    counts = formatting.wrap(count_line(rows, total), width)
    return [*shown, *(output.paint(line, "dim") for line in counts)]


def count_line(rows: list[Row], total: int) -> str:
    """Return the number of runs of each status: ``8 runs: 7 completed, 1 failed``."""
    states = Counter("live" if row.is_live else row.status or "without a status" for row in rows)
    text = f"{formatting.plural(len(rows), 'run')}: " + ", ".join(
        f"{count:,} {clip(clean_text(state), LONGEST_STATUS)}" for state, count in states.most_common()
    )
    return text if len(rows) == total else f"{text}; {total:,} in all"


def raw_value(row: Row, name: str) -> Any:
    """Return the value of a column, else of the parameter of that name, of METRIC/FIELD, or of FIELD of the unnamed metric."""
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
"""The columns of every run; other names are parameters or values of metrics."""


def _column(name: str, *, piped: bool) -> Column:
    if name in {"run", "folder"}:
        return Column(name.upper(), least=10, keep_end=True, style="bold" if name == "run" else "")
    if name in {"tags", "reason"}:
        return Column(name.upper(), least=8)
    if name == "duration" and piped:
        return Column("DURATION_S", right=True)
    if name in {"created", "duration", "ended"}:
        return Column(name.upper(), right=True)
    return Column(name.upper() if name in _VALUES else clean(name), least=0 if name in _VALUES else 6)


def _cell(row: Row, name: str, now: datetime.datetime | None) -> Cell:
    """Return one cell; without ``now`` it is for a program, with times in full."""
    if name == "status":
        if now is None:
            return "live" if row.is_live else row.status or "-"
        if row.is_live:
            return (f"running {'●' if output.has_unicode() else '*'}", _STYLES["live"])
        text = "running?" if row.status == "running" else row.status or "-"  # the heartbeat stopped
        return (text, _STYLES.get(row.status, ""))
    if name == "duration":
        return formatting.duration(row.duration) if now else "-" if row.duration is None else f"{row.duration:.3f}"
    if name == "tags":
        return Printable(",".join(map(clean, row.tags)) or "-")
    value = raw_value(row, name)
    if name in {"created", "ended"} and now is not None:
        time = to_datetime(value)
        return "-" if time is None else formatting.age(time, now)
    if name in _NAMES and isinstance(value, str):
        return clean(value)
    return formatting.number(value) if now is not None and isinstance(value, float) else _plain(value)


def _plain(value: Any) -> Printable:
    if value is None:
        return Printable("-")
    return clean_text(value) if isinstance(value, str) else formatting.value_text(value)


def _add_params(rows: list[Row], columns: list[Column], lines: list[list[Cell]], width: int) -> None:
    """Add columns for parameters that differ between the runs, in the order of their setting, while there is room."""
    room = width
    for index, column in enumerate(columns):
        room -= len(GAP) + max(map(display_width, [column.title, *(cell_text(line[index]) for line in lines)]))
    for name in dict.fromkeys(name for row in rows for name in row.params):
        if len({repr(row.params[name]) for row in rows if name in row.params}) == 1:
            continue
        values = (row.params.get(name) for row in rows)
        texts = [formatting.number(value) if isinstance(value, float) else _plain(value) for value in values]
        title = clean(name)
        needed = min(PARAM_WIDTH, max(map(display_width, [title, *texts])))
        if needed <= room:
            room -= needed + len(GAP)
            columns.append(Column(title, least=needed))
            for line, text in zip(lines, texts, strict=True):
                line.append(text)
