"""Last, smallest, largest and mean value of every number in a metric's journal.

A long journal is read from its columnar copy, one row group at a time, and only what was added since from its lines.
Both ways give the same floats to the last bit: values are folded in pieces of one size, wherever they came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ml_dash.query.metrics import field_stats
from ml_dash.records.aggregate import Moments
from ml_dash.records.values import decode
from ml_dash.storage import parquet_copy, windows
from ml_dash.storage.columns import kind_of_field
from ml_dash.storage.compaction import POINTS, rows_of
from ml_dash.storage.journal import read_lines_from

PIECE_VALUES = 65_536
"""Values of one field folded at once: half a megabyte."""

BATCH_LINES = 4096
"""Lines parsed before their values are folded."""

SUFFIXES = ("", ".min", ".max", ".mean")
"""What is put after a field's name in a table: the last value has the name itself."""

_NOT_FIELDS = frozenset({"_index", "_ts", "_createdAt"})
_KINDS_WITH_NUMBERS = frozenset({"int64", "double", "json"})


def metric_cells(paths: list[str], prefix: str) -> dict[str, float | None]:
    """The cells of one metric: for each field with a number its last, smallest, largest and mean value.

    Args:
        paths: its journals. Of several, the last value is told by time.
        prefix: put before each field.
    """
    found = _one_journal(paths[0]) if len(paths) == 1 else _several(paths)
    return {
        f"{prefix}{name}{suffix}": value
        for name, values in found.items()
        for suffix, value in zip(SUFFIXES, values, strict=True)
    }


def _several(paths: list[str]) -> dict[str, tuple[float | None, ...]]:
    fields = field_stats(paths)["fields"]
    return {name: tuple(fields[name][key] for key in ("last", "min", "max", "mean")) for name in sorted(fields)}


def _one_journal(path: str) -> dict[str, tuple[float | None, ...]]:
    coverage = windows.coverage_of(path)
    fields = _Fields()
    if coverage is not None:
        names = [name for name, kind in coverage.columns if kind in _KINDS_WITH_NUMBERS and name not in _NOT_FIELDS]
        try:
            for number in range(len(coverage.groups)):
                fields.add_table(parquet_copy.read_groups(path, coverage, [number], names))
        except OSError:  # a damaged page: what the journal has is the truth
            fields, coverage = _Fields(), None
    lines: list[bytes] = []
    for line in read_lines_from(path, coverage.size if coverage is not None else 0):
        lines.append(line)
        if len(lines) >= BATCH_LINES:
            fields.add_rows(rows_of(lines, POINTS))
            lines = []
    fields.add_rows(rows_of(lines, POINTS))
    return fields.result()


class _Fields:
    """Numbers by field: those at hand, and the moments of those that were folded."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._moments: dict[str, Moments] = {}

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            for name, value in row.items():
                kind = type(value)
                if (kind is float or kind is int) and name not in _NOT_FIELDS:
                    self._values.setdefault(name, []).append(value)
        self._fold_pieces()

    def add_table(self, table: Any) -> None:
        for field in table.schema:
            values = table[field.name].drop_null().to_pylist()
            if kind_of_field(field) is None:
                values = [value for value in map(decode, values) if type(value) in (int, float)]
            if values:
                self._values.setdefault(field.name, []).extend(values)
        self._fold_pieces()

    def result(self) -> dict[str, tuple[float | None, ...]]:
        for name, values in self._values.items():
            self._fold(name, values)
        self._values = {}
        return {name: _described(self._moments[name]) for name in sorted(self._moments)}

    def _fold_pieces(self) -> None:
        for name, values in self._values.items():
            while len(values) >= PIECE_VALUES:
                self._fold(name, values[:PIECE_VALUES])
                del values[:PIECE_VALUES]

    def _fold(self, name: str, values: list[float]) -> None:
        import numpy as np

        if name not in self._moments:
            self._moments[name] = Moments()
        try:
            numbers = np.array(values, dtype=np.float64)
        except OverflowError:  # an integer beyond the largest float
            numbers = np.array([_clamped(value) for value in values], dtype=np.float64)
        self._moments[name].fold(numbers)


def _described(moments: Moments) -> tuple[float | None, ...]:
    return moments.last, moments.low, moments.high, moments.mean if moments.finite else None


def _clamped(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
