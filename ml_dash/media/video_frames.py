"""Convert the frames of a video to 8-bit RGB of one size, one at a time.

Values are converted as in an image (see ``convert``), but over one range for the whole video, since a range per frame
would make it flicker. The range is that of all frames if they can be read twice (an array, a list, a tuple), and of the
first frame if they come from an iterator; values outside it are clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.media.convert import ValueRange, depends_on_range, to_eight_bit, value_range_of
from ml_dash.media.frames import CHANNEL_COUNTS, check_frame

RgbFrame = npt.NDArray[np.uint8]
_Pixels = np.ndarray[Any, Any]


def rgb_frames(frames: object) -> Iterator[RgbFrame]:
    """Convert frames to RGB as they are asked for; at most one is held.

    Args:
        frames: A stack of shape ``(T, H, W)`` or ``(T, H, W, 1 | 3 | 4)``, or an iterable of frames as `check_frame`
            takes them. RGBA is flattened on white.

    Yields:
        uint8 pixels of shape ``(H, W, 3)``, perhaps the user's own array.

    Raises:
        InvalidTypeError: It is not iterable, or a frame is no array of numbers.
        InvalidValueError: There is no frame, one has the wrong shape, or one has another size than the first.
    """
    seen_twice = isinstance(frames, (list, tuple)) or hasattr(frames, "__array__")
    ranges = _ranges_of_all(frames) if seen_twice else {}
    size: tuple[int, ...] | None = None
    for index, frame in enumerate(_iterated(frames)):
        pixels = _checked(frame, index)
        size = size or pixels.shape[:2]
        if pixels.shape[:2] != size:
            raise InvalidValueError(
                f"frame {index} is {_described(pixels.shape[:2])}, the first one {_described(size)}: "
                "all frames of a video have one size; crop or resize them"
            )
        yield _to_rgb(_to_eight_bit(pixels, ranges))
        del frame, pixels  # or two of the user's frames are alive while the next one is made
    if size is None:
        raise InvalidValueError("no frames: a video has at least one")


def _iterated(frames: object) -> Iterable[object]:
    shape = getattr(frames, "shape", None)
    if isinstance(shape, tuple) and (len(shape) < 3 or (len(shape) == 3 and shape[2] in CHANNEL_COUNTS)):
        raise InvalidValueError(
            f"a video is a stack of frames, TxHxW or TxHxWxC, not an array of shape {tuple(shape)}; "
            "for a single image use save_image, or pass [image]"
        )
    if not isinstance(frames, Iterable) and not hasattr(frames, "__getitem__"):
        raise InvalidTypeError(
            f"frames are a stack, a list or an iterator of images, not {type(frames).__name__}: {frames!r:.80}"
        )
    return frames  # type: ignore[return-value]  # whatever has __getitem__ can be iterated too


def _checked(frame: object, index: int) -> _Pixels:
    try:
        return check_frame(frame, image_format="png")[0]
    except (InvalidValueError, InvalidTypeError) as error:
        raise type(error)(f"frame {index}: {error}") from error


def _described(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]} pixels"


def _ranges_of_all(frames: object) -> dict[str, ValueRange]:
    """The ranges of all frames of floats and of all frames of integers, by the kind of their type."""
    ranges: dict[str, ValueRange] = {}
    if isinstance(frames, np.ndarray) and not depends_on_range(frames.dtype):
        return ranges
    for index, frame in enumerate(_iterated(frames)):
        pixels = _checked(frame, index)
        if depends_on_range(pixels.dtype):
            kind = _range_kind(pixels.dtype)
            low, high = value_range_of(pixels)
            known_low, known_high = ranges.get(kind, (low, high))
            ranges[kind] = min(low, known_low), max(high, known_high)
    return ranges


def _range_kind(dtype: np.dtype[Any]) -> str:
    return "float" if dtype.kind == "f" else "integer"


def _to_eight_bit(pixels: _Pixels, ranges: dict[str, ValueRange]) -> RgbFrame:
    if not depends_on_range(pixels.dtype):
        return to_eight_bit(pixels)
    kind = _range_kind(pixels.dtype)
    if kind not in ranges:  # the first frame of an iterator
        ranges[kind] = value_range_of(pixels)
    return to_eight_bit(pixels, ranges[kind])


def _to_rgb(pixels: RgbFrame) -> RgbFrame:
    if pixels.ndim == 2:
        rgb: RgbFrame = np.empty((*pixels.shape, 3), np.uint8)
        rgb[...] = pixels[..., None]
        return rgb
    return _flattened_on_white(pixels) if pixels.shape[2] == 4 else pixels


def _flattened_on_white(rgba: RgbFrame) -> RgbFrame:
    """Blend with white: ``255 - (255 - colour) * alpha / 255``, rounded. 16 bits are just enough for the product.

    With numpy only, unlike that of ``jpeg``: videos are encoded in the user's process, which may not load OpenCV.
    """
    darkness = (255 - rgba[..., :3]).astype(np.uint16)
    darkness *= rgba[..., 3:]
    darkness += 127
    darkness //= 255
    return 255 - darkness.astype(np.uint8)
