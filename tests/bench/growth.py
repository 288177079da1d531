"""Growth of costs and memory with the number of records and files."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from ml_dash import Experiment
from tests.bench.calls import SCALARS, opened
from tests.bench.measure import Row, alternate, frames, median, paced


def measure(folder: Path, short: bool) -> list[Row]:
    """Measure the cost of the first and the last calls, and memory at the start and the end."""
    records, files, pictures = (100_000, 5_000, 2_000) if short else (1_000_000, 100_000, 20_000)
    with opened(folder, "records-grow") as exp:
        train = exp.metrics("train")
        cost = _growth(exp, lambda i: train.log(**SCALARS), records)
        rows = [
            _cost_row(f"metrics.log, 1st and {records:,}th", cost),
            *_memory_rows(f"{records:,} records", cost),
        ]
    tiny = np.zeros((8, 8), np.uint8)
    with opened(folder, "files-grow") as exp:
        frames_of = exp.files("frames")
        cost = _growth(exp, lambda i: frames_of.save_image(tiny, to=f"frame_{i:07d}.png"), files)
        rows.append(_cost_row(f"save_image, 1st and {files:,}th file", cost))
    real = frames()
    with opened(folder, "frames-grow") as exp:
        cost = _growth(exp, lambda i: exp.files("frames").save_image(real[i % 8], to=f"f{i % 50}.jpg"), pictures)
        rows += _memory_rows(f"{pictures:,} frames", cost)
    return rows


Memory = tuple[float, float]


class _State(NamedTuple):
    """The cost and the memory at one time of a run.

    Attributes:
        cost: microseconds of a call.
        bare: microseconds of writing a line of JSON at that time, since the machine may become slower meanwhile.
        memory: see ``_memory``.
    """

    cost: float
    bare: float
    memory: Memory


def _growth(exp: Experiment, call: Callable[[int], object], count: int) -> tuple[_State, _State]:
    numbers = itertools.count()

    def next_call(_: int) -> None:
        call(next(numbers))

    window = min(4000, count // 10)
    paced(next_call, window // 4, 1)
    before = _state(exp, next_call, window)
    for _ in range(count):
        next_call(0)
    return before, _state(exp, next_call, window)


def _state(exp: Experiment, call: Callable[[int], None], window: int) -> _State:
    exp.flush()
    costs, bare = alternate((call, lambda _: json.dumps(SCALARS)), 8, window // 8, 1)
    exp.flush()
    return _State(median(costs.all), median(bare.all), _memory(exp))


def _memory(exp: Experiment) -> Memory:
    """Return the private megabytes of the trainer and of the writer, without the rings, which both map."""
    writer = psutil.Process(exp.health()["writer_pid"])
    return tuple(_private(process) for process in (psutil.Process(os.getpid()), writer))  # type: ignore[return-value]


def _private(process: psutil.Process) -> float:
    memory = process.memory_info()
    return (memory.rss - memory.shared) / 1e6


def _cost_row(what: str, states: tuple[_State, _State]) -> Row:
    first, last = states
    drift = last.bare / first.bare
    ratio = last.cost / first.cost / drift
    return Row(
        f"{what}, p50",
        f"{last.cost:.1f} µs",
        f"at the start {first.cost:.1f} µs, the machine being {drift:.2f}x as slow now",
        f"{ratio:.2f}x",
        "<= 1.1x",
        ratio <= 1.1,
    )


def _memory_rows(what: str, states: tuple[_State, _State]) -> list[Row]:
    rows = []
    for who, old, new in zip(("trainer", "writer"), states[0].memory, states[1].memory, strict=True):
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
