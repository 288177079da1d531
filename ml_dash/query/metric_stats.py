"""Compute the statistics of a metric's fields, with only some of the values in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ml_dash.records.aggregate import Moments
from ml_dash.storage import legacy, metric_reading, range_reading
from ml_dash.storage.journal import read_batches

FOLD_VALUES = 65_536
"""Values of one field that are folded at once: half a megabyte, beside which the cost of a numpy call is small."""

_OWN_NAMES = {"data._index": "_index", "data._createdAt": "_createdAt"}
"""Columns of a copy with values of the user, renamed since the copy has columns of these names itself."""

_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def field_stats(paths: list[str]) -> dict[str, Any]:
    """Compute the statistics of a metric in one pass over its points.

    Args:
        paths: the metric's journals. Of several, the first and the last value are those of the least and greatest time.

    Returns:
        ``totalDataPoints``, ``firstTimestamp``, ``lastTimestamp`` and ``fields``; see ``MetricReader.stats``.
    """
    try:
        return _tally(paths, by_copies=True)
    except OSError:  # a damaged copy: the journals have everything
        return _tally(paths, by_copies=False)


def _tally(paths: list[str], *, by_copies: bool) -> dict[str, Any]:
    tally = _Tally(by_time=len(paths) > 1)
    for path in paths:
        start = _tally_copy(tally, path) if by_copies else 0
        for batch in read_batches(path, start):
            points = (point for point in batch if "data" in point)
            tally.add(point if "index" in point else legacy.as_point(point, None) for point in points)
    return tally.result()


def _tally_copy(tally: _Tally, path: str) -> int:
    """Add the numbers of the columnar copy, and return where it ends in the journal; 0 if it cannot be used."""
    with range_reading.copy_of(path) as copy:
        if copy is None or any(kind == "json" for _, kind in copy.coverage.columns):  # which may hold numbers
            return 0
        numbers = [name for name, kind in copy.coverage.columns if kind in ("int64", "double") and name != "_index"]
        for number, group in enumerate(copy.coverage.groups):
            tally.add_columns(copy.read([number], numbers), group.rows)
        return copy.coverage.size


class _Tally:
    """Statistics by field: the newest values are kept as they are, all others are folded into moments."""

    def __init__(self, *, by_time: bool) -> None:
        self._by_time = by_time
        self._points = 0
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._moments: defaultdict[str, Moments] = defaultdict(Moments)

    def add(self, points: Iterable[dict[str, Any]]) -> None:
        for point in points:
            self._points += 1
            data = point["data"]
            if isinstance(data, dict):
                self._add_fields(data, "", metric_reading.point_time(point) if self._by_time else None)
        for key in [key for key, values in self._values.items() if len(values) >= FOLD_VALUES]:
            self._fold(key)

    def add_columns(self, table: Any, rows: int) -> None:
        """Add points as columns of numbers, null where a value is missing."""
        import numpy as np

        self._points += rows
        for key in [*self._values]:
            self._fold(key)
        times = np.nan_to_num(table["_ts"].to_numpy()) if self._by_time else None
        for name in table.schema.names:
            is_valid = table[name].is_valid().to_numpy()
            values = table[name].drop_null().to_numpy().astype(np.float64, copy=False)
            self._moments[_OWN_NAMES.get(name, name)].fold(values, times[is_valid] if times is not None else None)

    def _add_fields(self, data: Mapping[str, Any], prefix: str, when: float | None) -> None:
        for name, value in data.items():
            kind = type(value)
            if kind is float or kind is int:
                number = value
            elif kind is str and value in _NON_FINITE:
                number = _NON_FINITE[value]
            else:
                if kind is dict:
                    self._add_fields(value, f"{prefix}{name}.", when)
                continue
            key = prefix + name if prefix else name
            self._values[key].append(number)
            if when is not None:
                self._times[key].append(when)

    def _fold(self, key: str) -> None:
        import numpy as np

        values, times = self._values.pop(key), self._times.pop(key, None)
        self._moments[key].fold(_as_floats(values), None if times is None else np.array(times, np.float64))

    def result(self) -> dict[str, Any]:
        for key in list(self._values):
            self._fold(key)
        stamps = self._moments.pop("_ts", Moments())
        return {
            "totalDataPoints": self._points,
            "firstTimestamp": stamps.low,
            "lastTimestamp": stamps.high,
            "fields": {
                key: {
                    "count": moments.count,
                    "nan_count": moments.nan_count,
                    "first": moments.oldest,
                    "last": moments.newest,
                    "min": moments.low,
                    "max": moments.high,
                    "mean": moments.mean if moments.finite else None,
                    "std": moments.std if moments.finite else None,
                }
                for key, moments in self._moments.items()
            },
        }


def _as_floats(values: list[float]) -> Any:
    import numpy as np

    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond the largest float
        return np.array([_clamped(value) for value in values], dtype=np.float64)


def _clamped(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
