"""Curves drawn with letters: a line of bars, and a plot of braille dots with axes. Pure.

If a curve has more points than the plot has columns, each column shows the range of its points: no spike is lost.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ml_dash.query.downsample import axis_range, finite_points, label_ticks, min_max_buckets, ticks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ml_dash.query.downsample import Floats

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*#@"

DOTS_ACROSS, DOTS_DOWN = 2, 4
"""Dots of one braille letter, horizontally and vertically."""

_BRAILLE = 0x2800
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot, by its row and column within the letter."""

NARROWEST, LOWEST = 16, 3
"""Least columns and lines of a plot: in a smaller one the labels leave no room for a curve."""


def sparkline(values: Floats, width: int, *, unicode: bool = True) -> str:
    """Draw a curve as one line of bars, each the mean of its values; a space where no value is finite.

    Args:
        values: any number of values; those that are not finite are left out.
        width: the number of letters; there are fewer if there are fewer values.
        unicode: whether to draw with block letters instead of ASCII.
    """
    import numpy as np

    values = np.asarray(values, np.float64)
    if not len(values) or width < 1:
        return ""
    width = min(width, len(values))
    column = np.arange(len(values)) * width // len(values)
    finite = np.isfinite(values)
    if not finite.any():
        return " " * width
    scale = float(np.abs(values[finite]).max()) or 1.0  # the sum of huge values would be infinite
    sums = np.bincount(column[finite], values[finite] / scale, width)
    counts = np.bincount(column[finite], minlength=width)
    means = np.divide(sums, counts, out=np.full(width, np.nan), where=counts > 0)
    letters = BARS if unicode else ASCII_BARS
    low, high = float(np.nanmin(means)), float(np.nanmax(means))
    span = high - low
    top = len(letters) - 1
    levels = [round((mean - low) / span * top) if span > 0 else top // 2 for mean in np.nan_to_num(means, nan=low)]
    return "".join(" " if math.isnan(mean) else letters[level] for mean, level in zip(means, levels, strict=True))


def plot(x: Floats, y: Floats, width: int, height: int, *, x_label: str = "", unicode: bool = True) -> list[str]:
    """Draw a curve as lines of text, with the labels of the values at the left and the horizontal axis below.

    Args:
        x: the positions of the points; points are left out where ``x`` or ``y`` is not finite.
        y: the values of the points.
        width: columns of the plot, including labels; at least 16.
        height: lines of the plot, including two for the axis; at least 5.
        x_label: the label of the horizontal axis.
        unicode: whether to draw with braille letters instead of ASCII.
    """
    x, y = finite_points(x, y)
    if not len(x):
        return ["no finite value to draw"]
    rows = max(LOWEST, height - 2)
    low, high = axis_range(y)
    dots = rows * DOTS_DOWN - 1
    marks = {
        min(rows - 1, int((high - tick) / (high - low) * dots / DOTS_DOWN)): label
        for tick, label in label_ticks(ticks(low, high, max(2, rows // 3)))
    }
    margin = max(map(len, marks.values()), default=0)
    columns = max(NARROWEST, width) - margin - 2
    grid = _dots(x, y, columns * DOTS_ACROSS, rows * DOTS_DOWN)
    letters = _letters(grid, unicode=unicode)
    upright, tee, corner, flat = ("│", "┤", "└", "─") if unicode else ("|", "+", "+", "-")
    lines = [f"{marks.get(row, ''):>{margin}} {tee if row in marks else upright}{letters[row]}" for row in range(rows)]
    axis, names = _below(x, columns, x_label, unicode=unicode)
    pad = " " * (margin + 1)
    return [line.rstrip() for line in (*lines, pad + corner + (axis or flat * columns), pad + " " + names)]


def _dots(x: Floats, y: Floats, across: int, down: int) -> npt.NDArray[np.bool_]:
    """Return which dots the curve covers; neighbouring columns are joined."""
    import numpy as np

    grid = np.zeros((down, across), np.bool_)
    low, high = axis_range(y)
    columns, least, greatest = min_max_buckets(x, y, across)
    tops = np.round((high - greatest) / (high - low) * (down - 1)).astype(np.int64)
    bottoms = np.round((high - least) / (high - low) * (down - 1)).astype(np.int64)
    previous = -1
    for index, (column, top, bottom) in enumerate(zip(columns.tolist(), tops.tolist(), bottoms.tolist(), strict=True)):
        grid[top : bottom + 1, column] = True
        if previous >= 0:
            _join(grid, previous, (tops[index - 1], bottoms[index - 1]), column, (top, bottom))
        previous = column
    return grid


def _join(grid: Any, left: int, left_range: tuple[int, int], right: int, right_range: tuple[int, int]) -> None:
    """Draw a line between the nearest dots of two columns."""
    start = int(min(max(right_range[0], left_range[0]), left_range[1]))
    end = int(min(max(left_range[0], right_range[0]), right_range[1]))
    steps = max(abs(end - start), right - left)
    for step in range(1, steps):
        grid[start + round((end - start) * step / steps), left + round((right - left) * step / steps)] = True


def _letters(grid: npt.NDArray[np.bool_], *, unicode: bool) -> list[str]:
    import numpy as np

    down, across = grid.shape
    blocks = grid.reshape(down // DOTS_DOWN, DOTS_DOWN, across // DOTS_ACROSS, DOTS_ACROSS)
    if not unicode:
        filled: Any = blocks.any(axis=(1, 3))
        return ["".join("*" if one else " " for one in row) for row in filled.tolist()]
    bits = np.array(_BITS)[None, :, None, :]
    codes: list[list[int]] = (blocks * bits).sum(axis=(1, 3)).tolist()
    return ["".join(chr(_BRAILLE + code) if code else " " for code in row) for row in codes]


def _below(x: Floats, columns: int, label: str, *, unicode: bool) -> tuple[str, str]:
    """Return the horizontal axis with its ticks, and the line of their labels."""
    low, high = axis_range(x)
    axis = ["─" if unicode else "-"] * columns
    names = [" "] * columns
    free = 0
    room = columns - len(label) - 2 if label else columns
    for tick, text in label_ticks(ticks(low, high, max(2, columns // 14))):
        mark = min(columns - 1, int((tick - low) / (high - low) * columns))
        start = max(0, min(mark - len(text) // 2, columns - len(text)))
        if start < free or start + len(text) > room:
            continue
        axis[mark] = "┬" if unicode else "+"
        names[start : start + len(text)] = text
        free = start + len(text) + 2
    if label and columns > len(label):
        names[columns - len(label) :] = label
    return "".join(axis), "".join(names)
