"""MLRun under kill -9: all metrics that were added are there, and each file is the old one or the new one."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import tomllib

import pytest

from ml_dash import MLRun
from tests.support import python_environment

pytestmark = [pytest.mark.crash, pytest.mark.slow]

KILLS_OF_A_RUN = 10
KILLS_OF_A_FILE = 20

LONGEST_RUN_S = 0.3
"""A process lives for a random time up to this after its first call; metrics.toml is written four times a second."""

ADDING = """
import os, sys
from ml_dash import MLRun

if os.path.exists("base/demo/run/config.toml"):
    run = MLRun.load("run", "base")
else:
    run = MLRun.create({"text": "x" * 1000}, "base", "demo", wandb_mode="disabled", id="run")
step = int(sys.argv[1])
while True:
    run.add_metrics({"step": step, "eval": {f"k{step % 50}": step}})
    os.write(1, b"%d\\n" % step)
    step += 1
"""

REWRITING = """
import os, sys
from ml_dash.managed.store import RunFiles
from ml_dash.managed.history import History
from ml_dash.managed.points import record

files = RunFiles("run")
history = History("run", {}, {})
number = int(sys.argv[1])
while True:
    record(history.own, {f"metric {index}": number for index in range(100)}, float(number))
    files.save_metrics(history, None)
    files.write_config({"number": number, "text": "x" * 20_000, "again": number})
    os.write(1, b"%d\\n" % number)
    number += 1
"""


def run_and_kill(code, cwd, first, seconds):
    """Start `code`, kill it after so many seconds, and return the last number that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(first)],
        cwd=cwd,
        env=python_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        said = process.stdout.readline()
        # The rest of its output is read after its end: a pipe holds more than it can print in that time.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            raise AssertionError("the program ended by itself")
    finally:
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
    lines = (said + rest).split(b"\n")
    return int(lines[-2])


def test_metrics_of_a_killed_process_are_there_and_its_run_goes_on(tmp_path):
    """Processes add to one run one after the other, and each is killed at a random time."""
    chance = random.Random(1)
    expected, last = {}, -1
    for _ in range(KILLS_OF_A_RUN):
        first = last + 1
        last = run_and_kill(ADDING, tmp_path, first, chance.uniform(0, LONGEST_RUN_S))
        expected.update({f"k{step % 50}": step for step in range(first, last + 1)})

        run = MLRun.load("run", tmp_path / "base")

        # One call may have been in flight at the kill.
        assert run.metrics["step"] in (last, last + 1)
        in_flight = {f"k{(last + 1) % 50}": last + 1} if run.metrics["step"] > last else {}
        assert expected | in_flight == run.metrics["eval"]
        assert "FAILED" == run.status
        saved = tomllib.loads((tmp_path / "base/demo/run/metrics.toml").read_text())
        assert run.metrics == saved, "loading brings the file up to date"
        last = run.metrics["step"]
        expected |= in_flight
    assert {"text": "x" * 1000} == run.config


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    """A process that does nothing but replace both files, killed twenty times."""
    chance = random.Random(2)
    folder = tmp_path / "run"
    folder.mkdir()
    last = 0
    for _ in range(KILLS_OF_A_FILE):
        said = run_and_kill(REWRITING, tmp_path, last + 1, chance.uniform(0, 0.1))

        metrics = tomllib.loads((folder / "metrics.toml").read_text())
        config = tomllib.loads((folder / "config.toml").read_text())
        numbers = set(metrics.values())
        assert (1, 100) == (len(numbers), len(metrics))
        assert numbers <= {said, said + 1}
        assert config["number"] == config["again"] in (said, said + 1)
        assert max(*numbers, config["number"]) > last
        last = max(*numbers, config["number"])
    left = list(folder.glob(".*.tmp-*"))
    assert len(left) <= 2, "what a killed process left half written is written over by the next"
