"""Decode images to arrays: JPEG and PNG only, and none that is larger than it should be.

The libraries behind OpenCV take a dozen more formats, and whatever size a header claims: a PNG of 2 MB can become 4 GB.
So the header is read first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ml_dash.errors import InvalidValueError

PIXEL_BYTES = 1 << 30
"""Bytes of the largest decoded image: 16384 x 16384 in colour."""

MOST_SEGMENTS = 4096
"""Parts of a JPEG that are looked at in search of its size."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that begin a header with the size (SOF)."""


def decode_image(data: bytes, shape: object = None) -> np.ndarray[Any, Any]:
    """Return the pixels of a JPEG or PNG.

    Args:
        data: the file's bytes.
        shape: the rows, the columns and perhaps the channels that the image must have; anything else is not compared.

    Returns:
        HxW, HxWx3 (RGB) or HxWx4 (RGBA), uint8 or uint16, as the file has it.

    Raises:
        InvalidValueError: the bytes are not those of an image, it is larger than ``PIXEL_BYTES``, or has another shape.
    """
    import cv2

    rows, columns, pixel_bytes = _header(data)
    if not 0 < rows * columns * pixel_bytes <= PIXEL_BYTES:
        raise InvalidValueError(f"an image of {columns}x{rows} pixels is not decoded: it takes more than 1 GiB")
    if isinstance(shape, list) and len(shape) >= 2 and shape[:2] != [rows, columns]:
        raise InvalidValueError(
            f"it has {rows} rows and {columns} columns where {shape[0]!r} and {shape[1]!r} were saved"
        )
    try:
        pixels: np.ndarray[Any, Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InvalidValueError(f"the image cannot be decoded: {error}") from error
    if pixels is None:
        raise _no_image(data)
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _header(data: bytes) -> tuple[int, int, int]:
    """Return the rows, columns and bytes for each pixel of an image."""
    if data.startswith(_PNG) and len(data) >= 26 and data[12:16] == b"IHDR":
        channels = _PNG_CHANNELS.get(data[25], 4)
        sample_bytes = 2 if data[24] == 16 else 1
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"), channels * sample_bytes
    position = 2 if data.startswith(b"\xff\xd8\xff") else len(data)
    for _ in range(MOST_SEGMENTS):
        if position + 9 >= len(data) or data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker in _FRAME_HEADERS:
            rows, columns = (int.from_bytes(data[position + at : position + at + 2], "big") for at in (5, 7))
            return rows, columns, 3
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise _no_image(data)


def _no_image(data: bytes) -> InvalidValueError:
    return InvalidValueError(f"{len(data)} bytes that begin with {data[:8]!r} are no JPEG or PNG")
