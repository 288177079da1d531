"""The command line: its help, and the list of many runs. And what ``MLRun.add_metrics`` costs its caller."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from ml_dash import MLRun
from tests.bench.measure import Row, median

ROUNDS = 5
LOOP_ROUNDS = 1_500
"""What takes about as long as a call of ``add_metrics``."""

METRICS = {"loss": 0.5, "accuracy": 0.9, "step": 1}


def measure(folder: Path, short: bool) -> list[Row]:
    """Whole processes, from their start to their end."""
    count = 1_000 if short else 10_000
    root = folder / "many"
    for number in range(count):
        _write(root / f"alice/project-{number % 20}/run-{number:05d}", number)
    shown = median([_seconds("--help") for _ in range(ROUNDS)])
    listed = median([_seconds("ls", str(root)) for _ in range(ROUNDS)])
    return [
        Row("ml-dash --help", f"{shown * 1e3:.0f} ms", "", "", "<= 150 ms", shown <= 0.15),
        Row(f"ml-dash ls of {count:,} runs", f"{listed:.2f} s", "", "", "<= 1 s", listed <= 1),
        _add_metrics(folder, short, "disabled"),
        _add_metrics(folder, short, "offline"),
    ]


def _write(run: Path, number: int) -> None:
    run.mkdir(parents=True)
    about = {"name": run.name, "project": run.parent.name, "prefix": f"alice/{run.parent.name}/{run.name}", "tags": []}
    about |= {"status": "COMPLETED", "created_at": f"2026-03-01T09:{number % 60:02d}:00.000001Z", "active_seconds": 3.5}
    (run / "experiment.json").write_text(json.dumps(about))
    (run / "parameters.json").write_text(json.dumps({"version": 1, "data": {"lr": number / 1000, "seed": number}}))


def _seconds(*arguments: str) -> float:
    command = [sys.executable, "-m", "ml_dash", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def _add_metrics(folder: Path, short: bool, mode: str) -> Row:
    """The slowest call; those in which another process had the processor for a while are shown, and do not count.

    Beside each call stands a loop of the same length that does nothing of ours: what it takes at most is the machine's.
    The garbage collector rests: it would walk through all that the benchmark has loaded.
    """
    place = {"WANDB_MODE": mode, "WANDB_DIR": str(folder), "WANDB_SILENT": "true", "WANDB_CACHE_DIR": str(folder)}
    calls, loops = [], []
    with mock.patch.dict(os.environ, place):
        run = MLRun.create(config={"lr": 0.1}, base_dir=str(folder / "managed"), project_name="bench", entity=None)
        gc.collect()
        gc.disable()
        try:
            for step in range(1_000 if short else 5_000):
                calls.append(_timed(lambda step=step: run.add_metrics({**METRICS, "step": step})))
                time.sleep(0.001)  # a training step
                loops.append(_timed(_bare_loop))
        finally:
            gc.enable()
        run.finish()
    own = max(cost for cost, was_alone in calls if was_alone)
    longest, other = max(cost for cost, _ in calls), max(cost for cost, was_alone in loops if was_alone)
    return Row(
        f"add_metrics with wandb {mode}, slowest of {len(calls):,}",
        f"{own:.0f} µs, {longest:.0f} µs with what others took",
        f"its median {median([cost for cost, _ in calls]):.0f} µs; a bare loop's slowest {other:.0f} µs",
        "",
        "<= 1000 µs",
        own <= 1000,
    )


def _timed(call: Callable[[], object]) -> tuple[float, bool]:
    """Microseconds that a call took, and whether the processor was this thread's all the time."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    began = time.perf_counter()
    call()
    cost = time.perf_counter() - began
    return cost * 1e6, before == resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def _bare_loop() -> int:
    total = 0
    for number in range(LOOP_ROUNDS):
        total += number
    return total
