"""Simulate a double pendulum and record an image, its energy and its pose at every step.

Run it with ``python examples/quickstart.py``. It needs only ml-dash, and writes only below ``.dash``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ml_dash import Experiment

STEPS = 240
DT = 1 / 60
SUBSTEPS = 8
GRAVITY = 9.81
START = (2.2, 2.6, 1.2, -0.8)  # both angles from the vertical in radians, both angular velocities in 1/s

HEIGHT, WIDTH = 480, 640
PIVOT = np.array([WIDTH / 2, 190.0])
PIXELS_PER_METRE = 110.0
BACKGROUND, ROD, FIRST, SECOND = (18, 22, 34), (150, 160, 180), (255, 176, 59), (64, 196, 255)

Vector = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]


def acceleration(state: Vector) -> Vector:
    """Return the time derivative of the state of two masses of 1 kg on rods of 1 m."""
    a, b, u, v = state
    sine, cosine = np.sin(a - b), np.cos(a - b)
    shared = 2 - cosine**2
    du = (-2 * GRAVITY * np.sin(a) + GRAVITY * np.sin(b) * cosine - sine * (v**2 + u**2 * cosine)) / shared
    dv = (2 * sine * u**2 + 2 * GRAVITY * np.sin(a) * cosine - 2 * GRAVITY * np.sin(b) + sine * cosine * v**2) / shared
    return np.array([u, v, du, dv])


def step(state: Vector) -> Vector:
    """Return the state one frame later: Runge-Kutta of fourth order in a few substeps."""
    h = DT / SUBSTEPS
    for _ in range(SUBSTEPS):
        k1 = acceleration(state)
        k2 = acceleration(state + h / 2 * k1)
        k3 = acceleration(state + h / 2 * k2)
        k4 = acceleration(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


def positions(state: Vector) -> Vector:
    """Return the positions of both masses in metres, x to the right and y up, the pivot at (0, 0); shape (2, 2)."""
    a, b = state[:2]
    elbow = np.array([np.sin(a), -np.cos(a)])
    return np.array([elbow, [elbow[0] + np.sin(b), elbow[1] - np.cos(b)]])


def energies(state: Vector) -> dict[str, float]:
    """Return the kinetic, potential and total energy in joules."""
    a, b, u, v = state
    kinetic = u**2 + v**2 / 2 + u * v * np.cos(a - b)
    potential = GRAVITY * positions(state)[:, 1].sum()
    return {"kinetic": float(kinetic), "potential": float(potential), "total": float(kinetic + potential)}


class Canvas:
    """Draws the pendulum, and a fading trail of the lower mass."""

    def __init__(self) -> None:
        self._trail = np.zeros((HEIGHT, WIDTH), np.uint8)
        self._before: tuple[int, int] | None = None

    def draw(self, state: Vector) -> Picture:
        """Return the image of one state: RGB, uint8, 480x640x3."""
        elbow, hand = (self._pixel(point) for point in positions(state))
        self._extend_trail(hand)
        picture = self._background()
        cv2.line(picture, self._pixel(np.zeros(2)), elbow, ROD, 4, cv2.LINE_AA)
        cv2.line(picture, elbow, hand, ROD, 4, cv2.LINE_AA)
        cv2.circle(picture, self._pixel(np.zeros(2)), 6, ROD, -1, cv2.LINE_AA)
        cv2.circle(picture, elbow, 15, FIRST, -1, cv2.LINE_AA)
        cv2.circle(picture, hand, 15, SECOND, -1, cv2.LINE_AA)
        return picture

    def _extend_trail(self, hand: tuple[int, int]) -> None:
        self._trail = (self._trail * 0.985).astype(np.uint8)
        cv2.line(self._trail, self._before or hand, hand, 255, 3, cv2.LINE_AA)
        self._before = hand

    def _background(self) -> Picture:
        glow = self._trail[..., None] / 255 * 0.8
        return (np.array(BACKGROUND) * (1 - glow) + np.array(SECOND) * glow).astype(np.uint8)

    @staticmethod
    def _pixel(point: Vector) -> tuple[int, int]:
        x, y = PIVOT + PIXELS_PER_METRE * point * [1, -1]
        return round(x), round(y)


def simulate(exp: Experiment) -> None:
    """Step, draw and record."""
    canvas, state = Canvas(), np.array(START)
    exp.log("the pendulum is let go", steps=STEPS)
    for number in range(STEPS):
        picture = canvas.draw(state)
        exp.files("frames").save_image(picture, to=f"frame_{number:05d}.jpg", quality=95)
        exp.metrics("energy").log(step=number, **energies(state))
        exp.tracks("pendulum/pose").append(q=state[:2], qvel=state[2:], masses=positions(state), _ts=number * DT)
        state = step(state)
    exp.log("the time is over", drift=energies(state)["total"] - energies(np.array(START))["total"])


def tree(folder: Path, indent: str = "") -> None:
    """Print the files of a folder with their sizes; a folder with many files is one line."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            print(f"{indent}{path.name}  {path.stat().st_size:,} bytes")
            continue
        files = [file for file in path.rglob("*") if file.is_file()]
        if len(files) > 20:
            print(f"{indent}{path.name}/  {len(files)} files, {sum(file.stat().st_size for file in files):,} bytes")
        else:
            print(f"{indent}{path.name}/")
            tree(path, indent + "    ")


def cost(health: dict[str, Any], seconds: float) -> None:
    """Print the time that recording took from the simulation."""
    each = health["cost_seconds"] / health["calls"] * 1e6
    print(f"{health['calls']} calls in {seconds:.1f} s, {each:.0f} microseconds each:", end=" ")
    print(f"{health['cost_seconds'] / seconds:.1%} of the simulation's time")
    print(f"{health['frames_written']} frames written, {health['frames_dropped']} dropped, {health['errors']} errors")


def main() -> None:
    """Simulate and record; print the files and the cost."""
    experiment = Experiment(
        "examples/pendulum/quickstart",
        readme="A double pendulum, pushed off near the top.",
        tags=["example", "physics"],
        dash_root=sys.argv[1] if len(sys.argv) > 1 else ".dash",
    )
    with experiment.run as exp:
        exp.params.set(steps=STEPS, physics={"dt": DT, "gravity": GRAVITY, "start": START}, picture=(HEIGHT, WIDTH))
        started = time.perf_counter()
        simulate(exp)
        seconds = time.perf_counter() - started
        folder = Path(exp.folder)
    print(f"\n{folder}")
    tree(folder, "    ")
    print()
    cost(experiment.health(), seconds)


if __name__ == "__main__":
    main()
