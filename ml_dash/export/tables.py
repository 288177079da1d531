"""The streams of a run as tables in files: CSV for everybody, Parquet with types."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash.query.run import RunReader
from ml_dash.storage import layout, reading
from ml_dash.storage.columns import to_json_text

CHUNK = 32_768
"""Rows of log lines, files and frames that are in memory at once."""

Rows = Iterable[dict[str, Any]]
_LONGEST_NAME = 240
"""Bytes of a file's name without its ending, on every file system."""


@dataclass(frozen=True, slots=True)
class _Sheet:
    """One table and where it goes.

    Attributes:
        place: its path without an ending.
        tables: makes its pieces, each with the same schema.
    """

    place: str
    tables: Callable[[], Iterator[Any]]


def write_tables(run: RunReader, kind: str, folder: str, advance: Callable[[int], None]) -> list[str]:
    """Write every stream of a run into a folder; the names of the files.

    Args:
        run: the run.
        kind: ``csv`` or ``parquet``.
        folder: an empty folder.
        advance: told how many bytes were written.
    """
    write = _write_csv if kind == "csv" else _write_parquet
    names: list[str] = []
    taken: set[str] = set()
    for sheet in _sheets(run):
        name = _free_name(sheet.place, f".{kind}", taken)
        path = os.path.join(folder, *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, sheet.tables())
        advance(os.path.getsize(path))
        names.append(name)
    return names


def _sheets(run: RunReader) -> Iterator[_Sheet]:
    yield _Sheet("params", lambda: _pieces(_param_rows(run), _PARAMS))
    yield _Sheet("logs", lambda: _pieces(reading.iter_logs(run.folder), _LOGS))
    yield _Sheet("files", lambda: _pieces(reading.read_files(run.folder), _FILES))
    for name in run.metrics.list():
        table = run.metrics(name).table
        yield _Sheet(f"metrics/{name or layout.UNNAMED_METRIC}", lambda table=table: iter([table()]))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    for topic in run.tracks.topics():
        rows = run.tracks(topic).table
        yield _Sheet(f"tracks/{topic}", lambda rows=rows: iter([rows()]))  # type: ignore[misc]  # the same
    for stream in run.frames.list():
        frames = run.frames(stream["topic"])
        yield _Sheet(f"frames/{stream['topic']}", lambda frames=frames: _frame_pieces(frames))  # type: ignore[misc]  # the same


_PARAMS = {"name": "text", "type": "text", "value": "text"}
_LOGS = {"sequenceNumber": "integer", "timestamp": "text", "level": "text", "message": "text", "metadata": "json"}
_FILES = {
    **dict.fromkeys(("id", "path", "filename", "contentType"), "text"),
    "sizeBytes": "integer",
    **dict.fromkeys(("checksum", "description"), "text"),
    **dict.fromkeys(("tags", "bindrs", "metadata"), "json"),
    **dict.fromkeys(("uploadedAt", "updatedAt"), "text"),
}


def _param_rows(run: RunReader) -> Rows:
    for name, value in run.params.get().items():
        yield {"name": name, "type": _type_of(value), "value": _param_text(value)}


def _param_text(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # inf and nan, as numbers stand in the other tables; in JSON they are quoted
    return value if isinstance(value, str) else to_json_text(value)


def _type_of(value: object) -> str:
    kinds = {bool: "boolean", int: "integer", float: "float", str: "text", list: "list", dict: "object"}
    return "null" if value is None else kinds[type(value)]


def _frame_pieces(frames: Any) -> Iterator[Any]:
    from ml_dash.storage.columns import rows_to_table

    entries = frames.list()
    yield rows_to_table(entries)


def _pieces(rows: Rows, columns: dict[str, str]) -> Iterator[Any]:
    """Rows with known columns, some at a time; what has no column is left out."""
    import pyarrow as pa

    kinds = {"text": pa.string(), "integer": pa.int64(), "json": pa.string()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    source = iter(rows)
    some = list(itertools.islice(source, CHUNK))
    while True:
        cells = [[_cell(row.get(name), kind) for row in some] for name, kind in columns.items()]
        arrays = [pa.array(values, kinds[kind]) for values, kind in zip(cells, columns.values(), strict=True)]
        yield pa.Table.from_arrays(arrays, schema=schema)
        some = list(itertools.islice(source, CHUNK))
        if not some:
            return


def _cell(value: Any, kind: str) -> Any:
    """A value as its column has it. Documents of other clients may hold anything anywhere."""
    if value is None:
        return None
    if kind == "integer":
        return value if type(value) is int and abs(value) < 2**63 else None
    return value if kind == "text" and isinstance(value, str) else to_json_text(value)


def _write_csv(path: str, tables: Iterator[Any]) -> None:
    from pyarrow import csv

    first = _flat(next(tables))
    with csv.CSVWriter(path, first.schema) as writer:
        for table in itertools.chain([first], map(_flat, tables)):
            writer.write_table(table)


def _flat(table: Any) -> Any:
    """The table with lists as JSON text, since a cell of CSV holds no list."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [None if value is None else to_json_text(value) for value in table[field.name].to_pylist()]
            table = table.set_column(place, pa.field(field.name, pa.string()), pa.array(texts, pa.string()))
        elif pa.types.is_null(field.type):
            nothing = pa.nulls(len(table), pa.string())
            table = table.set_column(place, pa.field(field.name, pa.string()), nothing)
    return table.replace_schema_metadata(None)


def _write_parquet(path: str, tables: Iterator[Any]) -> None:
    import pyarrow.parquet as pq

    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def _free_name(place: str, ending: str, taken: set[str]) -> str:
    """A file name for a stream that no other one has, and whose folders are no files of other ones."""
    *folders, last = place.split("/")
    # A stream "a.csv/b" beside a stream "a" would want a folder where there is a file.
    folders = [f"{name}_" if name.endswith(ending) else name for name in folders]
    last = os.fsencode(last)[:_LONGEST_NAME].decode("utf-8", "ignore")
    name = "/".join([*folders, last]) + ending
    while name in taken:
        last += "_"
        name = "/".join([*folders, last]) + ending
    taken.add(name)
    return name
