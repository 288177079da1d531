"""Write the streams of a run as tables: CSV for every program, Parquet with types."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_dash.query.run import RunReader
from ml_dash.storage import layout, reading
from ml_dash.storage.columns import rows_to_table, to_json_text

CHUNK = 32_768
"""Rows of log lines and files that are in memory at once."""

_NAME_BYTES = 240
"""Longest file name without its ending that every file system takes."""

Rows = Iterable[dict[str, Any]]

_PARAMS = {"name": "text", "type": "text", "value": "text"}
_LOGS = {"sequenceNumber": "integer", "timestamp": "text", "level": "text", "message": "text", "metadata": "json"}
_FILES = {
    **dict.fromkeys(("id", "path", "filename", "contentType"), "text"),
    "sizeBytes": "integer",
    **dict.fromkeys(("checksum", "description"), "text"),
    **dict.fromkeys(("tags", "bindrs", "metadata"), "json"),
    **dict.fromkeys(("uploadedAt", "updatedAt"), "text"),
}


def write_tables(run: RunReader, kind: str, folder: str, advance: Callable[[int], None]) -> list[str]:
    """Write every stream of a run into a folder, and return the names of the files.

    Args:
        run: the run.
        kind: ``csv`` or ``parquet``.
        folder: an empty folder.
        advance: called with the number of bytes that were written.
    """
    write = _write_csv if kind == "csv" else _write_parquet
    names: list[str] = []
    taken: set[str] = set()
    for stem, pieces in _tables(run):
        name = _free_name(stem, f".{kind}", taken)
        path = os.path.join(folder, *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, pieces)
        advance(os.path.getsize(path))
        names.append(name)
    return names


def _tables(run: RunReader) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield for each stream the path of its file without an ending, and its table in pieces of one schema."""
    yield "params", _pieces(_param_rows(run), _PARAMS)
    yield "logs", _pieces(reading.iter_logs(run.folder), _LOGS)
    yield "files", _pieces(reading.read_files(run.folder), _FILES)
    for name in run.metrics.list():
        yield f"metrics/{name or layout.UNNAMED_METRIC}", iter([run.metrics(name).table()])
    for topic in run.tracks.topics():
        yield f"tracks/{topic}", iter([run.tracks(topic).table()])
    for stream in run.frames.list():
        yield f"frames/{stream['topic']}", iter([rows_to_table(run.frames(stream["topic"]).list())])


def _param_rows(run: RunReader) -> Rows:
    types = {bool: "boolean", int: "integer", float: "float", str: "text", list: "list", dict: "object"}
    for name, value in run.params.get().items():
        if isinstance(value, float) and not math.isfinite(value):
            text = str(value)  # inf and nan, as in the other tables; JSON has no such numbers
        else:
            text = value if isinstance(value, str) else to_json_text(value)
        yield {"name": name, "type": "null" if value is None else types[type(value)], "value": text}


def _pieces(rows: Rows, columns: dict[str, str]) -> Iterator[Any]:
    """Yield rows as tables with these columns, ``CHUNK`` rows at a time, and at least one; other keys are left out."""
    import pyarrow as pa

    types = {"text": pa.string(), "integer": pa.int64(), "json": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    source = iter(rows)
    chunk = list(itertools.islice(source, CHUNK))
    while True:
        cells = [[_cell(row.get(name), kind) for row in chunk] for name, kind in columns.items()]
        arrays = [pa.array(values, types[kind]) for values, kind in zip(cells, columns.values(), strict=True)]
        yield pa.Table.from_arrays(arrays, schema=schema)
        chunk = list(itertools.islice(source, CHUNK))
        if not chunk:
            return


def _cell(value: Any, kind: str) -> Any:
    """Return a value as its column takes it. Documents of other clients may hold anything anywhere."""
    if value is None:
        return None
    if kind == "integer":
        return value if type(value) is int and abs(value) < 2**63 else None
    return value if kind == "text" and isinstance(value, str) else to_json_text(value)


def _write_csv(path: str, pieces: Iterator[Any]) -> None:
    from pyarrow import csv

    first = _without_lists(next(pieces))
    with csv.CSVWriter(path, first.schema) as writer:
        for table in itertools.chain([first], map(_without_lists, pieces)):
            writer.write_table(table)


def _without_lists(table: Any) -> Any:
    """Return the table with lists as JSON text, since a cell of CSV holds no list."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [None if value is None else to_json_text(value) for value in table[field.name].to_pylist()]
            table = table.set_column(index, pa.field(field.name, pa.string()), pa.array(texts, pa.string()))
        elif pa.types.is_null(field.type):
            nulls = pa.nulls(len(table), pa.string())
            table = table.set_column(index, pa.field(field.name, pa.string()), nulls)
    return table.replace_schema_metadata(None)


def _write_parquet(path: str, pieces: Iterator[Any]) -> None:
    import pyarrow.parquet as pq

    first = next(pieces)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], pieces):
            writer.write_table(table)


def _free_name(stem: str, ending: str, taken: set[str]) -> str:
    """Return a file name that no other stream has, and whose folders are no files of other streams."""
    *folders, last = stem.split("/")
    # A stream "a.csv/b" beside a stream "a" would want a folder where there is a file.
    folders = [f"{name}_" if name.endswith(ending) else name for name in folders]
    last = os.fsencode(last)[:_NAME_BYTES].decode("utf-8", "ignore")
    name = "/".join([*folders, last]) + ending
    while name in taken:
        last += "_"
        name = "/".join([*folders, last]) + ending
    taken.add(name)
    return name
