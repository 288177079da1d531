"""Read the metrics of a run, of an open one or of one that is only read."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_dash.errors import InvalidValueError
from ml_dash.query.source import Source
from ml_dash.records.aggregate import Moments
from ml_dash.storage import reading
from ml_dash.storage.layout import UNNAMED_METRIC
from ml_dash.storage.names import check_metric

# `list` is a method of the class below, and means that in its annotations.
Names = list[str | None]
Documents = list[dict[str, Any]]

FOLD_VALUES = 65_536
"""Values of one field taken together by ``stats``: half a megabyte, and numpy's own cost is nothing beside it."""

_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class MetricReader:
    """One metric of a run.

    Args:
        source: the run.
        name: the metric's name, or None for the unnamed one.
    """

    def __init__(self, source: Source, name: str | None) -> None:
        self.name = name
        self._source = source
        self._what = f"metric {name!r}" if name else "the unnamed metric"

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def read(self, start_index: int = 0, limit: int | None = 1000) -> dict[str, Any]:
        """Points by position, in the order of the calls, those just logged included.

        Points that several processes logged are in the order of their ``_ts``. A metric that nobody logged has none.

        Args:
            start_index: position of the first one, from 0.
            limit: how many at most; None for all.

        Returns:
            ``data`` (a list of ``index``, ``data``, ``createdAt``), ``startIndex``, ``endIndex`` (of the last one, or
            ``startIndex - 1``), ``total`` (how many are in ``data``) and ``hasMore``.

        Raises:
            InvalidValueError: ``start_index`` or ``limit`` is not a whole number from 0.
        """
        start, count = _checked_range(start_index, limit)
        self._source.flush()
        return reading.read_metric(self._source.folder, self.name, start, count)

    def points(self, start_index: int = 0) -> Iterator[dict[str, Any]]:
        """Every point from a position on, one at a time: what ``read`` has in ``data``, without all of it in memory.

        Points of several processes are sorted, and for that taken into memory together.

        Raises:
            InvalidValueError: ``start_index`` is not a whole number from 0.
        """
        start, _ = _checked_range(start_index, None)
        self._source.flush()
        return reading.metric_points(self._source.folder, self.name, start)

    def stats(self) -> dict[str, Any]:
        """What is known of the metric and of its numbers, counted over every point.

        Returns:
            What metadata.json says (``description``, ``tags``, ...), and

            - ``name``, None for the unnamed metric;
            - ``totalDataPoints``;
            - ``firstTimestamp``, ``lastTimestamp``: the earliest and latest ``_ts``, None without points;
            - ``fields``: for each field with a number, ``count`` of its numbers, ``nan_count``, ``first``, ``last``,
              ``min``, ``max``, ``mean`` and ``std`` (of a sample) as floats, None where there is no number. NaN takes
              part in ``nan_count`` alone, infinities in all but ``mean`` and ``std``. Fields of nested dicts have dotted
              names. What is no number (text, lists, True and False) is not counted.
        """
        self._source.flush()
        folder = self._source.folder
        return reading.metric_document(folder, self.name) | field_stats(reading.metric_shards(folder, self.name))

    def list_all(self) -> list[dict[str, Any]]:
        """Every metric of the run, by name: what its metadata.json says, and ``totalDataPoints``."""
        self._source.flush()
        return reading.list_metrics(self._source.folder)


class MetricsReader:
    """Every metric of a run; called with a name it gives one of them.

    Args:
        source: the run.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, name: str | None = None) -> MetricReader:
        """The metric of that name; None, or "None" as its folder is called, is the unnamed one.

        Raises:
            InvalidNameError: the name cannot be a place on disk.
        """
        return MetricReader(self._source, canonical_name(name))

    def list(self) -> Names:
        """The names of all metrics; None is the unnamed one."""
        self._source.flush()
        return reading.metric_names(self._source.folder)

    def list_all(self) -> Documents:
        """Every metric: a list of what its metadata.json says, with ``totalDataPoints``."""
        return MetricReader(self._source, None).list_all()


def canonical_name(name: object) -> str | None:
    """A metric's name as it is kept; the unnamed metric's folder is called "None", and so may it be.

    Raises:
        InvalidNameError: the name cannot be a place on disk.
        InvalidTypeError: it is no text.
    """
    if name is None:
        return None
    text = "/".join(check_metric(name))
    return None if text == UNNAMED_METRIC else text


def field_stats(paths: list[str]) -> dict[str, Any]:
    """``totalDataPoints``, ``firstTimestamp``, ``lastTimestamp`` and ``fields`` of journals; see ``MetricReader.stats``.

    One pass, with some values of each field in memory.

    Args:
        paths: the files of one metric. Of several, the first value and the last are told by time.
    """
    tally = _Tally(by_time=len(paths) > 1)
    for path in paths:
        for batch in reading.read_batches(path):
            tally.take(point for point in batch if "data" in point)
    return tally.result()


class _Tally:
    """Numbers by field: some values at hand, the rest folded into moments."""

    def __init__(self, *, by_time: bool) -> None:
        self._by_time = by_time
        self._points = 0
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._moments: defaultdict[str, Moments] = defaultdict(Moments)

    def take(self, points: Iterable[dict[str, Any]]) -> None:
        for point in points:
            self._points += 1
            data = point["data"]
            if isinstance(data, dict):
                self._take_fields(data, "", reading.point_time(point) if self._by_time else None)
        for key in [key for key, values in self._values.items() if len(values) >= FOLD_VALUES]:
            self._fold(key)

    def _take_fields(self, data: Mapping[str, Any], prefix: str, when: float | None) -> None:
        for name, value in data.items():
            kind = type(value)
            if kind is float or kind is int:
                number = value
            elif kind is str and value in _NON_FINITE:
                number = _NON_FINITE[value]
            else:
                if kind is dict:
                    self._take_fields(value, f"{prefix}{name}.", when)
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
            "fields": {key: _described(moments) for key, moments in self._moments.items()},
        }


def _described(moments: Moments) -> dict[str, Any]:
    return {
        "count": moments.count,
        "nan_count": moments.nan_count,
        "first": moments.first,
        "last": moments.last,
        "min": moments.low,
        "max": moments.high,
        "mean": moments.mean if moments.finite else None,
        "std": moments.std if moments.finite else None,
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


def _checked_range(start: object, limit: object) -> tuple[int, int | None]:
    first, count = _whole(start), None if limit is None else _whole(limit)
    if first < 0 or (count is not None and count < 0):
        raise InvalidValueError(f"start_index={start!r:.80}, limit={limit!r:.80}: whole numbers, 0 or more")
    return first, count


def _whole(value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]  # what is no whole number raises
    except TypeError:
        return -1
