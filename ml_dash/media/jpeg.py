"""Encode frames as JPEG."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from ml_dash.media.convert import dimensions, to_eight_bit
from ml_dash.media.frames import check_quality

DEFAULT_QUALITY = 95


def encode_jpeg(pixels: np.ndarray[Any, Any], quality: int = DEFAULT_QUALITY) -> bytes:
    """Encode a frame as a JPEG file: gray for one channel, else colour with transparency flattened on white.

    Safe to call from several threads, which run side by side: the encoder releases the GIL. The first call limits
    OpenCV to one thread per call for the whole process.

    Args:
        pixels: A frame of shape ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA; values that are
            not uint8 are converted by `to_eight_bit`.
        quality: 1 (smallest) to 100 (best).

    Returns:
        The file's bytes.

    Raises:
        InvalidValueError: JPEG cannot hold it (the channels are wrong, or a side is 0 or longer than 65500
            pixels), or the quality is out of range.
    """
    dimensions(pixels, "jpeg")
    cv2 = _opencv()
    samples = np.ascontiguousarray(to_eight_bit(pixels))
    if samples.ndim == 3:
        samples = _flattened_on_white(samples) if samples.shape[2] == 4 else cv2.cvtColor(samples, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", samples, [cv2.IMWRITE_JPEG_QUALITY, check_quality(quality)])
    if not encoded:
        raise MemoryError(f"OpenCV could not encode an image of shape {samples.shape} as JPEG")
    return bytes(data.data)  # a copy that takes microseconds


@cache
def _opencv() -> ModuleType:
    """Import OpenCV on first use, since it loads slowly. Its own threads would compete with the encoder threads."""
    import cv2

    cv2.setNumThreads(1)
    return cv2


def _flattened_on_white(rgba: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Blend with white: ``255 - (255 - colour) * alpha / 255``, rounded to the nearest. The result is BGR."""
    cv2 = _opencv()
    darkness = cv2.bitwise_not(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR))
    alpha = cv2.cvtColor(cv2.extractChannel(rgba, 3), cv2.COLOR_GRAY2BGR)
    # OpenCV rounds in float32, which is exact here: n / 255 is never nearer to a half than 1 / 510.
    blended: np.ndarray[Any, Any] = cv2.bitwise_not(cv2.multiply(darkness, alpha, scale=1 / 255))
    return blended
