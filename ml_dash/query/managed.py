"""The metrics of a run of the ML manager: what ``metrics.toml`` has, and what its journals have beyond it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from ml_dash._json import orjson
from ml_dash.query import toml_reader
from ml_dash.query.cells import add_flat, cell
from ml_dash.query.tree import METRICS
from ml_dash.records.values import decode
from ml_dash.storage.journal import read_lines_from

JOURNALS = "metrics/None/"
"""Where the manager keeps the history of its metrics."""

_COVERS = "# The last value of each metric. Journals up to: "
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TIME = "_ts"


def last_values(folder: str, files: list[str], prefix: str) -> dict[str, Any]:
    """The last value of every metric under its dotted name.

    The journals are read only as far as metrics.toml does not know them, as it is after a kill and while the run is
    being written. A metrics.toml that is damaged is made up for by the journals, if there are any.

    Args:
        folder: the run's directory.
        files: what describes it.
        prefix: put before each name.

    Raises:
        OSError: a file cannot be read.
        ValueError: metrics.toml is damaged, and there is no journal.
    """
    journals = {name.removeprefix(JOURNALS): name for name in files if _is_journal(name)}
    cells: dict[str, Any] = {}
    covered: dict[str, Any] = {}
    if METRICS in files:
        try:
            covered = _read_document(folder, cells, prefix)
        except ValueError:
            if not journals:
                raise
    starts = _starts(folder, journals, covered)
    if starts:
        _add_points(cells, folder, starts, prefix)
    return cells


def _is_journal(name: str) -> bool:
    return name.startswith(JOURNALS) and name.endswith(".jsonl") and "/" not in name[len(JOURNALS) :]


def _read_document(folder: str, cells: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Put the values of metrics.toml into the row; returns up to which byte it knows each journal."""
    with open(os.path.join(folder, METRICS), encoding="utf-8", newline="") as file:
        text = file.read()
    add_flat(cells, toml_reader.loads(text), prefix)
    if not text.startswith(_COVERS):
        return {}
    try:
        covered = orjson.loads(text.partition("\n")[0].removeprefix(_COVERS))
    except ValueError:
        return {}
    sizes = covered.items() if isinstance(covered, dict) else ()
    return {name: size for name, size in sizes if type(size) is int and size >= 0}


def _starts(folder: str, journals: dict[str, str], covered: dict[str, Any]) -> dict[str, int]:
    """The journals to read, and from which byte on; none if metrics.toml knows them all."""
    known = {name: covered.get(name) for name in journals}
    sizes = {name: os.stat(os.path.join(folder, file)).st_size for name, file in journals.items()}
    if all(isinstance(known[name], int) and sizes[name] == known[name] for name in sizes):
        return {}
    # Of several, metrics.toml no longer tells which value came when, so that all are read to put them in order.
    [only] = sizes if len(sizes) == 1 else [""]
    start = known.get(only)
    is_continued = isinstance(start, int) and 0 < start <= sizes.get(only, 0)
    return {file: start if is_continued and isinstance(start, int) else 0 for file in journals.values()}


def _add_points(cells: dict[str, Any], folder: str, starts: dict[str, int], prefix: str) -> None:
    times: dict[str, float] = {}
    for file, start in starts.items():
        for point in _points(os.path.join(folder, file), start):
            when = float(point[_TIME])
            for name, value in point.items():
                column = prefix + (_ESCAPED.sub(r"\1", name) if "\\" in name else name)
                if name != _TIME and (len(starts) == 1 or when >= times.get(column, 0.0)):
                    cells[column], times[column] = cell(value), when


def _points(path: str, start: int) -> Iterator[dict[str, Any]]:
    if start and not _begins_a_line(path, start):
        start = 0
    for line in read_lines_from(path, start):
        try:
            point = decode(line)["data"]
            float(point[_TIME])
        except (ValueError, TypeError, KeyError):  # a damaged line costs itself
            continue
        if isinstance(point, dict):
            yield point


def _begins_a_line(path: str, start: int) -> bool:
    with open(path, "rb") as file:
        file.seek(start - 1)
        return file.read(1) == b"\n"
