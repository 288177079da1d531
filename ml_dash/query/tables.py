"""Read the points of a metric and the rows of a track as columns: Arrow, numpy, pandas."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ml_dash.errors import MissingExtraError
from ml_dash.query import columnar_copies
from ml_dash.query.reader import check_known
from ml_dash.records.values import decode
from ml_dash.storage import layout, legacy, range_reading, track_reading
from ml_dash.storage.columns import kind_of_field, rows_to_table
from ml_dash.storage.compaction import POINTS, ROWS, Row, Shape, point_row
from ml_dash.storage.journal import shards

if TYPE_CHECKING:
    import numpy as np

INDEX = "_index"


def metric_table(
    run: str, name: str | None, start: float | None, end: float | None, columns: Sequence[str] | None
) -> Any:
    """Read the points of a metric as a ``pyarrow.Table``; see ``MetricReader.table``.

    Args:
        run: absolute path of the run's directory.
        name: the metric's name.
        start: least time to include; None for no bound.
        end: greatest time to include; None for no bound.
        columns: names of the values to read; None for all. Those that no point has are left out.
    """
    names = None if columns is None else [INDEX, POINTS.time, *columns]
    journals = shards(os.path.join(run, layout.metric_folder(name)), "data")
    flat = legacy.flat_journal(run, name)
    if flat is None and len(journals) == 1:
        return _table(run, journals[0], POINTS, start, end, names)
    # All points are read, since the index of a point depends on those of the other writers.
    tables = [] if flat is None else [_numbered(range_reading.table(flat, _FLAT, None, None, names))]
    tables += [_table(run, journal, POINTS, None, None, names) for journal in journals]
    if not tables:
        return _empty_table(columns)
    table = range_reading.concat(tables, POINTS.time)
    if len(tables) > 1:
        table = _numbered(_sorted_by_time(table, POINTS.time)[0])
    return range_reading.within(table, POINTS.time, start, end)


def _empty_table(columns: Sequence[str] | None) -> Any:
    import pyarrow as pa

    schema = pa.schema({INDEX: pa.int64(), POINTS.time: pa.float64(), "_createdAt": pa.string()})
    return schema.empty_table() if columns is None else schema.empty_table().select([INDEX, POINTS.time])


def track_table(run: str, topic: str, start: float | None, end: float | None, columns: Sequence[str] | None) -> Any:
    """Read the rows of a track as a ``pyarrow.Table`` sorted by ``timestamp``, those of one timestamp merged.

    Args:
        run: absolute path of the run's directory.
        topic: the track's topic.
        start: least time to include; None for no bound.
        end: greatest time to include; None for no bound.
        columns: names of the fields to read; None for all. Those that no row has are left out.
    """
    journals = track_reading.track_shards(run, topic)
    table = range_reading.concat([_table(run, path, ROWS, start, end, columns) for path in journals], ROWS.time)
    table, has_equal_times = _sorted_by_time(table, ROWS.time)
    if not has_equal_times:
        return table
    if any(range_reading.has_nulls(path, ROWS) for path in journals):  # a None that overwrites a value is no null
        rows = [track_reading.projected(row, columns) for row in track_reading.merged_rows(run, topic, start, end)]
        return rows_to_table(rows, first=ROWS.time)
    return _merged(table)


def with_columns(table: Any, names: Sequence[str] | None, read_all: Callable[[], Any] | None, what: str) -> Any:
    """Add columns of nulls for names that the table lacks: in a range of time no row may have such a value.

    Args:
        table: the rows that were read.
        names: the columns that the caller asked for.
        read_all: reads all columns, for the error text; None if the table holds a range of time only.
        what: the stream's name for the error text.

    Raises:
        InvalidValueError: the table holds all rows, and none has a value of that name.
    """
    import pyarrow as pa

    missing = [name for name in names or () if name not in table.schema.names]
    if missing and read_all is not None and len(table):
        check_known(missing, read_all().schema.names, what)
    for name in missing:
        table = table.append_column(name, pa.nulls(len(table)))
    return table


def to_numpy(table: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of a table as arrays, by name.

    Missing numbers are NaN, and whole numbers with missing ones become floats. Lists of one length become arrays of two
    or more dimensions. Text and mixed types become arrays of objects, with None for missing values.
    """
    return {field.name: _column_to_numpy(table[field.name], kind_of_field(field)) for field in table.schema}


def to_dataframe(table: Any) -> Any:
    """Return a table as a ``pandas.DataFrame``; the JSON text of mixed types is parsed.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    pd = load_pandas()
    frame = table.to_pandas()
    for field in table.schema:
        if kind_of_field(field) is None:
            frame[field.name] = pd.Series(_parsed(table[field.name]), index=frame.index, dtype=object)
    return frame


def load_pandas() -> Any:
    """Import pandas.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtraError("pandas is not installed; run: pip install pandas") from None
    return pd


def _table(
    run: str, journal: str, shape: Shape, start: float | None, end: float | None, columns: Sequence[str] | None
) -> Any:
    """Read the rows of one journal; a missing or old columnar copy is made first."""
    columnar_copies.renew_if_behind(run, journal, shape)
    return range_reading.table(journal, shape, start, end, columns, lambda: columnar_copies.renew(run, journal, shape))


def _flat_row(line: Any) -> Row | None:
    return point_row(legacy.as_point(line, None) if isinstance(line, dict) and "data" in line else line)


_FLAT = Shape(_flat_row, POINTS.time)
"""Form of the lines of a flat metric of an old client. They have no ``_index``."""


def _numbered(table: Any) -> Any:
    """Number the points of a table by their position."""
    import pyarrow as pa

    column = table.schema.get_field_index(INDEX)
    numbers = pa.array(range(len(table)), pa.int64())
    if column < 0:  # a journal without a point
        return table.add_column(0, INDEX, numbers)
    return table.set_column(column, INDEX, numbers)


def _sorted_by_time(table: Any, time: str) -> tuple[Any, bool]:
    """Sort a table by a column of times, stably; return also whether two times are equal."""
    import numpy as np

    times = table[time].to_numpy()
    if bool(np.all(times[1:] > times[:-1])):
        return table, False
    order = np.argsort(times, kind="stable")
    times = times[order]
    return table.take(order), bool(np.any(times[1:] == times[:-1]))


def _merged(table: Any) -> Any:
    """Merge the rows of each time into one, with the last value of each column that is not missing."""
    import numpy as np
    import pyarrow as pa

    times = table[ROWS.time].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], times[1:] != times[:-1]]))
    rows = np.arange(len(times))
    arrays = []
    for name in table.schema.names:
        column = table[name].combine_chunks()
        is_valid = column.is_valid().to_numpy(zero_copy_only=False)
        last = np.maximum.reduceat(np.where(is_valid, rows, -1), starts)
        arrays.append(column.take(pa.array(np.maximum(last, 0), mask=last < 0)))
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _column_to_numpy(column: Any, kind: Any) -> np.ndarray[Any, Any]:
    import pyarrow as pa

    if kind is None:
        return objects(_parsed(column))
    if not pa.types.is_list(kind):
        array: np.ndarray[Any, Any] = column.to_numpy()
        return array
    stacked = _stacked(column.combine_chunks())
    return stacked if stacked is not None else objects(column.to_pylist())


def _stacked(lists: Any) -> np.ndarray[Any, Any] | None:
    """Return lists of numbers as one array; None if their lengths differ, or a value is missing or no number."""
    import numpy as np
    import pyarrow as pa

    lengths = np.diff(lists.offsets.to_numpy())
    inner = lists.flatten()
    if lists.null_count or inner.null_count or not len(lengths) or not bool(np.all(lengths == lengths[0])):
        return None
    if pa.types.is_list(inner.type):
        values = _stacked(inner)
        if values is None:
            return None
    elif pa.types.is_string(inner.type) or pa.types.is_null(inner.type):
        return None
    else:
        values = inner.to_numpy(zero_copy_only=False)
    return values.reshape(len(lists), int(lengths[0]), *values.shape[1:])


def objects(values: list[Any]) -> np.ndarray[Any, Any]:
    """An array of one dimension with the values as they are, lists too."""
    import numpy as np

    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _parsed(column: Any) -> list[Any]:
    return [None if text is None else decode(text) for text in column.to_pylist()]
