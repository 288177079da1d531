"""exp.frames: rows that are images, packed into tar files that anything can open."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import threading
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from ml_dash import Experiment
from ml_dash.errors import InvalidNameError, InvalidTypeError, InvalidValueError, MissingFileError, StorageError
from ml_dash.query.frames import FrameReader, FramesReader
from tests.support import PREFIX, run_python


@pytest.fixture
def camera(shared, own_name):
    return shared.frames(own_name)


def plain(value, shape=(24, 32, 3)):
    return np.full(shape, value, np.uint8)


@dataclass
class Folder:
    """A run that is only read."""

    folder: str

    def flush(self, timeout=None):
        return True


def values(pairs):
    """The timestamp and the gray value of each frame."""
    return [(entry["timestamp"], round(float(pixels.mean()))) for entry, pixels in pairs]


def test_frames_come_back_by_their_number(camera):
    for step in range(30):
        camera.append(plain(step * 8), _ts=step / 30, format="png")
    stream = camera

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
def test_any_frame_that_save_image_takes(camera, given, options, expected):
    camera.append(given, **options)
    pixels = camera.read(0)

    assert expected.shape == pixels.shape
    assert np.abs(expected.astype(int) - pixels).max() <= (0 if options.get("format") == "png" else 2)


def test_colours_keep_their_order(camera):
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[..., 0] = 255
    camera.append(frame)

    assert [True, False, False] == (camera.read(0).mean(axis=(0, 1)) > 128).tolist()


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


def test_the_call_takes_a_snapshot(camera):
    buffer = plain(0)
    for step in range(40):
        buffer[:] = step
        camera.append(buffer, format="png")
    buffer[:] = 255

    assert list(range(40)) == [int(camera.read(step).mean()) for step in range(40)]


def test_threads_never_share_a_number(camera):
    start = threading.Barrier(8)

    def work(worker):
        start.wait()
        for step in range(25):
            camera.append(plain(worker * 30 + step), format="png", value=worker * 30 + step)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = camera.list()

    assert list(range(200)) == [entry["seq"] for entry in entries]
    for entry in entries[::10]:
        assert entry["value"] == int(camera.read(entry["seq"]).mean())


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
        (plain(1), {"writer": 1}, InvalidNameError, "'writer'"),
    ],
)
def test_a_wrong_call_writes_nothing_and_takes_no_number(camera, frame, options, error, text):
    with pytest.raises(error) as caught:
        camera.append(frame, **options)
    camera.append(plain(1))

    assert text in str(caught.value)
    assert [0] == [entry["seq"] for entry in camera.list()]


@pytest.fixture
def recorded(exp):
    """Frames 0 to 9 at 0.0 to 0.9 s, each of ten times its number."""
    for step in range(10):
        exp.frames("cam").append(plain(step * 10), _ts=step / 10, format="png", step=step)
    return exp.frames("cam")


def test_frames_are_read_in_a_row(recorded):
    everything = [(step / 10, step * 10) for step in range(10)]

    assert 10 == len(recorded)
    assert everything == values(recorded)
    assert everything[3:7] == values(recorded.iter(start=0.3, end=0.6))
    assert everything[2:9:3] == values(recorded.iter(0.2, 0.85, 3))
    assert everything[-1:] == values(recorded.iter(start=0.9))
    assert everything[:1] == values(recorded.iter(end=0))
    assert [] == values(recorded.iter(start=5))
    assert list(range(10)) == [entry["step"] for entry, _ in recorded]


def test_an_iterator_gives_the_frames_that_there_were(recorded):
    iterator = recorded.iter()
    recorded.append(plain(99), _ts=9.9)

    assert 10 == len(list(iterator))
    assert 11 == len(recorded)


def test_the_frame_of_a_time(recorded):
    infinite = float("inf")
    before = {time: recorded.at(time) for time in (0.3, 0.39, 100, infinite)}
    nearest = {time: recorded.at(time, nearest=True) for time in (0.39, 0.31, -5, infinite)}

    assert [(0.3, 30), (0.3, 30), (0.9, 90), (0.9, 90)] == values(before.values())
    assert [(0.4, 40), (0.3, 30), (0.0, 0), (0.9, 90)] == values(nearest.values())


def test_the_last_of_frames_with_one_time_and_the_latest_of_times_in_disorder(camera):
    for step, when in enumerate((5.0, 1.0, 3.0, 3.0, 2.0)):
        camera.append(plain(step * 10), _ts=when, format="png")
    stream = camera

    assert [(3.0, 30)] == values([stream.at(4.0)])
    assert [(3.0, 30)] == values([stream.at(3.6, nearest=True)])
    assert [(1.0, 10), (2.0, 40)] == values(stream.iter(end=2.5))


def test_a_time_before_the_first_frame(exp, recorded):
    with pytest.raises(MissingFileError, match=r"no frame at or before -0\.1; they begin at 0\.0"):
        recorded.at(-0.1)
    with pytest.raises(MissingFileError, match="no frame at or before"):
        exp.frames("none").at(0, nearest=True)


def test_a_question_that_makes_no_sense_is_refused_at_once(recorded):
    for call in (
        lambda: recorded.at("soon"),
        lambda: recorded.at(float("nan")),
        lambda: recorded.iter(start="soon"),
        lambda: recorded.iter(end=[1, 2]),
        lambda: recorded.iter(step=0),
        lambda: recorded.iter(step=1.5),
        lambda: recorded.iter(step=True),
    ):
        with pytest.raises(InvalidValueError, match=r"frames 'cam': (time|start|end|step)="):
            call()


def test_a_number_that_is_none(recorded):
    with pytest.raises(InvalidTypeError, match="'1' is no frame number"):
        recorded.read("1")
    with pytest.raises(MissingFileError, match="has no frame -1; it has 10"):
        recorded.read(-1)
    np.testing.assert_array_equal(plain(30), recorded.read(np.int64(3)))


def test_a_stream_is_true_also_when_it_is_empty(exp):
    assert exp.frames("none")
    assert 0 == len(exp.frames("none"))


def test_a_run_that_is_only_read_has_the_same_frames(exp, run, recorded):
    exp.frames("arm/left").append(plain(1, (8, 8)), _ts=3)
    exp.run.complete()
    frames = FramesReader(Folder(str(run)))

    assert [(step / 10, step * 10) for step in range(10)] == values(frames("cam"))
    assert [
        {"topic": "arm/left", "totalFrames": 1, "firstTimestamp": 3.0, "lastTimestamp": 3.0},
        {"topic": "cam", "totalFrames": 10, "firstTimestamp": 0.0, "lastTimestamp": 0.9},
    ] == [{name: about[name] for name in about if name != "sizeBytes"} for about in frames.list()]
    assert frames.list()[1]["sizeBytes"] == sum(len(frames("cam").read_bytes(seq)) for seq in range(10))
    assert [] == FramesReader(Folder(str(run / "nothing"))).list()
    assert 0 == len(frames("other"))
    with pytest.raises(InvalidNameError):
        frames("../cam")


def test_the_streams_of_an_open_run_are_listed(exp, recorded):
    assert [("cam", 10)] == [(about["topic"], about["totalFrames"]) for about in exp.frames.list()]


def test_reading_follows_a_run_of_another_process(exp, run):
    reader = FrameReader(Folder(str(run)), "cam")
    seen = []
    for step in range(5):
        exp.frames("cam").append(plain(step * 10), _ts=float(step), format="png").flush()
        seen.append((len(reader), values([reader.at(step)])))

    assert [(step + 1, [(float(step), step * 10)]) for step in range(5)] == seen


def test_only_what_was_added_is_read_again(exp, run):
    """A frame's line is changed on disk in its first bytes, where nobody looks who has read them: its time stays."""
    for step in range(20):
        exp.frames("cam").append(plain(step), _ts=1.0)
    stream = exp.frames("cam")
    assert {1.0} == set(stream._view().times())
    journal = run / "frames/cam/data.jsonl"
    content = journal.read_bytes()
    with journal.open("r+b") as file:
        file.write(content.replace(b'"timestamp":1.0', b'"timestamp":7.0', 1)[:50])
    exp.frames("cam").append(plain(1), _ts=2.0)

    assert {1.0, 2.0} == set(stream._view().times())
    assert 7.0 == stream.list()[0]["timestamp"]


def test_a_journal_that_was_cut_and_written_anew_is_read_anew(exp, run):
    for step in range(3):
        exp.frames("cam").append(plain(step * 10), _ts=float(step), format="png")
    exp.run.complete()
    reader = FrameReader(Folder(str(run)), "cam")
    assert 3 == len(reader)
    journal = run / "frames/cam/data.jsonl"
    first, second, third = journal.read_bytes().splitlines(keepends=True)

    journal.write_bytes(first)
    assert [(0.0, 0)] == values(reader)
    journal.write_bytes(first + second[:20])
    assert [(0.0, 0)] == values(reader)
    journal.write_bytes(first + third + b"no frame\n" + b'{"seq": 9}\n' + second)
    assert [(0.0, 0), (1.0, 10), (2.0, 20)] == values(reader)
    journal.unlink()
    assert [] == values(reader)


def test_a_line_that_points_elsewhere_is_no_frame(exp, run, tmp_path):
    exp.frames("cam").append(plain(1), _ts=0.0)
    exp.run.complete()
    journal = run / "frames/cam/data.jsonl"
    line = json.loads(journal.read_bytes())
    (tmp_path / "secret.tar").write_bytes(b"x" * 10_000)
    wrong = [
        {"shard": "../../../../../secret.tar"},
        {"offset": -1},
        {"timestamp": "NaN"},
        {"seq": 2**63},
        {"size": 1.5},
    ]
    journal.write_text("".join(json.dumps({**line, "seq": 1, **part}) + "\n" for part in wrong))

    assert 0 == len(FrameReader(Folder(str(run)), "cam"))


def test_a_tar_file_that_is_gone_or_cut_is_named(exp, run, recorded):
    shard = run / "frames/cam/shard-00000.tar"
    assert 10 == len(recorded)
    content = shard.read_bytes()
    shard.write_bytes(content[:2000])
    with pytest.raises(StorageError, match=r"shard-00000\.tar' ends within frame 9"):
        recorded.read(9)
    shard.unlink()
    with pytest.raises(MissingFileError, match=r"frame 3 was in '.*shard-00000\.tar', which is gone"):
        recorded.read(3)
    shard.write_bytes(content)  # or the writer's next frame goes to a file that nobody can find


def test_two_writers_of_one_stream_are_counted_in_the_order_of_time(tmp_path, run):
    with (
        Experiment(PREFIX, dash_root=tmp_path, echo=False).run as one,
        Experiment(PREFIX, dash_root=tmp_path, echo=False).run as two,
    ):
        for step in range(4):
            one.frames("cam").append(plain(step * 10), _ts=step + 0.0, format="png")
            two.frames("cam").append(plain(step * 10 + 5), _ts=step + 0.5, format="png")
        two.flush()
        stream, tag = one.frames("cam"), two.session.writer_id
        entries = stream.list()
        shown = [int(stream.read(seq).mean()) for seq in range(8)]

    assert list(range(8)) == [entry["seq"] for entry in entries]
    assert [step / 2 for step in range(8)] == [entry["timestamp"] for entry in entries]
    assert [number * 5 for number in range(8)] == shown
    assert [("main", 0), (tag, 0), ("main", 1), (tag, 1)] == [
        (entry["writer"], entry["writer_seq"]) for entry in entries[:4]
    ]
    assert [(1.0, 10), (1.5, 15)] == values(FrameReader(Folder(str(run)), "cam").iter(1, 1.6))


def test_a_forked_childs_frames_are_merged(tmp_path, run):
    code = f"""
import os, numpy as np
from ml_dash import Experiment
with Experiment({PREFIX!r}, dash_root={str(tmp_path)!r}, echo=False).run as exp:
    stream = exp.frames("cam")
    stream.append(np.full((8, 8), 10, np.uint8), _ts=1.0, format="png")
    assert 1 == len(stream)
    child = os.fork()
    if child == 0:
        stream.append(np.full((8, 8), 30, np.uint8), _ts=3.0, format="png")
        assert 2 == len(stream)
        exp.run.complete()
        os._exit(0)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stream.append(np.full((8, 8), 20, np.uint8), _ts=2.0, format="png")
    assert [10, 20, 30] == [int(stream.read(seq).mean()) for seq in range(3)]
"""
    run_python(code, tmp_path)

    assert [(1.0, 10), (2.0, 20), (3.0, 30)] == values(FrameReader(Folder(str(run)), "cam"))


def test_threads_read_while_others_append(camera):
    """Whatever a reader sees is a whole prefix of the stream, from every thread."""
    stop, problems = threading.Event(), []

    def work():
        while not stop.is_set():
            count = len(camera)
            for seq in {0, count // 2, count - 1} - {-1}:
                try:
                    if seq < count and seq % 250 != int(camera.read(seq).mean()):
                        problems.append(seq)
                except Exception as error:  # noqa: BLE001 - the test's own thread reports it
                    problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(200):
        camera.append(plain(step % 250, (8, 8)), format="png")
    stop.set()
    for thread in threads:
        thread.join()

    assert [] == problems
    assert 200 == len(camera)


def test_a_reader_can_be_sent_to_another_process(run, exp, recorded):
    exp.flush()
    reader = FrameReader(Folder(str(run)), "cam")
    assert 10 == len(reader)

    assert values(recorded) == values(pickle.loads(pickle.dumps(reader)))
