"""Many runs as one table: the first scan against parsing the same files, a scan without changes, and a search."""

from __future__ import annotations

import os
import random
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from ml_dash import MLProject
from ml_dash.catalog.walk import YOUNG_NS
from tests.bench.measure import Row, median

PARAMETERS = 50
METRICS = 20
ROUNDS = 5
QUERY = "m1 > 0.5 and `model.name` == 'net-3'"


def measure(folder: Path, short: bool) -> list[Row]:
    """Measure ``MLProject`` with runs of 50 parameters and 20 metrics each."""
    count = 1_000 if short else 10_000
    root = folder / "checkpoints"
    runs = _write(root, count)
    time.sleep(YOUNG_NS / 1e9 + 0.1)  # files that changed a moment ago are read again, which is not what is measured
    with mock.patch.dict(os.environ, {"ML_DASH_CACHE_DIR": str(folder / "cache")}):
        MLProject(folder / "nothing")  # loads pandas and Arrow
        plain = _seconds(lambda: _parse(runs))
        first = _seconds(lambda: MLProject(root))
        again = median([_seconds(lambda: MLProject(root)) for _ in range(ROUNDS)])
        changed = median([_changed(root, runs[k]) for k in range(ROUNDS)])
        project = MLProject(root)
    ours, pandas = _alternate(lambda: project.search(QUERY), lambda: project.df.query(QUERY))
    what = f"table of {count:,} runs"
    return [
        Row(what, f"{first:.2f} s", f"tomllib in a loop {plain:.2f} s", *_ratio(first / plain, 1.5)),
        Row(f"{what} again", f"{again:.3f} s", "", "", *_limit(again, 0.3, "s")),
        Row(f"{what}, one changed", f"{changed:.3f} s", "", "", *_limit(changed, 0.4, "s")),
        Row(
            f"search in {count:,} runs",
            f"{ours * 1e3:.1f} ms",
            f"pandas {pandas * 1e3:.1f} ms",
            f"{(ours - pandas) * 1e3:+.1f} ms",
            "<= +20 ms",
            ours - pandas <= 0.02,
        ),
    ]


def _write(root: Path, count: int) -> list[Path]:
    generator = random.Random(0)
    runs = []
    for number in range(count):
        run = root / f"project-{number % 10}" / f"run{number:05d}"
        run.mkdir(parents=True)
        lines = [f"p{k} = {generator.random() if k % 2 else generator.randrange(1000)}" for k in range(PARAMETERS - 10)]
        lines += ["[model]", f'name = "net-{number % 7}"', *(f"x{k} = {k * number}" for k in range(9))]
        lines += [
            "[_meta]",
            "created_at = 2026-03-01T09:00:01.250000Z",
            'git_commit = "0123abc"',
            'status = "COMPLETED"',
        ]
        (run / "config.toml").write_text("\n".join(lines))
        (run / "metrics.toml").write_text("\n".join(f"m{k} = {generator.random()}" for k in range(METRICS)))
        runs.append(run)
    return runs


def _parse(runs: list[Path]) -> list[Any]:
    found = []
    for run in runs:
        for name in ("config.toml", "metrics.toml"):
            with (run / name).open("rb") as file:
                found.append(tomllib.load(file))
    return found


def _changed(root: Path, run: Path) -> float:
    with (run / "metrics.toml").open("a") as file:
        file.write("\n")
    return _seconds(lambda: MLProject(root))


def _alternate(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float]:
    costs = [(_seconds(ours), _seconds(theirs)) for _ in range(2 * ROUNDS)]
    return median([cost for cost, _ in costs]), median([cost for _, cost in costs])


def _ratio(ratio: float, goal: float) -> tuple[str, str, bool]:
    return f"{ratio:.2f}x", f"<= {goal}x", ratio <= goal


def _limit(value: float, goal: float, unit: str) -> tuple[str, bool]:
    return f"<= {goal} {unit}", value <= goal


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
