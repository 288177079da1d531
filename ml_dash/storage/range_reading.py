"""A window of a journal without reading all of it: the copy beside it says where to look.

Rows that are given back as dicts always come from the journal, exactly as they were logged; columns come from the copy
as far as it reaches, and from the journal after that. Without a copy that can be trusted everything comes from the
journal.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_dash.storage import parquet_copy
from ml_dash.storage.columns import field_of, kind_of_field, name_of, recast, rows_to_table, wider
from ml_dash.storage.compaction import Row, Shape, rows_of
from ml_dash.storage.journal import read_lines_from
from ml_dash.storage.lines import objects
from ml_dash.storage.parquet_copy import Copy, Coverage, Group

LARGE_BYTES = 1 << 20
"""A journal below this size is read whole, faster than a copy is opened."""

TAIL_LINES = 32_768
"""Lines after the copy that become columns at once."""


@contextlib.contextmanager
def copy_of(journal: str) -> Iterator[Copy | None]:
    """The copy beside a journal, if the journal is large and the copy can be trusted."""
    try:
        large = os.path.getsize(journal) >= LARGE_BYTES and os.path.isfile(parquet_copy.path_of(journal))
    except OSError:
        large = False
    if not large:
        yield None
        return
    with parquet_copy.opened(journal) as copy:
        yield copy


def coverage_of(journal: str) -> Coverage | None:
    """What that copy covers. Where in the journal a row lies stays true when the copy is renewed."""
    with copy_of(journal) as copy:
        return None if copy is None else copy.coverage


def points_of(journal: str, group: Group, start: int, stop: int | None) -> list[dict[str, Any]]:
    """The points of a row group at the positions ``start`` to ``stop`` (exclusive; None for all) within it."""
    lines = parquet_copy.lines_of(journal, group)
    if len(lines) == group.rows:  # every line is a point: those before the window need not be parsed
        return list(objects(lines[start:stop]))
    return [point for point in objects(lines) if "data" in point][start:stop]


def rows_between(journal: str, start: float | None, end: float | None) -> Iterator[dict[str, Any]]:
    """The lines of a track whose time is in the window, in the order in which they were written."""
    covered = 0
    with copy_of(journal) as copy:
        if copy is not None:
            covered = copy.coverage.size
            for number, group in enumerate(copy.coverage.groups):
                if overlaps(group, start, end):
                    yield from objects(_lines_in_window(journal, copy, number, start, end))
    yield from objects(read_lines_from(journal, covered))


def table(
    journal: str,
    shape: Shape,
    start: float | None,
    end: float | None,
    columns: Sequence[str] | None,
    damaged: Callable[[], None] = lambda: None,
) -> Any:
    """Rows as a ``pyarrow.Table`` in the order in which they were written, the time's column always among them.

    Args:
        journal: the journal.
        shape: how its lines become rows.
        start: the first time wanted, inclusive.
        end: the last one, inclusive.
        columns: the columns wanted; None for all. One that no row has is left out.
        damaged: called if a page of the copy does not fit its checksum; the journal is read instead.
    """
    names = (
        None
        if columns is None
        else list(dict.fromkeys([*columns] if shape.time in columns else [shape.time, *columns]))
    )
    tables, covered = _copied_table(journal, start, end, names, damaged)
    tables += _tail_tables(journal, shape, covered, names)
    if len(tables) > 1 and (mixed := _mixed(tables)):
        tables = list(_tail_tables(journal, shape, 0, names, mixed))
    return within(concat(tables, shape.time), shape.time, start, end)


def _copied_table(
    journal: str, start: float | None, end: float | None, names: list[str] | None, damaged: Callable[[], None]
) -> tuple[list[Any], int]:
    """What the copy has of a window, and where in the journal it ends."""
    with copy_of(journal) as copy:
        if copy is None:
            return [], 0
        groups = [number for number, group in enumerate(copy.coverage.groups) if overlaps(group, start, end)]
        try:
            return [copy.read(groups, names)], copy.coverage.size
        except OSError:  # what the journal has is the truth
            damaged()
            return [], 0


def has_nulls(journal: str, shape: Shape) -> bool:
    """Whether a value of some row is None, which columns cannot tell from one that is missing."""
    coverage = coverage_of(journal)
    if coverage is not None and coverage.nulls:
        return True
    tail = read_lines_from(journal, coverage.size if coverage is not None else 0)
    return any(row is not None and None in row.values() for row in map(shape.row, objects(tail)))


def _mixed(tables: Sequence[Any]) -> frozenset[str]:
    """Columns that are JSON text in the end, and numbers in some table: there a whole number may be a float by now."""
    kinds, numbers = _kinds(tables), set()
    for one in tables:
        fields = ((field.name, kind_of_field(field)) for field in one.schema)
        numbers |= {name for name, kind in fields if kind is not None and "double" in name_of(kind)}
    return frozenset(name for name in numbers if kinds[name] is None)


def concat(tables: Sequence[Any], time: str) -> Any:
    """Tables below each other, with the columns of all of them in the widest type of each."""
    import pyarrow as pa

    kinds = _kinds(tables)
    kinds[time] = pa.float64()
    schema = pa.schema([field_of(name, kind) for name, kind in kinds.items()])
    return pa.concat_tables([_with_schema(one, schema) for one in tables]) if tables else schema.empty_table()


def _kinds(tables: Sequence[Any]) -> dict[str, Any]:
    """The widest type of each column."""
    kinds: dict[str, Any] = {}
    for one in tables:
        for field in one.schema:
            kind = kind_of_field(field)
            kinds[field.name] = wider(kinds[field.name], kind) if field.name in kinds else kind
    return kinds


def within(found: Any, time: str, start: float | None, end: float | None) -> Any:
    """The rows of a table whose time is in the window, both ends inclusive."""
    import pyarrow.compute as pc

    if start is not None:
        found = found.filter(pc.greater_equal(found[time], start))
    if end is not None:
        found = found.filter(pc.less_equal(found[time], end))
    return found


def overlaps(group: Group, start: float | None, end: float | None) -> bool:
    """Whether a row of the group may be in the window."""
    if start is None and end is None:
        return bool(group.rows)
    return group.first <= (math.inf if end is None else end) and group.last >= (-math.inf if start is None else start)


def _all_within(group: Group, start: float | None, end: float | None) -> bool:
    return (start is None or group.first >= start) and (end is None or group.last <= end)


def _lines_in_window(journal: str, copy: Copy, number: int, start: float | None, end: float | None) -> list[bytes]:
    """The lines of a row group that the window needs, by the times in the copy; all where these do not tell."""
    import numpy as np

    group = copy.coverage.groups[number]
    lines = parquet_copy.lines_of(journal, group)
    if _all_within(group, start, end) or len(lines) != group.rows:
        return lines
    try:
        times = copy.read([number], ["timestamp"])["timestamp"].to_numpy()
    except OSError:
        return lines
    low, high = -math.inf if start is None else start, math.inf if end is None else end
    return [lines[place] for place in np.flatnonzero((times >= low) & (times <= high))]


def _tail_tables(
    journal: str, shape: Shape, start: int, names: list[str] | None, as_json: frozenset[str] = frozenset()
) -> Iterator[Any]:
    lines: list[bytes] = []
    for line in read_lines_from(journal, start):
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


def _with_schema(one: Any, schema: Any) -> Any:
    import pyarrow as pa

    arrays = []
    for field in schema:
        if field.name in one.schema.names:
            old = one.schema.field(field.name)
            arrays.append(recast(one[field.name], kind_of_field(old), kind_of_field(field)))
        else:
            arrays.append(pa.nulls(len(one), field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
