"""Prepare points for a plot: axis ranges, ticks and their labels, and the least and greatest value of each bucket.

A curve of many points looks the same if each column of pixels gets the least and the greatest of its values. Pure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Steps between ticks, times a power of ten."""

LARGEST = 1e300
"""Magnitude to which values are clipped: the difference of two larger ones would be infinite."""

TICK_ATTEMPTS = 8
"""Attempts with ever closer ticks where fewer than two fit."""


def finite_points(x: Any, y: Any) -> tuple[Floats, Floats]:
    """Return the points with finite coordinates, sorted by ``x``; points with the same ``x`` keep their order.

    Args:
        x: numbers, shape ``(n,)``.
        y: numbers, shape ``(n,)``.
    """
    import numpy as np

    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    is_finite = np.isfinite(x) & np.isfinite(y)
    x, y = np.clip(x[is_finite], -LARGEST, LARGEST), np.clip(y[is_finite], -LARGEST, LARGEST)
    if len(x) > 1 and bool(np.any(np.diff(x) < 0)):
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    return x, y


def axis_range(values: Floats) -> tuple[float, float]:
    """Return the least and the greatest of some finite values; if they are the same, a small range around them."""
    low, high = float(values.min()), float(values.max())
    if high - low > abs(high) * 1e-12:
        return low, high
    margin = abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def min_max_buckets(x: Floats, y: Floats, count: int) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Divide the range of ``x`` into buckets, and return the least and greatest ``y`` in each.

    Args:
        x: finite and sorted, shape ``(n,)`` with n > 0.
        y: finite, shape ``(n,)``.
        count: number of buckets, all of the same width.

    Returns:
        The buckets that have points, from 0 to ``count - 1``, in ascending order; their least and greatest values.
    """
    import numpy as np

    bucket, starts = _bucket_starts(x, count)
    return bucket[starts], np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)


def bucket_means(x: Floats, y: Floats, count: int) -> Floats:
    """Return the mean ``y`` of each bucket that ``min_max_buckets`` gives."""
    import numpy as np

    _, starts = _bucket_starts(x, count)
    sizes = np.diff(np.append(starts, len(y)))
    means: Floats = np.add.reduceat(y / np.repeat(sizes, sizes), starts)  # divided first: a sum could be infinite
    return means


def _bucket_starts(x: Floats, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the bucket of each point, and the index of the first point of each bucket."""
    import numpy as np

    low, high = axis_range(x)
    bucket = np.minimum(((x - low) / (high - low) * count).astype(np.int64), count - 1)
    return bucket, np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``, at least two if floats can tell them apart."""
    numbers = [low]
    for more in range(TICK_ATTEMPTS):
        numbers = _round_numbers(low, high, (high - low) / (max(1, count) + more))
        if len(numbers) > 1:
            break
    return numbers or [low]


def _round_numbers(low: float, high: float, least_step: float) -> list[float]:
    """Return the multiples of the least round step from ``least_step``; an empty list if it is too small for floats."""
    if not (math.isfinite(least_step) and least_step > max(abs(low), abs(high)) * 1e-13):
        return []
    power = 10.0 ** math.floor(math.log10(least_step))
    if not power:  # smaller than any float of full precision
        return []
    step = power * next((factor for factor in TICK_STEPS if power * factor >= least_step * 0.999), TICK_STEPS[-1])
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def label_ticks(numbers: list[float]) -> list[tuple[float, str]]:
    """Return ticks with their labels: as many digits as tell neighbours apart, the same for all."""
    if len(numbers) < 2:
        return [(number, f"{number:.4g}") for number in numbers]
    step = abs(numbers[1] - numbers[0])
    largest = max(abs(numbers[0]), abs(numbers[-1]))
    if largest >= 1e6 or largest < 1e-3:
        digits = max(0, math.floor(math.log10(largest / step) + 1.5))
        return [
            (number, f"{number:.{digits}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e"))
            for number in numbers
        ]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step, decimals) != round(step, decimals + 2):  # a step of 0.25 or 2.5
        decimals += 1
    return [(number, f"{number + 0.0:.{decimals}f}") for number in numbers]
