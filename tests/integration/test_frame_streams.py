"""exp.frames: rows that are images, packed into tar files that anything can open."""

from __future__ import annotations

import io
import json
import tarfile
import threading

import cv2
import numpy as np
import pytest

from ml_dash import Experiment
from ml_dash.errors import InvalidNameError, InvalidTypeError, InvalidValueError, MissingFileError

PREFIX = "alice/walker/run-1"


@pytest.fixture
def exp(tmp_path):
    with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
        yield exp


@pytest.fixture
def run(tmp_path):
    return tmp_path / PREFIX


def plain(value, shape=(24, 32, 3)):
    return np.full(shape, value, np.uint8)


def test_frames_come_back_by_their_number(exp):
    for step in range(30):
        exp.frames("camera/front").append(plain(step * 8), _ts=step / 30, format="png")
    stream = exp.frames("camera/front")

    assert list(range(30)) == [entry["seq"] for entry in stream.list()]
    assert [step / 30 for step in range(30)] == [entry["timestamp"] for entry in stream.list()]
    for step in (0, 7, 29):
        np.testing.assert_array_equal(plain(step * 8), stream.read(step))


def test_an_index_line_has_these_keys_and_no_others(exp, run):
    exp.frames("cam").append(plain(1), _ts=2.5, step=7, text="NaN", nan=float("nan"), big=2**70, half="\udcff")
    (entry,) = exp.frames("cam").list()
    (line,) = (json.loads(line) for line in (run / "frames/cam/data.jsonl").read_text().splitlines())
    own = {"seq", "timestamp", "shape", "shard", "offset", "size", "format"}

    assert own | {"step", "text", "nan", "big", "half"} == set(line)
    assert (0, 2.5, [24, 32, 3], "shard-00000.tar", "jpeg") == tuple(
        line[key] for key in ("seq", "timestamp", "shape", "shard", "format")
    )
    assert (7, "NaN", 2**70, "\udcff") == tuple(entry[key] for key in ("step", "text", "big", "half"))
    assert entry["nan"] != entry["nan"]


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        (plain(9)[::-1], {"format": "png"}, plain(9)),
        (plain(9, (8, 8)), {"format": "png"}, plain(9, (8, 8))),
        (plain(9, (8, 8, 1)), {"format": "png"}, plain(9, (8, 8))),
        (plain(9, (8, 8, 4)), {"format": "png"}, plain(9, (8, 8, 4))),
        (np.full((8, 8), 60_000, np.uint16), {"format": "png"}, np.full((8, 8), 60_000)),
        (plain(9) / 255, {"format": "jpg"}, plain(9)),
        (plain(200), {"quality": 50}, plain(200)),
    ],
)
def test_any_frame_that_save_image_takes(exp, given, options, expected):
    exp.frames("cam").append(given, **options)
    pixels = exp.frames("cam").read(0)

    assert expected.shape == pixels.shape
    assert np.abs(expected.astype(int) - pixels).max() <= (0 if options.get("format") == "png" else 2)


def test_colours_keep_their_order(exp):
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[..., 0] = 255
    exp.frames("cam").append(frame)

    assert [True, False, False] == (exp.frames("cam").read(0).mean(axis=(0, 1)) > 128).tolist()


def test_the_shard_is_a_tar_file_while_it_grows(exp, run):
    for step in range(5):
        exp.frames("cam").append(plain(step * 50), format="png" if step == 4 else "jpeg")
    exp.flush()
    with tarfile.open(run / "frames/cam/shard-00000.tar") as archive:
        members = archive.getmembers()
        contents = [archive.extractfile(member).read() for member in members]

    assert ["000000000.jpg", "000000001.jpg", "000000002.jpg", "000000003.jpg", "000000004.png"] == [
        member.name for member in members
    ]
    for step, content in enumerate(contents):
        assert content == exp.frames("cam").read_bytes(step)
        assert step * 50 == round(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).mean())


def test_a_frame_is_one_read_at_one_place(exp, run):
    for step in range(3):
        exp.frames("cam").append(plain(step))
    entry = exp.frames("cam").list()[1]
    shard = (run / "frames/cam" / entry["shard"]).read_bytes()

    assert exp.frames("cam").read_bytes(1) == shard[entry["offset"] : entry["offset"] + entry["size"]]
    assert b"\xff\xd8" == io.BytesIO(shard[entry["offset"] :]).read(2)


def test_streams_are_told_apart(exp):
    exp.frames("a").append(plain(10), format="png")
    exp.frames("a/b").append(plain(20), format="png")
    exp.frames("a").append(plain(30), format="png")

    assert [10, 30] == [int(exp.frames("a").read(seq).mean()) for seq in (0, 1)]
    assert 20 == int(exp.frames("a/b").read(0).mean())


def test_the_call_takes_a_snapshot(exp):
    buffer = plain(0)
    for step in range(40):
        buffer[:] = step
        exp.frames("cam").append(buffer, format="png")
    buffer[:] = 255

    assert list(range(40)) == [int(exp.frames("cam").read(step).mean()) for step in range(40)]


def test_threads_never_share_a_number(exp):
    start = threading.Barrier(8)

    def work(worker):
        start.wait()
        for step in range(25):
            exp.frames("cam").append(plain(worker * 30 + step), format="png", value=worker * 30 + step)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = exp.frames("cam").list()

    assert list(range(200)) == [entry["seq"] for entry in entries]
    for entry in entries[::10]:
        assert entry["value"] == int(exp.frames("cam").read(entry["seq"]).mean())


def test_numbers_go_on_after_reopening(tmp_path):
    for session in range(3):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            for step in range(4):
                exp.frames("cam").append(plain(session * 40 + step * 10), format="png")
            entries = exp.frames("cam").list()
            values = [int(exp.frames("cam").read(entry["seq"]).mean()) for entry in entries]

    assert list(range(12)) == [entry["seq"] for entry in entries]
    assert [session * 40 + step * 10 for session in range(3) for step in range(4)] == values


def test_a_frame_that_is_not_there(exp):
    exp.frames("cam").append(plain(1))
    with pytest.raises(MissingFileError, match="has no frame 1"):
        exp.frames("cam").read(1)
    assert [] == exp.frames("none").list()


@pytest.mark.parametrize(
    ("frame", "options", "error", "text"),
    [
        (plain(1).transpose(2, 0, 1), {}, InvalidValueError, "transpose"),
        (None, {}, InvalidTypeError, "not NoneType"),
        (plain(1), {"format": "gif"}, InvalidValueError, "format='gif'"),
        (plain(1), {"format": ["png"]}, InvalidValueError, "format=['png']"),
        (plain(1), {"quality": 0}, InvalidValueError, "quality is 0"),
        (plain(1), {"_ts": "soon"}, InvalidValueError, "_ts='soon'"),
        (plain(1), {"_ts": float("inf")}, InvalidValueError, "_ts=inf"),
        (plain(1), {"a": object()}, InvalidTypeError, "'a'"),
        (plain(1), {"seq": 1}, InvalidNameError, "'seq'"),
        (plain(1), {"shape": 1}, InvalidNameError, "'shape'"),
    ],
)
def test_a_wrong_call_writes_nothing_and_takes_no_number(exp, frame, options, error, text):
    with pytest.raises(error) as caught:
        exp.frames("cam").append(frame, **options)
    exp.frames("cam").append(plain(1))

    assert text in str(caught.value)
    assert [0] == [entry["seq"] for entry in exp.frames("cam").list()]
