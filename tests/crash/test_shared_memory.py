"""Machines with little or no /dev/shm: another kind of memory is used, everything is written, and no process dies of SIGBUS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ml_dash import Experiment
from ml_dash.media.decode import decode_image
from ml_dash.storage import metric_reading, reading
from tests.crash.every_stream import assert_same_picture, picture
from tests.run_contents import frame_bytes, read_logs
from tests.support import REPOSITORY, SUBPROCESS_SECONDS, python_environment

pytestmark = pytest.mark.crash

DEVICES = ("null", "zero", "random", "urandom")

TRAINER = """
import json, os, sys, tempfile
from pathlib import Path
import numpy as np
from ml_dash import Experiment
from ml_dash.storage import metric_reading, reading
from tests.crash.every_stream import EveryStream

options = json.loads(sys.argv[1])

def refuse(*arguments):
    raise OSError(38, "Function not implemented")

if "memfd" in options["without"]:
    os.memfd_create = refuse
if "file" in options["without"]:
    tempfile.tempdir = "/nonexistent"
    os.environ.pop("SLURM_TMPDIR", None)
if options["others_use"]:
    other = open("/dev/shm/other", "wb", buffering=0)

root = Path(options["root"])
load = EveryStream(root)
exp = Experiment("tests/memory/run", dash_root=root / "runs", frame_buffer_mb=options["buffer"], echo=False).run.start()
try:
    while options["others_use"]:
        other.write(bytes(65536))
except OSError:
    pass
load.log(exp)
frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
for _ in range(options["frames"]):
    exp.frames("video").append(frame, quality=50)
assert exp.flush()
load.log(exp)
health = exp.health()
exp.run.complete()
load.check(root / "runs/tests/memory/run")
health["video"] = len(reading.read_frames(str(root / "runs/tests/memory/run"), "video"))
print(json.dumps(health))
"""


def preparation(kind: str, scratch: Path) -> str:
    """Return shell commands that replace /dev/shm by one of this kind within a mount namespace."""
    sizes = {"64 MB": "size=64m", "none": "size=4k,nr_inodes=1", "read-only": "ro,size=64m"}
    if kind in sizes:
        return f"mount -t tmpfs -o {sizes[kind]} ml_dash-test /dev/shm"
    # /dev is that of the whole machine: a folder with the few devices that Python needs takes its place.
    devices = scratch / "dev"
    devices.mkdir()
    for name in DEVICES:
        (devices / name).touch()
    if kind == "a file":
        (devices / "shm").touch()
    binds = [f"mount --bind /dev/{name} {devices}/{name}" for name in DEVICES]
    return " && ".join([*binds, f"mount --rbind {devices} /dev"])


def train(scratch: Path, kind: str, buffer: int = 64, frames: int = 20, without=(), others_use=False) -> dict:
    """Run the trainer with this kind of /dev/shm; return its health and the number of frames that arrived."""
    options = {"root": str(scratch), "buffer": buffer, "frames": frames, "without": without, "others_use": others_use}
    environment = python_environment()
    environment["PYTHONPATH"] += os.pathsep + str(REPOSITORY)
    script = f'{preparation(kind, scratch)} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", TRAINER, json.dumps(options)],
        cwd=scratch,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
    )
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def _mount_namespaces():
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode
    ):
        pytest.skip("mount namespaces are not permitted here")


@pytest.mark.parametrize(
    ("kind", "buffer", "expected"),
    [
        ("64 MB", 40, "shared_memory"),
        ("64 MB", 64, "memfd"),
        ("64 MB", 200, "memfd"),
        ("none", 64, "memfd"),
        ("read-only", 64, "memfd"),
        ("absent", 64, "memfd"),
        ("a file", 64, "memfd"),
    ],
)
def test_a_small_or_missing_shared_memory_is_replaced(tmp_path, kind, buffer, expected):
    """Every frame arrives, more of them than the buffer holds."""
    frames = buffer * 1024 * 1024 // (480 * 640 * 3) * 3 // 2
    health = train(tmp_path, kind, buffer, frames)
    assert (expected, False, 0) == (health["shared_memory"], health["writer_on_thread"], health["writer_restarts"])
    assert (frames, 0, 0) == (health["video"], health["frames_dropped"], health["records_refused"])
    assert buffer * 1024 * 1024 == health["frame_buffer_bytes"]


def test_an_unlinked_file_is_used_where_memfd_is_unknown(tmp_path):
    """An old kernel without /dev/shm."""
    health = train(tmp_path, "none", without=["memfd"])
    assert ("file", False, 20, "") == (
        health["shared_memory"],
        health["writer_on_thread"],
        health["video"],
        health["last_error"],
    )


@pytest.mark.parametrize("kind", ["none", "absent"])
def test_the_writer_runs_on_a_thread_where_no_memory_can_be_shared(tmp_path, kind):
    """It is slower, and everything is written."""
    health = train(tmp_path, kind, without=["memfd", "file"])
    assert ("private", True, 20, "") == (
        health["shared_memory"],
        health["writer_on_thread"],
        health["video"],
        health["last_error"],
    )


def test_memory_that_others_took_meanwhile_shrinks_the_frame_buffer(tmp_path):
    """Memory that was free when the run began and is not any more is never touched: frames go through files."""
    health = train(tmp_path, "64 MB", 40, others_use=True)
    assert ("shared_memory", 20, 0) == (health["shared_memory"], health["video"], health["frames_dropped"])
    assert health["frame_buffer_bytes"] < 40 * 1024 * 1024


def test_what_is_larger_than_its_ring_arrives_all_the_same(tmp_path):
    """A record of 10 MB, and a frame of 36 MB in a buffer of 1."""
    text = "0123456789" * 1_000_000
    large = picture(0, (3000, 4000, 3))
    with Experiment("tests/memory/large", dash_root=tmp_path, frame_buffer_mb=1, echo=False).run as exp:
        exp.log("before")
        exp.log(text, number=1)
        exp.params.set(text=text, small=1)
        exp.metrics("m").log(text=text)
        exp.files("images").save_image(large, to="large.jpg")
        exp.frames("camera").append(large)
        exp.files("images").save_image(large.astype(np.uint16), to="large.png")
        exp.log("after")
    run = str(tmp_path / "tests/memory/large")
    assert ["before", text, "after"] == [line["message"] for line in read_logs(run)]
    assert {"text": text, "small": 1} == reading.read_parameters(run)
    assert [text] == [point["data"]["text"] for point in metric_reading.read_metric(run, "m", 0, None)["data"]]
    files = {entry["filename"]: entry for entry in reading.read_files(run)}
    contents = {name: Path(run, f"files{e['path']}", e["id"], name).read_bytes() for name, e in files.items()}
    assert_same_picture(large, contents["large.jpg"])
    assert np.array_equal(large.astype(np.uint16), decode_image(contents["large.png"]))
    (frame,) = reading.read_frames(run, "camera")
    assert_same_picture(large, frame_bytes(run, "camera", frame))
    assert ("COMPLETED", 0) == (reading.read_experiment(run)["status"], exp.health()["records_refused"])
    assert not Path(run, ".spill").exists()
