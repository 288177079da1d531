"""Slowdown of the training computation by the tracker beside it."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ml_dash import Experiment
from tests.bench.calls import POSE, SCALARS, opened
from tests.bench.measure import Row, compute, frames, median
from tests.bench.throughput import encode_seconds

FRAME_S = 1 / 30


def measure(folder: Path, short: bool) -> list[Row]:
    """Measure a loop with the tracker between two loops without it."""
    unit = _unit_seconds()
    rounds = 24 if short else 80
    with opened(folder, "training") as exp:
        relaxed = _slowdown(exp, round(FRAME_S / unit), rounds, 5)
        busy = _slowdown(exp, max(1, round(encode_seconds(frames(1)[0]) * 1.05 / unit)), rounds, 100)
    return [
        _row("training at 30 frames/s", "loop with us", relaxed, 1.02),
        _row("training at the encoder's limit", "its computation with us", busy, 1.10),
    ]


def _row(what: str, ours: str, slowdown: _Slowdown, goal: float) -> Row:
    against = f"the same loop without us, which differs from itself by {slowdown.noise:.1%}"
    return Row(what, ours, against, f"{slowdown.ratio:.3f}x", f"<= {goal:.2f}x", slowdown.ratio <= goal)


class _Slowdown(NamedTuple):
    """Slowdown of the loop, as the median of the rounds.

    Attributes:
        ratio: time with the tracker over the mean of the times without it before and after.
        noise: by how much those two differ, as the middle of the rounds: a machine that drifts does so within seconds,
            which is why the rounds are short and many.
    """

    ratio: float
    noise: float


def _slowdown(exp: Experiment, units: int, rounds: int, steps: int) -> _Slowdown:
    ratios, noise = [], []
    for _ in range(rounds):
        before = _loop(units, steps)
        with_us = _loop_with_us(exp, units, steps)
        exp.flush()
        after = _loop(units, steps)
        ratios.append(2 * with_us / (before + after))
        noise.append(abs(after - before) / before)
    return _Slowdown(median(ratios), median(noise))


def _loop_with_us(exp: Experiment, units: int, steps: int) -> float:
    pictures = _pictures()
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
    return total - (spent if units * _unit_seconds() < FRAME_S / 2 else 0.0)


@functools.cache
def _pictures() -> list[np.ndarray]:
    return frames()


def _loop(units: int, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        compute(units)
    return time.perf_counter() - began


@functools.cache
def _unit_seconds() -> float:
    return median([_loop(20, 10) for _ in range(20)]) / 200
