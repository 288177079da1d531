"""Curves as PNG pictures, drawn with OpenCV. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidValueError
from ml_dash.query.downsample import axis_range, bucket_means, finite_points, label_ticks, min_max_buckets, ticks

if TYPE_CHECKING:
    from ml_dash.query.downsample import Floats

SMALLEST = 160
LARGEST = 8192
"""Least and most pixels of a side: in a smaller picture the labels cover the curve, a larger one takes gigabytes."""

SCALE = 2
"""Factor by which a picture is drawn larger and then reduced, so that lines and letters are smooth."""

INK, GREY, LIGHT, CURVE, FILL = (40, 40, 40), (110, 110, 110), (230, 230, 230), (180, 110, 30), (235, 210, 175)
"""Colours in OpenCV's order: blue, green, red."""

LETTERS_LOST = "?"
"""Replacement for letters that OpenCV's font does not have."""

_FONT_SCALE = 0.45


def draw(x: Floats, y: Floats, width: int, height: int, *, title: str, x_label: str) -> bytes:
    """Draw a curve with axes, ticks and labels.

    Args:
        x: the positions of the points; points are left out where ``x`` or ``y`` is not finite.
        y: the values of the points.
        width: pixels, 160 to 8192.
        height: pixels, 160 to 8192.
        title: the text above the curve.
        x_label: the text below the horizontal axis.

    Returns:
        The bytes of a PNG file.

    Raises:
        InvalidValueError: the picture would be too small or too large.
    """
    import cv2
    import numpy as np

    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise InvalidValueError(f"a picture of {width} x {height} pixels: each side may have {SMALLEST} to {LARGEST}")
    x, y = finite_points(x, y)
    canvas = np.full((height * SCALE, width * SCALE, 3), 255, np.uint8)
    picture = _Picture(canvas)
    picture.text(title, width // 2, 14, align=0.5, colour=INK, scale=1.2)
    if len(x):
        _draw_curve(picture, x, y, width, height, x_label)
    else:
        picture.text("no finite value to draw", width // 2, height // 2, align=0.5, colour=GREY)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".png", small)
    assert done, "a picture of uint8 in memory can be encoded"
    return bytes(data)


class _Picture:
    """A canvas with the coordinates of the finished picture."""

    def __init__(self, canvas: Any) -> None:
        self.canvas = canvas

    def line(
        self, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, int, int], weight: int = 1
    ) -> None:
        """Draw a straight line."""
        import cv2

        cv2.line(self.canvas, _scaled(start), _scaled(end), colour, weight * SCALE, cv2.LINE_AA)

    def text(
        self, text: str, x: float, y: float, *, align: float, colour: tuple[int, int, int] = GREY, scale: float = 1.0
    ) -> None:
        """Draw a text centred vertically on ``y``; the part ``align`` (0 to 1) of its width is left of ``x``."""
        import cv2

        shown, size = plain(text), _FONT_SCALE * scale * SCALE
        (wide, tall), _ = cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, size, SCALE)
        corner = (round(x * SCALE - wide * align), round(y * SCALE + tall / 2))
        cv2.putText(self.canvas, shown, corner, cv2.FONT_HERSHEY_SIMPLEX, size, colour, SCALE, cv2.LINE_AA)


def plain(text: str) -> str:
    """Return a text in the letters of OpenCV's font: without accents, and with a question mark for any other letter."""
    parts = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(
        letter if " " <= letter <= "~" else LETTERS_LOST for letter in parts if not unicodedata.combining(letter)
    )


def _draw_curve(picture: _Picture, x: Floats, y: Floats, width: int, height: int, x_label: str) -> None:
    upright = label_ticks(ticks(*axis_range(y), max(2, height // 70)))
    across = label_ticks(ticks(*axis_range(x), max(2, width // 120)))
    left = 18 + 9 * max((len(label) for _, label in upright), default=1)
    right, top, bottom = width - 24, 34, height - 48
    (low_x, high_x), (low_y, high_y) = axis_range(x), axis_range(y)
    margin = (high_y - low_y) * 0.03  # keeps the curve off the frame
    low_y, high_y = low_y - margin, high_y + margin

    def pixel(at_x: float, at_y: float) -> tuple[float, float]:
        share_x, share_y = (at_x - low_x) / (high_x - low_x), (at_y - low_y) / (high_y - low_y)
        return left + share_x * (right - left), bottom - share_y * (bottom - top)

    for tick, label in upright:
        _, at = pixel(low_x, tick)
        picture.line((left, at), (right, at), LIGHT)
        picture.text(label, left - 8, at, align=1.0)
    for tick, label in across:
        at, _ = pixel(tick, low_y)
        picture.line((at, top), (at, bottom), LIGHT)
        picture.text(label, at, bottom + 14, align=0.5)
    picture.text(x_label, (left + right) / 2, bottom + 34, align=0.5)
    _draw_points(picture, x, y, pixel, right - left)
    picture.line((left, top), (left, bottom), GREY)
    picture.line((left, bottom), (right, bottom), GREY)


def _draw_points(
    picture: _Picture, x: Floats, y: Floats, pixel: Callable[[float, float], tuple[float, float]], columns: int
) -> None:
    """Draw a line through the points; through the means and with the ranges of columns if there are more points."""
    import cv2
    import numpy as np

    if len(x) > 2 * columns:
        low, high = axis_range(x)
        column, least, greatest = min_max_buckets(x, y, columns)
        at = low + (column + 0.5) * (high - low) / columns
        for column_x, bottom, top in zip(at, least, greatest, strict=True):
            picture.line(pixel(column_x, bottom), pixel(column_x, top), FILL)
        x, y = at, bucket_means(x, y, columns)
    corners = np.array([_scaled(pixel(*point)) for point in zip(x, y, strict=True)], np.int32)
    cv2.polylines(picture.canvas, [corners.reshape(-1, 1, 2)], False, CURVE, 2 * SCALE, cv2.LINE_AA)
    if len(x) <= columns // 12:
        for corner in corners:
            cv2.circle(picture.canvas, (int(corner[0]), int(corner[1])), 3 * SCALE, CURVE, -1, cv2.LINE_AA)


def _scaled(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * SCALE), round(point[1] * SCALE)
