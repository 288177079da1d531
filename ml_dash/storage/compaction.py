"""Make and renew ``data.parquet``: the columnar copy of a journal of points or rows.

The journal is read in pieces, and each piece is set aside as columns until all of them are known. So a journal of any
length takes the memory of some pieces. Row groups that an older copy holds already are taken over from it.
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from ml_dash.records.values import decode, flatten
from ml_dash.storage import parquet_copy
from ml_dash.storage.atomic import replacing
from ml_dash.storage.columns import (
    array_of,
    column_of,
    field_of,
    kind_named,
    kind_of_field,
    names_in,
    recast,
    rows_to_table,
    text_of,
    wider,
)
from ml_dash.storage.journal import read_lines_from, whole_length
from ml_dash.storage.parquet_copy import Copy, Coverage, Group
from ml_dash.storage.table_spill import Spool

GROUP_LINES = 32_768
"""Lines of one row group: a window of 1000 rows then reads a thirtieth of a million, and the columns pack well."""

GROUP_BYTES = 32 * 1024 * 1024
"""Bytes of lines after which a row group ends all the same: what is in memory at once."""

MAX_COLUMNS = 512
"""Names from which a journal gets no copy: most of its cells would be empty, and a row group takes 128 MiB by then."""

Row = dict[str, Any]


class Shape(NamedTuple):
    """How the lines of a stream become rows.

    Attributes:
        row: a line's object as values by column, or None if it is no row.
        time: the column that holds the time of a row, in seconds.
    """

    row: Callable[[Any], Row | None]
    time: str


def point_row(point: Any) -> Row | None:
    """A metric's line: ``_index``, ``_ts``, the values (nested ones dotted), ``_createdAt``."""
    if not isinstance(point, dict) or "data" not in point:
        return None
    data = point["data"] if isinstance(point["data"], dict) else {}
    if dict in map(type, data.values()):
        data = flatten(data)
    if "_index" in data or "_createdAt" in data:  # the user's own value of that name stands beside ours
        data = {f"data.{name}" if name in ("_index", "_createdAt") else name: data[name] for name in data}
    time = data.get("_ts")
    if type(time) is not float and type(time) is not int:  # what no client writes has no place in a column of times
        return {"_index": point.get("index"), **data, "_ts": None, "_createdAt": point.get("createdAt")}
    return {"_index": point.get("index"), "_ts": time, **data, "_createdAt": point.get("createdAt")}


def track_row(row: Any) -> Row | None:
    """A track's line: ``timestamp`` and the fields."""
    if not isinstance(row, dict):
        return None
    time = row.get("timestamp")
    is_time = (type(time) is float or type(time) is int) and -math.inf < time < math.inf
    return row if is_time else None


POINTS = Shape(point_row, "_ts")
ROWS = Shape(track_row, "timestamp")


def build(journal: str, shape: Shape) -> bool:
    """Write the copy of a journal, or renew it. False if it is complete already, or there is nothing to copy.

    A journal with more than ``MAX_COLUMNS`` names gets none.

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
    kept = _worth_keeping(old.coverage.groups if old is not None else [])
    plan = _Plan(old.coverage.columns if old is not None and kept else [], nulls=old is not None and old.coverage.nulls)
    groups = list(kept)
    with Spool(os.path.dirname(journal)) as spool:
        for piece in _pieces(journal, kept[-1].end if kept else 0):
            group, table = plan.learn(piece, shape)
            if len(plan.kinds) > MAX_COLUMNS:
                return False
            groups.append(group)
            spool.add(table)
        if not any(group.rows for group in groups):
            return False
        source = _Tables(journal, shape, plan, old, len(kept), spool)
        _write(journal, _coverage(journal, plan, groups), source)
    return True


def _coverage(journal: str, plan: _Plan, groups: list[Group]) -> Coverage:
    end = groups[-1].end
    head, tail = parquet_copy.edges(journal, end) or (0, 0)
    return Coverage(end, head, tail, plan.nulls, parquet_copy.columns_in(plan.fields()), groups)


class _Piece(NamedTuple):
    """Some lines of a journal, whole row group."""

    start: int
    end: int
    lines: list[bytes]


class _Plan:
    """The columns of a copy, as they are learned; at first those of an older copy."""

    def __init__(self, columns: list[list[str]], *, nulls: bool) -> None:
        self.kinds: dict[str, Any] = {name: kind_named(kind) for name, kind in columns}
        self.nulls = nulls

    def learn(self, piece: _Piece, shape: Shape) -> tuple[Group, Any]:
        """Take the columns of some lines into account; the lines as a row group and as a table."""
        rows = rows_of(piece.lines, shape)
        self.nulls = self.nulls or any(None in row.values() for row in rows)
        table = rows_to_table(rows)
        for name, field in zip(names_in(rows), table.schema, strict=True):
            kind = kind_of_field(field)
            self.kinds[name] = wider(self.kinds[name], kind) if name in self.kinds else kind
        return _group(piece, rows, shape), table

    def fields(self) -> list[Any]:
        return [field_of(name, kind) for name, kind in self.kinds.items()]

    def schema(self, coverage: Coverage) -> Any:
        import pyarrow as pa

        return pa.schema(self.fields(), coverage.to_metadata())


class _Tables:
    """The row groups of the copy that is made, one after the other, each with the columns of all."""

    def __init__(self, journal: str, shape: Shape, plan: _Plan, old: Copy | None, kept: int, spool: Spool) -> None:
        self._journal = journal
        self._shape = shape
        self._plan = plan
        self._old = old
        self._kept = kept
        self._spool = spool

    def schema(self, coverage: Coverage) -> Any:
        import pyarrow as pa

        return pa.schema(self._plan.fields(), coverage.to_metadata())

    def read(self, number: int, group: Group, schema: Any) -> Any:
        """A row group, from the older copy as far as it reaches, and then from what was set aside."""
        is_old = self._old is not None and number < self._kept
        table = self._old.read([number]) if self._old is not None and is_old else self._spool[number - self._kept]
        kinds = {text_of(name): kind for name, kind in self._plan.kinds.items()}
        # JSON text shows which of a column's numbers were whole, and a column of floats does not.
        if any(kinds[field.name] is None and kind_of_field(field) is not None for field in table.schema):
            return self._from_rows(rows_of(parquet_copy.lines_of(self._journal, group), self._shape), schema)
        return self._recast(table, schema)

    def _from_rows(self, rows: list[Row], schema: Any) -> Any:
        import pyarrow as pa

        arrays = [array_of(column_of(rows, name), kind) for name, kind in self._plan.kinds.items()]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _recast(self, table: Any, schema: Any) -> Any:
        import pyarrow as pa

        arrays = []
        for name, kind in self._plan.kinds.items():
            text = text_of(name)
            if text in table.schema.names:
                arrays.append(recast(table[text], kind_of_field(table.schema.field(text)), kind))
            else:
                arrays.append(pa.nulls(len(table), field_of(name, kind).type))
        return pa.Table.from_arrays(arrays, schema=schema)


def _group(piece: _Piece, rows: list[Row], shape: Shape) -> Group:
    times = [time for row in rows if math.isfinite(time := _time(row, shape))]
    grows = len(times) == len(rows) and all(one < other for one, other in itertools.pairwise(times))
    first, last = min(times, default=math.inf), max(times, default=-math.inf)
    crc = zlib.crc32(b"".join(line + b"\n" for line in piece.lines))
    return Group(piece.start, piece.end, len(piece.lines), len(rows), first, last, grows, crc)


def rows_of(lines: list[bytes], shape: Shape) -> list[Row]:
    """The rows among some lines."""
    rows = []
    for line in lines:
        try:
            row = shape.row(decode(line))
        except ValueError:
            continue
        if row is not None:
            rows.append(row)
    return rows


def _time(row: Row, shape: Shape) -> float:
    time = row.get(shape.time)
    try:
        return float(time) if isinstance(time, (int, float)) else math.nan
    except OverflowError:  # an integer beyond the largest float
        return math.nan


def _worth_keeping(groups: list[Group]) -> list[Group]:
    """The groups up to the first one that is small: those after it are packed anew."""
    kept: list[Group] = []
    for group in groups:
        if group.lines < GROUP_LINES // 2 and group.end - group.start < GROUP_BYTES // 2:
            break
        kept.append(group)
    return kept


def _pieces(journal: str, start: int) -> Iterator[_Piece]:
    lines: list[bytes] = []
    end = start
    for line in read_lines_from(journal, start):
        lines.append(line)
        end += len(line) + 1
        if len(lines) >= GROUP_LINES or end - start >= GROUP_BYTES:
            yield _Piece(start, end, lines)
            start, lines = end, []
    if lines:
        yield _Piece(start, end, lines)


def _write(journal: str, coverage: Coverage, source: _Tables) -> None:
    import pyarrow as pa

    try:
        with replacing(parquet_copy.path_of(journal)) as file:
            _write_groups(file, coverage, source)
            os.stat(journal)  # a run that was removed meanwhile gets no copy
    except pa.ArrowException as error:
        raise OSError(f"the columnar copy of {journal} cannot be written: {error}") from error


def _write_groups(file: IO[bytes], coverage: Coverage, source: _Tables) -> None:
    import pyarrow.parquet as pq

    schema = source.schema(coverage)
    texts = [field.name for field in schema if str(field.type) == "string"]
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts, write_page_checksum=True) as writer:
        for number, group in enumerate(coverage.groups):
            if group.rows:
                writer.write_table(source.read(number, group, schema), row_group_size=group.rows)
