"""Check frames in the training process, and copy their pixels into shared memory.

A frame is an array of shape ``(height, width)`` or ``(height, width, channels)`` with 1 (gray), 3 (RGB) or 4 (RGBA)
channels. Values are converted later, by the writer process (``convert``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ml_dash.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

CHANNEL_COUNTS = (1, 3, 4)
FORMAT_OF_SUFFIX = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}

# The hard limits of the two formats: libjpeg's JPEG_MAX_DIMENSION, and PNG's 31-bit sizes.
LARGEST_SIDE = {"jpeg": 65_500, "png": 2**31 - 1}

# One entry per camera and size, of which a run has a few. The limit matters for frames of random sizes only.
SPEC_CACHE_SIZE = 256

# Type codes and not kinds: types that other packages register, such as bfloat16, cannot be found by name again.
_TYPE_CODES = "?" + np.typecodes["AllInteger"] + np.typecodes["Float"]

# Pillow modes whose array holds gray, RGB or RGBA values. The array of any other mode has a frame's shape but means
# something else: palette indices ("P"), inks ("CMYK"), hue ("HSV").
_PILLOW_MODES = frozenset({"1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N", "RGB", "RGBA"})


class FrameSpec(NamedTuple):
    """The shape and type of a frame's pixels as they lie in shared memory: C order, native byte order.

    Attributes:
        height: Rows, at least 1.
        width: Columns, at least 1.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA). A ``(height, width)`` array has 1.
        dtype: The numpy name of the type without its byte order, such as ``"uint8"`` or ``"float32"``.
        nbytes: Bytes of all pixels together.
    """

    height: int
    width: int
    channels: int
    dtype: str
    nbytes: int


def check_frame(array: object, *, image_format: str) -> tuple[np.ndarray[Any, Any], FrameSpec]:
    """Check that an object can be saved as an image, without copying a numpy array's pixels.

    Safe to call from several threads.

    Args:
        array: A numpy array of shape ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` and of any bool, integer or float type, with
            any strides and byte order. A torch tensor (moved to the CPU), a Pillow image, or another object with
            ``__array__`` or ``__array_interface__`` is turned into one.
        image_format: The format it is meant for, ``"jpeg"`` or ``"png"``.

    Returns:
        The array (the same object if it was a plain ndarray) and its spec.

    Raises:
        InvalidTypeError: It is no array, or its dtype is not bool, integer or float.
        InvalidValueError: Its shape is not that of a frame, or a side is longer than the format allows.
    """
    pixels = array if type(array) is np.ndarray else _as_array(array)
    return pixels, _spec(pixels.shape, pixels.dtype, image_format)


def copy_into(array: np.ndarray[Any, Any], buffer: Buffer, offset: int) -> None:
    """Copy a frame's pixels into a buffer: C order, native byte order, ``array.nbytes`` bytes from ``offset`` on.

    Args:
        array: A frame that `check_frame` accepted.
        buffer: Writable memory with room for the frame. It is not kept.
        offset: Bytes from the start of the buffer; any alignment.

    Raises:
        TypeError: The buffer ends before the frame does.
    """
    copy_to(array, room_for(array, buffer, offset))


def room_for(array: np.ndarray[Any, Any], buffer: Buffer, offset: int) -> np.ndarray[Any, Any]:
    """Return an array over a buffer for the pixels of frames like this one: C order, native byte order.

    Args:
        array: A frame that `check_frame` accepted.
        buffer: Writable memory with room for the frame. It stays referenced while the result lives.
        offset: Bytes from the start of the buffer; any alignment.

    Raises:
        TypeError: The buffer ends before the frame would.
    """
    dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
    return np.ndarray(array.shape, dtype, memoryview(buffer), offset)


def copy_to(array: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> None:
    """Copy a frame's pixels to an array that `room_for` returned."""
    if _has_whole_rows(array):
        np.copyto(target, array)
        return
    # Pixel by pixel, as for mirrored, BGR or transposed CHW frames, numpy would be 4 to 5 times slower.
    for channel in range(array.shape[2]):
        np.copyto(target[..., channel], array[..., channel])


def view(buffer: Buffer, offset: int, spec: FrameSpec) -> np.ndarray[Any, Any]:
    """Return a frame that `copy_into` copied to a buffer, without another copy.

    Args:
        buffer: The memory that holds the frame. It stays referenced while the result lives.
        offset: Bytes from the start of the buffer.
        spec: What `check_frame` returned for the frame.

    Returns:
        A read-only array of shape ``(height, width)`` for one channel, else ``(height, width, channels)``.

    Raises:
        TypeError: The buffer ends before the frame does.
    """
    shape = (spec.height, spec.width) if spec.channels == 1 else (spec.height, spec.width, spec.channels)
    pixels: np.ndarray[Any, Any] = np.ndarray(shape, spec.dtype, memoryview(buffer), offset)
    pixels.flags.writeable = False
    return pixels


def check_quality(quality: object) -> int:
    """Check a JPEG quality.

    Args:
        quality: An int from 1 (smallest) to 100 (best). Numpy integers are fine, bools are not.

    Returns:
        It as an int.

    Raises:
        InvalidValueError: It is anything else.
    """
    if isinstance(quality, (int, np.integer)) and not isinstance(quality, bool) and 1 <= quality <= 100:
        return int(quality)
    raise InvalidValueError(f"quality is {quality!r}; give an int from 1 to 100")


def image_format_of(name: str) -> str:
    """Return the image format that a file's name asks for.

    Args:
        name: A file name or path that ends in ``.jpg``, ``.jpeg`` or ``.png``, in any case.

    Returns:
        ``"jpeg"`` or ``"png"``.

    Raises:
        InvalidTypeError: The name is not a str.
        InvalidValueError: It ends in something else.
    """
    if not isinstance(name, str):
        raise InvalidTypeError(f"an image's name is a str, not {type(name).__name__}: {name!r}")
    lowered = name.lower()
    for suffix, image_format in FORMAT_OF_SUFFIX.items():
        if lowered.endswith(suffix):
            return image_format
    raise InvalidValueError(f"{name!r} is not the name of an image; supported are {', '.join(FORMAT_OF_SUFFIX)}")


def _has_whole_rows(array: np.ndarray[Any, Any]) -> bool:
    """Whether numpy can copy a frame row by row: it has no channels, or the pixels of a row are contiguous."""
    if array.flags.c_contiguous or array.ndim == 2:
        return True
    _, pixel_stride, channel_stride = array.strides
    itemsize = array.itemsize
    return channel_stride == itemsize and pixel_stride == itemsize * array.shape[2]


def _as_array(source: Any) -> np.ndarray[Any, Any]:
    """Convert an object that is not a plain ndarray, or raise."""
    if isinstance(source, np.ndarray):
        return np.asarray(source)
    _check_pillow_mode(source)
    try:
        if all(hasattr(source, name) for name in ("detach", "cpu", "numpy")):
            source = source.detach().cpu().numpy()
        if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
            return np.asarray(source)
    except Exception as error:  # a foreign __array__ may raise anything; the caller needs to know which argument it was
        raise InvalidTypeError(f"a frame of type {type(source).__name__} gave no array: {error}") from error
    raise InvalidTypeError(
        f"a frame is a numpy array, a torch tensor or a Pillow image, not {type(source).__name__}: "
        "pass numpy.asarray(frame, dtype=numpy.uint8)"
    )


def _check_pillow_mode(source: Any) -> None:
    mode = getattr(source, "mode", None)
    if isinstance(mode, str) and hasattr(source, "__array_interface__") and mode not in _PILLOW_MODES:
        raise InvalidValueError(f"a Pillow image of mode {mode!r} is not gray, RGB or RGBA: pass image.convert('RGB')")


@lru_cache(maxsize=SPEC_CACHE_SIZE)
def _spec(shape: tuple[int, ...], dtype: np.dtype[Any], image_format: str) -> FrameSpec:
    if dtype.char not in _TYPE_CODES:
        raise InvalidTypeError(f"frames are bool, integer or float arrays, not {_described(shape, dtype)}")
    _check_shape(shape, dtype)
    if image_format not in LARGEST_SIDE:
        raise InvalidValueError(f"image format is {image_format!r}; supported are {', '.join(LARGEST_SIDE)}")
    if max(shape[:2]) > LARGEST_SIDE[image_format]:
        raise InvalidValueError(
            f"a {image_format} image has sides of at most {LARGEST_SIDE[image_format]} pixels, not {_described(shape, dtype)}"
        )
    height, width = shape[:2]
    channels = shape[2] if len(shape) == 3 else 1
    return FrameSpec(height, width, channels, dtype.name, height * width * channels * dtype.itemsize)


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) == 4:
        raise InvalidValueError(f"a frame is one image, not a batch {_described(shape, dtype)}: save one at a time")
    if len(shape) not in (2, 3):
        raise InvalidValueError(f"frames are HxW or HxWxC, not {_described(shape, dtype)}")
    if 0 in shape:
        raise InvalidValueError(f"a frame has at least one pixel, not {_described(shape, dtype)}")
    if len(shape) == 2 or shape[2] in CHANNEL_COUNTS:
        return
    if shape[0] in CHANNEL_COUNTS:
        raise InvalidValueError(
            f"frames are HxWxC; this looks like CxHxW: pass array.transpose(1, 2, 0). It is {_described(shape, dtype)}"
        )
    raise InvalidValueError(f"frames have 1, 3 (RGB) or 4 (RGBA) channels last, not {_described(shape, dtype)}")


def _described(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"of shape {shape} and dtype {dtype}"
