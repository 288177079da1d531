"""Hand a frame's pixels to the writer: one copy into shared memory, then the record that points to it."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any

from ml_dash.ipc.channel import Channel
from ml_dash.ipc.frame_buffer import Place
from ml_dash.media.frames import FrameSpec, copy_into
from ml_dash.snowflake import file_id
from ml_dash.storage import layout
from ml_dash.storage.documents import to_json
from ml_dash.streams.owner import Owner


def publish_frame(
    owner: Owner,
    kind: int,
    key: bytes,
    about: dict[str, Any],
    pixels: Any,
    spec: FrameSpec,
    suffix: str,
    quality: int,
    when: float,
    started_ns: int,
) -> bool:
    """Copy the pixels and publish their record. False if the frame was dropped (counted).

    Args:
        owner: the experiment.
        kind: ``IMAGE`` or ``FRAME``.
        key: the record's key.
        about: more facts for the record's data.
        pixels: an array that ``check_frame`` accepted.
        spec: what it returned.
        suffix: ``jpeg`` or ``png``.
        quality: 1 to 100, for JPEG.
        when: seconds since 1970.
        started_ns: when the user's call began.
    """
    channel = owner.channel
    frame = {
        "h": spec.height,
        "w": spec.width,
        "c": spec.channels,
        "dtype": spec.dtype,
        "nbytes": spec.nbytes,
        "suffix": suffix,
        "quality": quality,
    }
    try:
        place = channel.take_place(spec.nbytes)
        if place is None and not channel.fits_frames(spec.nbytes):
            return _publish_by_file(owner, kind, key, about, pixels, frame, when, started_ns)
        if place is None:
            channel.add_cost(started_ns)
            return False
        return _publish_at(channel, place, kind, key, about, pixels, frame, when, started_ns)
    except ValueError:  # the memory was let go: another thread has closed the run meanwhile
        channel.require_open()
        raise


def _publish_at(
    channel: Channel,
    place: Place,
    kind: int,
    key: bytes,
    about: dict[str, Any],
    pixels: Any,
    frame: dict[str, Any],
    when: float,
    started_ns: int,
) -> bool:
    try:
        copy_into(pixels, channel.memory, place.offset)
        frame["offset"] = place.offset
        end = channel.publish(kind, key, to_json({**about, "frame": frame}), when, started_ns)
    except BaseException:
        place.abandon()
        raise
    if end:
        place.publish(end)
    else:
        place.abandon()
    return bool(end)


def _publish_by_file(
    owner: Owner,
    kind: int,
    key: bytes,
    about: dict[str, Any],
    pixels: Any,
    frame: dict[str, Any],
    when: float,
    started_ns: int,
) -> bool:
    """A frame larger than the ring goes through a file beside the run: slower, and nothing else waits for it."""
    name = f"{layout.SPILL}/{owner.tag or 'main'}-{file_id()}.raw"
    path = os.path.join(owner.folder, name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write(path, pixels, frame["nbytes"])
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        owner.channel.refuse(f"a frame of {frame['nbytes']} bytes was given up: {error}")
        return False
    frame["raw"] = name
    return bool(owner.channel.publish(kind, key, to_json({**about, "frame": frame}), when, started_ns))


def _write(path: str, pixels: Any, nbytes: int) -> None:
    # Not into a mapping of the file: a disk that is full would kill the process with SIGBUS instead of raising.
    with mmap.mmap(-1, nbytes) as memory, open(path, "wb") as file:
        copy_into(pixels, memory, 0)
        file.write(memory)
