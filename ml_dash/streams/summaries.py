"""Numbers that wait in memory until a summary of them is logged.

They are the one thing that lives in the training process alone: a value that was buffered and not summarised is lost
when the process is killed. What is left when the run ends, also at the interpreter's end, is summarised then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ml_dash.errors import InvalidValueError
from ml_dash.ipc.channel import Channel
from ml_dash.records.aggregate import NAMES, is_known
from ml_dash.records.values import encode
from ml_dash.storage.layout import UNNAMED_METRIC
from ml_dash.storage.names import closest
from ml_dash.streams.owner import Owner
from ml_dash.streams.value_buffer import Window, merged

DEFAULT_AGGREGATIONS = ("mean",)
CACHE_AGGREGATIONS = ("mean", "min", "max", "count", "std")

_perf = time.perf_counter_ns


class Summarised(Protocol):
    """A metric, as its summaries see it."""

    name: str | None
    _what: str
    _window: Window

    def _timestamp(self, value: object) -> float: ...

    def _publish(self, channel: Channel, point: dict[str, Any]) -> None: ...


class Buffer:
    """What ``exp.metrics(name).buffer(...)`` collected, of all metrics: get it as ``exp.metrics.buffer``.

    Args:
        owner: the experiment.
        metrics: gives every metric.
        timestamp: what the user gave as ``_ts``, as seconds.
    """

    def __init__(
        self, owner: Owner, metrics: Callable[[], Sequence[Summarised]], timestamp: Callable[[object], float]
    ) -> None:
        self._owner = owner
        self._metrics = metrics
        self._timestamp = timestamp
        self._last_used: tuple[str, ...] = DEFAULT_AGGREGATIONS

    def log_summary(self, /, *aggs: str, **extra: Any) -> None:
        """Log one point to each metric that has buffered values, and forget the values.

        The point has ``<key>.<aggregation>`` for every key, and what is given as ``extra``. NaN is left out; a key that
        has nothing else is left out too, and a metric without any other key gets no point.

        Args:
            *aggs: any of mean, std (of a sample; 0.0 for one value), min, max, count, median, sum, first, last, and
                p0 to p100 (interpolated linearly); default mean. They are used for the rest at the run's end too.
            **extra: more values of each point, such as ``epoch=3``. ``_ts`` is the points' time: now by default.

        Raises:
            InvalidValueError: an aggregation is not known, or ``_ts`` is not numeric. Nothing is logged or forgotten.
            InvalidTypeError: an extra value cannot be stored. Nothing is logged or forgotten.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        names = _checked(aggs) or DEFAULT_AGGREGATIONS
        extra["_ts"] = self._timestamp(extra["_ts"]) if "_ts" in extra else time.time()
        encode(extra, "metrics.buffer.log_summary")
        self._owner.channel.require_open()
        self._owner.clock.last = extra["_ts"]
        self._last_used = names
        self.summarise_rest(self._owner.channel, extra)
        self._owner.channel.add_cost(started)

    def peek(self, prefix: str | None = None, *keys: str, limit: int | None = 5) -> dict[str, list[float]]:
        """Look at what waits.

        Args:
            prefix: the metric's name ("None" for the unnamed one); None for every metric.
            *keys: only these; default all.
            limit: at most so many values of each, the last ones; None for all.

        Returns:
            Values by key; by ``name/key`` if no metric is named. NaN stands for a missing value.

        Raises:
            InvalidValueError: ``limit`` is not 0 or more.
        """
        limit = checked_limit(limit)
        found: dict[str, list[float]] = {}
        for metric in self._metrics():
            name = metric.name or UNNAMED_METRIC
            if prefix is None:
                before = f"{metric.name}/" if metric.name else ""
                found |= {f"{before}{key}": values for key, values in metric._window.peek(keys, limit).items()}
            elif prefix == name:
                found = metric._window.peek(keys, limit)
        return found

    def summarise_rest(self, channel: Channel, extra: Mapping[str, Any] | None = None) -> None:
        """Summarise as the last time, into a channel that need not be the experiment's any more."""
        for metric in self._metrics():
            summary = metric._window.summary(self._last_used, clear=True) if metric._window else {}
            if summary:
                metric._publish(channel, {**summary, **(extra or {})})


class SummaryCache:
    """Values of one metric that become a point of their mean, min, max, count and std: ``exp.metrics(name).summary_cache``.

    Args:
        owner: the experiment.
        metric: the metric.
    """

    def __init__(self, owner: Owner, metric: Summarised) -> None:
        self._owner = owner
        self._metric = metric
        self._window = Window(owner, f"summary_cache of {metric._what}")
        self._about: dict[str, Any] = {}

    def store(self, values: Mapping[str, Any] | None = None, /, **numbers: Any) -> None:
        """Keep one value of each key in memory; None and NaN are missing values.

        Raises:
            InvalidValueError: one is no number; none is kept.
            ExperimentError: the experiment is not open.
        """
        self._window.store(numbers if values is None else merged(values, numbers, self._metric._what))

    def set(self, /, **about: Any) -> None:
        """Values that the next summary's point has beside the numbers, such as ``epoch=3``; ``_ts`` is its time.

        Raises:
            InvalidTypeError: one cannot be stored.
            InvalidValueError: ``_ts`` is not numeric.
        """
        encode(about, self._metric._what)
        if "_ts" in about:
            about["_ts"] = self._metric._timestamp(about["_ts"])
        with self._window.lock:
            self._about.update(about)

    def summarize(self, clear: bool = True) -> None:
        """Log a point of ``<key>.mean``, ``.min``, ``.max``, ``.count`` and ``.std`` of every key, with what was set.

        Nothing is logged if there is no value, or only NaN.

        Args:
            clear: True to begin anew, False to keep values and what was set, so that the next summary counts them too.

        Raises:
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        self._owner.channel.require_open()
        self.summarise_rest(self._owner.channel, clear=clear)
        self._owner.channel.add_cost(started)

    def peek(self, *keys: str, limit: int | None = 5) -> dict[str, list[float]]:
        """Look at what waits.

        Args:
            *keys: only these; default all.
            limit: at most so many values of each, the last ones; None for all.

        Raises:
            InvalidValueError: ``limit`` is not 0 or more.
        """
        return self._window.peek(keys, checked_limit(limit))

    def summarise_rest(self, channel: Channel, *, clear: bool = True) -> None:
        """``summarize`` into a channel that need not be the experiment's any more."""
        with self._window.lock:
            if not self._window:
                return
            summary, about = self._window.summary(CACHE_AGGREGATIONS, clear=clear), dict(self._about)
            if clear:
                self._about = {}
        if summary:
            self._metric._publish(channel, {**summary, **about})

    def before_end(self, channel: Channel) -> None:
        """Log what no summary has had yet."""
        if self._window.changed:
            self.summarise_rest(channel)

    def clear(self) -> None:
        """Forget everything."""
        self._window.clear()
        self._about = {}


def checked_limit(limit: object) -> int | None:
    """A number of values to show.

    Raises:
        InvalidValueError: it is neither None nor a whole number from 0.
    """
    if limit is None or (isinstance(limit, int) and limit >= 0):
        return limit
    raise InvalidValueError(f"limit={limit!r:.80} must be 0 or more, or None for all")


def _checked(aggs: Sequence[object]) -> tuple[str, ...]:
    for name in aggs:
        if not is_known(name):
            near = closest(name, NAMES) if isinstance(name, str) else None
            advice = f"did you mean {near!r}?" if near else f"there are {', '.join(NAMES)}, and p0 to p100"
            raise InvalidValueError(f"metrics.buffer.log_summary: {name!r:.80} is no aggregation; {advice}")
    return tuple(str(name) for name in aggs)
