"""Read the metrics of a run, of an open one or of one that is only read."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidValueError
from ml_dash.query import validation
from ml_dash.query.source import Source
from ml_dash.storage import metric_reading
from ml_dash.storage.layout import UNNAMED_METRIC
from ml_dash.storage.names import check_metric

if TYPE_CHECKING:
    import numpy.typing as npt

# `list` is a method of the class below, and means that in its annotations.
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
        return metric_reading.read_metric(self._source.folder, self.name, start, count)

    def points(self, start_index: int = 0) -> Iterator[dict[str, Any]]:
        """Every point from a position on, one at a time: what ``read`` has in ``data``, without all of it in memory.

        Points of several processes are sorted, and for that taken into memory together.

        Raises:
            InvalidValueError: ``start_index`` is not a whole number from 0.
        """
        start, _ = _checked_range(start_index, None)
        self._source.flush()
        return metric_reading.metric_points(self._source.folder, self.name, start)

    def stats(self) -> dict[str, Any]:
        """What is known of the metric and of its numbers, counted over every point.

        Returns:
            What metadata.json says (``description``, ``tags``, ...), and

            - ``name``, None for the unnamed metric;
            - ``totalDataPoints``;
            - ``firstTimestamp``, ``lastTimestamp``: the earliest and latest ``_ts``, None without points;
            - ``fields``: for each field with a number, ``count`` of its numbers, ``nan_count``, ``first``, ``last``,
              ``min``, ``max``, ``mean`` and ``std`` (of a sample) as floats, None where there is no number. NaN may be
              ``first`` and ``last``, and else takes part in ``nan_count`` alone; infinities in all but ``mean`` and ``std``. Fields of nested dicts have dotted
              names. What is no number (text, lists, True and False) is not counted.
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
        """The points as a ``pyarrow.Table`` in the order of ``read``: many times faster for long metrics.

        Args:
            columns: the values wanted; None for all.
            start_timestamp: the first ``_ts`` wanted, inclusive, in seconds since 1970; None for no limit.
            end_timestamp: the last one, inclusive.

        Returns:
            ``_index``, ``_ts`` (float64), a column for each value (nested ones with dotted names) and ``_createdAt``
            (text). Whole numbers, floats, booleans, text or lists of these have their type; a value that mixes types is
            JSON text. Null is a value that is missing or None.

        Raises:
            InvalidValueError: a limit is no number, ``columns`` is no list of names, or no point has such a value.
            ExperimentError: the experiment is closed.
        """
        start, end = (
            validation.check_time(value, name, self._what)
            for name, value in (("start_timestamp", start_timestamp), ("end_timestamp", end_timestamp))
        )
        names = validation.check_columns(columns, self._what)
        self._source.flush()
        from ml_dash.query import tables

        found = tables.metric_table(self._source.folder, self.name, start, end, names)
        whole = None if start is not None or end is not None else self.table
        return tables.with_columns(found, names, whole, self._what)

    def numpy(self, columns: Sequence[str] | None = None, **window: float | None) -> dict[str, npt.NDArray[Any]]:
        """The same as arrays by name, each with one entry a point; ``window`` is as for ``table``.

        Numbers that are missing are NaN; lists of one length are one array; text, and values that mix types, are arrays
        of objects.
        """
        from ml_dash.query import tables

        return tables.to_numpy(self.table(columns, **window))

    def dataframe(self, columns: Sequence[str] | None = None, **window: float | None) -> Any:
        """The same as a ``pandas.DataFrame``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from ml_dash.query import tables

        return tables.to_dataframe(self.table(columns, **window))

    def list_all(self) -> list[dict[str, Any]]:
        """Every metric of the run, by name: what its metadata.json says, and ``totalDataPoints``."""
        self._source.flush()
        return metric_reading.list_metrics(self._source.folder)


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
        return metric_reading.metric_names(self._source.folder)

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
