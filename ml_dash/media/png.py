"""Frames as PNG, with an encoder of our own: numpy filters the rows, ISA-L compresses them.

It is several times faster than OpenCV's, whose deflate is the slow part. The format is
https://www.w3.org/TR/png-3/: a signature, then chunks of length, type, data and CRC. The image data is one zlib stream of
rows, each led by a byte that names the filter it went through.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from ml_dash.media.convert import dimensions, to_png_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # channels -> gray, truecolour, truecolour with alpha

# The filters worth trying. PAETH takes numpy some fifteen passes over wider integers, which costs more than it saves.
FILTER_NONE, FILTER_SUB, FILTER_UP, FILTER_AVERAGE = 0, 1, 2, 3
_FILTERS_TRIED = (FILTER_UP, FILTER_SUB, FILTER_AVERAGE, FILTER_NONE)

# Base-two logarithms of how far back the compressor looks for repeats. In noise a long window finds short repeats far
# away, which take more room than the bytes themselves: the smallest one makes such an image 3 % smaller, and is faster.
_WINDOWS_TRIED = (15, 9)

MEMORY_LEVEL = 8
"""Of the compressor, which then works on 64 KiB at once."""

# ISA-L's fastest level with a history; the next better one (3) takes 4-20 times as long for a few percent.
COMPRESSION_LEVEL = 1

# Filtered bytes held at a time: bounds the memory for a huge image, and a 1080p RGBA frame still goes in one piece.
BLOCK_BYTES = 8 << 20

# Pairs of rows compressed with each filter to see which is best. Many thin samples, since one horizontal edge in a few
# would decide for all; an even number, so that none lies in the middle, where horizons are.
SAMPLED_PAIRS = 8

MEAN_COST = 1.045
"""What AVERAGE has to save: it takes a tenth longer than the others. Of an image with little noise it saves more."""

TRIED_EVERY = 32
"""Images of one shape that use the method found for the first of them; finding it takes half the time of an image."""

REMEMBERED_SHAPES = 256
"""Shapes whose method is remembered; a run has a handful."""

MUCH_LARGER = 1.1
"""Growth from one image to the next from which the method is looked for again."""

Bytes2D = npt.NDArray[np.uint8]


def encode_png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Encode a frame as a PNG file, without loss for uint8, uint16 and bool.

    Safe to call from several threads, which run side by side: numpy and ISA-L release the GIL.

    Args:
        pixels: A frame of shape ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA. uint16 gives a
            16-bit file; values that are neither uint8 nor uint16 are converted by `to_png_pixels`.

    Returns:
        The file's bytes.

    Raises:
        InvalidValueError: PNG cannot hold it: the channels are wrong, or a side is 0 or too long.
    """
    height, width, channels = dimensions(pixels, "png")
    samples = np.ascontiguousarray(to_png_pixels(pixels))
    bits = samples.itemsize * 8
    if bits == 16:
        samples = samples.astype(">u2", copy=False)
    rows = samples.view(np.uint8).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, bits, COLOR_TYPES[channels], 0, 0, 0)
    parts = [SIGNATURE, *_chunk(b"IHDR", header)]
    pixel_bytes = channels * bits // 8
    choice = _choice_for(rows, pixel_bytes)
    for data in _compressed(rows, pixel_bytes, choice.method):
        parts += _chunk(b"IDAT", data)
    parts += _chunk(b"IEND", b"")
    encoded = b"".join(parts)
    choice.note(len(encoded))
    return encoded


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """The pieces of one chunk, not joined, so that the image data is copied once only."""
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind, data, struct.pack(">I", checksum)


class _Method(NamedTuple):
    """How rows are compressed: the filter's number, and the logarithm of the window."""

    row_filter: int
    window: int


def _compressed(rows: Bytes2D, pixel_bytes: int, method: _Method) -> Iterator[bytes]:
    """The zlib stream of the filtered rows, in pieces of any size."""
    compressor = _compressor(method)
    for row_filter, block, above in _blocks(rows, method.row_filter):
        data = compressor.compress(_filtered(block, above, row_filter, pixel_bytes))
        if data:
            yield data
    yield compressor.flush()


def _compressor(method: _Method) -> Any:
    return isal_zlib.compressobj(COMPRESSION_LEVEL, isal_zlib.DEFLATED, method.window, MEMORY_LEVEL)


def _blocks(rows: Bytes2D, row_filter: int) -> Iterator[tuple[int, Bytes2D, Bytes2D]]:
    """All rows in blocks, each with its filter and the rows above its own.

    The first row is a block, with zeros above, where UP and AVERAGE would leave it as it is, or nearly.
    """
    yield row_filter and FILTER_SUB, rows[:1], np.zeros_like(rows[:1])
    block_rows = max(1, BLOCK_BYTES // rows.shape[1])
    for start in range(1, rows.shape[0], block_rows):
        block = rows[start : start + block_rows]
        yield row_filter, block, rows[start - 1 : start - 1 + block.shape[0]]


@dataclass(slots=True)
class _Choice:
    """The method that suited an image of some shape, for those that follow: frames resemble each other."""

    method: _Method
    uses_left: int = TRIED_EVERY
    size: int = 0

    def note(self, size: int) -> None:
        """An image came out at that many bytes. One that is much larger than the first shows something else."""
        self.size = self.size or size
        self.uses_left = self.uses_left - 1 if size <= self.size * MUCH_LARGER else 0


_choices: dict[tuple[tuple[int, ...], int], _Choice] = {}


def _choice_for(rows: Bytes2D, pixel_bytes: int) -> _Choice:
    key = (rows.shape, pixel_bytes)
    choice = _choices.get(key)
    if choice is None or choice.uses_left <= 0:
        if len(_choices) > REMEMBERED_SHAPES:
            _choices.clear()
        choice = _choices[key] = _Choice(_best_method(rows, pixel_bytes))
    return choice


def _best_method(rows: Bytes2D, pixel_bytes: int) -> _Method:
    """The filter and the window under which a sample of the rows compresses best.

    No single filter is best: UP suits renders, SUB gradients along a row, AVERAGE noise, NONE drawings of few colours,
    where a difference would break up the repeats.
    """
    sampled = _sampled_rows(rows.shape[0])
    # Above the first row this finds the last, which is wrong and does no harm: it is only a sample.
    block, above = rows[sampled], rows[sampled - 1]

    def sampled_size(method: _Method) -> int:
        compressor = _compressor(method)
        data = _filtered(block, above, method.row_filter, pixel_bytes)
        return len(compressor.compress(data)) + len(compressor.flush())

    def cost(method: _Method) -> float:
        return sampled_size(method) * (MEAN_COST if method.row_filter == FILTER_AVERAGE else 1)

    return min((_Method(*tried) for tried in itertools.product(_FILTERS_TRIED, _WINDOWS_TRIED)), key=cost)


def _sampled_rows(height: int) -> npt.NDArray[np.intp]:
    """Pairs of neighbouring rows at even distances; fewer or all rows if the image is small."""
    pairs = height * (2 * np.arange(SAMPLED_PAIRS) + 1) // (2 * SAMPLED_PAIRS)
    return np.unique(np.minimum(np.concatenate([pairs, pairs + 1]), height - 1))


def _filtered(block: Bytes2D, above: Bytes2D, row_filter: int, pixel_bytes: int) -> Bytes2D:
    """Rows as PNG compresses them: the filter's number, then the bytes or their differences modulo 256."""
    filtered = np.empty((block.shape[0], block.shape[1] + 1), np.uint8)
    filtered[:, 0] = row_filter
    body = filtered[:, 1:]
    if row_filter == FILTER_SUB:
        body[:, :pixel_bytes] = block[:, :pixel_bytes]
        np.subtract(block[:, pixel_bytes:], block[:, :-pixel_bytes], out=body[:, pixel_bytes:])
    elif row_filter == FILTER_UP:
        np.subtract(block, above, out=body)
    elif row_filter == FILTER_AVERAGE:
        _subtract_average(block, above, pixel_bytes, out=body)
    else:
        body[:] = block
    return filtered


def _subtract_average(block: Bytes2D, above: Bytes2D, pixel_bytes: int, *, out: Bytes2D) -> None:
    """Subtract from each byte the mean of its neighbours to the left and above, rounded down."""
    import cv2

    out[:, :pixel_bytes] = block[:, :pixel_bytes] - (above[:, :pixel_bytes] >> 1)
    if block.shape[1] > pixel_bytes:
        # OpenCV rounds to the nearest: a quarter less than the mean is the mean, or a half less.
        mean = cv2.addWeighted(block[:, :-pixel_bytes], 0.5, above[:, pixel_bytes:], 0.5, -0.25)
        np.subtract(block[:, pixel_bytes:], mean, out=out[:, pixel_bytes:])
