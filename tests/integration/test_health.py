"""exp.health(): what the tracker did and what it cost."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ml_dash import Experiment

KEYS = {
    "published", "applied", "bytes_waiting", "frames_written", "frames_dropped", "records_refused", "errors", "last_error",
    "writer_pid", "writer_restarts", "writer_memory", "writer_on_thread", "shared_memory", "frame_buffer_bytes", "calls",
    "cost_seconds", "cost_share",
}  # fmt: skip


@pytest.fixture
def experiment(tmp_path):
    made = Experiment("alice/walker/run-1", dash_root=tmp_path, echo=False, frame_buffer_mb=8)
    yield made
    made.run.cancel()


def test_an_open_run(experiment):
    exp = experiment.run.start()
    exp.flush()
    before = exp.health()
    for step in range(10):
        exp.metrics("m").log(step=step)
        exp.files("frames").save_image(np.zeros((40, 40, 3), np.uint8), to=f"{step}.png")
    exp.flush()
    after = exp.health()

    assert KEYS == set(before) == set(after)
    assert 20 == after["published"] - before["published"] == after["calls"] - before["calls"]
    assert after["published"] == after["applied"]
    assert {
        "bytes_waiting": 0,
        "frames_written": 10,
        "frames_dropped": 0,
        "records_refused": 0,
    }.items() <= after.items()
    assert {"errors": 0, "last_error": "", "writer_restarts": 0, "writer_on_thread": False}.items() <= after.items()
    assert 8 << 20 == after["frame_buffer_bytes"]
    assert after["writer_pid"] not in (0, os.getpid())
    assert 0 < after["cost_seconds"]
    assert 0 < after["cost_share"] < 1


def test_a_closed_run_keeps_its_last_numbers(experiment):
    with experiment.run as exp:
        exp.log("x")
    first, second = experiment.health(), experiment.health()

    assert first == second
    assert KEYS == set(first)
    assert first["published"] == first["applied"]
    assert 0 == first["bytes_waiting"]


def test_frames_that_wait_are_seen(experiment):
    exp = experiment.run.start()
    pixels = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), dtype=np.uint8)
    exp.files.save_image(pixels, to="a.png")

    assert exp.health()["bytes_waiting"] >= pixels.nbytes
    exp.flush()
    assert 0 == exp.health()["bytes_waiting"]


def test_what_the_tracker_did_stands_in_the_runs_document(experiment, tmp_path):
    import json

    with experiment.run as exp:
        for _ in range(3):
            exp.frames("cam").append(np.zeros((8, 8), np.uint8))
    found = json.loads((tmp_path / "alice/walker/run-1/experiment.json").read_text())

    assert (3, 0, 0, 0) == tuple(
        found[key] for key in ("frames_written", "frames_dropped", "records_refused", "tracker_errors")
    )
