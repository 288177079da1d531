"""Time that a call takes from the training thread."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import cv2
import numpy as np

from ml_dash import Experiment
from tests.bench.measure import Costs, Row, alternate, frames, median, percentile

SCALARS = {"loss": 0.1234567, "accuracy": 0.51234, "lr": 3e-4, "grad_norm": 3.2123, "fps": 60.0}
POSE = [0.1 * k + 0.01234 for k in range(7)]
STEP_UNITS = 30


@contextmanager
def opened(folder: Path, name: str, **options: object) -> Iterator[Experiment]:
    """Open an experiment without echo."""
    with Experiment(f"bench/calls/{name}", dash_root=folder, echo=False, **options).run as exp:
        yield exp


def measure_image(folder: Path, short: bool) -> list[Row]:
    """Measure ``save_image`` against a bare copy and against a thread pool written by hand."""
    pictures = frames()
    shared = SharedMemory(create=True, size=pictures[0].nbytes)
    warm = np.ndarray(pictures[0].shape, np.uint8, shared.buf)
    pool = ThreadPoolExecutor(2)
    (folder / "pool").mkdir()
    cv2.setNumThreads(1)

    def imwrite(i: int, picture: np.ndarray) -> None:
        path = str(folder / "pool" / f"{i:06d}.jpg")
        cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])

    with opened(folder, "image") as exp:
        sides = (
            lambda i, target=warm: np.copyto(target, pictures[i % 8]),
            lambda i: exp.files("frames").save_image(pictures[i % 8], to=f"frame_{i:06d}.jpg", quality=95),
            lambda i: pool.submit(imwrite, i, pictures[i % 8].copy()),
        )
        bare, ours, by_hand = alternate(sides, 8 if short else 20, 40 if short else 50, STEP_UNITS)
        pool.shutdown()
    sides, warm = (), None
    shared.close()
    shared.unlink()
    p50, p99, ratio = median(ours.all), percentile(ours.all, 0.99), ours.ratio(bare, plus=20)
    return [
        Row(
            "save_image 640x480x3, p50",
            f"{p50:.0f} µs",
            f"bare copy into warm shared memory {median(bare.all):.0f} µs",
            f"{ratio:.2f}x + 20 µs",
            "<= 1.5x + 20 µs",
            ratio <= 1.5,
        ),
        Row(
            "save_image, p99",
            f"{p99:.0f} µs",
            f"its own p50 {p50:.0f} µs; the bare copy's {percentile(bare.all, 0.99):.0f} and {median(bare.all):.0f} µs",
            f"{p99 / p50:.1f}x",
            "<= 4x",
            p99 <= 4 * p50,
        ),
        _ratio("save_image, p50", ours, "thread pool of 2, cv2.imwrite", by_hand, 0.6),
    ]


def measure_records(folder: Path, short: bool) -> list[Row]:
    """Measure metrics, tracks and log lines against writing the same line with ``json`` in the loop, not flushed."""
    rounds, count = (12, 250) if short else (24, 500)
    with (folder / "inline.jsonl").open("w") as file, opened(folder, "records") as exp:

        def now() -> str:
            return datetime.datetime.now(datetime.UTC).isoformat()

        def inline(values: dict[str, object]) -> object:
            return file.write(json.dumps(values) + "\n")

        pairs = {
            "metrics(...).log of 5 floats": (
                lambda i: exp.metrics("train").log(**SCALARS),
                lambda i: inline({"index": i, "data": {**SCALARS, "_ts": time.time()}, "createdAt": now()}),
            ),
            "tracks(...).append of a 7-vector": (
                lambda i: exp.tracks("robot/pose").append(q=POSE, _ts=i / 30),
                lambda i: inline({"timestamp": i / 30, "q": POSE}),
            ),
            "log of a line": (
                lambda i: exp.log(f"step {i} done"),
                lambda i: inline(
                    {"sequenceNumber": i, "timestamp": now(), "level": "info", "message": f"step {i} done"}
                ),
            ),
        }
        rows = []
        for what, sides in pairs.items():
            ours, theirs = alternate(sides, rounds, count, 1)
            rows.append(_ratio(f"{what}, p50", ours, "the same JSON line written inline", theirs, 0.8))
    return rows


def _ratio(what: str, ours: Costs, against: str, theirs: Costs, goal: float) -> Row:
    ratio = ours.ratio(theirs)
    own, others = median(ours.all), median(theirs.all)
    return Row(what, f"{own:.1f} µs", f"{against} {others:.1f} µs", f"{ratio:.2f}x", f"<= {goal}x", ratio <= goal)
