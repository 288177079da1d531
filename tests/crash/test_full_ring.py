from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from ml_dash.ipc.supervisor import MAX_RESTARTS
from tests.crash.harness import (
    DEADLINE_S,
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
from tests.crash.test_writer_killed import assert_complete, training
from tests.support import wait_released, wait_until

pytestmark = pytest.mark.crash

SHAPE = (240, 320)
"""225 KiB of pixels: four frames fill the ring below, and a call hands them over faster than JPEG is made of them."""

FULL = {"frame_buffer_mb": 1}
LOAD = {"shape": SHAPE, "pace": False, "only": ("image", "metric", "frame", "log")}
POLICIES = ("block", "drop")

SHARE = 5
"""The other crash tests have so many kills for one of these, which take longer."""

KILLS = 10
"""The most kills of one run's trainer; all files of the run are checked after each."""

TRAINER_KILLS = -(-ROUNDS // SHARE)
WRITER_SERIES = -(-TRAINER_KILLS // MAX_RESTARTS)
"""Runs for each policy."""

NEARLY_FULL = 0.6
"""Share of the ring: one more frame of `SHAPE` fills it."""


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("series", "kills"), list(enumerate(kills_of_runs(TRAINER_KILLS, KILLS))))
def test_a_trainer_killed_while_the_frame_ring_is_full_loses_nothing(tmp_path, series, kills, policy):
    """Frames that wait in the ring are written after the kill; frames that the policy dropped are counted."""
    chance = random.Random(series)
    run = tmp_path / "dash/alice/walker/run"
    acknowledged, counters = Acknowledged(), [fresh_counters(), fresh_counters()]
    checked = set()
    for kill in range(1, kills + 1):
        dropped_before = sum(map(len, acknowledged.dropped.values()))
        with Trainer(tmp_path, counters, {**FULL, "frame_policy": policy}, _load(policy)) as trainer:
            trainer.wait_open()
            trainer.let_run(chance.random() * 2 * LONGEST_RUN_S)
            trainer.kill()
        wait_released(run)
        acknowledged = Acknowledged.read(tmp_path / "acknowledged")
        found = find(run, SHAPE, checked)
        compare(acknowledged, found, in_flight=kill)
        assert_tidy(run)
        assert "FAILED" == status_of(run)["status"]
        dropped = sum(map(len, acknowledged.dropped.values())) - dropped_before
        assert dropped <= status_of(run)["frames_dropped"] <= dropped + 2
        counters = next_counters(acknowledged, found)
    assert found == find(run, SHAPE)
    dropped = sum(map(len, acknowledged.dropped.values()))
    assert (dropped > 0) == (policy == "drop")
    print(f"\n{policy}: {kills} kills, {acknowledged.total} calls, {dropped} dropped, all others there once")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("series", range(WRITER_SERIES))
def test_a_writer_killed_while_the_frame_ring_is_full_loses_nothing(tmp_path, series, policy):
    """The next writer finds the waiting frames in the ring; calls wait for room, or drop and count."""
    chance = random.Random(series)
    with training(tmp_path, _load(policy), **FULL, frame_policy=policy) as done:
        for _ in range(MAX_RESTARTS):
            wait_until(lambda: _is_full(done.exp), DEADLINE_S, "a full ring")
            done.kill_writer(chance, threading.Event())

    health = assert_complete(tmp_path, done, SHAPE)

    dropped = sum(map(len, done.acknowledged.dropped.values()))
    assert (dropped > 0) == (policy == "drop")
    assert dropped == health["frames_dropped"] == _status(tmp_path)["frames_dropped"]
    slowest = max(load.slowest for load in done.loads)
    print(
        f"\n{policy}: {MAX_RESTARTS} kills, {done.acknowledged.total} calls, {dropped} dropped, all others there once; "
        f"slowest call {slowest * 1e3:.0f} ms; new writer after at most {max(done.respawns):.2f} s"
    )


def test_frames_that_a_full_ring_has_no_room_for_are_dropped_and_counted(tmp_path):
    """Each frame is either there under its own number and name, or dropped: never mixed up, never both."""
    load = {**LOAD, "only": ("image", "frame", "metric")}
    with training(tmp_path, load, **FULL, frame_policy="drop") as done:
        wait_until(lambda: done.exp.health()["frames_dropped"] > 200, DEADLINE_S)
        wait_until(lambda: done.exp.health()["frames_written"] > 50, DEADLINE_S)
    run = tmp_path / "dash/alice/walker/run"
    found = find(run, SHAPE)
    # append() gives the stream back, so only the disk says which of its frames were dropped.
    appended = sum(len(done.acknowledged.kept.pop(("frame", thread))) for thread in (0, 1))
    frames = {key: found.pop(key, []) for key in [("frame", 0), ("frame", 1)]}
    images = [sum(len(group["image", thread]) for thread in (0, 1)) for group in _groups(done.acknowledged)]

    compare(done.acknowledged, found, in_flight=0)
    assert_tidy(run)
    assert all(sorted(set(numbers)) == numbers for numbers in frames.values())
    health, written = done.exp.health(), sum(map(len, frames.values()))
    assert 0 < written < appended
    assert images[1] > 0
    assert images[1] + appended - written == health["frames_dropped"] == _status(tmp_path)["frames_dropped"]
    assert images[0] + written == health["frames_written"] == _status(tmp_path)["frames_written"]


def _load(policy: str) -> dict[str, object]:
    if policy == "block":
        return LOAD
    # What save_image returns says whether the frame was dropped.
    return {**LOAD, "only": ("image", "metric", "log")}


def _is_full(exp) -> bool:
    health = exp.health()
    return health["bytes_waiting"] > NEARLY_FULL * health["frame_buffer_bytes"]


def _groups(acknowledged: Acknowledged):
    return acknowledged.kept, acknowledged.dropped


def _status(folder: Path) -> dict[str, object]:
    return status_of(folder / "dash/alice/walker/run")
