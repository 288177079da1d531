"""The examples run as a reader runs them, and what they record is looked at frame by frame."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.support import REPOSITORY, lines, python_environment

EXAMPLES = REPOSITORY / "examples"

# Software rendering on a busy machine takes about 0.1 s a frame; this only bounds a hang.
SECONDS = 110


def run_example(name, folder, environment=None):
    """Run an example with `folder` as the current one, and return what it printed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=folder,
        env=python_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert 0 == done.returncode, done.stderr
    assert "" == done.stderr
    return done.stdout


def frames(run):
    """Every saved frame in the order of its number, as OpenCV reads it."""
    entries = json.loads((run / "files/.files_metadata.json").read_text())["files"]
    assert [f"frame_{number:05d}.jpg" for number in range(len(entries))] == [entry["filename"] for entry in entries]
    paths = [run / "files/frames" / entry["id"] / entry["filename"] for entry in entries]
    assert sorted(paths) == sorted(path for path in (run / "files/frames").rglob("*") if path.is_file())
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]


def assert_a_film(pictures, count):
    """So many pictures of 480x640, none of them empty, each one different from the one before."""
    assert count == len(pictures)
    for picture in pictures:
        assert ((480, 640, 3), np.uint8) == (picture.shape, picture.dtype)
        assert picture.max() > 100
        assert picture.std() > 3
    for before, after in itertools.pairwise(pictures):
        assert cv2.absdiff(before, after).max() > 5


def assert_completed(run, frame_count):
    found = json.loads((run / "experiment.json").read_text())
    assert ("COMPLETED", frame_count, 0, 0, 0) == tuple(
        found[key] for key in ("status", "frames_written", "frames_dropped", "records_refused", "tracker_errors")
    )


@pytest.mark.slow
def test_quickstart_and_the_same_again(tmp_path):
    printed = run_example("quickstart.py", tmp_path)
    run = tmp_path / ".dash/examples/pendulum/quickstart"
    pictures = frames(run)
    rows = lines(run / "tracks/pendulum/pose/data.jsonl")
    points = [line["data"] for line in lines(run / "metrics/energy/data.jsonl")]

    assert_completed(run, 240)
    assert_a_film(pictures, 240)
    assert 240 == len(rows) == len(points)
    assert [number * (1 / 60) for number in range(240)] == [row["timestamp"] for row in rows]
    assert list(range(240)) == [point["step"] for point in points]
    assert all(abs(point["total"] - points[0]["total"]) < 1e-3 for point in points)
    for picture, row in zip(pictures, rows, strict=True):
        x, y = (row["masses"][1] * np.array([110, -110]) + [320, 190]).round().astype(int)
        blue, green, red = picture[y, x].astype(int)
        assert abs(blue - 255) + abs(green - 196) + abs(red - 64) < 60, "the lower mass is where its row says"
    assert "files/  24" in printed
    assert "240 frames written, 0 dropped, 0 errors" in printed
    assert "of the simulation's time" in printed

    run_example("quickstart.py", tmp_path)

    assert list(range(480)) == [line["index"] for line in lines(run / "metrics/energy/data.jsonl")]
    assert 240 == len(frames(run))


def rendering():
    """The variable that makes MuJoCo render here, or None."""
    if importlib.util.find_spec("mujoco") is None:
        return None
    code = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()"
    for kind in ("egl", "osmesa"):
        environment = python_environment({"MUJOCO_GL": kind})
        if not subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=60
        ).returncode:
            return kind
    return None


@pytest.mark.ecosystem
@pytest.mark.slow
def test_mujoco_frames(tmp_path):
    kind = rendering()
    if kind is None:
        pytest.skip("MuJoCo is not installed, or has neither EGL nor OSMesa to render with")
    printed = run_example("mujoco_frames.py", tmp_path, {"MUJOCO_GL": kind})
    run = tmp_path / ".dash/examples/mujoco/frames"
    pictures = frames(run)
    rows = lines(run / "tracks/state/data.jsonl")
    points = [line["data"] for line in lines(run / "metrics/swing/data.jsonl")]

    assert_completed(run, 150)
    assert_a_film(pictures, 150)
    assert 150 == len(rows) == len(points)
    np.testing.assert_allclose(np.diff([row["timestamp"] for row in rows]), 17 * 0.002)
    assert {(10, 9, 2)} == {(len(row["qpos"]), len(row["qvel"]), len(row["ctrl"])) for row in rows}
    assert [row["qpos"][0] for row in rows] == [point["angle"] for point in points]
    assert all(picture[:100].mean() > picture[-100:].mean() * 0.8 for picture in pictures), "the sky is above"
    assert f"rendered with {kind}" in printed
    assert "150 frames written" in printed
