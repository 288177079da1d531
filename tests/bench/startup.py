"""The time to import ml_dash, to start a run and to complete it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.calls import opened
from tests.bench.measure import Row, frames, median

_PROGRAM = """
import os, sys, time
import numpy
began = time.perf_counter()
import ml_dash
from ml_dash import Experiment
imported = time.perf_counter()
experiment = Experiment("bench/startup/run", dash_root=sys.argv[1], echo=False)
ready = time.perf_counter()
experiment.run.start()
started = time.perf_counter()
heavy = [name for name in ("cv2", "pyarrow", "httpx", "wcwidth", "click") if name in sys.modules]
print((imported - began) * 1e3, (started - ready) * 1e3, len(heavy))
writer = 0
while not writer:
    writer = experiment.health()["writer_pid"]
experiment.run.complete()
# The writer may still bring files to the disk, and the next start is not to wait for that.
while os.path.exists(f"/proc/{writer}"):
    time.sleep(0.01)
"""


def measure(folder: Path, short: bool) -> list[Row]:
    """Measure the import and the start in fresh processes, and the end of a run with nothing waiting."""
    runs = [_one(folder / f"start{turn}") for turn in range(5 if short else 11)]
    imported, started = median([run[0] for run in runs]), median([run[1] for run in runs])
    heavy = sum(run[2] for run in runs)
    ending = median([_ending(folder, turn) for turn in range(3 if short else 7)])
    return [
        Row(
            f"import ml_dash and Experiment, heavy imports: {heavy:.0f}",
            f"{imported:.0f} ms",
            "after numpy",
            f"{imported:.0f} ms",
            "<= 40 ms, none",
            imported <= 40 and heavy == 0,
        ),
        Row("run.start()", f"{started:.1f} ms", "", f"{started:.1f} ms", "<= 5 ms", started <= 5),
        Row("run.complete(), nothing waiting", f"{ending:.0f} ms", "", f"{ending:.0f} ms", "<= 150 ms", ending <= 150),
    ]


def _one(folder: Path) -> tuple[float, float, float]:
    # A file, as a training script is: the text after ``python -c`` is searched for secrets when a run starts.
    program = folder.with_suffix(".py")
    program.write_text(_PROGRAM)
    answer = subprocess.run(
        [sys.executable, str(program), str(folder)], capture_output=True, text=True, check=True, timeout=60
    )
    imported, started, heavy = answer.stdout.split()
    return float(imported), float(started), float(heavy)


def _ending(folder: Path, turn: int) -> float:
    pictures = frames(2)
    with opened(folder, f"ending{turn}") as exp:
        for i in range(200):
            exp.metrics("train").log(loss=i)
            exp.files("frames").save_image(pictures[i % 2], to=f"frame_{i}.jpg")
        exp.flush()
        began = time.perf_counter()
        exp.run.complete()
        return (time.perf_counter() - began) * 1e3
