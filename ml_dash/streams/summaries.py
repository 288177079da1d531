"""Numbers that wait in memory until a summary of them is logged.

They are the only data that lives in the training process alone: a value that was buffered and not summarized is lost
when the process is killed. The values that are left when the run ends, also at the interpreter's exit, are summarized
then.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_dash.errors import ConfigurationError, InvalidTypeError, InvalidValueError
from ml_dash.ipc.channel import Channel
from ml_dash.records.aggregate import MAX_VALUES, NAMES, Series, is_known, summarize
from ml_dash.records.record import Kind
from ml_dash.records.values import encode
from ml_dash.storage.layout import UNNAMED_METRIC
from ml_dash.storage.names import closest
from ml_dash.streams.base import Owner, to_timestamp

MAX_KEYS = 10_000
"""Keys that wait in one metric: more than anyone plots. More keys mean one with a counter in it, and are refused."""

DEFAULT_AGGREGATIONS = ("mean",)
CACHE_AGGREGATIONS = ("mean", "min", "max", "count", "std")

_METRIC = int(Kind.METRIC)
_perf = time.perf_counter_ns


class ValueBuffer:
    """The values of one metric since its last summary, by key. Every method may be called from any thread.

    Args:
        owner: the run.
        what: the metric, for messages.

    Attributes:
        changed: whether values came since the last summary.
    """

    def __init__(self, owner: Owner, what: str) -> None:
        self._owner = owner
        self._what = what
        self.clear()
        owner.after_fork.append(self.clear)  # the parent summarizes the values that wait

    def clear(self) -> None:
        """Forget all values, and replace the lock, which another thread may have held at a fork."""
        # Reentrant: a signal handler that ends the run may come while the same thread stores.
        self.lock = threading.RLock()
        self._series: dict[str, Series] = {}
        self.changed = False

    def __bool__(self) -> bool:
        return bool(self._series)

    def store(self, numbers: Mapping[str, object]) -> None:
        """Add one value to each key.

        Raises:
            InvalidValueError: a value is no number; no value is added.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        pairs = [
            (key, value if type(value) is float else _number(value, key, self._what)) for key, value in numbers.items()
        ]
        self._owner.channel.require_open()
        kept, refused = True, None
        with self.lock:
            self.changed = True
            for key, value in pairs:
                series = self._series.get(key)
                if series is None:
                    if len(self._series) >= MAX_KEYS:
                        refused = key
                        continue
                    series = self._series[key] = Series()
                kept &= series.add(value)
        # Raises if the run has ended meanwhile: then no summary has the values, and the caller must know.
        self._owner.channel.add_cost(started)
        if refused is not None:
            self._owner.channel.refuse(
                f"{self._what}: {MAX_KEYS} keys wait for a summary; {refused!r:.80} and more are refused and counted. "
                "Summarise more often, or leave counters out of the keys"
            )
        elif not kept:
            self._owner.warn_once(
                f"{self._what}: {MAX_VALUES} values of a key wait for a summary; its percentiles come from a sample "
                "of that size. Summarise more often"
            )

    def summary(self, names: Sequence[str], *, clear: bool) -> dict[str, float]:
        """Return ``<key>.<aggregation>`` of every key that has a value.

        Args:
            names: the aggregations.
            clear: whether to forget the values.
        """
        with self.lock:
            series, self.changed = self._series, False
            if not clear:
                return _summarize_all(series, names)
            self._series = {}
        return _summarize_all(series, names)  # without the lock: other threads store the next values meanwhile

    def peek(self, keys: Iterable[str], limit: int | None) -> dict[str, list[float]]:
        """Return the last ``limit`` values of some keys, or of all if none is named."""
        with self.lock:
            chosen = [key for key in keys if key in self._series] if (keys := tuple(keys)) else list(self._series)
            values = {key: self._series[key].values for key in chosen}
            first = {key: 0 if limit is None else max(0, len(values[key]) - limit) for key in chosen}
            return {key: values[key][first[key] :].tolist() for key in chosen}


class BufferedMetric:
    """One metric as its summaries use it.

    Args:
        owner: the run.
        name: the metric's name, None for the unnamed one.
        what: the metric, for messages.

    Attributes:
        name, what: as given.
        values: the values of ``exp.metrics(name).buffer(...)``.
    """

    def __init__(self, owner: Owner, name: str | None, what: str) -> None:
        self.name = name
        self.what = what
        self.values = ValueBuffer(owner, what)
        self._clock = owner.clock
        self._key = (name or "").encode()

    def timestamp(self, value: object) -> float:
        """Return ``_ts`` as seconds; -1 is the timestamp that this thread used last.

        Raises:
            InvalidValueError: it is not a finite number.
            ConfigurationError: it is -1, and this thread has used no timestamp yet.
        """
        seconds = to_timestamp(value, self.what)
        if seconds != -1:
            return seconds
        if self._clock.last is None:
            raise ConfigurationError(f"{self.what}: _ts=-1 inherits a timestamp, and this thread has used none yet")
        return self._clock.last

    def publish(self, channel: Channel, point: dict[str, Any]) -> None:
        """Log a summary to a channel, which may be that of a run that is ending."""
        now = time.time()
        point.setdefault("_ts", now)
        channel.publish(_METRIC, self._key, encode(point, self.what), now)


class Buffer:
    """The buffered values of all metrics, from ``exp.metrics(name).buffer(...)``. Get it as ``exp.metrics.buffer``.

    Args:
        owner: the run.
        metrics: returns every metric.
        timestamp: returns a ``_ts`` of the user as seconds.
    """

    def __init__(
        self, owner: Owner, metrics: Callable[[], Sequence[BufferedMetric]], timestamp: Callable[[object], float]
    ) -> None:
        self._owner = owner
        self._metrics = metrics
        self._timestamp = timestamp
        self._last_used: tuple[str, ...] = DEFAULT_AGGREGATIONS
        owner.before_end.append(self._before_end)

    def log_summary(self, /, *aggs: str, **extra: Any) -> None:
        """Log one point to each metric that has buffered values, and forget the values.

        The point has ``<key>.<aggregation>`` for every key, and the values of ``extra``. NaN values are left out. A key
        with only NaN values is left out, and a metric without any other key gets no point.

        Args:
            *aggs: any of mean, std (of a sample; 0.0 for one value), min, max, count, median, sum, first, last, and
                p0 to p100 (interpolated linearly); default mean. The summary at the run's end uses them too.
            **extra: more values of each point, such as ``epoch=3``. ``_ts`` is the points' time in seconds since 1970:
                default now, and -1 means the one that this thread used last.

        Raises:
            InvalidValueError: an aggregation is not known, or ``_ts`` is not numeric. Nothing is logged or forgotten.
            InvalidTypeError: an extra value cannot be stored. Nothing is logged or forgotten.
            ConfigurationError: ``_ts=-1`` and this thread has used no timestamp yet.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        names = _checked_aggregations(aggs) or DEFAULT_AGGREGATIONS
        extra["_ts"] = self._timestamp(extra["_ts"]) if "_ts" in extra else time.time()
        encode(extra, "metrics.buffer.log_summary")
        self._owner.channel.require_open()
        self._owner.clock.last = extra["_ts"]
        self._last_used = names
        self._summarize(self._owner.channel, extra)
        self._owner.channel.add_cost(started)

    def peek(self, prefix: str | None = None, *keys: str, limit: int | None = 5) -> dict[str, list[float]]:
        """Return the buffered values.

        Args:
            prefix: the metric's name ("None" for the unnamed one); None for every metric.
            *keys: only these keys; default all.
            limit: the number of values of each key, the last ones; None for all.

        Returns:
            Values by key; by ``name/key`` if no metric is named. NaN stands for a missing value.

        Raises:
            InvalidValueError: ``limit`` is not 0 or more.
        """
        limit = _checked_limit(limit)
        values: dict[str, list[float]] = {}
        for metric in self._metrics():
            name = metric.name or UNNAMED_METRIC
            if prefix is None:
                before = f"{metric.name}/" if metric.name else ""
                values |= {f"{before}{key}": numbers for key, numbers in metric.values.peek(keys, limit).items()}
            elif prefix == name:
                values = metric.values.peek(keys, limit)
        return values

    def _before_end(self, channel: Channel) -> None:
        self._summarize(channel, {})

    def _summarize(self, channel: Channel, extra: Mapping[str, Any]) -> None:
        for metric in self._metrics():
            summary = metric.values.summary(self._last_used, clear=True) if metric.values else {}
            if summary:
                metric.publish(channel, {**summary, **extra})


class SummaryCache:
    """Values of one metric that become a point of their mean, min, max, count and std.

    Get it as ``exp.metrics(name).summary_cache``.

    Args:
        owner: the run.
        metric: the metric.
    """

    def __init__(self, owner: Owner, metric: BufferedMetric) -> None:
        self._owner = owner
        self._metric = metric
        self._values = ValueBuffer(owner, f"summary_cache of {metric.what}")
        self._about: dict[str, Any] = {}
        owner.before_end.append(self._before_end)
        owner.after_fork.append(self.clear)

    def store(self, values: Mapping[str, Any] | None = None, /, **numbers: Any) -> None:
        """Keep one value of each key in memory.

        Args:
            values: numbers by key, as one dict; keywords are the usual way.
            **numbers: the numbers by key; None and NaN are missing values.

        Raises:
            InvalidValueError: a value is no number; no value of the call is kept.
            ExperimentError: the experiment is not open.
        """
        self._values.store(numbers if values is None else merged(values, numbers, self._metric.what))

    def set(self, /, **about: Any) -> None:
        """Set values that the next summary's point has beside the numbers.

        Args:
            **about: values by name, such as ``epoch=3``. ``_ts`` is the point's time in seconds since 1970; -1 means
                the one that this thread used last.

        Raises:
            InvalidTypeError: a value cannot be stored.
            InvalidValueError: ``_ts`` is not numeric.
        """
        encode(about, self._metric.what)
        if "_ts" in about:
            about["_ts"] = self._metric.timestamp(about["_ts"])
        with self._values.lock:
            self._about.update(about)

    def summarize(self, clear: bool = True) -> None:
        """Log a point of ``<key>.mean``, ``.min``, ``.max``, ``.count`` and ``.std`` of every key, with the set values.

        Nothing is logged if there is no value, or only NaN.

        Args:
            clear: whether to forget the values and what was set; False makes the next summary count them too.

        Raises:
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        self._owner.channel.require_open()
        self._summarize(self._owner.channel, clear=clear)
        self._owner.channel.add_cost(started)

    def peek(self, *keys: str, limit: int | None = 5) -> dict[str, list[float]]:
        """Return the waiting values by key; NaN stands for a missing value.

        Args:
            *keys: only these keys; default all.
            limit: the number of values of each key, the last ones; None for all.

        Raises:
            InvalidValueError: ``limit`` is not 0 or more.
        """
        return self._values.peek(keys, _checked_limit(limit))

    def clear(self) -> None:
        """Forget the values and what was set."""
        self._values.clear()
        self._about = {}

    def _summarize(self, channel: Channel, *, clear: bool) -> None:
        with self._values.lock:
            if not self._values:
                return
            summary, about = self._values.summary(CACHE_AGGREGATIONS, clear=clear), dict(self._about)
            if clear:
                self._about = {}
        if summary:
            self._metric.publish(channel, {**summary, **about})

    def _before_end(self, channel: Channel) -> None:
        if self._values.changed:
            self._summarize(channel, clear=True)


def merged(values: object, fields: dict[str, Any], what: str) -> dict[str, Any]:
    """Merge values that were given as one dict and values that were given by keyword.

    Raises:
        InvalidTypeError: ``values`` is no dict.
    """
    if not isinstance(values, Mapping):
        raise InvalidTypeError(f"{what}: {values!r:.80} is no dict; pass values by name, such as log(loss=0.7)")
    return {**values, **fields}


def _number(value: object, key: str, what: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, (str, bytes, bytearray)):
        try:
            item: Any = value.item() if hasattr(value, "item") else value
            return float(item)
        except Exception:  # noqa: BLE001, S110 - a foreign __float__ may raise anything; the error below names the value
            pass
    raise InvalidValueError(f"{what}: {key}={value!r:.80} is no number; buffer numbers, or log() it")


def _summarize_all(series_by_key: Mapping[str, Series], names: Sequence[str]) -> dict[str, float]:
    return {
        f"{key}.{name}": value
        for key, series in series_by_key.items()
        for name, value in summarize(series, names).items()
    }


def _checked_limit(limit: object) -> int | None:
    if limit is None or (isinstance(limit, int) and limit >= 0):
        return limit
    raise InvalidValueError(f"limit={limit!r:.80} must be 0 or more, or None for all")


def _checked_aggregations(aggs: Sequence[object]) -> tuple[str, ...]:
    for name in aggs:
        if not is_known(name):
            near = closest(name, NAMES) if isinstance(name, str) else None
            advice = f"did you mean {near!r}?" if near else f"there are {', '.join(NAMES)}, and p0 to p100"
            raise InvalidValueError(f"metrics.buffer.log_summary: {name!r:.80} is no aggregation; {advice}")
    return tuple(str(name) for name in aggs)
