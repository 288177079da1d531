"""Read the metrics of a run."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidNameError, InvalidValueError
from ml_dash.query.reader import Source, check_columns, check_time
from ml_dash.storage import metric_reading
from ml_dash.storage.layout import UNNAMED_METRIC
from ml_dash.storage.names import check_metric

if TYPE_CHECKING:
    import numpy.typing as npt

# In the annotations of the class below, `list` would mean its method.
Names = list[str | None]
Documents = list[dict[str, Any]]


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
        """Read points in the order of the calls, including points that were just logged.

        Points of several processes are in the order of their ``_ts``. A metric that was never logged has no points.

        Args:
            start_index: position of the first point, from 0.
            limit: largest number of points; None for all.

        Returns:
            ``data`` (a list of dicts with ``index``, ``data`` and ``createdAt``), ``startIndex``, ``endIndex`` (of the
            last point, or ``startIndex - 1``), ``total`` (the length of ``data``) and ``hasMore``.

        Raises:
            InvalidValueError: ``start_index`` or ``limit`` is not a whole number from 0.
        """
        start, count = _check_range(start_index, limit)
        self._source.flush()
        return metric_reading.read_metric(self._source.folder, self.name, start, count)

    def points(self, start_index: int = 0) -> Iterator[dict[str, Any]]:
        """Iterate over the points from a position on, in the form of ``read``, with only some of them in memory.

        Points of several processes are sorted, and for that all read into memory.

        Returns:
            An iterator over dicts with ``index``, ``data`` and ``createdAt``.

        Raises:
            InvalidValueError: ``start_index`` is not a whole number from 0.
        """
        start, _ = _check_range(start_index, None)
        self._source.flush()
        return metric_reading.metric_points(self._source.folder, self.name, start)

    def stats(self) -> dict[str, Any]:
        """Return the metric's metadata and the statistics of its fields, computed over all points.

        Returns:
            The keys of metadata.json (``description``, ``tags``, ...), and

            - ``name``, None for the unnamed metric;
            - ``totalDataPoints``;
            - ``firstTimestamp``, ``lastTimestamp``: the earliest and latest ``_ts``, None without points;
            - ``fields``: for each field with a number, ``count`` of its numbers, ``nan_count``, ``first``, ``last``,
              ``min``, ``max``, ``mean`` and ``std`` (of a sample) as floats, None where there is no number. NaN may be
              ``first`` or ``last``; otherwise it counts in ``nan_count`` alone. Infinities count in all but ``mean``
              and ``std``. Fields of nested dicts have dotted names. Values that are no numbers (text, lists, True and
              False) are not counted.
        """
        from ml_dash.query.metric_stats import field_stats

        self._source.flush()
        folder = self._source.folder
        return metric_reading.metric_document(folder, self.name) | field_stats(
            metric_reading.metric_shards(folder, self.name)
        )

    def table(
        self,
        columns: Sequence[str] | None = None,
        *,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
    ) -> Any:
        """Read the points as a ``pyarrow.Table`` in the order of ``read``: many times faster for long metrics.

        Args:
            columns: names of the values to read; None for all.
            start_timestamp: least ``_ts`` to include, in seconds since 1970; None for no bound.
            end_timestamp: greatest ``_ts`` to include; None for no bound.

        Returns:
            ``_index``, ``_ts`` (float64), a column for each value (nested ones with dotted names) and ``_createdAt``
            (text). Whole numbers, floats, booleans, text or lists of these have their type; a column of mixed types is
            JSON text. A value that is missing or None is null.

        Raises:
            InvalidValueError: a bound is no number, ``columns`` is no list of names, or no point has such a value.
            ExperimentError: the experiment is closed.
        """
        start, end = (
            check_time(value, name, self._what)
            for name, value in (("start_timestamp", start_timestamp), ("end_timestamp", end_timestamp))
        )
        names = check_columns(columns, self._what)
        self._source.flush()
        from ml_dash.query import tables

        table = tables.metric_table(self._source.folder, self.name, start, end, names)
        read_all = None if start is not None or end is not None else self.table
        return tables.with_columns(table, names, read_all, self._what)

    def numpy(self, columns: Sequence[str] | None = None, **window: float | None) -> dict[str, npt.NDArray[Any]]:
        """Read the points as arrays by column name, with one entry for each point.

        Missing numbers are NaN. Lists of one length become one array; text and mixed types become arrays of objects.

        Args:
            columns: as for ``table``.
            **window: ``start_timestamp`` and ``end_timestamp``, as for ``table``.

        Returns:
            The columns of ``table`` as arrays of equal length.
        """
        from ml_dash.query import tables

        return tables.to_numpy(self.table(columns, **window))

    def dataframe(self, columns: Sequence[str] | None = None, **window: float | None) -> Any:
        """Read the points as a ``pandas.DataFrame``.

        Args:
            columns: as for ``table``.
            **window: ``start_timestamp`` and ``end_timestamp``, as for ``table``.

        Returns:
            A ``pandas.DataFrame`` with the columns of ``table``, one row for each point.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from ml_dash.query import tables

        return tables.to_dataframe(self.table(columns, **window))

    def list_all(self) -> list[dict[str, Any]]:
        """Return every metric of the run, sorted by name: the keys of its metadata.json, and ``totalDataPoints``."""
        self._source.flush()
        return metric_reading.list_metrics(self._source.folder)


class MetricsReader:
    """The metrics of a run. Call it with a name to get one of them.

    Args:
        source: the run.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, name: str | None = None) -> MetricReader:
        """Return the metric of that name; None, or "None" as its folder is called, is the unnamed metric.

        Raises:
            InvalidNameError: no metric can have the name, and none that ``list`` gives has it.
        """
        try:
            return MetricReader(self._source, canonical_name(name))
        except InvalidNameError:  # of a folder that another program made
            if name not in metric_reading.metric_names(self._source.folder):
                raise
            return MetricReader(self._source, name)

    def list(self) -> Names:
        """Return the names of all metrics; None is the unnamed metric."""
        self._source.flush()
        return metric_reading.metric_names(self._source.folder)

    def list_all(self) -> Documents:
        """Return every metric, sorted by name: the keys of its metadata.json, and ``totalDataPoints``."""
        return MetricReader(self._source, None).list_all()


def canonical_name(name: object) -> str | None:
    """Return a metric's name as it is stored; None for the unnamed metric, whose folder is called "None".

    Raises:
        InvalidNameError: the name cannot be a path on disk.
        InvalidTypeError: the name is no text.
    """
    if name is None:
        return None
    text = "/".join(check_metric(name))
    return None if text == UNNAMED_METRIC else text


def _check_range(start: object, limit: object) -> tuple[int, int | None]:
    first, count = _to_integer(start), None if limit is None else _to_integer(limit)
    if first < 0 or (count is not None and count < 0):
        raise InvalidValueError(f"start_index={start!r:.80}, limit={limit!r:.80}: whole numbers, 0 or more")
    return first, count


def _to_integer(value: object) -> int:
    """Return a whole number, and -1 for any other value."""
    try:
        return operator.index(value)  # type: ignore[arg-type]  # anything but a whole number raises TypeError
    except TypeError:
        return -1
