"""Reading back: columns and windows of long streams against parsing all of their lines, and the list of many files."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from ml_dash import BufferConfig, Experiment
from tests.bench.measure import Row, median
from tests.run_contents import copy_coverage

ROUNDS = 3
COPY_LIMIT_S = 300.0
"""Time within which the copies of a run that has ended appear."""


def measure(folder: Path, short: bool) -> list[Row]:
    """Measure reads of a run with a long metric and a long track, after its columnar copies are made."""
    count = 100_000 if short else 1_000_000
    run = _record(folder, count)
    config = BufferConfig(echo=False)
    with Experiment("bench/reading/run", dash_root=str(folder), buffer_config=config).run as exp:
        metric, track = exp.metrics("train"), exp.tracks("robot/pose")
        middle = count // 2
        return [
            *_rows(
                f"metric of {count:,} points",
                run / "metrics/train/data.jsonl",
                metric.numpy,
                {
                    "1000 points by index": lambda: metric.read(middle, 1000),
                    "1000 points by time": lambda: metric.table(start_timestamp=middle, end_timestamp=middle + 999),
                },
            ),
            *_rows(
                f"track of {count:,} rows",
                run / "tracks/robot/pose/data.jsonl",
                track.numpy,
                {
                    "1000 rows by time": lambda: track.read(start_timestamp=middle, end_timestamp=middle + 999),
                },
            ),
        ]


def measure_listing(folder: Path, short: bool) -> list[Row]:
    """Measure ``exp.files.list()`` of a run with many files."""
    count = 10_000 if short else 100_000
    config = BufferConfig(echo=False)
    with Experiment("bench/listing/run", dash_root=str(folder), buffer_config=config).run as exp:
        for number in range(count):
            exp.files("texts").save_blob(b"x", to=f"file_{number:06d}.txt")
        exp.flush()
        seconds = _seconds(exp.files.list)
    per = seconds * 100_000 / count
    return [Row(f"list {count:,} files", f"{seconds:.2f} s", "", f"{per:.2f} s per 100,000", "<= 0.5 s", per <= 0.5)]


def _record(folder: Path, count: int) -> Path:
    generator = random.Random(0)
    config = BufferConfig(echo=False, columnar_rows=1)
    with Experiment("bench/reading/run", dash_root=str(folder), buffer_config=config).run as exp:
        metric, track = exp.metrics("train"), exp.tracks("robot/pose")
        for step in range(count):
            loss, reward = generator.random(), generator.gauss(0, 10)
            metric.log(loss=loss, accuracy=1 - loss, lr=3e-4, reward=reward, step=step, _ts=float(step))
            track.append(q=[loss, reward, 0.1, 0.2, 0.3, 0.4, 0.5], _ts=float(step))
    run = folder / "bench/reading/run"
    deadline = time.monotonic() + COPY_LIMIT_S
    for journal in (run / "metrics/train/data.jsonl", run / "tracks/robot/pose/data.jsonl"):
        while copy_coverage(str(journal)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{journal} has no columnar copy after {COPY_LIMIT_S:g} s")
            time.sleep(0.1)
    return run


def _rows(what: str, journal: Path, to_numpy: Callable[[], Any], windows: dict[str, Callable[[], Any]]) -> list[Row]:
    parsed = _seconds(lambda: _parse(journal))
    against = f"orjson over its lines {parsed:.2f} s"
    rows = [_row(f"{what} into numpy", _seconds(to_numpy), against, parsed, 0.25)]
    return rows + [_row(f"{name} of a {what}", _seconds(read), against, parsed, 0.02) for name, read in windows.items()]


def _row(what: str, ours: float, against: str, theirs: float, goal: float) -> Row:
    return Row(what, f"{ours * 1e3:.1f} ms", against, f"{ours / theirs:.3f}x", f"<= {goal}x", ours <= goal * theirs)


def _parse(journal: Path) -> list[Any]:
    with journal.open("rb") as file:
        return [orjson.loads(line) for line in file]


def _seconds(call: Callable[[], Any]) -> float:
    """Return the median of some rounds after a first one that loads modules."""
    call()
    costs = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        costs.append(time.perf_counter() - began)
    return median(costs)
