"""Convert pixel values to the 8 or 16 bits per sample that an image or a video holds.

=================================  =====================================================================
frame                              result
=================================  =====================================================================
uint8                              unchanged
bool                               0 and 255
uint16                             unchanged in a PNG; the upper 8 bits in a JPEG or a video
other integers, range in 0..255    unchanged, as uint8
other integers                     the range spread over 0..255, rounded
floats, range in 0..1              times 255, rounded
floats                             the range spread over 0..255, rounded
=================================  =====================================================================

The range is from the least to the greatest finite value: of all channels of an image, or of all frames of a video. If the
two are equal, the result is that value, clipped to 0..255 and rounded. NaN and -inf become 0, +inf becomes 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ml_dash.errors import InvalidValueError
from ml_dash.media.frames import CHANNEL_COUNTS, LARGEST_SIDE

ValueRange = tuple[Any, Any]
"""The least and the greatest finite value: numpy floats for a frame of floats, ints for one of integers."""


def to_eight_bit(pixels: np.ndarray[Any, Any], value_range: ValueRange | None = None) -> npt.NDArray[np.uint8]:
    """Convert a frame to 8 bits per sample, by the table above.

    Args:
        pixels: A frame of shape ``(H, W)`` or ``(H, W, C)``, of bool, integer or float type. It is not changed.
        value_range: The range of the video that the frame is part of, from `value_range_of`; values outside it are
            clipped. None for the frame's own.

    Returns:
        uint8 pixels of the same shape, but ``(H, W)`` for ``(H, W, 1)``. For a uint8 frame a view, not a copy.
    """
    pixels = _without_single_channel(pixels)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == "b":
        return np.where(pixels, np.uint8(255), np.uint8(0))
    if pixels.dtype.kind == "f":
        return _from_floats(pixels, value_range)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return (pixels >> 8).astype(np.uint8)
    return _from_integers(pixels, value_range)


def depends_on_range(dtype: np.dtype[Any]) -> bool:
    """Whether the conversion of frames of this type depends on the range of their values."""
    return dtype.kind == "f" or (dtype.kind in "iu" and dtype not in (np.uint8, np.uint16))


def value_range_of(pixels: np.ndarray[Any, Any]) -> ValueRange:
    """The least and the greatest finite value of a frame; zeros if there is none."""
    if pixels.dtype.kind != "f":
        return int(pixels.min()), int(pixels.max())
    low, high, _ = _finite_range(pixels)
    return low, high


def to_png_pixels(pixels: np.ndarray[Any, Any]) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Convert a frame to what a PNG holds: as `to_eight_bit`, but uint16 stays as it is.

    Args:
        pixels: As for `to_eight_bit`.

    Returns:
        uint8 or uint16 pixels of the same shape, but ``(H, W)`` for ``(H, W, 1)``.
    """
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return _without_single_channel(pixels)
    return to_eight_bit(pixels)


def dimensions(pixels: np.ndarray[Any, Any], image_format: str) -> tuple[int, int, int]:
    """Return the size of a frame that an image format can hold.

    Args:
        pixels: Any array.
        image_format: ``"jpeg"`` or ``"png"``.

    Returns:
        Height, width and channels; 1 channel for ``(H, W)``.

    Raises:
        InvalidValueError: The format cannot hold it: the rank or the channels are wrong, or a side is 0 or too long.
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    longest = LARGEST_SIDE[image_format]
    if pixels.ndim in (2, 3) and channels in CHANNEL_COUNTS and pixels.size > 0 and max(pixels.shape) <= longest:
        return pixels.shape[0], pixels.shape[1], channels
    raise InvalidValueError(
        f"{image_format} cannot hold an image of shape {pixels.shape} and dtype {pixels.dtype}: "
        f"it takes 1, 3 or 4 channels and sides of 1 to {longest} pixels"
    )


def _without_single_channel(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _from_integers(pixels: np.ndarray[Any, Any], value_range: ValueRange | None) -> npt.NDArray[np.uint8]:
    low, high = value_range or (int(pixels.min()), int(pixels.max()))
    if low >= 0 and high <= 255:
        return (pixels if value_range is None else np.clip(pixels, 0, 255)).astype(np.uint8)
    if value_range is not None:
        return _from_floats(pixels.astype(np.float64), (np.float64(low), np.float64(high)))
    if low == high:
        return np.full(pixels.shape, min(max(low, 0), 255), np.uint8)
    # The difference modulo 2**64 is right even where int64 overflows, and keeps the digits that floats would lose.
    above_low = pixels.astype(np.uint64) - np.uint64(low % 2**64)
    spread: npt.NDArray[np.uint8] = np.rint(above_low * (255 / (high - low))).astype(np.uint8)
    return spread


def _from_floats(pixels: np.ndarray[Any, Any], value_range: ValueRange | None) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    if value_range is None:
        low, high, all_finite = _finite_range(pixels)
    else:
        low, high = value_range
        pixels = pixels.astype(np.result_type(pixels, low), copy=False)
        low, high, all_finite = pixels.dtype.type(low), pixels.dtype.type(high), False
    # Only values outside a given range overflow, and those are clipped.
    with np.errstate(over="ignore"):
        in_unit_range = low >= 0 and high <= 1
        scaled = pixels * pixels.dtype.type(255) if in_unit_range else _spread(pixels, low, high)
    if not all_finite:
        np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    if value_range is not None:
        np.clip(scaled, 0, 255, out=scaled)
    samples: npt.NDArray[np.uint8] = np.rint(scaled, out=scaled).astype(np.uint8)
    return samples


def _finite_range(pixels: np.ndarray[Any, Any]) -> tuple[Any, Any, bool]:
    """The least and the greatest finite value (zeros if there is none), and whether all values are finite."""
    low, high = pixels.min(), pixels.max()
    if np.isfinite(low) and np.isfinite(high):
        return low, high, True
    finite = pixels[np.isfinite(pixels)]
    if finite.size == 0:
        return pixels.dtype.type(0), pixels.dtype.type(0), False
    return finite.min(), finite.max(), False


def _spread(pixels: np.ndarray[Any, Any], low: Any, high: Any) -> np.ndarray[Any, Any]:
    """Map low..high to 0..255; if the two are equal, clip the values to 0..255."""
    span = high - low
    if not np.isfinite(span):
        # The difference of huge values is too large for the type; halving them is exact.
        half = pixels.dtype.type(0.5)
        pixels, low, span = pixels * half, low * half, high * half - low * half
    spread: np.ndarray[Any, Any]
    if not span > 0:
        spread = np.clip(pixels, 0, 255)
        return spread
    spread = pixels - low
    # In this order, since 255 / span overflows where the span is tiny.
    spread /= span
    spread *= 255
    return spread
