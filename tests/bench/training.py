"""What the training computation itself loses when we run beside it."""

from __future__ import annotations

import time
from pathlib import Path

from ml_dash import Experiment
from tests.bench.calls import POSE, SCALARS, opened
from tests.bench.measure import Row, compute, frames, median
from tests.bench.throughput import encode_seconds

FRAME_S = 1 / 30


def measure(folder: Path, short: bool) -> list[Row]:
    """The same loop with and without us, in turn."""
    unit = _unit_seconds()
    rounds = 4 if short else 12
    with opened(folder, "training") as exp:
        relaxed = _slowdown(exp, round(FRAME_S / unit), rounds, 15)
        busy = _slowdown(exp, max(1, round(encode_seconds(frames(1)[0]) * 1.05 / unit)), rounds, 300)
    return [
        Row(
            "training at 30 frames/s",
            "loop with us",
            "the same loop without us",
            f"{relaxed:.3f}x",
            "<= 1.02x",
            relaxed <= 1.02,
        ),
        Row(
            "training at the encoder's limit",
            "its computation with us",
            "without us",
            f"{busy:.3f}x",
            "<= 1.10x",
            busy <= 1.10,
        ),
    ]


def _slowdown(exp: Experiment, units: int, rounds: int, steps: int) -> float:
    pictures = frames()
    with_us, alone = [], []
    for _ in range(rounds):
        alone.append(_loop(units, steps))
        exp.flush()
        began = time.perf_counter()
        spent = 0.0
        for i in range(steps):
            compute(units)
            call = time.perf_counter()
            exp.files("frames").save_image(pictures[i % 8], to=f"frame_{i:06d}.jpg")
            exp.metrics("train").log(**SCALARS)
            exp.tracks("pose").append(q=POSE, _ts=i / 30)
            spent += time.perf_counter() - call
        total = time.perf_counter() - began
        # At 30 frames/s the whole loop counts; at the encoder's limit the calls wait for it, so the rest does.
        with_us.append(total - (spent if units * _unit_seconds() < FRAME_S / 2 else 0.0))
        exp.flush()
    return median([a / b for a, b in zip(with_us, alone, strict=True)])


def _loop(units: int, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        compute(units)
    return time.perf_counter() - began


_unit: list[float] = []


def _unit_seconds() -> float:
    if not _unit:
        _unit.append(min(_loop(20, 5) for _ in range(5)) / 100)
    return _unit[0]
