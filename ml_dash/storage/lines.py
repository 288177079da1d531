"""The lines of journals, as any reader takes them: whole ones only, every writer's, broken ones passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from ml_dash.records.values import decode, is_published, parse, parse_values
from ml_dash.storage import layout
from ml_dash.storage.journal import read_lines, read_lines_from

BATCH_BYTES = 128 * 1024
"""Lines parsed at once: enough that the call costs nothing beside them, and that a page of points is read at once."""


def read_objects(path: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a journal; a line that is none is passed over."""
    return objects(read_lines(path))


def objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects among some lines."""
    for line in lines:
        try:
            value = decode(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def shards(folder: str, stem: str) -> list[str]:
    """Absolute paths of a journal's files, the first writer's before the others'."""
    try:
        names = sorted(name for name in os.listdir(folder) if layout.is_shard(name, stem))
    except (FileNotFoundError, NotADirectoryError):
        return []
    names.sort(key=lambda name: name != f"{stem}.jsonl")
    return [os.path.join(folder, name) for name in names]


def read_batches(path: str, start: int = 0) -> Iterator[list[dict[str, Any]]]:
    """The JSON objects of a journal as they stand (``revive`` makes floats of what was not finite), by the batch.

    Args:
        path: the journal.
        start: the byte at which the first line begins.
    """
    batch: list[bytes] = []
    size = 0
    for line in read_lines_from(path, start):
        batch.append(line)
        size += len(line)
        if size >= BATCH_BYTES:
            yield _parse_objects(batch)
            batch, size = [], 0
    if batch:
        yield _parse_objects(batch)


def _parse_objects(lines: list[bytes]) -> list[dict[str, Any]]:
    return [value for value in _parse_lines(lines) if isinstance(value, dict)]


def _parse_lines(lines: list[bytes]) -> list[Any]:
    """One call of the parser for many lines takes half of the time; a line that is broken makes it one each."""
    joined = b"[" + b",".join(lines) + b"]"
    if (b'NaN"' in joined or b'Infinity"' in joined) and any(map(is_published, lines)):
        return [_parse_line(line) for line in lines]
    try:
        values = parse(joined)
    except ValueError:
        values = None
    if isinstance(values, list) and len(values) == len(lines):
        return values
    return [_parse_line(line) for line in lines]


def _parse_line(line: bytes) -> Any:
    try:
        return parse_values(line)
    except ValueError:
        return None


def has_data(files: list[str]) -> bool:
    """Whether one of the names in a folder is a journal of points, rows or frames."""
    return any(layout.is_shard(name, "data") for name in files)
