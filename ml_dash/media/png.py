"""Encode frames as PNG: numpy filters the rows, and ISA-L compresses them.

This is several times faster than OpenCV, whose deflate is slow. The format is https://www.w3.org/TR/png-3/: a signature,
then chunks of length, type, data and CRC. The image data is one zlib stream of rows, each after a byte with the number of
its filter.
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

# PAETH is not tried: numpy needs some fifteen passes over wider integers for it, which costs more than it saves.
FILTER_NONE, FILTER_SUB, FILTER_UP, FILTER_AVERAGE = 0, 1, 2, 3
_FILTERS_TRIED = (FILTER_UP, FILTER_SUB, FILTER_AVERAGE, FILTER_NONE)

# Base-two logarithms of the compressor's window. In noise a long window finds short repeats far away, which take more
# bytes than they replace: the smallest window makes such an image 3 % smaller, and is faster.
_WINDOWS_TRIED = (15, 9)

MEMORY_LEVEL = 8
"""Memory level of the compressor, with which it works on 64 KiB at once."""

# ISA-L's fastest level with a history; the next better one (3) takes 4-20 times as long for a few percent.
COMPRESSION_LEVEL = 1

# Filtered bytes held at a time: bounds the memory for a huge image; a 1080p RGBA frame is one block.
BLOCK_BYTES = 8 << 20

# Pairs of rows that are compressed with each filter to find the best one. Many small samples, since one horizontal edge
# among a few would decide; an even number, so that none is in the middle, where horizons are.
SAMPLED_PAIRS = 8

MEAN_COST = 1.045
"""Factor on the size with AVERAGE, which takes a tenth longer than the others. It saves more on images with little noise."""

TRIED_EVERY = 32
"""Images of one shape that share a method; to find one takes half as long as to encode an image."""

REMEMBERED_SHAPES = 256
"""Shapes whose method is remembered; a run has a few."""

MUCH_LARGER = 1.1
"""Size relative to the first image of a method from which the method is searched again."""

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
    """Return the pieces of a chunk. They are not joined, so that the image data is copied only once."""
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind, data, struct.pack(">I", checksum)


class _Method(NamedTuple):
    """The number of the filter, and the base-two logarithm of the compressor's window."""

    row_filter: int
    window: int


def _compressed(rows: Bytes2D, pixel_bytes: int, method: _Method) -> Iterator[bytes]:
    """Yield the zlib stream of the filtered rows in pieces of any size."""
    compressor = _compressor(method)
    for row_filter, block, above in _blocks(rows, method.row_filter):
        data = compressor.compress(_filtered(block, above, row_filter, pixel_bytes))
        if data:
            yield data
    yield compressor.flush()


def _compressor(method: _Method) -> Any:
    return isal_zlib.compressobj(COMPRESSION_LEVEL, isal_zlib.DEFLATED, method.window, MEMORY_LEVEL)


def _blocks(rows: Bytes2D, row_filter: int) -> Iterator[tuple[int, Bytes2D, Bytes2D]]:
    """Yield all rows in blocks: the filter, the rows, and for each of them the row above it.

    The first row is a block of its own, filtered by SUB: above it are zeros, so that UP and AVERAGE would change little.
    """
    yield row_filter and FILTER_SUB, rows[:1], np.zeros_like(rows[:1])
    block_rows = max(1, BLOCK_BYTES // rows.shape[1])
    for start in range(1, rows.shape[0], block_rows):
        block = rows[start : start + block_rows]
        yield row_filter, block, rows[start - 1 : start - 1 + block.shape[0]]


@dataclass(slots=True)
class _Choice:
    """The method for images of one shape, found for one of them: the frames of a stream resemble each other."""

    method: _Method
    uses_left: int = TRIED_EVERY
    size: int = 0

    def note(self, size: int) -> None:
        """Count an image of that many bytes. After one that is much larger than the first, a new method is searched."""
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
    """Return the filter and the window with which a sample of the rows compresses best.

    UP is best for renders, SUB for gradients along a row, AVERAGE for noise, and NONE for drawings with few colours, where
    differences would break up the repeats.
    """
    sampled = _sampled_rows(rows.shape[0])
    # The row above the first one is here the last one, which is wrong but harmless in a sample.
    block, above = rows[sampled], rows[sampled - 1]

    def sampled_size(method: _Method) -> int:
        compressor = _compressor(method)
        data = _filtered(block, above, method.row_filter, pixel_bytes)
        return len(compressor.compress(data)) + len(compressor.flush())

    def cost(method: _Method) -> float:
        return sampled_size(method) * (MEAN_COST if method.row_filter == FILTER_AVERAGE else 1)

    return min((_Method(*tried) for tried in itertools.product(_FILTERS_TRIED, _WINDOWS_TRIED)), key=cost)


def _sampled_rows(height: int) -> npt.NDArray[np.intp]:
    """Return the indices of pairs of neighbouring rows at even distances; of all rows if the image is small."""
    pairs = height * (2 * np.arange(SAMPLED_PAIRS) + 1) // (2 * SAMPLED_PAIRS)
    return np.unique(np.minimum(np.concatenate([pairs, pairs + 1]), height - 1))


def _filtered(block: Bytes2D, above: Bytes2D, row_filter: int, pixel_bytes: int) -> Bytes2D:
    """Return rows with their filter's number in front, and the bytes or their differences modulo 256."""
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
        # OpenCV rounds to the nearest: the mean minus a quarter is rounded to the mean rounded down.
        mean = cv2.addWeighted(block[:, :-pixel_bytes], 0.5, above[:, pixel_bytes:], 0.5, -0.25)
        np.subtract(block[:, pixel_bytes:], mean, out=out[:, pixel_bytes:])
