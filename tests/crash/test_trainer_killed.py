from __future__ import annotations

import random
from pathlib import Path

import pytest

from ml_dash import Experiment
from tests.crash.harness import (
    LONGEST_RUN_S,
    ROUNDS,
    Acknowledged,
    Trainer,
    assert_tidy,
    compare,
    find,
    fresh_counters,
    kills_of_runs,
    next_counters,
    status_of,
)
from tests.crash.workload import KINDS, Load
from tests.support import wait_released

pytestmark = pytest.mark.crash

KILLS = 10
"""The most kills of one run; all of its files are checked after each."""

EARLY = 0.2
"""Share of the trainers that are killed while they start; the others while they log."""


def kill_one(folder: Path, counters: list[dict[str, int]], chance: random.Random) -> int:
    """Start a trainer, kill it at a random time, wait for its writer, and return the process id."""
    with Trainer(folder, counters, {}, {}) as trainer:
        if chance.random() >= EARLY:
            trainer.wait_open()
        trainer.let_run(chance.random() * LONGEST_RUN_S)
        trainer.kill()
    wait_released(folder / "dash/alice/walker/run")
    return trainer.pid


def complete(folder: Path, acknowledged: Acknowledged, counters: list[dict[str, int]]) -> None:
    """Continue the run in this process with one call of each kind, and complete it."""
    run = folder / "dash/alice/walker/run"
    with Experiment("alice/walker/run", dash_root=folder / "dash", echo=False).run as exp:
        load = Load(exp, 0, acknowledged, counters[0], str(folder))
        for kind in KINDS:
            load.call(kind)
        assert exp.flush()
        assert ("RUNNING", None) == (status_of(run)["status"], status_of(run)["status_reason"])
    assert ("COMPLETED", None) == (status_of(run)["status"], status_of(run)["status_reason"])


@pytest.mark.parametrize(("series", "kills"), list(enumerate(kills_of_runs(ROUNDS, KILLS))))
def test_a_killed_trainer_loses_nothing_and_its_run_goes_on(tmp_path, series, kills, record_property):
    """The trainer is killed at random times: each acknowledged call is on disk once, and the next process continues."""
    chance = random.Random(series)
    run = tmp_path / "dash/alice/walker/run"
    acknowledged, found, opened = Acknowledged(), {}, 0
    counters = [fresh_counters(), fresh_counters()]
    checked = set()
    for kill in range(1, kills + 1):
        pid = kill_one(tmp_path, counters, chance)
        if (tmp_path / "acknowledged").exists():
            acknowledged = Acknowledged.read(tmp_path / "acknowledged")
        found = find(run, checked=checked)
        compare(acknowledged, found, in_flight=kill)
        if acknowledged.opened > opened:
            opened = acknowledged.opened
            assert "FAILED" == status_of(run)["status"]
            assert f"(pid {pid}) ended without closing the run" in status_of(run)["status_reason"]
            assert_tidy(run)
        counters = next_counters(acknowledged, found)

    complete(tmp_path, acknowledged, counters)

    compare(acknowledged, find(run), in_flight=kills)
    assert_tidy(run)
    record_property("acknowledged", acknowledged.total)
    print(f"\n{kills} kills, {opened} of them while open; {acknowledged.total} calls acknowledged, all there once")
