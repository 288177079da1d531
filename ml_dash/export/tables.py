"""Write the streams of a run as tables: CSV for every program, Parquet with types."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_dash.export.names import safe_name
from ml_dash.query.run import RunReader
from ml_dash.storage import layout, reading
from ml_dash.storage.columns import rows_to_table, text_of, to_json_text

CHUNK = 32_768
"""Rows of log lines and files that are in memory at once."""

FORMULA = "^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""Beginning of a cell that a spreadsheet may run as a formula; the last four are the wide forms of the first ones."""

PLAIN_NUMBER = r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|nan)"
"""Number as text, which no spreadsheet runs."""

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


def write_tables(
    run: RunReader, kind: str, folder: str, advance: Callable[[int], None], *, raw: bool = False
) -> list[str]:
    """Write every stream of a run into a folder, and return the names of the files.

    Args:
        run: the run.
        kind: ``csv`` or ``parquet``.
        folder: an empty folder.
        advance: called with the number of bytes that were written.
        raw: whether text in CSV stays as it is where a spreadsheet would run it as a formula.
    """
    write = _write_parquet if kind == "parquet" else _write_raw_csv if raw else _write_csv
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
            text = text_of(value) if isinstance(value, str) else to_json_text(value)
        yield {"name": text_of(name), "type": "null" if value is None else types[type(value)], "value": text}


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
    return text_of(value) if kind == "text" and isinstance(value, str) else to_json_text(value)


def _write_csv(path: str, pieces: Iterator[Any]) -> None:
    _write_raw_csv(path, map(_without_formulas, map(_without_lists, pieces)))


def _write_raw_csv(path: str, pieces: Iterator[Any]) -> None:
    from pyarrow import csv

    first = _without_lists(next(pieces))
    with open(path, "xb") as file, csv.CSVWriter(file, first.schema) as writer:  # Arrow takes only paths of UTF-8
        for table in itertools.chain([first], map(_without_lists, pieces)):
            writer.write_table(table)


def _without_formulas(table: Any) -> Any:
    """Return the table with an apostrophe before text and names of columns that a spreadsheet would run."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_string(field.type):
            is_number = pc.match_substring_regex(column, f"^{PLAIN_NUMBER}$")
            is_formula = pc.and_not(pc.match_substring_regex(column, FORMULA), is_number)
            column = pc.if_else(is_formula, pc.binary_join_element_wise("'", column, ""), column)
        is_formula = re.match(FORMULA, field.name) and not re.fullmatch(PLAIN_NUMBER, field.name)
        table = table.set_column(index, f"'{field.name}" if is_formula else field.name, column)
    return table


def _without_lists(table: Any) -> Any:
    """Return the table with lists as JSON text, since a cell of CSV holds no list."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            values = table.column(index).to_pylist()
            texts = [None if value is None else to_json_text(value) for value in values]
            table = table.set_column(index, pa.field(field.name, pa.string()), pa.array(texts, pa.string()))
        elif pa.types.is_null(field.type):
            nulls = pa.nulls(len(table), pa.string())
            table = table.set_column(index, pa.field(field.name, pa.string()), nulls)
    return table.replace_schema_metadata(None)


def _write_parquet(path: str, pieces: Iterator[Any]) -> None:
    import pyarrow.parquet as pq

    first = next(pieces)
    with open(path, "xb") as file, pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], pieces):
            writer.write_table(table)


def _free_name(stem: str, ending: str, taken: set[str]) -> str:
    """Return a file name that no other stream has, and whose folders are no files of other streams."""
    *folders, last = safe_name(stem).split("/")
    # A stream "a.csv/b" beside a stream "a" would want a folder where there is a file.
    folders = [f"{name}_" if name.endswith(ending) else name for name in folders]
    last = last.encode()[:_NAME_BYTES].decode("utf-8", "ignore")
    name = "/".join([*folders, last]) + ending
    while name in taken:
        last += "_"
        name = "/".join([*folders, last]) + ending
    taken.add(name)
    return name
