"""Decode images to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml_dash.errors import InvalidValueError


def decode_image(data: bytes) -> np.ndarray[Any, Any]:
    """Return the pixels of a JPEG or PNG.

    Args:
        data: the file's bytes.

    Returns:
        HxW, HxWx3 (RGB) or HxWx4 (RGBA), uint8 or uint16, as the file has it.

    Raises:
        InvalidValueError: the bytes are not those of an image.
    """
    import cv2

    pixels: np.ndarray[Any, Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InvalidValueError(f"{len(data)} bytes that begin with {data[:8]!r} are no JPEG or PNG")
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
