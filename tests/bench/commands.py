"""The command line (help, list of many runs), and the time that ``MLRun.add_metrics`` takes from its caller."""

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
from typing import NamedTuple
from unittest import mock

from ml_dash import MLRun
from ml_dash.managed.points import to_point, update_values
from ml_dash.manager import validation
from ml_dash.records.values import encode
from tests.bench.measure import Row, median

ROUNDS = 5
SLOWEST_ROUNDS = 5
"""A virtual machine that stops for a moment spoils one round only."""

COPY_BYTES = 1 << 20
"""Bytes of memory through which the copies beside the calls go."""

METRICS: dict[str, object] = {"loss": 0.5, "accuracy": 0.9, "step": 1}


def measure(folder: Path, short: bool) -> list[Row]:
    """Measure whole processes, from start to end."""
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
    """The slowest call of all; those in which another process had the processor are shown, and do not count.

    Beside each call stands one that checks and copies the same values within this process: there is no run, no other
    process and no thread in it, so that what it takes at most is the machine's. The garbage collector rests: it would
    walk through all that the benchmark has loaded.
    """
    place = {"WANDB_MODE": mode, "WANDB_DIR": str(folder), "WANDB_SILENT": "true", "WANDB_CACHE_DIR": str(folder)}
    calls, copies, copy = [], [], _Copy()
    with mock.patch.dict(os.environ, place):
        run = MLRun.create(config={"lr": 0.1}, base_dir=str(folder / "managed"), project_name="bench", entity=None)
        gc.collect()
        gc.disable()
        try:
            for step in range(300 if short else 5_000):
                metrics = {**METRICS, "step": step}
                # In turn, because the first one finds the processor in the state that another program left.
                both = ((calls, run.add_metrics), (copies, copy))
                for costs, call in both if step % 2 else both[::-1]:
                    costs.append(_timed(call, metrics))
                time.sleep(0.001)  # a training step
        finally:
            gc.enable()
        run.finish()
    slowest, usual, longest = _slowest(calls)
    return Row(
        f"add_metrics with wandb {mode}, slowest of {len(calls):,}",
        f"{slowest:.0f} µs, of a round {usual:.0f} µs, median {median([call.cost for call in calls]):.0f} µs, waits {sum(call.waits for call in calls)}; "
        f"{longest:.0f} µs with what others took",
        "a copy within the process: slowest {:.0f} µs, of a round {:.0f} µs; {:.0f} µs with what others took".format(
            *_slowest(copies)
        ),
        "",
        "<= 1000 µs",
        slowest <= 1000,
    )


class _Call(NamedTuple):
    """One call: its microseconds, how often it waited, and how often it lost the processor."""

    cost: float
    waits: int
    taken: int


def _timed(call: Callable[[dict[str, object]], object], metrics: dict[str, object]) -> _Call:
    before = resource.getrusage(resource.RUSAGE_THREAD)
    began = time.perf_counter()
    call(metrics)
    cost = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_THREAD)
    return _Call(cost * 1e6, after.ru_nvcsw - before.ru_nvcsw, after.ru_nivcsw - before.ru_nivcsw)


def _slowest(calls: list[_Call]) -> tuple[float, float, float]:
    """Return the slowest call that kept the processor, of all and as the median of the rounds, and the slowest of all calls."""
    size = len(calls) // SLOWEST_ROUNDS
    rounds = [calls[start : start + size] for start in range(0, size * SLOWEST_ROUNDS, size)]
    slowest = [max(call.cost for call in part if not call.taken) for part in rounds]
    return max(slowest), median(slowest), max(calls).cost


class _Copy:
    """The least that a call must do: check the values, flatten them, keep the last ones, copy them as JSON."""

    def __init__(self) -> None:
        self._memory = bytearray(COPY_BYTES)
        self._at = 0
        self._last: dict[str, object] = {}

    def __call__(self, metrics: dict[str, object]) -> None:
        update = validation.checked_metrics(metrics)
        line = encode(to_point(update), "metrics")
        self._at = (self._at + len(line)) % (COPY_BYTES - len(line))
        self._memory[self._at : self._at + len(line)] = line
        update_values(self._last, update)
