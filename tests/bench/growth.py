"""Whether anything grows with the number of records or files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from ml_dash import Experiment
from tests.bench.calls import SCALARS, opened
from tests.bench.measure import Row, frames, median, paced


def measure(folder: Path, short: bool) -> list[Row]:
    """Cost at the first and the last call, memory at the start and the end."""
    records, files, pictures = (100_000, 5_000, 2_000) if short else (1_000_000, 100_000, 20_000)
    with opened(folder, "records-grow") as exp:
        train = exp.metrics("train")
        cost = _growth(exp, lambda i: train.log(**SCALARS), records)
        before, after = cost[2], cost[3]
        rows = [
            _cost_row(f"metrics.log, 1st and {records:,}th", cost),
            *_memory_rows(f"{records:,} records", before, after),
        ]
    tiny = np.zeros((8, 8), np.uint8)
    with opened(folder, "files-grow") as exp:
        frames_of = exp.files("frames")
        cost = _growth(exp, lambda i: frames_of.save_image(tiny, to=f"frame_{i:07d}.png"), files)
        rows.append(_cost_row(f"save_image, 1st and {files:,}th file", cost))
    real = frames()
    with opened(folder, "frames-grow") as exp:
        cost = _growth(exp, lambda i: exp.files("frames").save_image(real[i % 8], to=f"f{i % 50}.jpg"), pictures)
        rows += _memory_rows(f"{pictures:,} frames", cost[2], cost[3])
    return rows


Memory = tuple[float, float]


def _growth(exp: Experiment, call: Callable[[int], object], count: int) -> tuple[float, float, Memory, Memory]:
    window = min(4000, count // 10)
    paced(call, window // 4, 1)
    exp.flush()
    first = paced(call, window, 1)
    exp.flush()
    memory = _memory(exp)
    for i in range(count):
        call(i)
    exp.flush()
    last = paced(call, window, 1)
    exp.flush()
    return median(first), median(last), memory, _memory(exp)


def _memory(exp: Experiment) -> Memory:
    """Private megabytes of the trainer and of the writer: the rings, which both map, are not counted."""
    writer = psutil.Process(exp.health()["writer_pid"])
    return tuple(_private(process) for process in (psutil.Process(os.getpid()), writer))  # type: ignore[return-value]


def _private(process: psutil.Process) -> float:
    memory = process.memory_info()
    return (memory.rss - memory.shared) / 1e6


def _cost_row(what: str, cost: tuple[float, float, Memory, Memory]) -> Row:
    first, last = cost[:2]
    ratio = last / first
    return Row(
        f"{what}, p50", f"{last:.1f} µs", f"at the start {first:.1f} µs", f"{ratio:.2f}x", "<= 1.1x", ratio <= 1.1
    )


def _memory_rows(what: str, before: Memory, after: Memory) -> list[Row]:
    rows = []
    for who, old, new in zip(("trainer", "writer"), before, after, strict=True):
        limit = "flat" if who == "trainer" else "flat, <= 90 MB"
        fits = new - old <= 5 and (who == "trainer" or new <= 90)
        rows.append(
            Row(
                f"{who} memory over {what}",
                f"{new:.0f} MB",
                f"at the start {old:.0f} MB",
                f"{new - old:+.1f} MB",
                limit,
                fits,
            )
        )
    return rows
