"""Measure: alternate the two sides of a comparison, take medians, print one table."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: name of the measurement.
        ours: our figure, with its unit.
        against: the other side and its figure.
        ratio: our figure over the other one, as text.
        goal: the limit of the ratio, as text.
        reached: whether the goal was reached.
    """

    what: str
    ours: str
    against: str
    ratio: str
    goal: str
    reached: bool


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def frames(count: int = 8, height: int = 480, width: int = 640, noise: float = 4.0) -> list[np.ndarray]:
    """Make pictures of waves with some noise, as a camera gives them: uint8, HxWx3."""
    rows, columns = np.mgrid[0:height, 0:width]
    random = np.random.default_rng(0)
    pictures = []
    for k in range(count):
        waves = [
            (np.sin((columns + 9 * k) / 40) + 1) * 120,
            (np.cos((rows + 7 * k) / 30) + 1) * 120,
            (columns + rows + 5 * k) % 256,
        ]
        picture = np.stack(waves, -1) + random.normal(0, noise, (height, width, 3))
        pictures.append(np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8)))
    return pictures


def drawings(count: int = 8, height: int = 480, width: int = 640) -> list[np.ndarray]:
    """Make pictures as a simulator draws them, of a shaded ground and smooth bodies: uint8, HxWx3."""
    shade = np.linspace(40, 200, height, dtype=np.float32)[:, None, None]
    pictures = []
    for k in range(count):
        picture = np.broadcast_to(shade * (0.8, 0.9, 1.0), (height, width, 3)).astype(np.uint8).copy()
        for body in range(12):
            centre = (int(width * (0.1 + 0.07 * body)), int(height * (0.5 + 0.3 * np.sin(body + k / 5))))
            for ring in range(30, 0, -2):
                cv2.circle(picture, centre, ring, (255 - 5 * ring, 40 + 4 * body, 6 * ring), -1, cv2.LINE_AA)
        pictures.append(picture)
    return pictures


_MATRIX = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)


def compute(units: int) -> int:
    """Do the work of a training step in Python and numpy; a unit takes about 0.1 ms."""
    total = 0
    for _ in range(units):
        for k in range(2000):
            total += k * k
        _ = _MATRIX @ _MATRIX
    return total


def paced(call: Callable[[int], object], count: int, pause_units: int, start: int = 0) -> list[float]:
    """Return the microseconds of each of ``count`` calls, with work between them as in a training loop."""
    costs = []
    for i in range(start, start + count):
        compute(pause_units)
        began = time.perf_counter()
        call(i)
        costs.append((time.perf_counter() - began) * 1e6)
    return costs


class Costs(list[list[float]]):
    """Microseconds of each call of one side, round by round."""

    @property
    def all(self) -> list[float]:
        """The costs of every round."""
        return [cost for costs in self for cost in costs]

    def ratio(self, other: Costs, plus: float = 0.0) -> float:
        """Return how much longer this side takes, as the median of the rounds: a machine that drifts slows both.

        Args:
            other: the other side, from the same rounds.
            plus: microseconds that are subtracted from this side first.
        """
        pairs = zip(self, other, strict=True)
        return median([(median(own) - plus) / median(others) for own, others in pairs])


def alternate(sides: Sequence[Callable[[int], object]], rounds: int, count: int, units: int) -> list[Costs]:
    """Measure the costs of several sides in turn."""
    costs = [Costs() for _ in sides]
    gc.collect()
    for turn in range(rounds):
        for side, call in enumerate(sides):
            measured = paced(call, count, units, turn * count)
            costs[side].append(measured if turn else measured[count // 4 :])
    return costs


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def table(rows: Sequence[Row]) -> str:
    """Format the rows as aligned text."""
    cells = [("", "ours", "against", "ratio", "goal", "")]
    cells += [(r.what, r.ours, r.against, r.ratio, r.goal, "ok" if r.reached else "MISSED") for r in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
