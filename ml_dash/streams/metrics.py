"""Metrics: points of numbers in the order of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ml_dash.errors import ConfigurationError, InvalidTypeError
from ml_dash.records.record import Kind
from ml_dash.records.values import encode
from ml_dash.storage import reading
from ml_dash.storage.names import check_metric
from ml_dash.streams.owner import Owner, to_timestamp

_METRIC = int(Kind.METRIC)
_perf = time.perf_counter_ns
_now = time.time


class Metric:
    """One metric. Get it as ``exp.metrics("train")``; it may be kept and used from any thread."""

    def __init__(self, owner: Owner, name: str | None) -> None:
        self.name = name
        self._owner = owner
        self._clock = owner.clock
        self._key = (name or "").encode()
        self._what = f"metric {name!r}" if name else "the unnamed metric"

    def __repr__(self) -> str:
        return f"<{self._what}>"

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
            fields = _merged(values, fields, self._what)
        if "_ts" in fields:
            fields["_ts"] = self._timestamp(fields["_ts"])
        else:
            fields["_ts"] = now
        self._clock.last = fields["_ts"]
        self._owner.channel.publish(_METRIC, self._key, encode(fields, self._what), now, started)
        return self

    def flush(self) -> Metric:
        """Wait until everything logged so far is on disk."""
        self._owner.flush()
        return self

    def read(self, start_index: int = 0, limit: int | None = 1000) -> dict[str, Any]:
        """Points by position, those just logged included.

        Args:
            start_index: position of the first one, from 0.
            limit: how many at most; None for all.

        Returns:
            ``data`` (a list of ``index``, ``data``, ``createdAt``), ``startIndex``, ``endIndex`` (of the last one, or
            ``startIndex - 1``), ``total`` (how many are in ``data``) and ``hasMore``.
        """
        self._owner.flush()
        return reading.read_metric(self._owner.folder, self.name, start_index, limit)

    def stats(self) -> dict[str, Any]:
        """What metadata.json says of the metric, with ``totalDataPoints`` counted now."""
        self._owner.flush()
        return reading.metric_stats(self._owner.folder, self.name)

    def list_all(self) -> list[dict[str, Any]]:
        """``stats`` of every metric of the run."""
        self._owner.flush()
        return reading.list_metrics(self._owner.folder)

    def _timestamp(self, value: object) -> float:
        seconds = to_timestamp(value, self._what)
        if seconds != -1:
            return seconds
        if self._clock.last is None:
            raise ConfigurationError(f"{self._what}: _ts=-1 inherits a timestamp, and this thread has used none yet")
        return self._clock.last


class Metrics:
    """Every metric of a run: ``exp.metrics(name)`` is one of them."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._metrics: dict[str | None, Metric] = {}

    def __call__(
        self,
        name: str | None = None,
        description: str | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Metric:
        """The metric of that name; ``a/b`` is one below ``a``, None the unnamed one.

        Args:
            name: its name.
            description: what it is; kept from the first call that gives it, like ``tags`` and ``metadata``.
            tags: words to find it by.
            metadata: more about it.

        Raises:
            InvalidNameError: the name cannot be a place on disk.
        """
        try:
            metric = self._metrics[name]
        except (KeyError, TypeError):  # TypeError: what cannot be hashed is no name either
            if name is not None:
                check_metric(name)
            metric = self._metrics[name] = Metric(self._owner, name)
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

    def _shared_timestamp(self, fields: dict[str, Any]) -> float:
        return self(None)._timestamp(fields["_ts"]) if "_ts" in fields else time.time()

    def _describe(self, metric: Metric, **about: object) -> None:
        given = {key: value for key, value in about.items() if value is not None}
        data = encode(given, metric._what)
        self._owner.channel.publish(int(Kind.DESCRIBE), metric._key, data, time.time())


def _merged(values: object, fields: dict[str, Any], what: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InvalidTypeError(f"{what}: {values!r:.80} is no dict; pass values by name, such as log(loss=0.7)")
    return {**values, **fields}


def _check_names(key: str, group: dict[Any, Any]) -> None:
    wrong = next((name for name in group if not isinstance(name, str)), None)
    if wrong is not None:
        raise InvalidTypeError(f"metrics.log: a key of {key!r} is {wrong!r}; names of values are text")
