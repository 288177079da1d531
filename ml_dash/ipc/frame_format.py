"""The format of a stream's frames: checked once, and reused for every frame that looks the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ml_dash._json import orjson
from ml_dash.media.frames import FrameSpec, check_frame, check_quality, room_for

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

LARGEST_BYTE_COPY = 4 * 1024 * 1024
"""Frames up to this many bytes are copied by a slice assignment. That is faster than numpy, but holds the interpreter lock:
some tenths of a millisecond for so many bytes."""


class FrameFormat:
    """Shape, type, memory layout and encoding that the frames of one camera have in common.

    Attributes:
        shape: shape of the user's arrays.
        spec: shape and type of the pixels in shared memory.
        record_head: the part of a frame record's data that is the same for all frames, as the start of a JSON member.
        is_byte_copy: whether the pixels are copied as bytes, else as an array.
    """

    __slots__ = ("_dtype", "_image_format", "_quality", "_strides", "is_byte_copy", "record_head", "shape", "spec")

    def __init__(self, pixels: np.ndarray[Any, Any], spec: FrameSpec, image_format: str, quality: int) -> None:
        self.shape, self._dtype, self._strides = pixels.shape, pixels.dtype, pixels.strides
        self._image_format, self._quality = image_format, quality
        self.is_byte_copy = pixels.flags.c_contiguous and pixels.dtype.isnative and spec.nbytes <= LARGEST_BYTE_COPY
        self.spec = spec
        facts = {"h": spec.height, "w": spec.width, "c": spec.channels, "dtype": spec.dtype, "nbytes": spec.nbytes}
        self.record_head = orjson.dumps({"frame": facts | {"format": image_format, "quality": quality}})[1:-2] + b","

    def matches(self, image: object, image_format: str, quality: object) -> bool:
        """Whether a frame has this format, so that it needs no other check."""
        return (
            type(image) is np.ndarray
            and image.shape == self.shape
            and image.strides == self._strides
            and image.dtype is self._dtype
            and image_format == self._image_format
            and type(quality) is int
            and quality == self._quality
        )

    def target(self, pixels: np.ndarray[Any, Any], memory: Buffer, offset: int) -> slice | np.ndarray[Any, Any]:
        """Where frames like ``pixels`` are copied to: a slice of the memory, or an array over it."""
        if self.is_byte_copy:
            return slice(offset, offset + self.spec.nbytes)
        return room_for(pixels, memory, offset)


def check_image(image: object, image_format: str, quality: object) -> tuple[np.ndarray[Any, Any], FrameFormat]:
    """Check the first frame of its format.

    Args:
        image: the user's argument.
        image_format: ``jpeg`` or ``png``.
        quality: the user's argument; of JPEG, 1 to 100.

    Returns:
        The frame as an array, and its format.

    Raises:
        InvalidTypeError: it is no array, or its dtype is no number.
        InvalidValueError: its shape is not that of a frame, or the quality is out of range.
    """
    checked = check_quality(quality)
    pixels, spec = check_frame(image, image_format=image_format)
    return pixels, FrameFormat(pixels, spec, image_format, checked)
