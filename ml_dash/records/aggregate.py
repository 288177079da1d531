"""Statistics of series of numbers: moments, percentiles, first and last values. Pure.

NaN is a missing value everywhere. Moments (count, sum, mean, deviation, extremes, first and last) are exact for any
number of values. Percentiles are exact up to ``MAX_VALUES`` values, and those of a random sample beyond.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MAX_VALUES = 1_000_000
"""Values kept of one series, 8 MB: from a sample of that size the rank of a median is off by 0.05 percent."""

NAMES = ("mean", "std", "min", "max", "count", "median", "sum", "p50", "p90", "p95", "p99", "last", "first")
"""Names of aggregations. Any ``pNN`` with a percentage from 0 to 100 is one as well."""

_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,6})?)", re.ASCII)


def is_known(name: object) -> bool:
    """Whether a name is that of an aggregation."""
    return isinstance(name, str) and (name in NAMES or _percent(name) is not None)


class Moments:
    """Statistics of values that are not kept.

    Attributes:
        count: the number of values that are not NaN.
        nan_count: the number of NaN values.
        first, last: the first and the last value that is not NaN, in the order in which they were added, or None.
        oldest, newest: the first and the last value of all, with NaN, by time if times are given, or None.
        low, high: the extremes, which may be infinite, or None.
        finite: the number of finite values.
        mean: the mean of the finite values.
        total: the sum of the finite values.
    """

    __slots__ = ("_deviation", "_newest_at", "_oldest_at", "count", "finite", "first", "high", "last", "low", "mean",
                 "nan_count", "newest", "oldest", "total")  # fmt: skip

    def __init__(self) -> None:
        self.count = self.nan_count = self.finite = 0
        self.first: float | None = None
        self.last: float | None = None
        self.oldest: float | None = None
        self.newest: float | None = None
        self.low: float | None = None
        self.high: float | None = None
        self.mean = self.total = self._deviation = 0.0
        self._oldest_at, self._newest_at = math.inf, -math.inf

    @property
    def std(self) -> float:
        """The sample standard deviation of the finite values; 0 for a single one."""
        return math.sqrt(self._deviation / (self.finite - 1)) if self.finite > 1 else 0.0

    def add(self, value: float) -> None:
        """Add one value."""
        self.oldest = value if self.oldest is None else self.oldest
        self.newest = value
        if value != value:  # noqa: PLR0124 - only NaN is; a call would cost more than the rest
            self.nan_count += 1
            return
        self._extend(1, value, value, value, value)
        if math.isfinite(value):
            self._merge(1, value, value, 0.0)

    def fold(self, values: Floats, times: Floats | None = None) -> None:
        """Add many values.

        Args:
            values: float64, of any length.
            times: the time of each value, if ``oldest`` and ``newest`` are by time and not by order.
        """
        import numpy as np

        if len(values):
            self._note_ends(values, times)
        kept = values[~np.isnan(values)]
        self.nan_count += len(values) - len(kept)
        if not len(kept):
            return
        self._extend(len(kept), float(kept[0]), float(kept[-1]), float(kept.min()), float(kept.max()))
        finite = kept[np.isfinite(kept)]
        if len(finite):
            with np.errstate(over="ignore", invalid="ignore"):  # values near the largest float
                total, mean = finite.sum(), finite.mean()
                self._merge(len(finite), float(total), float(mean), float(np.square(finite - mean).sum()))

    def _note_ends(self, values: Floats, times: Floats | None) -> None:
        if times is None:
            self.oldest = float(values[0]) if self.oldest is None else self.oldest
            self.newest = float(values[-1])
            return
        first, last = int(times.argmin()), len(times) - 1 - int(times[::-1].argmax())
        # Of values with one time, the first of the earlier journal and the last of the later one win, as when merged.
        if times[first] < self._oldest_at:
            self.oldest, self._oldest_at = float(values[first]), float(times[first])
        if times[last] >= self._newest_at:
            self.newest, self._newest_at = float(values[last]), float(times[last])

    def _extend(self, count: int, first: float, last: float, low: float, high: float) -> None:
        self.count += count
        self.first = first if self.first is None else self.first
        self.last = last
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    def _merge(self, count: int, total: float, mean: float, deviation: float) -> None:
        """Add a group of finite values to the mean and to the sum of squared deviations from it."""
        before = self.finite
        self.finite += count
        if not before:
            self.total, self.mean, self._deviation = total, mean, deviation
            return
        step = mean - self.mean
        self.total += total
        self.mean += step * (count / self.finite)
        self._deviation += deviation + step * step * (before * count / self.finite)


class Series:
    """Values of one key in the order in which they were added, to be summarised later."""

    __slots__ = ("_passed", "_random", "values")

    def __init__(self) -> None:
        self.values = array("d")
        self._passed: Moments | None = None
        self._random: random.Random | None = None

    def add(self, value: float) -> bool:
        """Add one value, NaN for a missing one; False if the series has more than it keeps."""
        if len(self.values) < MAX_VALUES:
            self.values.append(value)
            return True
        self._replace_one(value)
        return False

    def moments(self) -> Moments:
        """Return the moments of all values, with those that are no longer kept."""
        if self._passed is not None:
            return self._passed
        moments = Moments()
        moments.fold(_as_floats(self.values))
        return moments

    def _replace_one(self, value: float) -> None:
        """Keep a uniform sample: the n-th value replaces another one with probability MAX_VALUES / n."""
        if self._passed is None or self._random is None:
            import random  # a generator of our own: the user's state must not change

            self._passed, self._random = self.moments(), random.Random(0)  # noqa: S311 - a sample, no secret
        self._passed.add(value)
        index = self._random.randrange(self._passed.count + self._passed.nan_count)
        if index < MAX_VALUES:
            self.values[index] = value


def summarize(series: Series, names: Sequence[str]) -> dict[str, float]:
    """Return aggregations of a series by name; empty if all its values are NaN.

    ``std`` is the sample standard deviation, 0.0 for one value. Percentiles are interpolated linearly. With infinite
    values, ``mean`` and ``sum`` are infinite or NaN, and ``std`` is NaN.

    Args:
        series: the values.
        names: names of aggregations, see ``is_known``.
    """
    moments = series.moments()
    if not moments.count:
        return {}
    known = _from_moments(moments)
    ordered: Floats | None = None
    aggregations: dict[str, float] = {}
    for name in names:
        percent = _percent(name)
        if percent is None:
            aggregations[name] = known[name]
            continue
        ordered = _ordered(series) if ordered is None else ordered
        aggregations[name] = _percentile(ordered, percent)
    return aggregations


def _from_moments(moments: Moments) -> dict[str, Any]:
    low, high = moments.low or 0.0, moments.high or 0.0
    finite = math.isfinite(low) and math.isfinite(high)
    return {
        "count": moments.count,
        "sum": moments.total if finite else low + high,
        "mean": moments.mean if finite else low + high,
        "std": moments.std if finite else math.nan,
        "min": moments.low,
        "max": moments.high,
        "first": moments.first,
        "last": moments.last,
    }


def _percent(name: str) -> float | None:
    if name == "median":
        return 50.0
    match = _PERCENTILE.fullmatch(name)
    percent = float(match[1]) if match else 101.0
    return percent if percent <= 100 else None


def _percentile(ordered: Floats, percent: float) -> float:
    position = (len(ordered) - 1) * (percent / 100)
    below = int(position)
    share = position - below
    low = float(ordered[below])
    high = float(ordered[min(below + 1, len(ordered) - 1)])
    return low if low == high or not share else low * (1 - share) + high * share


def _ordered(series: Series) -> Floats:
    import numpy as np

    values = _as_floats(series.values)
    return np.sort(values[~np.isnan(values)])


def _as_floats(values: array[float]) -> Floats:
    import numpy as np

    # A copy: an array cannot grow while another object uses its memory.
    return np.array(values, dtype=np.float64)
