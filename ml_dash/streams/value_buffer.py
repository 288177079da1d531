"""Values that wait in memory, by key, until they are summarised."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.records.aggregate import MAX_VALUES, Series, summarize
from ml_dash.streams.owner import Owner

MAX_KEYS = 10_000
"""Keys that wait in one metric: more than anybody plots. More come from a key with a counter in it, and are refused."""

_perf = time.perf_counter_ns


class Window:
    """The values of one metric since its last summary, by key. Every method may be called from any thread.

    Args:
        owner: the experiment.
        what: the metric, for messages.

    Attributes:
        changed: whether values came since the last summary.
    """

    def __init__(self, owner: Owner, what: str) -> None:
        self._owner = owner
        self._what = what
        self.clear()

    def clear(self) -> None:
        """Forget everything, also a lock that another thread held at a fork."""
        # Reentrant: a signal handler that ends the run may come while the same thread stores.
        self.lock = threading.RLock()
        self._series: dict[str, Series] = {}
        self.changed = False

    def __bool__(self) -> bool:
        return bool(self._series)

    def store(self, numbers: Mapping[str, object]) -> None:
        """Take one value of each key.

        Raises:
            InvalidValueError: one is no number; none is taken.
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
        # Once more: had the run ended in between, the value would be in no summary, and the caller must know.
        self._owner.channel.add_cost(started)
        if not kept or refused is not None:
            self._tell(refused)

    def summary(self, names: Sequence[str], *, clear: bool) -> dict[str, float]:
        """``<key>.<aggregation>`` of every key that has a value."""
        with self.lock:
            series, self.changed = self._series, False
            if not clear:
                return _summaries(series, names)
            self._series = {}
        return _summaries(series, names)  # without the lock: other threads store into the next window meanwhile

    def peek(self, keys: Iterable[str], limit: int | None) -> dict[str, list[float]]:
        """The last ``limit`` values of some keys, or of all if none are named."""
        with self.lock:
            wanted = [key for key in keys if key in self._series] if (keys := tuple(keys)) else list(self._series)
            return {key: _tail(self._series[key], limit) for key in wanted}

    def _tell(self, refused: str | None) -> None:
        if refused is not None:
            self._owner.channel.refuse(
                f"{self._what}: {MAX_KEYS} keys wait for a summary; {refused!r:.80} and more are refused and counted. "
                "Summarise more often, or leave counters out of the keys"
            )
        else:
            self._owner.warn_once(
                f"{self._what}: {MAX_VALUES} values of a key wait for a summary; its percentiles come from a sample "
                "of that size. Summarise more often"
            )


def merged(values: object, fields: dict[str, Any], what: str) -> dict[str, Any]:
    """Values given as one dict and values given by keyword, as one.

    Raises:
        InvalidTypeError: it is no dict.
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
        except Exception:  # noqa: BLE001, S110 - a foreign __float__ may raise anything; the text below says what was wrong
            pass
    raise InvalidValueError(f"{what}: {key}={value!r:.80} is no number; buffer numbers, or log() it")


def _summaries(window: Mapping[str, Series], names: Sequence[str]) -> dict[str, float]:
    return {
        f"{key}.{name}": value for key, series in window.items() for name, value in summarize(series, names).items()
    }


def _tail(series: Series, limit: int | None) -> list[float]:
    count = len(series.values)
    return series.values[0 if limit is None else max(0, count - limit) :].tolist()
