"""Make and renew ``data.parquet``, the columnar copy of a journal of points or rows.

The journal is read in pieces, and the columns of each piece are set aside until those of all pieces are known. So a
journal of any length takes the memory of a few pieces. Row groups of an older copy are taken over.
"""

from __future__ import annotations

import errno
import math
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ml_dash.records.values import decode, flatten
from ml_dash.storage import parquet_copy
from ml_dash.storage.atomic import replacing
from ml_dash.storage.beneath import HeldFolder, UnsafeFileError, is_own
from ml_dash.storage.columns import (
    array_of,
    column_of,
    field_of,
    kind_named,
    kind_of_field,
    names_in,
    rows_to_table,
    text_of,
    wider,
    with_schema,
)
from ml_dash.storage.journal import read_lines, whole_length
from ml_dash.storage.parquet_copy import Copy, Coverage, Group
from ml_dash.storage.table_spill import TableSpill

GROUP_LINES = 32_768
"""Lines of one row group: a window of 1000 rows then reads a thirtieth of a million, and columns compress well."""

GROUP_BYTES = 32 * 1024 * 1024
"""Bytes of lines after which a row group ends in any case: that much is in memory at once."""

MAX_COLUMNS = 512
"""Names above which a journal gets no copy: most cells would be empty, and a row group takes 128 MiB by then."""

Row = dict[str, Any]


class Shape(NamedTuple):
    """How the lines of a stream become rows.

    Attributes:
        row: turns the object of a line into values by column; None if it is no row.
        time: the column that holds the time of a row, in seconds.
    """

    row: Callable[[Any], Row | None]
    time: str


def point_row(point: Any) -> Row | None:
    """Return a metric's line as ``_index``, ``_ts``, the values (nested ones dotted) and ``_createdAt``."""
    if not isinstance(point, dict) or "data" not in point:
        return None
    data = point["data"] if isinstance(point["data"], dict) else {}
    if dict in map(type, data.values()):
        data = flatten(data)
    if "_index" in data or "_createdAt" in data:  # the user's own value of that name stands beside ours
        data = {f"data.{name}" if name in ("_index", "_createdAt") else name: data[name] for name in data}
    time = data.get("_ts")
    if type(time) is not float and type(time) is not int:  # no client writes it, and a column of times cannot hold it
        return {"_index": point.get("index"), **data, "_ts": None, "_createdAt": point.get("createdAt")}
    return {"_index": point.get("index"), "_ts": time, **data, "_createdAt": point.get("createdAt")}


def track_row(row: Any) -> Row | None:
    """Return a track's line: ``timestamp`` and the fields."""
    if not isinstance(row, dict):
        return None
    time = row.get("timestamp")
    is_time = (type(time) is float or type(time) is int) and -math.inf < time < math.inf
    return row if is_time else None


POINTS = Shape(point_row, "_ts")
ROWS = Shape(track_row, "timestamp")


def rows_of(lines: list[bytes], shape: Shape) -> list[Row]:
    """Return the rows among some lines."""
    rows = []
    for line in lines:
        try:
            row = shape.row(decode(line))
        except ValueError:
            continue
        if row is not None:
            rows.append(row)
    return rows


def build_below(run: str, journal: str, shape: Shape, *, only_own: bool = False) -> bool:
    """Write or renew the copy of a journal that is reached from the run's folder without a link.

    The folder is held, so that the copy also lies there if another user replaces a folder by a link meanwhile.

    Args:
        run: absolute path of the run's directory.
        journal: the journal, below it.
        shape: how its lines become rows.
        only_own: whether to refuse a folder or a journal of another user, who could have put a second name of a file
            of this user there.

    Raises:
        UnsafeFileError: a folder on the way is a link, or it is not the user's own.
        OSError: see ``build``.
    """
    held = HeldFolder(run)
    try:
        with held.parent_of(journal) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if only_own and not (is_own(os.fstat(folder)) and is_own(status) and status.st_nlink == 1):
                raise UnsafeFileError(errno.EPERM, "it is not this user's own", journal)
            # A path through the descriptor leads into the held folder. Other systems than Linux have none.
            through = f"/proc/self/fd/{folder}"
            return build(os.path.join(through, name) if os.path.isdir(through) else journal, shape)
    finally:
        held.close()


def build(journal: str, shape: Shape) -> bool:
    """Write the copy of a journal, or renew it.

    Returns:
        False if the copy is complete already, or the journal gets none: it has no rows, or more than ``MAX_COLUMNS``
        names.

    Raises:
        OSError: the journal cannot be read, or the copy cannot be written.
    """
    with parquet_copy.opened(journal) as old:
        if old is not None and not old.is_intact():
            return _build(journal, shape, None)
        if old is not None and old.coverage.size >= whole_length(journal, os.path.getsize(journal)):
            return False
        return _build(journal, shape, old)


def _build(journal: str, shape: Shape, old: Copy | None) -> bool:
    kept = _large_groups(old.coverage.groups) if old is not None else []
    nulls = old is not None and old.coverage.nulls
    # The type of each column, None for JSON text: at first those of the older copy.
    kinds = {name: kind_named(kind) for name, kind in old.coverage.columns} if old is not None and kept else {}
    groups = list(kept)
    with TableSpill(os.path.dirname(journal)) as spill:
        for piece in _pieces(journal, kept[-1].end if kept else 0):
            rows = rows_of(piece.lines, shape)
            nulls = nulls or any(None in row.values() for row in rows)
            table = rows_to_table(rows)
            for name, field in zip(names_in(rows), table.schema, strict=True):
                kind = kind_of_field(field)
                kinds[name] = wider(kinds[name], kind) if name in kinds else kind
            if len(kinds) > MAX_COLUMNS:
                return False
            groups.append(_group(piece, rows, shape))
            spill.add(table)
        if not any(group.rows for group in groups):
            return False
        size = groups[-1].end
        head, tail = parquet_copy.edges(journal, size) or (0, 0)
        columns = parquet_copy.columns_in([field_of(name, kind) for name, kind in kinds.items()])
        coverage = Coverage(size, head, tail, nulls, columns, groups)
        _write(journal, coverage, kinds, _Source(journal, shape, kinds, old, len(kept), spill))
    return True


class _Piece(NamedTuple):
    """The lines of one row group."""

    start: int
    end: int
    lines: list[bytes]


class _Source:
    """The row groups of the new copy: the first ``kept`` ones from the old copy, the others from the spilled tables."""

    def __init__(
        self, journal: str, shape: Shape, kinds: dict[str, Any], old: Copy | None, kept: int, spill: TableSpill
    ) -> None:
        self._journal = journal
        self._shape = shape
        self._kinds = kinds
        self._old = old
        self._kept = kept
        self._spill = spill

    def read(self, number: int, group: Group, schema: Any) -> Any:
        """Return a row group as a table with the columns of all groups."""
        import pyarrow as pa

        is_old = self._old is not None and number < self._kept
        table = self._old.read([number]) if self._old is not None and is_old else self._spill[number - self._kept]
        by_text = {text_of(name): kind for name, kind in self._kinds.items()}
        # JSON text shows which of a column's numbers were whole, and a column of floats does not: read the lines again.
        if any(by_text[field.name] is None and kind_of_field(field) is not None for field in table.schema):
            rows = rows_of(parquet_copy.lines_of(self._journal, group), self._shape)
            arrays = [array_of(column_of(rows, name), kind) for name, kind in self._kinds.items()]
            return pa.Table.from_arrays(arrays, schema=schema)
        return with_schema(table, schema)


def _group(piece: _Piece, rows: list[Row], shape: Shape) -> Group:
    times = [time for row in rows if math.isfinite(time := _time(row, shape))]
    first, last = min(times, default=math.inf), max(times, default=-math.inf)
    crc = zlib.crc32(b"".join(line + b"\n" for line in piece.lines))
    return Group(piece.start, piece.end, len(piece.lines), len(rows), first, last, crc)


def _time(row: Row, shape: Shape) -> float:
    time = row.get(shape.time)
    try:
        return float(time) if isinstance(time, (int, float)) else math.nan
    except OverflowError:  # an integer beyond the largest float
        return math.nan


def _large_groups(groups: list[Group]) -> list[Group]:
    """Return the groups before the first small one, from which on the lines are packed anew."""
    kept: list[Group] = []
    for group in groups:
        if group.lines < GROUP_LINES // 2 and group.end - group.start < GROUP_BYTES // 2:
            break
        kept.append(group)
    return kept


def _pieces(journal: str, start: int) -> Iterator[_Piece]:
    lines: list[bytes] = []
    end = start
    for line in read_lines(journal, start):
        lines.append(line)
        end += len(line) + 1
        if len(lines) >= GROUP_LINES or end - start >= GROUP_BYTES:
            yield _Piece(start, end, lines)
            start, lines = end, []
    if lines:
        yield _Piece(start, end, lines)


def _write(journal: str, coverage: Coverage, kinds: dict[str, Any], source: _Source) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([field_of(name, kind) for name, kind in kinds.items()], coverage.to_metadata())
    texts = [field.name for field in schema if str(field.type) == "string"]
    options = {"compression": "zstd", "use_dictionary": texts, "write_page_checksum": True}
    try:
        with replacing(parquet_copy.path_of(journal)) as file:
            with pq.ParquetWriter(file, schema, **options) as writer:
                for number, group in enumerate(coverage.groups):
                    if group.rows:
                        writer.write_table(source.read(number, group, schema), row_group_size=group.rows)
            os.stat(journal)  # a run that was removed meanwhile gets no copy
    except pa.ArrowException as error:
        raise OSError(f"the columnar copy of {journal} cannot be written: {error}") from error
