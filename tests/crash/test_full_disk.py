"""A file system that is really full: training continues, and everything arrives when there is room again."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from ml_dash import Experiment
from ml_dash.settings import BufferConfig
from ml_dash.storage import metric_reading, reading, track_reading
from tests.crash.every_stream import EveryStream, assert_same_picture, picture
from tests.run_contents import frame_bytes, read_logs
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.crash

LONGEST_SECONDS = 60.0
"""Bounds a hang."""

ROWS = 300
"""Rows of a stream logged to the full disk: with their frames, more than the last page has room for."""

CONFIG = BufferConfig(echo=False, frame_buffer_mb=4, fault_timeout=LONGEST_SECONDS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "ml_dash-test", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield folder
    # Lazily: after a failed test a writer may still have files open in it.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill the file system to the last byte for the time of this block."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(64 * 1024)):
            pass
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0"):
            pass
    try:
        yield
    finally:
        path.unlink()


def test_what_is_logged_while_the_disk_is_full_arrives_afterwards(small_disk, tmp_path, capsys):
    """Nothing is lost, doubled or torn before, while or after the disk is full."""
    load = EveryStream(tmp_path)
    exp = Experiment("tests/full/run", dash_root=small_disk / "runs", buffer_config=CONFIG).run.start()
    load.log(exp)
    assert exp.flush(LONGEST_SECONDS)
    with filled(small_disk):
        for index in range(ROWS):
            exp.metrics("full").log(number=index)
            exp.tracks("full").append(number=index, _ts=float(index))
            exp.frames("full").append(picture(index))
        wait_until(lambda: exp.health()["errors"], LONGEST_SECONDS)
        assert exp.health()["bytes_waiting"] > 0
        assert not exp.flush(0.2)
    assert exp.flush(LONGEST_SECONDS)
    load.log(exp)
    exp.run.complete()
    assert "ENOSPC" in exp.health()["last_error"]
    assert 1 == capsys.readouterr().err.count("cannot write: ENOSPC")
    run = small_disk / "runs/tests/full/run"
    load.check(run)
    points = metric_reading.read_metric(str(run), "full", 0, None)["data"]
    assert [(n, n) for n in range(ROWS)] == [(point["index"], point["data"]["number"]) for point in points]
    assert list(range(ROWS)) == [
        row["number"] for row in track_reading.read_track(str(run), "full", None, None, None, "json")["entries"]
    ]
    frames = reading.read_frames(str(run), "full")
    assert list(range(ROWS)) == [frame["seq"] for frame in frames]
    for frame in frames:
        assert_same_picture(picture(frame["seq"]), frame_bytes(str(run), "full", frame))


def test_what_needs_the_disk_at_once_is_refused_and_counted(small_disk, capsys):
    """The call itself copies a file or writes a very large record: without room it refuses them."""
    exp = Experiment("tests/full/run", dash_root=small_disk / "runs", buffer_config=CONFIG).run.start()
    exp.files("models").save_blob(b"before", to="before.bin")
    assert exp.flush(LONGEST_SECONDS)
    source = small_disk.parent / "model.bin"
    source.write_bytes(bytes(1_000_000))
    with filled(small_disk):
        assert "refused" == exp.files("models").save(source)["status"]
        assert "refused" == exp.files("models").save_blob(bytes(1_000_000), to="large.bin")["status"]
        exp.log("x" * 1_000_000)
        exp.frames("camera").append(picture(0, (1000, 1000, 3)))
        exp.files("images").save_image(picture(1, (1000, 1000, 3)), to="1.png")
        exp.log("small", number=1)
    assert exp.flush(LONGEST_SECONDS)
    expected_refused = exp.health()["records_refused"]
    assert "queued" == exp.files("models").save(source)["status"]
    exp.run.complete()
    run = small_disk / "runs/tests/full/run"
    document = reading.read_experiment(str(run))
    assert ("COMPLETED", expected_refused) == (document["status"], document["records_refused"])
    assert ["small"] == [line["message"] for line in read_logs(str(run))]
    names = {entry["filename"]: entry["sizeBytes"] for entry in reading.read_files(str(run))}
    assert (6, 1_000_000) == (names["before.bin"], names["model.bin"])
    assert "No space left on device" in capsys.readouterr().err


def test_a_run_can_be_started_on_a_full_disk(small_disk, capsys):
    """If its folder can be made, the run is recorded once there is room."""
    (small_disk / "runs/tests/full/run").mkdir(parents=True)
    with filled(small_disk):
        exp = Experiment("tests/full/run", dash_root=small_disk / "runs", buffer_config=CONFIG).run.start()
        exp.params.set(lr=0.1, text="x" * 10_000)
        wait_until(lambda: exp.health()["errors"], LONGEST_SECONDS)
    exp.run.complete()
    run = str(small_disk / "runs/tests/full/run")
    assert "COMPLETED" == reading.read_experiment(run)["status"]
    assert {"lr": 0.1, "text": "x" * 10_000} == reading.read_parameters(run)
    assert [] == [path for path, _, names in os.walk(run) for name in names if ".tmp-" in name]
