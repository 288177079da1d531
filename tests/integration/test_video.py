"""save_video and export: frames of a user or of a stream become a file that is complete, or none."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys

import numpy as np
import pytest

from ml_dash import Experiment, _progress
from ml_dash.errors import (
    ExperimentError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
    MissingFileError,
    StorageError,
)
from ml_dash.query import frame_export
from ml_dash.query.frames import FrameReader
from ml_dash.storage import reading
from tests.support import python_environment, run_python, wait_until

av = pytest.importorskip("av")

PREFIX = "alice/walker/run-1"


@pytest.fixture
def exp(tmp_path):
    with Experiment(PREFIX, dash_root=tmp_path / "runs", echo=False).run as exp:
        yield exp


@pytest.fixture
def run(tmp_path):
    return tmp_path / "runs" / PREFIX


def gray(value, shape=(32, 48, 3)):
    return np.full(shape, value, np.uint8)


def shown(path):
    """The rate and the gray value of each frame."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return float(rate), [round(float(f.to_ndarray(format="rgb24").mean())) for f in container.decode(video=0)]


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)])


def stored(run, record):
    return run / "files" / record["path"].strip("/") / record["id"] / record["filename"]


def leftovers(run):
    return sorted(path.name for path in (run / "files/.staging").glob("*"))


@pytest.mark.parametrize(
    ("to", "content_type"), [("clip.mp4", "video/mp4"), ("eval/clip.WEBM", "video/webm"), ("a.gif", "image/gif")]
)
def test_a_video_is_one_of_the_runs_files(exp, run, to, content_type):
    frames = [gray(value) for value in range(0, 200, 20)]
    record = exp.files("videos").save_video(frames, to=to, fps=10, tags=["eval"], description="ten grays")
    (entry,) = exp.files("videos").list()
    rate, values = shown(stored(run, record))

    assert ("queued", content_type) == (record["status"], record["contentType"])
    assert (record["id"], to.rpartition("/")[2], ["eval"]) == (entry["id"], entry["filename"], entry["tags"])
    assert stored(run, record).stat().st_size == entry["sizeBytes"]
    assert 10 == rate
    assert [20 * index for index in range(10)] == pytest.approx(values, abs=4)
    assert [] == leftovers(run)


def test_a_stack_a_list_and_a_generator_are_the_same_video(exp, run):
    stack = np.random.default_rng(0).random((8, 32, 32, 3), np.float32)
    records = [
        exp.files("v").save_video(frames, to=f"{number}.mp4")
        for number, frames in enumerate([stack, list(stack), tuple(stack), iter(stack), (f for f in stack)])
    ]
    exp.flush()
    first, *others = [decoded(stored(run, record)) for record in records]

    assert (8, 32, 32, 3) == first.shape
    for other in others:  # the bytes are not always the same: the encoder decides a little differently now and then
        assert np.abs(first - other).mean() < 5


class MyError(Exception):
    pass


@pytest.mark.parametrize("error", [MyError("mine"), KeyboardInterrupt(), OSError(5, "the camera is gone")])
def test_a_generator_that_fails_stores_nothing_and_its_error_is_the_callers(exp, run, error):
    def frames():
        yield from itertools.repeat(gray(1), 100)
        raise error

    with pytest.raises(type(error)) as caught:
        exp.files("v").save_video(frames(), to="clip.mp4")

    assert error is caught.value
    assert [] == exp.files("v").list()
    assert [] == leftovers(run)
    assert 0 == exp.health()["records_refused"]


def test_a_wrong_call_stores_nothing(exp, run):
    frames = [gray(1)] * 3
    for given, options, error, text in (
        ([], {"to": "a.mp4"}, InvalidValueError, "no frames"),
        (frames, {"to": "a.avi"}, InvalidValueError, ".mp4, .webm, .gif"),
        (frames, {"to": "../a.mp4"}, InvalidNameError, "'..'"),
        (frames, {"to": 7}, InvalidTypeError, "not int"),
        (frames, {"to": "a.mp4", "fps": 0}, InvalidValueError, "fps is 0"),
        (frames, {"to": "a.mp4", "quality": 0}, InvalidValueError, "quality is 0"),
        (frames, {"to": "a.mp4", "tags": "x"}, InvalidTypeError, "tags"),
        ([*frames, gray(1, (8, 8))], {"to": "a.mp4"}, InvalidValueError, "frame 3 is 8x8 pixels"),
        (iter([*frames, None]), {"to": "a.mp4"}, InvalidTypeError, "frame 3: "),
        (7, {"to": "a.mp4"}, InvalidTypeError, "not int"),
    ):
        with pytest.raises(error) as caught:
            exp.files("v").save_video(given, **options)
        assert text in str(caught.value)

    assert [] == exp.files.list()
    assert [] == leftovers(run)


def test_a_closed_run_takes_no_video_and_asks_for_no_frame(exp):
    folder, frames = exp.files("v"), iter([gray(1)])
    exp.run.complete()
    with pytest.raises(ExperimentError, match="closed"):
        folder.save_video(frames, to="clip.mp4")

    assert 1 == len(list(frames))


def test_a_disk_that_refuses_is_counted_and_not_raised(exp, run, capsys):
    (run / "files").mkdir(exist_ok=True)
    (run / "files/.staging").write_text("in the way")
    record = exp.files("v").save_video([gray(1)], to="clip.mp4")
    (run / "files/.staging").unlink()

    assert "refused" == record["status"]
    assert 1 == exp.health()["records_refused"]
    assert "the video 'clip.mp4' was not saved" in capsys.readouterr().err
    assert "queued" == exp.files("v").save_video([gray(1)], to="clip.mp4")["status"]


def test_a_full_disk_is_counted_and_leaves_nothing(tmp_path, run):
    """The limit on the size of files is set once the writer has started, so that only the video meets it."""
    code = f"""
import resource, numpy as np
from ml_dash import Experiment
noise = np.random.default_rng(0).integers(0, 255, (40, 256, 256, 3), np.uint8)
with Experiment({PREFIX!r}, dash_root={str(tmp_path / "runs")!r}, echo=False).run as exp:
    exp.flush()
    for kind in ("mp4", "webm", "gif"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        record = exp.files("v").save_video(noise, to=f"clip.{{kind}}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(record["status"], exp.health()["records_refused"])
    print(len(exp.files.list()))
"""
    assert ["refused 1", "refused 2", "refused 3", "0"] == run_python(code, tmp_path).splitlines()
    assert [] == leftovers(run)


def test_a_forked_child_saves_a_video_of_its_own(tmp_path, run):
    code = f"""
import os, numpy as np
from ml_dash import Experiment
with Experiment({PREFIX!r}, dash_root={str(tmp_path / "runs")!r}, echo=False).run as exp:
    frames = np.zeros((5, 32, 32), np.uint8)
    exp.files("v").save_video(frames, to="parent.mp4")
    child = os.fork()
    if child == 0:
        exp.files("v").save_video(frames, to="child.mp4")
        exp.run.complete()
        os._exit(0)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(*sorted(entry["filename"] for entry in exp.files.list()))
"""
    assert "child.mp4 parent.mp4" == run_python(code, tmp_path).strip()


def test_a_killed_process_has_the_video_that_it_saved_and_no_half_of_another(tmp_path, run):
    code = f"""
import os, signal, numpy as np
from ml_dash import Experiment
exp = Experiment({PREFIX!r}, dash_root={str(tmp_path / "runs")!r}, echo=False).run.start()
exp.files("v").save_video(np.zeros((5, 32, 32), np.uint8), to="whole.webm")
def frames():
    yield from np.zeros((200, 32, 32), np.uint8)
    os.kill(os.getpid(), signal.SIGKILL)
exp.files("v").save_video(frames(), to="half.webm")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=python_environment(), timeout=60)
    wait_until(lambda: reading.read_experiment(str(run)).get("status") == "FAILED")
    wait_until(lambda: not leftovers(run))

    assert -signal.SIGKILL == done.returncode
    assert ["whole.webm"] == [entry["filename"] for entry in reading.read_files(str(run))]
    assert [5] == [len(shown(path)[1]) for path in run.glob("files/v/*/whole.webm")]


# -- export


@pytest.fixture
def stream(exp):
    """Twenty frames at 25 per second, each of ten times its number."""
    for step in range(20):
        exp.frames("cam").append(gray(step * 10), _ts=step / 25, format="png" if step % 2 else "jpeg")
    return exp.frames("cam")


@pytest.mark.parametrize("name", ["clip.mp4", "new/folder/clip.webm", "clip.gif"])
def test_a_stream_becomes_a_video_as_fast_as_it_was_recorded(stream, tmp_path, name):
    path = stream.export(tmp_path / name)
    rate, values = shown(path)

    assert str(tmp_path / name) == path
    assert 25 == rate
    assert [10 * step for step in range(20)] == pytest.approx(values, abs=5)
    assert [name.rpartition("/")[2]] == [entry.name for entry in (tmp_path / name).parent.iterdir() if entry.is_file()]


def test_a_part_of_a_stream_becomes_a_video(stream, tmp_path):
    rate, values = shown(stream.export(str(tmp_path / "part.mp4"), fps=12.5, start=0.2, end=0.6, step=2))
    slow, _ = shown(stream.export(tmp_path / "part.mp4", step=5))

    assert 12.5 == rate
    assert [10 * step for step in range(5, 16, 2)] == pytest.approx(values, abs=4)
    assert 5 == slow


def test_a_run_that_is_only_read_is_exported_too(exp, stream, run, tmp_path):
    exp.run.complete()

    class Folder:
        folder = str(run)

        def flush(self, timeout=None):
            return True

    assert 20 == len(shown(FrameReader(Folder(), "cam").export(tmp_path / "clip.mp4"))[1])


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([step / 30 for step in range(10)], 30),
        ([1.7e9 + step * 0.0334 for step in range(10)], 29.94),
        ([0, 0.1, 0.2, 5.0, 5.1], 10),
        ([0, 1, 2, 3], 30),
        ([0, 33, 66], 30),
        ([0, 0.001, 0.002], 30),
        ([0, 0, 0], 30),
        ([3, 2, 1], 30),
        ([5], 30),
        ([], 30),
        ([0, 1 / 200, 2 / 200], 50),
    ],
)
def test_the_rate_is_told_from_times_that_can_be_seconds(times, expected):
    fastest = 50 if expected == 50 else 1000

    assert expected == frame_export.guessed_fps(np.array(times, float), fastest)


def test_every_kind_of_frame_is_exported(exp, tmp_path):
    alpha = np.dstack([gray(0), np.zeros((32, 48), np.uint8)])
    for number, frame in enumerate((gray(100, (32, 48)), np.full((32, 48), 200 << 8, np.uint16), alpha, gray(50))):
        exp.frames("cam").append(frame, _ts=number / 10, format="png")
    _, values = shown(exp.frames("cam").export(tmp_path / "clip.mp4"))

    assert [100, 200, 255, 50] == pytest.approx(values, abs=4)


def test_an_export_that_fails_leaves_the_old_file_and_no_other(exp, stream, run, tmp_path):
    video = tmp_path / "clips/clip.mp4"
    stream.export(video)
    before = video.read_bytes()
    exp.frames("cam").append(gray(1, (8, 8)), _ts=9.0)
    with pytest.raises(InvalidValueError, match=r"frame 20 at 9\.0 is 8x8 pixels, the first one 48x32"):
        stream.export(video)
    shard = run / "frames/cam/shard-00000.tar"
    shard.rename(tmp_path / "away.tar")
    with pytest.raises(MissingFileError, match=r"shard-00000\.tar"):
        stream.export(video)
    (tmp_path / "away.tar").rename(shard)

    assert ["clip.mp4"] == [path.name for path in video.parent.iterdir()]
    assert before == video.read_bytes()


def test_what_cannot_be_exported_is_refused(exp, stream, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    for call, error, text in (
        (lambda: exp.frames("none").export(tmp_path / "a.mp4"), InvalidValueError, "has no frames to export"),
        (lambda: stream.export(tmp_path / "a.mp4", start=100), InvalidValueError, "has no frames to export"),
        (lambda: stream.export(tmp_path / "a.mov"), InvalidValueError, ".mp4, .webm, .gif"),
        (lambda: stream.export(7), InvalidTypeError, "to=7 is an int"),
        (lambda: stream.export(tmp_path / "a.mp4", fps=-1), InvalidValueError, "fps is -1"),
        (lambda: stream.export(tmp_path / "a.mp4", quality=101), InvalidValueError, "quality is 101"),
        (lambda: stream.export(tmp_path / "a.mp4", step=0), InvalidValueError, "step=0"),
        (lambda: stream.export(tmp_path / "file/a.mp4"), StorageError, "cannot make the video's folder"),
        (lambda: stream.export(tmp_path / "folder.mp4"), StorageError, "cannot put the video in place"),
    ):
        with pytest.raises(error) as caught:
            call()
        assert text in str(caught.value)

    assert ["file", "folder.mp4", "runs"] == sorted(path.name for path in tmp_path.iterdir())


class Terminal:
    def __init__(self, is_one):
        self.text = ""
        self.isatty = lambda: is_one

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_only_a_terminal_shows_the_progress_of_what_takes_long(stream, tmp_path, monkeypatch):
    terminal, pipe = Terminal(True), Terminal(False)
    monkeypatch.setattr(_progress, "PATIENCE_S", 0.0)
    for stderr in (terminal, pipe):
        monkeypatch.setattr(sys, "stderr", stderr)
        stream.export(tmp_path / "clip.mp4")

    assert "exporting, 1 of 20 frames" in terminal.text
    assert terminal.text.endswith("\r\x1b[K")
    assert "" == pipe.text
