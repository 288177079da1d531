"""Frames as PNG, with an encoder of our own: numpy filters the rows, ISA-L compresses them.

It is several times faster than OpenCV's, whose deflate is the slow part. The format is
https://www.w3.org/TR/png-3/: a signature, then chunks of length, type, data and CRC. The image data is one zlib stream of
rows, each led by a byte that names the filter it went through.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from ml_dash.media.convert import dimensions, to_png_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # channels -> gray, truecolour, truecolour with alpha

# The filters worth trying. PAETH takes numpy some fifteen passes over wider integers, which costs more than it saves.
FILTER_NONE, FILTER_SUB, FILTER_UP, FILTER_AVERAGE = 0, 1, 2, 3
_FILTERS_TRIED = (FILTER_UP, FILTER_SUB, FILTER_AVERAGE, FILTER_NONE)

# ISA-L's fastest level with a history; the next better one (3) takes 4-20 times as long for a few percent.
COMPRESSION_LEVEL = 1

# Filtered bytes held at a time: bounds the memory for a huge image, and a 1080p RGBA frame still goes in one piece.
BLOCK_BYTES = 8 << 20

# Pairs of rows compressed with each filter to see which is best. Many thin samples, since one horizontal edge in a few
# would decide for all; an even number, so that none lies in the middle, where horizons are.
SAMPLED_PAIRS = 8

TRIED_EVERY = 16
"""Images of one shape that use the filter found for the first of them; finding it takes a tenth of the time."""

REMEMBERED_SHAPES = 256
"""Shapes whose filter is remembered; a run has a handful."""

MUCH_LARGER = 1.1
"""Growth from one image to the next from which the filter is looked for again."""

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
    for data in _compressed(rows, pixel_bytes, choice.row_filter):
        parts += _chunk(b"IDAT", data)
    parts += _chunk(b"IEND", b"")
    encoded = b"".join(parts)
    choice.note(len(encoded))
    return encoded


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """The pieces of one chunk, not joined, so that the image data is copied once only."""
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind, data, struct.pack(">I", checksum)


def _compressed(rows: Bytes2D, pixel_bytes: int, row_filter: int) -> Iterator[bytes]:
    """The zlib stream of the filtered rows, in pieces of any size."""
    compressor = isal_zlib.compressobj(COMPRESSION_LEVEL)
    for block, above in _blocks(rows):
        data = compressor.compress(_filtered(block, above, row_filter, pixel_bytes))
        if data:
            yield data
    yield compressor.flush()


def _blocks(rows: Bytes2D) -> Iterator[tuple[Bytes2D, Bytes2D]]:
    """All rows in blocks, each with the rows above its own; the first row is a block, with zeros above."""
    yield rows[:1], np.zeros_like(rows[:1])
    block_rows = max(1, BLOCK_BYTES // rows.shape[1])
    for start in range(1, rows.shape[0], block_rows):
        block = rows[start : start + block_rows]
        yield block, rows[start - 1 : start - 1 + block.shape[0]]


@dataclass(slots=True)
class _Choice:
    """The filter that suited an image of some shape, for those that follow: frames resemble each other."""

    row_filter: int
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
        choice = _choices[key] = _Choice(_best_filter(rows, pixel_bytes))
    return choice


def _best_filter(rows: Bytes2D, pixel_bytes: int) -> int:
    """The filter under which a sample of the rows compresses best.

    No single one is: UP suits renders, SUB gradients along a row, AVERAGE noise, NONE drawings of few colours, where a
    difference would break up the repeats.
    """
    sampled = _sampled_rows(rows.shape[0])
    # Above the first row this finds the last, which is wrong and does no harm: it is only a sample.
    block, above = rows[sampled], rows[sampled - 1]

    def sampled_size(row_filter: int) -> int:
        return len(isal_zlib.compress(_filtered(block, above, row_filter, pixel_bytes), COMPRESSION_LEVEL))

    return min(_FILTERS_TRIED, key=sampled_size)


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
    out[:, :pixel_bytes] = block[:, :pixel_bytes] - (above[:, :pixel_bytes] >> 1)
    left, above = block[:, :-pixel_bytes], above[:, pixel_bytes:]
    # The mean without a ninth bit: what both have, and half of what only one has.
    mean = left ^ above
    mean >>= 1
    mean += left & above
    np.subtract(block[:, pixel_bytes:], mean, out=out[:, pixel_bytes:])
