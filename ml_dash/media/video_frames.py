"""What a video is made of: any frames to 8-bit RGB, one at a time, all over one range of values and of one size.

=================================  =====================================================================
frames of                          become
=================================  =====================================================================
uint8                              themselves
bool                               0 and 255
uint16                             their upper 8 bits
other integers, all in 0..255      themselves
other integers                     the range min..max spread over 0..255
floats, all finite ones in 0..1    times 255, rounded
floats                             the range min..max of the finite values spread over 0..255, rounded
=================================  =====================================================================

The range is that of the whole video, since one of each frame would flicker: of all frames where they can be looked at
twice (an array, a list, a tuple), of the first frame where they come from an iterator. What lies outside it is clipped.
NaN and -inf become 0, +inf becomes 255. Where there is no range to spread, the result is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.media.frames import CHANNEL_COUNTS, check_frame

RgbFrame = npt.NDArray[np.uint8]
_Pixels = np.ndarray[Any, Any]
_Range = tuple[float, float]


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


def _ranges_of_all(frames: object) -> dict[str, _Range]:
    """The range of all floats, and of all integers, that need one."""
    ranges: dict[str, _Range] = {}
    if isinstance(frames, np.ndarray) and not _needs_range(frames.dtype):
        return ranges
    for index, frame in enumerate(_iterated(frames)):
        pixels = _checked(frame, index)
        if _needs_range(pixels.dtype):
            low, high = _finite_range(pixels)
            known = ranges.get(_kind(pixels.dtype), (low, high))
            ranges[_kind(pixels.dtype)] = min(low, known[0]), max(high, known[1])
    return ranges


def _needs_range(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or (dtype.kind in "iu" and dtype not in (np.uint8, np.uint16))


def _kind(dtype: np.dtype[Any]) -> str:
    return "float" if dtype.kind == "f" else "integer"


def _finite_range(pixels: _Pixels) -> _Range:
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = pixels[np.isfinite(pixels)]
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    return float(low), float(high)


def _to_eight_bit(pixels: _Pixels, ranges: dict[str, _Range]) -> RgbFrame:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == "b":
        return np.where(pixels, np.uint8(255), np.uint8(0))
    if not _needs_range(pixels.dtype):
        return (pixels >> 8).astype(np.uint8)
    low, high = ranges.setdefault(_kind(pixels.dtype), _finite_range(pixels))
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled = pixels.astype(np.float32) * np.float32(255)
    elif pixels.dtype.kind != "f" and low >= 0 and high <= 255:
        return np.clip(pixels, 0, 255).astype(np.uint8)
    else:
        scaled = _spread(pixels.astype(np.float64), low, high)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    np.clip(scaled, 0, 255, out=scaled)
    samples: RgbFrame = np.rint(scaled, out=scaled).astype(np.uint8)
    return samples


def _spread(pixels: npt.NDArray[np.float64], low: float, high: float) -> _Pixels:
    """Map low..high to 0..255. Halved before they are subtracted: the difference of huge values would overflow."""
    span = high / 2 - low / 2
    if span <= 0:  # one value everywhere: that level of gray, as in an image
        return np.clip(pixels, 0, 255)
    spread = pixels / 2
    spread -= low / 2
    spread /= span
    spread *= 255
    return spread


def _to_rgb(pixels: RgbFrame) -> RgbFrame:
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        rgb: RgbFrame = np.empty((*pixels.shape[:2], 3), np.uint8)
        rgb[...] = pixels.reshape(*pixels.shape[:2], 1)
        return rgb
    return _flattened_on_white(pixels) if pixels.shape[2] == 4 else pixels


def _flattened_on_white(rgba: RgbFrame) -> RgbFrame:
    """``255 - (255 - colour) * alpha / 255``, rounded; 16 bits are just enough for the product."""
    darkness = (255 - rgba[..., :3]).astype(np.uint16)
    darkness *= rgba[..., 3:]
    darkness += 127
    darkness //= 255
    return 255 - darkness.astype(np.uint8)
