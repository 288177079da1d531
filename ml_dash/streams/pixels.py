"""Hand a frame's pixels to the writer: one copy into shared memory, then the record that points to it."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any

import numpy as np

from ml_dash.ipc import spill_file
from ml_dash.media.frames import FrameSpec, check_frame, check_quality, copy_into, copy_to, room_for
from ml_dash.snowflake import file_id
from ml_dash.storage import layout
from ml_dash.storage.documents import to_json
from ml_dash.streams.owner import Owner

MOST_PLAIN_BYTES = 4 * 1024 * 1024
"""Up to here the bytes are copied by Python itself, which takes a shorter way there than numpy, but lets no other thread
run meanwhile: some tenths of a millisecond for so many."""


class FrameKind:
    """What the frames of one camera have in common: a stream keeps the last one, and looks no further for the next.

    Attributes:
        shape: that of the user's arrays.
        spec: their shape and type as ``check_frame`` returns it.
        head: what a record says of every one of them, as the start of a JSON member.
        is_plain: whether their bytes are copied as they lie.
    """

    __slots__ = ("_dtype", "_quality", "_strides", "_suffix", "head", "is_plain", "shape", "spec")

    def __init__(self, pixels: np.ndarray[Any, Any], spec: FrameSpec, suffix: str, quality: int) -> None:
        self.shape, self._dtype, self._suffix, self._quality = pixels.shape, pixels.dtype, suffix, quality
        self._strides = pixels.strides
        self.is_plain = pixels.flags.c_contiguous and pixels.dtype.isnative and spec.nbytes <= MOST_PLAIN_BYTES
        self.spec = spec
        frame = {"h": spec.height, "w": spec.width, "c": spec.channels, "dtype": spec.dtype, "nbytes": spec.nbytes}
        self.head = to_json({"frame": frame | {"suffix": suffix, "quality": quality}})[1:-2] + b","

    def has(self, image: object, suffix: str, quality: object) -> bool:
        """Whether a frame is of this kind, so that nothing of it needs another check."""
        return (
            type(image) is np.ndarray
            and image.shape == self.shape
            and image.strides == self._strides
            and image.dtype is self._dtype
            and suffix == self._suffix
            and type(quality) is int
            and quality == self._quality
        )

    def at(self, offset: int, memory: mmap.mmap, pixels: np.ndarray[Any, Any]) -> tuple[Any, bytes]:
        """Where in the memory a frame goes, and the end of its record's data, which says so."""
        where = slice(offset, offset + self.spec.nbytes) if self.is_plain else room_for(pixels, memory, offset)
        return where, self.head + b'"offset":%d}}' % offset


def kind_of(image: object, suffix: str, quality: object) -> tuple[np.ndarray[Any, Any], FrameKind]:
    """Check a frame that is the first of its kind, and the quality that it is to have.

    Args:
        image: what the user gave.
        suffix: ``jpeg`` or ``png``.
        quality: what the user gave.

    Returns:
        The frame as an array, and its kind.

    Raises:
        InvalidTypeError: it is no array, or its dtype is no number.
        InvalidValueError: its shape is no frame's, or the quality is none.
    """
    checked = check_quality(quality)
    pixels, spec = check_frame(image, suffix=suffix)
    return pixels, FrameKind(pixels, spec, suffix, checked)


def publish_frame(
    owner: Owner, record: int, key: bytes, about: bytes, pixels: Any, kind: FrameKind, when: float, started_ns: int
) -> bool:
    """Copy the pixels and publish their record. False if the frame was dropped (counted).

    Args:
        owner: the experiment.
        record: ``IMAGE`` or ``FRAME``.
        key: the record's key.
        about: the start of the record's data: a JSON object up to where a member can be added.
        pixels: a frame of that kind.
        kind: its kind.
        when: seconds since 1970.
        started_ns: when the user's call began.
    """
    channel = owner.channel
    place = None
    try:
        place = channel.take_place(kind.spec.nbytes)
        if place is None:
            if not channel.fits_frames(kind.spec.nbytes):
                return _publish_by_file(owner, record, key, about, pixels, kind, when, started_ns)
            channel.count_drop()
            channel.add_cost(started_ns)
            return False
        if place.kept is None or place.kept[0] is not kind:
            place.kept = kind, *kind.at(place.offset, channel.memory, pixels)
        _, where, tail = place.kept
        if kind.is_plain:
            channel.memory[where] = pixels
        else:
            copy_to(pixels, where)
        end = place.free_at = channel.publish(record, key, about + tail, when, started_ns)
    except BaseException as error:
        if place is not None:
            channel.abandon(place)
        if isinstance(error, ValueError):  # the memory was let go: another thread has closed the run meanwhile
            channel.require_open()
        raise
    return bool(end)


def _publish_by_file(
    owner: Owner, record: int, key: bytes, about: bytes, pixels: Any, kind: FrameKind, when: float, started_ns: int
) -> bool:
    """A frame larger than the ring goes through a file beside the run: slower, and nothing else waits for it."""
    name = f"{layout.SPILL}/{spill_file.prefix(owner.writer_id)}{file_id()}.raw"
    path = os.path.join(owner.folder, name)
    try:
        spill_file.make_file(path)
        _write(path, pixels, kind.spec.nbytes)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        owner.channel.refuse(f"a frame of {kind.spec.nbytes} bytes was given up: {error}")
        return False
    data = b"%b%b%b}" % (about, kind.head, to_json({"raw": name})[1:])
    return bool(owner.channel.publish(record, key, data, when, started_ns))


def _write(path: str, pixels: Any, nbytes: int) -> None:
    # Not into a mapping of the file: a disk that is full would kill the process with SIGBUS instead of raising.
    with mmap.mmap(-1, nbytes) as memory, open(path, "wb") as file:
        copy_into(pixels, memory, 0)
        file.write(memory)
