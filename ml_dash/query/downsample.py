"""What a plot needs to know of its data: limits, ticks and their labels, and the range of the points in each column. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Steps between ticks, times a power of ten."""

LARGEST = 1e300
"""Values beyond are drawn here: the difference of two of them would be infinite."""

MORE_TICKS = 8
"""How often ticks closer together are tried where fewer than two fit."""


def finite_points(x: Any, y: Any) -> tuple[Floats, Floats]:
    """The points whose place and value are finite, in the order of their places."""
    import numpy as np

    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    there = np.isfinite(x) & np.isfinite(y)
    x, y = np.clip(x[there], -LARGEST, LARGEST), np.clip(y[there], -LARGEST, LARGEST)
    if len(x) > 1 and bool(np.any(np.diff(x) < 0)):
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    return x, y


def limits(values: Floats) -> tuple[float, float]:
    """The least and the greatest of some finite values, drawn apart if they are the same."""
    low, high = float(values.min()), float(values.max())
    if high - low > abs(high) * 1e-12:
        return low, high
    room = abs(high) * 0.05 or 1.0
    return low - room, high + room


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them and at least two if the numbers can tell them apart."""
    found = [low]
    for more in range(MORE_TICKS):
        found = _round_numbers(low, high, (high - low) / (max(1, count) + more))
        if len(found) > 1:
            break
    return found or [low]


def _round_numbers(low: float, high: float, rough: float) -> list[float]:
    if not (math.isfinite(rough) and rough > max(abs(low), abs(high)) * 1e-13):
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    if not power:  # smaller than any float that is kept in full
        return []
    step = power * next((nice for nice in NICE if power * nice >= rough * 0.999), NICE[-1])
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def labelled(places: list[float]) -> list[tuple[float, str]]:
    """Ticks with their labels: as many digits as tell neighbours apart, the same for all."""
    if len(places) < 2:
        return [(place, f"{place:.4g}") for place in places]
    step = abs(places[1] - places[0])
    largest = max(abs(places[0]), abs(places[-1]))
    if largest >= 1e6 or largest < 1e-3:
        digits = max(0, math.floor(math.log10(largest / step) + 1.5))
        return [
            (place, f"{place:.{digits}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e"))
            for place in places
        ]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step, decimals) != round(step, decimals + 2):  # a step of 0.25 or 2.5
        decimals += 1
    return [(place, f"{place + 0.0:.{decimals}f}") for place in places]


def ranges(x: Floats, y: Floats, columns: int) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """The columns of a plot that have points, and the least and greatest value in each. ``x`` is sorted."""
    import numpy as np

    column, starts = _columns(x, columns)
    return column[starts], np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)


def means(x: Floats, y: Floats, columns: int) -> Floats:
    """The mean of the values in each of the same columns."""
    import numpy as np

    _, starts = _columns(x, columns)
    counts = np.diff(np.append(starts, len(y)))
    found: Floats = np.add.reduceat(y / np.repeat(counts, counts), starts)  # divided first: a sum could be infinite
    return found


def _columns(x: Floats, columns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The column of each point, and where each column's points begin."""
    import numpy as np

    low, high = limits(x)
    column = np.minimum(((x - low) / (high - low) * columns).astype(np.int64), columns - 1)
    return column, np.flatnonzero(np.concatenate([[True], column[1:] != column[:-1]]))
