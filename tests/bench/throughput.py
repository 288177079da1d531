"""Frames per second that reach the disk."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from ml_dash import BufferConfig
from ml_dash.media.png import encode_png
from tests.bench.calls import opened
from tests.bench.measure import Row, drawings, frames, median


def encode_seconds(picture: np.ndarray) -> float:
    """Return the seconds that OpenCV needs for one JPEG of quality 95, colours swapped, on one core."""
    cv2.setNumThreads(1)
    times = []
    for _ in range(30):
        began = time.perf_counter()
        cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        times.append(time.perf_counter() - began)
    return median(times)


def measure_jpeg(folder: Path, short: bool) -> list[Row]:
    """Measure JPEG frames with one encoder against a bare loop on one core, before and after, in many short rounds."""
    pictures, count = frames(), 100
    ratios, ours = [], []
    # One encoder, whatever this machine would give: with idle processors more are used while training waits.
    with opened(folder, "throughput", buffer_config=BufferConfig(encoders=1, echo=False)) as exp:
        for turn in range(8 if short else 24):
            before = _bare_loop(folder / f"before{turn}", pictures, count)
            began = time.perf_counter()
            for i in range(count):
                exp.files(f"frames{turn}").save_image(pictures[i % 8], to=f"frame_{i:06d}.jpg")
            exp.flush()
            seconds = time.perf_counter() - began
            after = _bare_loop(folder / f"after{turn}", pictures, count)
            ratios.append((before + after) / 2 / seconds)
            ours.append(count / seconds)
    ratio = median(ratios)
    return [
        Row(
            "JPEG frames/s to disk, one encoder",
            f"{median(ours):.0f}/s",
            f"cv2.imencode + write on one core {median(ours) / ratio:.0f}/s",
            f"{ratio:.2f}x",
            ">= 0.9x",
            ratio >= 0.9,
        )
    ]


def measure_png(short: bool) -> list[Row]:
    """Measure frames per second and file sizes of PNG, for drawn and for noisy pictures."""
    pictures = {
        "drawn 640x480": drawings(4),
        "noisy 640x480": frames(4),
        "noisy 1280x720": frames(4, 720, 1280),
    }
    return [_png_row(what, several, 9 if short else 31) for what, several in pictures.items()]


def _png_row(what: str, pictures: list[np.ndarray], rounds: int) -> Row:
    ours, theirs = [], []
    for turn in range(rounds):
        picture = pictures[turn % len(pictures)]
        began = time.perf_counter()
        mine = encode_png(picture)
        middle = time.perf_counter()
        _, others = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        ours.append(middle - began)
        theirs.append(time.perf_counter() - middle)
    ratio = median([other / own for own, other in zip(ours, theirs, strict=True)])
    size = len(mine) / len(others)
    return Row(
        f"PNG frames/s, {what}, size {size:.2f}x",
        f"{1 / median(ours):.0f}/s",
        f"cv2.imencode defaults {1 / median(theirs):.0f}/s",
        f"{ratio:.1f}x",
        ">= 3x, size <= 1x",
        ratio >= 3 and size <= 1,
    )


def _bare_loop(folder: Path, pictures: list[np.ndarray], count: int) -> float:
    folder.mkdir()
    began = time.perf_counter()
    for i in range(count):
        bgr = cv2.cvtColor(pictures[i % 8], cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
        (folder / f"frame_{i:06d}.jpg").write_bytes(data)
    return time.perf_counter() - began
