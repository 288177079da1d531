"""Measure how many frames a second a machine copies, encodes and writes, against those that training makes."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_dash.doctor.checks import FAILED, MIB, OK, WARNING, Check
from ml_dash.ipc import slab as slabs
from ml_dash.ipc.control import FRAMES_OFFSET
from ml_dash.settings import BufferConfig

COPY_S, ENCODE_S, WRITE_S = 0.1, 0.25, 0.3
"""Seconds of each measurement: all together below a second and a half."""

WRITTEN_BYTES = 64 * MIB
"""Most bytes that are written to measure the disk, and that it then has to sync."""

BLOCK_BYTES = MIB
"""Bytes of one write: about as many as the writer appends at once when it is busy."""

MIN_REPETITIONS = 3
"""Repetitions of a measurement, however slow one is."""


def check_speed(folder: str, config: BufferConfig, fps: float, width: int, height: int) -> Iterator[Check]:
    """Measure this machine with frames of one size.

    Args:
        folder: folder of all runs.
        config: its ``encoder_count`` is the number of frames that are encoded at the same time.
        fps: frames per second that training makes.
        width: pixels of a row.
        height: rows.
    """
    from ml_dash.media.jpeg import encode_jpeg
    from ml_dash.media.png import encode_png

    frame = example_frame(width, height)
    dimensions = f"{width}x{height}"
    yield _judge("copy", _copy_rate(frame), fps, f"of {dimensions} to shared memory", FAILED)
    encoders = config.encoder_count
    sizes = {}
    for name, encode, worst in (("JPEG", encode_jpeg, FAILED), ("PNG", encode_png, WARNING)):
        sizes[name] = len(encode(frame))
        rate = _rate(lambda encode=encode: encode(frame), ENCODE_S) * encoders  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        about = f"of {dimensions}, {encoders} at a time, {sizes[name] / 1024:.0f} KiB each"
        yield _judge(f"encode {name}", rate, fps, about, worst, {"encoders": encoders, "bytes": sizes[name]})
    speed = _write_speed(folder)
    about = f"as JPEG, {speed / sizes['PNG']:,.0f} as PNG ({speed / MIB:,.0f} MiB/s)"
    facts = {"bytes_per_second": round(speed), "png_frames_per_second": round(speed / sizes["PNG"], 1)}
    yield _judge("write", speed / sizes["JPEG"], fps, about, FAILED, facts)


def example_frame(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return a picture that compresses about as well as a rendered scene; always the same."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 6, (height, width, 3))
    waves = (np.sin(columns / 23) + np.sin(rows / 17)) * 30
    tiles = ((rows // 40 + columns // 40) % 2) * 60
    base = np.stack([columns * 120 // width + tiles, rows * 120 // height + waves, tiles + waves + 60], axis=2)
    return np.clip(base + noise, 0, 255).astype(np.uint8)


def _judge(name: str, rate: float, fps: float, about: str, worst: str, facts: dict[str, Any] | None = None) -> Check:
    facts = {"frames_per_second": round(rate, 1), "wanted": fps, **(facts or {})}
    if rate >= fps:
        return Check(name, OK, f"enough for {rate:,.0f} frames/s {about}", facts)
    text = f"only {rate:,.0f} frames/s {about}; {fps:g} are wanted: record fewer, smaller or JPEG frames"
    return Check(name, worst, text, facts)


def _copy_rate(frame: npt.NDArray[np.uint8]) -> float:
    try:
        slab = slabs.create(frame.nbytes)
    except slabs.NoSharedMemoryError:
        slab = slabs.private(frame.nbytes)
    try:
        slab.reserve(FRAMES_OFFSET, frame.nbytes)
        return _copy_rate_into(slab.memory, frame)
    finally:
        slab.close()  # needs the array in its memory to be gone


def _copy_rate_into(memory: mmap.mmap, frame: npt.NDArray[np.uint8]) -> float:
    target = np.frombuffer(memory, np.uint8, frame.nbytes, FRAMES_OFFSET).reshape(frame.shape)
    np.copyto(target, frame)  # the first touch of a page costs ten times a copy, and is paid by the writer
    return _rate(lambda: np.copyto(target, frame), COPY_S)


def _rate(step: Callable[[], object], limit: float) -> float:
    """Return the calls of ``step`` per second, after one that is not counted."""
    step()
    count = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < limit or count < MIN_REPETITIONS:
        step()
        count += 1
    return count / passed if passed else float("inf")


def _write_speed(folder: str) -> float:
    """Return the bytes per second that reach the disk, with the sync at the end."""
    block = np.random.default_rng(0).bytes(BLOCK_BYTES)  # a file system that compresses would be too fast with zeros
    with tempfile.TemporaryFile(prefix=".ml-dash-doctor-", dir=folder) as file:
        began = time.perf_counter()
        written = 0
        while written < WRITTEN_BYTES and (time.perf_counter() - began < WRITE_S or not written):
            written += os.write(file.fileno(), block)
        os.fsync(file.fileno())
        return written / (time.perf_counter() - began)
