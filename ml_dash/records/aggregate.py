"""Many numbers to the few that describe them. Pure.

NaN is a missing value everywhere. Moments (count, sum, mean, deviation, extremes, first and last) are exact for any
number of values; percentiles are exact for the first ``MAX_VALUES`` of a series and come from a sample beyond them.
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
"""Values kept of one series: 8 MB, and from a sample of that size the rank of a median is off by 0.05 percent."""

NAMES = ("mean", "std", "min", "max", "count", "median", "sum", "p50", "p90", "p95", "p99", "last", "first")
"""The aggregations by name; ``pNN`` takes any percent from 0 to 100."""

_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,6})?)", re.ASCII)


def is_known(name: object) -> bool:
    """Whether it names an aggregation."""
    return isinstance(name, str) and (name in NAMES or _percent(name) is not None)


class Moments:
    """What is known of values that were seen and let go.

    Attributes:
        count: values that are not NaN.
        nan_count: values that are.
        first, last: the first and the last of those counted, in the order they came in; None without any.
        oldest, newest: the first and the last of all, NaN too, by time if times are given; None without any.
        low, high: the extremes, which may be infinite; None without any.
        finite: how many of them are finite.
        mean: the mean of the finite ones.
        total: their sum.
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
        """The sample standard deviation of the finite ones; 0 for a single one."""
        return math.sqrt(self._deviation / (self.finite - 1)) if self.finite > 1 else 0.0

    def add(self, value: float) -> None:
        """Take one value into account."""
        self.oldest = value if self.oldest is None else self.oldest
        self.newest = value
        if value != value:  # noqa: PLR0124 - what NaN is told by; a call would cost more than the rest
            self.nan_count += 1
            return
        self._extend(1, value, value, value, value)
        if math.isfinite(value):
            self._merge(1, value, value, 0.0)

    def fold(self, values: Floats, times: Floats | None = None) -> None:
        """Take many into account.

        Args:
            values: float64, of any length.
            times: when each was seen, if ``oldest`` and ``newest`` are by time and not by order.
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
        # Of one time, the earlier shard's first and the later shard's last count, as in the merged order.
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
    """Values of one key that wait to be summarised, in the order in which they came."""

    __slots__ = ("_passed", "_random", "values")

    def __init__(self) -> None:
        self.values = array("d")
        self._passed: Moments | None = None
        self._random: random.Random | None = None

    def add(self, value: float) -> bool:
        """Take one value, NaN for a missing one. False once it is more than are kept."""
        if len(self.values) < MAX_VALUES:
            self.values.append(value)
            return True
        self._replace_one(value)
        return False

    def moments(self) -> Moments:
        """Of all values, those that are no longer kept included."""
        if self._passed is not None:
            return self._passed
        moments = Moments()
        moments.fold(_as_floats(self.values))
        return moments

    def _replace_one(self, value: float) -> None:
        """Keep a uniform sample: the n-th value takes the place of another with probability MAX_VALUES / n."""
        if self._passed is None or self._random is None:
            import random  # with a state of its own: the user's must not move

            self._passed, self._random = self.moments(), random.Random(0)  # noqa: S311 - a sample, no secret
        self._passed.add(value)
        place = self._random.randrange(self._passed.count + self._passed.nan_count)
        if place < MAX_VALUES:
            self.values[place] = value


def summarize(series: Series, names: Sequence[str]) -> dict[str, float]:
    """The aggregations of a series by name; empty if it has no value that is not NaN.

    ``std`` is the sample standard deviation, 0.0 for one value. Percentiles are interpolated linearly. With infinite
    values, ``mean`` and ``sum`` are what arithmetic makes of them, and ``std`` is NaN.

    Args:
        series: the values.
        names: of aggregations, all known.
    """
    moments = series.moments()
    if not moments.count:
        return {}
    known = _from_moments(moments)
    ordered: Floats | None = None
    found: dict[str, float] = {}
    for name in names:
        percent = _percent(name)
        if percent is None:
            found[name] = known[name]
            continue
        ordered = _ordered(series) if ordered is None else ordered
        found[name] = _percentile(ordered, percent)
    return found


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
    place = (len(ordered) - 1) * (percent / 100)
    below = int(place)
    share = place - below
    low = float(ordered[below])
    high = float(ordered[min(below + 1, len(ordered) - 1)])
    return low if low == high or not share else low * (1 - share) + high * share


def _ordered(series: Series) -> Floats:
    import numpy as np

    values = _as_floats(series.values)
    return np.sort(values[~np.isnan(values)])


def _as_floats(values: array[float]) -> Floats:
    import numpy as np

    # A copy: an array that somebody looks into cannot grow.
    return np.array(values, dtype=np.float64)
