"""Metrics: points of numbers in the order of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ml_dash.errors import InvalidTypeError
from ml_dash.query.file_about import check_about
from ml_dash.query.metrics import MetricReader, MetricsReader, canonical_name
from ml_dash.records.record import Kind
from ml_dash.records.values import encode
from ml_dash.streams.base import Owner, RunStream, Stream
from ml_dash.streams.summaries import Buffer, BufferedMetric, SummaryCache, merged

_METRIC = int(Kind.METRIC)
_perf = time.perf_counter_ns
_now = time.time


class Metric(Stream, MetricReader):
    """One metric. Get it as ``exp.metrics("train")``; it may be kept and used from any thread.

    Attributes:
        name: its name, None for the unnamed one.
        summary_cache: values that become a point of their mean, min, max, count and std.
    """

    _instead: ClassVar[dict[str, str]] = {"append": "log(...)"}

    def __init__(self, owner: Owner, name: str | None) -> None:
        super().__init__(owner, name)
        self._owner = owner
        self._clock = owner.clock
        self._key = (name or "").encode()
        self._buffered = BufferedMetric(owner, name, self._what)
        self.summary_cache = SummaryCache(owner, self._buffered)

    def log(self, values: Mapping[str, Any] | None = None, /, **fields: Any) -> Metric:
        """Log one point.

        Args:
            values: values by name, as one dict; keywords are the usual way, and count where both have a name.
            **fields: the values by name: numbers, or anything else that can be stored. ``_ts`` is the time of the point
                in seconds since 1970: default now, and -1 means the one that this thread used last.

        Returns:
            The metric.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key.
            InvalidValueError: ``_ts`` is not a finite number.
            ConfigurationError: ``_ts=-1`` and this thread has used no timestamp yet.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        now = _now()
        if values is not None:
            fields = merged(values, fields, self._what)
        if "_ts" in fields:
            fields["_ts"] = self._buffered.timestamp(fields["_ts"])
        else:
            fields["_ts"] = now
        self._clock.last = fields["_ts"]
        self._owner.channel.publish(_METRIC, self._key, encode(fields, self._what), now, started)
        return self

    def buffer(self, values: Mapping[str, Any] | None = None, /, **numbers: Any) -> Metric:
        """Keep one value of each key in memory until ``exp.metrics.buffer.log_summary()``, or the run's end.

        Args:
            values: numbers by key, as one dict; keywords are the usual way, and count where both have a key.
            **numbers: the numbers by key; None and NaN are missing values.

        Returns:
            The metric.

        Raises:
            InvalidValueError: a value is no number; no value of the call is kept.
            ExperimentError: the experiment is not open.
        """
        self._buffered.values.store(numbers if values is None else merged(values, numbers, self._what))
        return self

    def flush(self) -> Metric:
        """Wait until everything logged so far is on disk."""
        self._owner.flush()
        return self


class Metrics(RunStream, MetricsReader):
    """Every metric of a run: ``exp.metrics(name)`` is one of them.

    Attributes:
        buffer: the values of ``exp.metrics(name).buffer(...)`` of all metrics, to be summarized.
    """

    _instead: ClassVar[dict[str, str]] = {"append": "log(...)"}

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._owner = owner
        self._metrics: dict[str | None, Metric] = {}
        self.buffer = Buffer(
            owner,
            lambda: [metric._buffered for metric in list(self._metrics.values())],  # noqa: SLF001 - classes of one module
            self._timestamp,
        )

    def __call__(
        self,
        name: str | None = None,
        description: str | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Metric:
        """Return the metric of that name.

        Args:
            name: its name, a path such as ``train`` or ``eval/success``; None (or "None") is the unnamed metric.
            description: text for people; the first call that gives it counts, as for ``tags`` and ``metadata``.
            tags: words to find the metric by.
            metadata: any values that JSON can hold, by name.

        Raises:
            InvalidNameError: the name cannot be a path on disk.
            InvalidTypeError: the description is no text, the tags are no list of texts, or the metadata is no dict.
        """
        try:
            metric = self._metrics[name]
        except (KeyError, TypeError):  # TypeError: an unhashable name, which is refused below
            canonical = canonical_name(name)
            # Two threads may both get here: both use the metric of the first one.
            metric = self._metrics.setdefault(canonical, Metric(self._owner, canonical))
        if description is not None or tags is not None or metadata is not None:
            given = {"description": description, "tags": tags, "metadata": metadata}
            about = {key: value for key, value in given.items() if value is not None}
            check_about(about)
            data = encode(about, metric._what)  # noqa: SLF001 - classes of one module
            self._owner.channel.publish(int(Kind.DESCRIBE), metric._key, data, time.time())  # noqa: SLF001 - classes of one module
        return metric

    def log(self, /, _flush: bool = False, **fields: Any) -> Metrics:
        """Log one point to several metrics: ``exp.metrics.log(epoch=1, train={...}, eval={...})``.

        A key whose value is a dict names a metric; its point has the dict's values and all scalars of the call. The
        unnamed metric gets a point of the scalars alone. All points of a call have the same ``_ts``.

        Args:
            _flush: whether to wait until the points are on disk.
            **fields: scalars, and dicts of scalars by the name of a metric. ``_ts`` is the points' time in seconds
                since 1970: default now, and -1 means the one that this thread used last.

        Returns:
            The metrics.

        Raises:
            InvalidNameError: a key that holds a dict cannot be a metric's name.
            InvalidTypeError: a value cannot be stored; nothing of the call is written.
            ExperimentError: the experiment is not open.
        """
        groups = {key: value for key, value in fields.items() if isinstance(value, dict) and key != "_ts"}
        shared = {key: value for key, value in fields.items() if key not in groups}
        for key, group in groups.items():
            wrong = next((name for name in group if not isinstance(name, str)), None)
            if wrong is not None:
                raise InvalidTypeError(f"metrics.log: a key of {key!r} is {wrong!r}; names of values are text")
        shared["_ts"] = self._timestamp(shared["_ts"]) if "_ts" in shared else time.time()
        points = [(self(key), {**shared, **group}) for key, group in groups.items()]
        if len(shared) > 1 or not groups:
            points.insert(0, (self(None), shared))
        for metric, point in points:  # first, so that a value that cannot be stored stops the whole call
            encode(point, metric._what)  # noqa: SLF001 - classes of one module
        for metric, point in points:
            metric.log(**point)
        if _flush:
            self.flush()
        return self

    def flush(self) -> Metrics:
        """Wait until everything logged so far is on disk."""
        self._owner.flush()
        return self

    def _timestamp(self, value: object) -> float:
        return self(None)._buffered.timestamp(value)  # noqa: SLF001 - classes of one module
