"""The points of a metric and the rows of a track as columns: Arrow, numpy, pandas."""

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
    """The points of a metric as a ``pyarrow.Table``, in the order of ``read``: ``_index``, ``_ts``, the values, ``_createdAt``."""
    names = None if columns is None else [INDEX, POINTS.time, *columns]
    journals = shards(os.path.join(run, layout.metric_folder(name)), "data")
    flat = legacy.flat_journal(run, name)
    if flat is None and len(journals) == 1:
        return _table(run, journals[0], POINTS, start, end, names)
    # All of them first: where a point stands among those of the others is known only then.
    tables = [] if flat is None else [_flat_table(flat, names)]
    tables += [_table(run, journal, POINTS, None, None, names) for journal in journals]
    if not tables:
        return _no_points(columns)
    found = range_reading.concat(tables, POINTS.time)
    ordered = found if len(tables) == 1 else _in_one_order(found)
    return range_reading.within(ordered, POINTS.time, start, end)


def _no_points(columns: Sequence[str] | None) -> Any:
    import pyarrow as pa

    schema = pa.schema({INDEX: pa.int64(), POINTS.time: pa.float64(), "_createdAt": pa.string()})
    return schema.empty_table() if columns is None else schema.empty_table().select([INDEX, POINTS.time])


def track_table(run: str, topic: str, start: float | None, end: float | None, columns: Sequence[str] | None) -> Any:
    """The rows of a track as a ``pyarrow.Table`` sorted by ``timestamp``, those of one timestamp merged."""
    journals = track_reading.track_shards(run, topic)
    found = range_reading.concat([_table(run, path, ROWS, start, end, columns) for path in journals], ROWS.time)
    ordered, repeated = _sorted_by_time(found)
    if not repeated:
        return ordered
    if any(range_reading.has_nulls(path, ROWS) for path in journals):  # a None that overwrites a value is no null
        rows = [track_reading.projected(row, columns) for row in track_reading.merged_rows(run, topic, start, end)]
        return rows_to_table(rows, first=ROWS.time)
    return _merged(ordered)


def with_columns(found: Any, names: Sequence[str] | None, everything: Callable[[], Any] | None, what: str) -> Any:
    """The table with every column that was asked for: in a window of time a value may be missing, and is null then.

    Args:
        found: the table.
        names: what was asked for.
        everything: reads all columns, for the error text; None where only a window was read.
        what: names the stream in the error text.

    Raises:
        InvalidValueError: all rows were read, and none has a value of that name.
    """
    import pyarrow as pa

    missing = [name for name in names or () if name not in found.schema.names]
    if missing and everything is not None and len(found):
        check_known(missing, everything().schema.names, what)
    for name in missing:
        found = found.append_column(name, pa.nulls(len(found)))
    return found


def to_numpy(table: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The columns of a table as arrays, by name.

    Numbers that are missing are NaN (whole numbers then are floats); lists of one length are arrays of two or more
    dimensions; text, and whatever has no type of its own, are arrays of objects, None where they are missing.
    """
    return {field.name: _column_to_numpy(table[field.name], kind_of_field(field)) for field in table.schema}


def to_dataframe(table: Any) -> Any:
    """A table as a ``pandas.DataFrame``; JSON text becomes the values it stands for.

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
    """The module.

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
    """The rows of one journal, of which a copy is made if it needs one."""
    columnar_copies.renew_if_behind(run, journal, shape)
    return range_reading.table(journal, shape, start, end, columns, lambda: columnar_copies.renew(run, journal, shape))


def _flat_table(journal: str, columns: list[str] | None) -> Any:
    return _numbered(range_reading.table(journal, _FLAT, None, None, columns))


def _flat_row(line: Any) -> Row | None:
    return point_row(legacy.as_point(line, None) if isinstance(line, dict) and "data" in line else line)


_FLAT = Shape(_flat_row, POINTS.time)
"""How the lines of a flat metric become rows. Their ``_index`` is empty."""


def _in_one_order(found: Any) -> Any:
    """Points of several writers by time, numbered anew."""
    ordered, _ = _sorted_by_time(found, POINTS.time)
    return _numbered(ordered)


def _numbered(ordered: Any) -> Any:
    import pyarrow as pa

    place = ordered.schema.get_field_index(INDEX)
    return ordered.set_column(place, INDEX, pa.array(range(len(ordered)), pa.int64()))


def _sorted_by_time(found: Any, time: str = ROWS.time) -> tuple[Any, bool]:
    """The table in the order of time, equal times as they were, and whether there are equal ones."""
    import numpy as np

    times = found[time].to_numpy()
    if bool(np.all(times[1:] > times[:-1])):
        return found, False
    order = np.argsort(times, kind="stable")
    times = times[order]
    return found.take(order), bool(np.any(times[1:] == times[:-1]))


def _merged(ordered: Any) -> Any:
    """The rows of each time as one: the last value of each column that is not missing."""
    import numpy as np
    import pyarrow as pa

    times = ordered[ROWS.time].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], times[1:] != times[:-1]]))
    places = np.arange(len(times))
    arrays = []
    for name in ordered.schema.names:
        column = ordered[name].combine_chunks()
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        last = np.maximum.reduceat(np.where(valid, places, -1), starts)
        arrays.append(column.take(pa.array(np.maximum(last, 0), mask=last < 0)))
    return pa.Table.from_arrays(arrays, schema=ordered.schema)


def _column_to_numpy(column: Any, kind: Any) -> np.ndarray[Any, Any]:
    import pyarrow as pa

    if kind is None:
        return objects(_parsed(column))
    if not pa.types.is_list(kind):
        found: np.ndarray[Any, Any] = column.to_numpy()
        return found
    stacked = _stacked(column.combine_chunks())
    return stacked if stacked is not None else objects(column.to_pylist())


def _stacked(lists: Any) -> np.ndarray[Any, Any] | None:
    """Lists of one length, whatever they hold, as one array; None if they differ or something is missing."""
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
