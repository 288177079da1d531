"""Read a range of a journal without reading all of it: the copy beside it has the offsets.

Rows that are returned as dicts always come from the journal, exactly as they were logged. Columns come from the copy as
far as it reaches, and then from the journal. Without a copy that fits the journal, everything comes from the journal.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_dash.storage import parquet_copy
from ml_dash.storage.beneath import regular_size
from ml_dash.storage.columns import field_of, kind_of_field, name_of, rows_to_table, wider, with_schema
from ml_dash.storage.compaction import Row, Shape, rows_of
from ml_dash.storage.journal import objects, read_lines
from ml_dash.storage.parquet_copy import Copy, Coverage, Group

LARGE_BYTES = 1 << 20
"""Size below which a journal is read whole: that is faster than to open a copy."""

TAIL_LINES = 32_768
"""Lines after the end of the copy that become columns at once."""


@contextlib.contextmanager
def copy_of(journal: str) -> Iterator[Copy | None]:
    """Open the copy beside a journal; yield None if the journal is small, or has no copy that fits it."""
    if regular_size(journal) < LARGE_BYTES or not regular_size(parquet_copy.path_of(journal)):
        yield None
        return
    with parquet_copy.opened(journal) as copy:
        yield copy


def coverage_of(journal: str) -> Coverage | None:
    """Return what the copy of a journal covers, as ``copy_of`` opens it; offsets stay true when the copy is renewed."""
    with copy_of(journal) as copy:
        return None if copy is None else copy.coverage


def points_of(journal: str, group: Group, start: int, stop: int | None) -> list[dict[str, Any]]:
    """Return the points of a row group from position ``start`` to before ``stop`` (None: to the end) within it."""
    lines = parquet_copy.lines_of(journal, group)
    if len(lines) == group.rows:  # every line is a point: those before the range need not be parsed
        return list(objects(lines[start:stop]))
    return [point for point in objects(lines) if "data" in point][start:stop]


def rows_between(journal: str, start: float | None, end: float | None) -> Iterator[dict[str, Any]]:
    """Yield the lines of a track with a time from ``start`` to ``end``, both inclusive, in the order of the journal.

    Lines whose time only the caller can judge may be among them.
    """
    covered = 0
    with copy_of(journal) as copy:
        if copy is not None:
            covered = copy.coverage.size
            for number, group in enumerate(copy.coverage.groups):
                if overlaps(group, start, end):
                    yield from objects(_lines_in_range(journal, copy, number, start, end))
    yield from objects(read_lines(journal, covered))


def table(
    journal: str,
    shape: Shape,
    start: float | None,
    end: float | None,
    columns: Sequence[str] | None,
    damaged: Callable[[], None] = lambda: None,
) -> Any:
    """Return rows as a ``pyarrow.Table`` in the order of the journal, with the column of times.

    Args:
        journal: the journal.
        shape: how its lines become rows.
        start: the first time, inclusive; None for no limit.
        end: the last time, inclusive; None for no limit.
        columns: names of columns; None for all. A name that no row has is left out.
        damaged: called if a page of the copy does not fit its checksum; the journal is read instead.
    """
    names = None
    if columns is not None:
        names = list(dict.fromkeys([*columns] if shape.time in columns else [shape.time, *columns]))
    tables, covered = _copied_table(journal, start, end, names, damaged)
    tables += _tail_tables(journal, shape, covered, names)
    if len(tables) > 1 and (mixed := _mixed_columns(tables)):
        tables = list(_tail_tables(journal, shape, 0, names, mixed))
    return within(concat(tables, shape.time), shape.time, start, end)


def _copied_table(
    journal: str, start: float | None, end: float | None, names: list[str] | None, damaged: Callable[[], None]
) -> tuple[list[Any], int]:
    """Return what the copy has of a range (no table or one), and the offset in the journal where it ends."""
    with copy_of(journal) as copy:
        if copy is None:
            return [], 0
        groups = [number for number, group in enumerate(copy.coverage.groups) if overlaps(group, start, end)]
        try:
            return [copy.read(groups, names)], copy.coverage.size
        except OSError:
            damaged()
            return [], 0


def has_nulls(journal: str, shape: Shape) -> bool:
    """Whether a value of some row is None, which a column cannot tell from a missing one."""
    coverage = coverage_of(journal)
    if coverage is not None and coverage.nulls:
        return True
    tail = read_lines(journal, coverage.size if coverage is not None else 0)
    return any(row is not None and None in row.values() for row in map(shape.row, objects(tail)))


def _mixed_columns(tables: Sequence[Any]) -> frozenset[str]:
    """Return the columns that are JSON text in the result and floats in some table.

    In such a table a whole number has become a float, which JSON text would show.
    """
    kinds, floats = _widest_kinds(tables), set()
    for table in tables:
        fields = ((field.name, kind_of_field(field)) for field in table.schema)
        floats |= {name for name, kind in fields if kind is not None and "double" in name_of(kind)}
    return frozenset(name for name in floats if kinds[name] is None)


def concat(tables: Sequence[Any], time: str) -> Any:
    """Concatenate tables; each column has the widest type that it has in one of them, the one of times is a float."""
    import pyarrow as pa

    kinds = _widest_kinds(tables)
    kinds[time] = pa.float64()
    schema = pa.schema([field_of(name, kind) for name, kind in kinds.items()])
    return pa.concat_tables([with_schema(table, schema) for table in tables]) if tables else schema.empty_table()


def _widest_kinds(tables: Sequence[Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for table in tables:
        for field in table.schema:
            kind = kind_of_field(field)
            kinds[field.name] = wider(kinds[field.name], kind) if field.name in kinds else kind
    return kinds


def within(rows: Any, time: str, start: float | None, end: float | None) -> Any:
    """Return the rows of a table with a time from ``start`` to ``end``, both inclusive."""
    import pyarrow.compute as pc

    if start is not None:
        rows = rows.filter(pc.greater_equal(rows[time], start))
    if end is not None:
        rows = rows.filter(pc.less_equal(rows[time], end))
    return rows


def overlaps(group: Group, start: float | None, end: float | None) -> bool:
    """Whether a row group may have a row with a time from ``start`` to ``end``."""
    if start is None and end is None:
        return bool(group.rows)
    return group.first <= (math.inf if end is None else end) and group.last >= (-math.inf if start is None else start)


def _lines_in_range(journal: str, copy: Copy, number: int, start: float | None, end: float | None) -> list[bytes]:
    """Return the lines of a row group in a range, by the times in the copy; all lines where these do not tell."""
    import numpy as np

    group = copy.coverage.groups[number]
    lines = parquet_copy.lines_of(journal, group)
    low, high = -math.inf if start is None else start, math.inf if end is None else end
    if (group.first >= low and group.last <= high) or len(lines) != group.rows:
        return lines
    try:
        times = copy.read([number], ["timestamp"])["timestamp"].to_numpy()
    except OSError:
        return lines
    return [lines[index] for index in np.flatnonzero((times >= low) & (times <= high))]


def _tail_tables(
    journal: str, shape: Shape, start: int, names: list[str] | None, as_json: frozenset[str] = frozenset()
) -> Iterator[Any]:
    lines: list[bytes] = []
    for line in read_lines(journal, start):
        lines.append(line)
        if len(lines) == TAIL_LINES:
            yield _to_table(rows_of(lines, shape), names, as_json)
            lines = []
    if lines:
        yield _to_table(rows_of(lines, shape), names, as_json)


def _to_table(rows: list[Row], names: list[str] | None, as_json: frozenset[str]) -> Any:
    if names is not None:
        rows = [{name: row[name] for name in names if name in row} for row in rows]
    return rows_to_table(rows, as_json=as_json)
