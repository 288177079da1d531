"""Metrics: points of numbers in the order of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ml_dash.errors import ConfigurationError, InvalidTypeError
from ml_dash.ipc.channel import Channel
from ml_dash.query.file_about import check_about
from ml_dash.query.metrics import MetricReader, MetricsReader, canonical_name
from ml_dash.records.record import Kind
from ml_dash.records.values import encode
from ml_dash.streams.attribute_errors import Hinted, OfRun
from ml_dash.streams.owner import Owner, to_timestamp
from ml_dash.streams.summaries import Buffer, SummaryCache
from ml_dash.streams.value_buffer import Window, merged

_METRIC = int(Kind.METRIC)
_perf = time.perf_counter_ns
_now = time.time


class Metric(Hinted, MetricReader):
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
        self._window = Window(owner, self._what)
        self.summary_cache = SummaryCache(owner, self)

    def log(self, values: Mapping[str, Any] | None = None, /, **fields: Any) -> Metric:
        """Log one point.

        Args:
            values: values by name, as one dict; keywords are the usual way.
            **fields: the values by name; any that can be stored, usually numbers. ``_ts`` is the time of the point in
                seconds since 1970: now if it is missing, and -1 means the one that this thread used last.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key.
            InvalidValueError: ``_ts`` is not numeric.
            ConfigurationError: ``_ts=-1`` and this thread has used none yet.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        now = _now()
        if values is not None:
            fields = merged(values, fields, self._what)
        if "_ts" in fields:
            fields["_ts"] = self._timestamp(fields["_ts"])
        else:
            fields["_ts"] = now
        self._clock.last = fields["_ts"]
        self._owner.channel.publish(_METRIC, self._key, encode(fields, self._what), now, started)
        return self

    def buffer(self, values: Mapping[str, Any] | None = None, /, **numbers: Any) -> Metric:
        """Keep one value of each key in memory until ``exp.metrics.buffer.log_summary()``, or the run's end.

        Args:
            values: numbers by key, as one dict; keywords are the usual way.
            **numbers: the numbers by key; None and NaN are missing values.

        Raises:
            InvalidValueError: one is no number; none of the call is kept.
            ExperimentError: the experiment is not open.
        """
        self._window.store(numbers if values is None else merged(values, numbers, self._what))
        return self

    def flush(self) -> Metric:
        """Wait until everything logged so far is on disk."""
        self._owner.flush()
        return self

    def _timestamp(self, value: object) -> float:
        seconds = to_timestamp(value, self._what)
        if seconds != -1:
            return seconds
        if self._clock.last is None:
            raise ConfigurationError(f"{self._what}: _ts=-1 inherits a timestamp, and this thread has used none yet")
        return self._clock.last

    def _publish(self, channel: Channel, point: dict[str, Any]) -> None:
        """Log a summary, also into the channel of a run that is ending."""
        now = _now()
        point.setdefault("_ts", now)
        channel.publish(_METRIC, self._key, encode(point, self._what), now)


class Metrics(OfRun, MetricsReader):
    """Every metric of a run: ``exp.metrics(name)`` is one of them.

    Attributes:
        buffer: what ``exp.metrics(name).buffer(...)`` collected, to be summarised.
    """

    _instead: ClassVar[dict[str, str]] = {"append": "log(...)"}

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._owner = owner
        self._metrics: dict[str | None, Metric] = {}
        self.buffer = Buffer(owner, self._known, self._seconds)
        owner.before_end.append(self._before_end)
        owner.after_fork.append(self._after_fork)

    def __call__(
        self,
        name: str | None = None,
        description: str | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Metric:
        """The metric of that name; ``a/b`` is one below ``a``, None (or "None") the unnamed one.

        Args:
            name: its name.
            description: what it is; kept from the first call that gives it, like ``tags`` and ``metadata``.
            tags: words to find it by.
            metadata: more about it.

        Raises:
            InvalidNameError: the name cannot be a place on disk.
            InvalidTypeError: the description is no text, the tags are no list of texts, or the metadata is no dict.
        """
        try:
            metric = self._metrics[name]
        except (KeyError, TypeError):  # TypeError: what cannot be hashed is no name either
            kept = canonical_name(name)
            # Two threads may both get here: the first one's metric is everybody's.
            metric = self._metrics.setdefault(kept, Metric(self._owner, kept))
        if description is not None or tags is not None or metadata is not None:
            self._describe(metric, description=description, tags=tags, metadata=metadata)
        return metric

    def log(self, /, _flush: bool = False, **fields: Any) -> Metrics:
        """Log one point to several metrics: ``exp.metrics.log(epoch=1, train={...}, eval={...})``.

        Scalars go to the unnamed metric and, together with its own values, to the metric of each key that holds a
        dict. All points of a call have the same ``_ts``.

        Raises:
            InvalidNameError: a key that holds a dict cannot be a metric's name.
            InvalidTypeError: a value cannot be stored; nothing of the call is written.
            ExperimentError: the experiment is not open.
        """
        groups = {key: value for key, value in fields.items() if isinstance(value, dict) and key != "_ts"}
        shared = {key: value for key, value in fields.items() if key not in groups}
        for key, group in groups.items():
            _check_names(key, group)
        shared["_ts"] = self._shared_timestamp(shared)
        points = [(self(key), {**shared, **group}) for key, group in groups.items()]
        if len(shared) > 1 or not groups:
            points.insert(0, (self(None), shared))
        for metric, point in points:  # a value that cannot be stored is found before anything is published
            encode(point, metric._what)
        for metric, point in points:
            metric.log(**point)
        if _flush:
            self.flush()
        return self

    def flush(self) -> Metrics:
        """Wait until everything logged so far is on disk."""
        self._owner.flush()
        return self

    def _before_end(self, channel: Channel) -> None:
        self.buffer.summarise_rest(channel)
        for metric in self._known():
            metric.summary_cache.before_end(channel)

    def _after_fork(self) -> None:
        # The parent summarises the values that wait.
        for metric in self._known():
            metric._window.clear()
            metric.summary_cache.clear()

    def _known(self) -> list[Metric]:
        return list(self._metrics.values())

    def _seconds(self, value: object) -> float:
        return self(None)._timestamp(value)

    def _shared_timestamp(self, fields: dict[str, Any]) -> float:
        if "_ts" in fields:
            return self._seconds(fields["_ts"])
        return time.time()

    def _describe(self, metric: Metric, **about: object) -> None:
        given = {key: value for key, value in about.items() if value is not None}
        check_about(given)
        data = encode(given, metric._what)
        self._owner.channel.publish(int(Kind.DESCRIBE), metric._key, data, time.time())


def _check_names(key: str, group: dict[Any, Any]) -> None:
    wrong = next((name for name in group if not isinstance(name, str)), None)
    if wrong is not None:
        raise InvalidTypeError(f"metrics.log: a key of {key!r} is {wrong!r}; names of values are text")
