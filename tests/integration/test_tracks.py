"""Tracks from end to end: appending in every form, reading in every format, listing, old folders."""

from __future__ import annotations

import io
import json
import math
import os
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_dash import Experiment
from ml_dash.errors import ExperimentError, InvalidNameError, InvalidTypeError, InvalidValueError, MissingEntryError
from ml_dash.query.tracks import TracksReader
from ml_dash.streams.base import NOT_GIVEN

PREFIX = "alice/walker/run-1"


class Closed:
    """A run that is only read."""

    def __init__(self, folder):
        self.folder = str(folder)

    def flush(self, timeout=None):
        return True


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One open experiment; each test has topics of its own."""
    with Experiment(PREFIX, dash_root=str(tmp_path_factory.mktemp("tracks")), echo=False).run as exp:
        for step in range(10):
            exp.tracks("robot/pose").append(
                q=[step, 0.5], imu={"x": step}, note="even" if step % 2 == 0 else 1, _ts=step
            )
        yield exp


@pytest.fixture
def topic(request, shared):
    return shared.tracks(f"own/{request.node.name.replace('/', '-')}")


def parquet(data):
    return pq.read_table(io.BytesIO(data), use_threads=False)


def write(folder, journal, metadata=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.jsonl").write_text("".join(f"{line}\n" for line in journal))
    if metadata is not None:
        (folder / "metadata.json").write_text(json.dumps(metadata))


class TestAppend:
    def test_rows_come_back_sorted_whatever_their_order(self, topic):
        times = [3, -1.5, 2.0, 1e300, -0.0, "7.25", np.float32(0.5), np.int64(9), -(2**53), 1e-300]
        for number, when in enumerate(times):
            topic.append(n=number, _ts=when)
        entries = topic.list_entries()

        assert sorted(map(float, times)) == [entry["timestamp"] for entry in entries]
        assert all(type(entry["timestamp"]) is float for entry in entries)
        assert "timestamp" == next(iter(entries[0]))

    def test_minus_zero_and_zero_are_one_time(self, topic):
        topic.append(a=1, _ts=-0.0).append(b=2, _ts=0).append(a=3, _ts=0.0)
        [entry] = topic.list_entries()

        assert {"timestamp": 0.0, "a": 3, "b": 2} == entry
        assert 1.0 == math.copysign(1.0, entry["timestamp"])

    def test_minus_one_is_a_time_like_any_other(self, topic):
        topic.append(n=1, _ts=50.0).append(n=2, _ts=-1)

        assert [-1.0, 50.0] == [entry["timestamp"] for entry in topic.list_entries()]

    def test_equal_rows_are_one(self, topic):
        for _ in range(3):
            topic.append(q=[1, 2], _ts=1.0)

        assert {"entries": [{"timestamp": 1.0, "q": [1, 2]}], "count": 1} == topic.read()

    def test_the_later_call_wins_key_by_key(self, topic):
        topic.append(_ts=0.5)
        topic.append(frame_id=0, pose={"x": 1, "y": 2}, _ts=0.5)
        topic.append(path="frame_0.png", pose={"x": None}, _ts=0.5)

        assert [
            {"timestamp": 0.5, "frame_id": 0, "pose.x": None, "pose.y": 2, "path": "frame_0.png"}
        ] == topic.list_entries()

    def test_fields_may_be_one_dict(self, topic):
        topic.append({"a": 1, "values": 2}, _ts=0.0)
        topic.append({"a": 1, "_ts": 1.0}, a=3, values=4)
        topic.append({"a": 5, "_ts": 99.0}, _ts=2.0)

        assert [
            {"timestamp": 0.0, "a": 1, "values": 2},
            {"timestamp": 1.0, "a": 3, "values": 4},
            {"timestamp": 2.0, "a": 5},
        ] == topic.list_entries()

    @pytest.mark.parametrize("form", ["tracks", "track"])
    def test_bad_dicts_are_refused_and_write_nothing(self, shared, form):
        track = {"tracks": shared.tracks, "track": shared.track}[form]("bad/dicts")

        with pytest.raises(InvalidTypeError, match="3 is no dict"):
            track.append(3, _ts=0)
        with pytest.raises(InvalidTypeError, match="the key 3 is no text"):
            track.append({3: 1}, _ts=0)
        with pytest.raises(InvalidNameError, match="the row's own; did you mean _ts="):
            track.append({"timestamp": 1.0}, _ts=0)
        with pytest.raises(InvalidValueError, match="_ts='soon'"):
            track.append({"_ts": "soon"})
        assert [] == track.list_entries()

    def test_a_dict_without_its_time_is_refused(self, topic):
        with pytest.raises(InvalidValueError, match="_ts is missing"):
            topic.append({"a": 1})

    def test_flush_returns_what_it_was_called_on(self, shared, topic):
        assert topic is topic.flush()
        assert shared.tracks is shared.tracks.flush()


class TestTrackThatGivesTheTime:
    def test_a_row_gets_the_present_time(self, shared):
        before = time.time()
        shared.track("timed/now").append({"x": 1}).append(x=2)
        after = time.time()
        entries = shared.tracks("timed/now").list_entries()

        assert [1, 2] == [entry["x"] for entry in entries]
        assert before <= entries[0]["timestamp"] < entries[1]["timestamp"] <= after + 1e-5

    def test_a_time_that_is_given_is_taken(self, shared):
        shared.track("timed/given").append({"x": 1}, _ts=5).append({"x": 2, "_ts": 6})

        assert [5.0, 6.0] == [entry["timestamp"] for entry in shared.track("timed/given").list_entries()]

    def test_no_two_rows_of_many_threads_become_one(self, shared):
        def work(worker):
            for number in range(250):
                shared.track("timed/threads").append({"worker": worker, "number": number})

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        entries = shared.tracks("timed/threads").list_entries()

        assert 1000 == len(entries)
        for worker in range(4):  # and each thread's rows are in the order of its calls
            assert list(range(250)) == [entry["number"] for entry in entries if entry["worker"] == worker]

    def test_times_grow_although_the_clock_went_back(self, shared):
        track = shared.track("timed/clock")
        track._last = ahead = time.time() + 3600
        for number in range(5):
            track.append(n=number)
        entries = track.list_entries()

        assert list(range(5)) == [entry["n"] for entry in entries]
        assert ahead < entries[0]["timestamp"] < entries[4]["timestamp"] < ahead + 1

    def test_a_forked_child_appends_although_a_thread_held_the_lock(self, shared):
        track = shared.track("timed/fork")
        holding, done = threading.Event(), threading.Event()

        def hold():
            with track._assigning:
                holding.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if track._timestamp(NOT_GIVEN) > 0 else 1)
        _, status = os.waitpid(child, 0)
        done.set()
        thread.join()

        assert 0 == os.waitstatus_to_exitcode(status)


class TestRead:
    def test_the_window_holds_both_of_its_ends(self, shared):
        track = shared.tracks("robot/pose")

        assert [2.0, 3.0, 4.0] == [row["timestamp"] for row in track.read(2, 4)["entries"]]
        assert 3 == track.read(start_timestamp=7)["count"]
        assert 2 == track.read(end_timestamp=np.float32(1.5))["count"]
        assert 10 == track.read(-math.inf, math.inf)["count"]
        assert {"entries": [], "count": 0} == track.read(4, 2)

    def test_columns_choose_fields_and_keep_rows(self, shared, topic):
        topic.append(a=1, b=2, _ts=0).append(b=3, _ts=1)

        assert [{"timestamp": 0.0, "a": 1}, {"timestamp": 1.0}] == topic.read(columns=["a"])["entries"]
        assert topic.read()["entries"] == topic.read(columns=("timestamp", "a", "b", "c"))["entries"]
        assert topic.read(columns=["a"])["entries"] == topic.read(columns=["a", "later"])["entries"]
        with pytest.raises(ValueError, match="has no values of the name 'aa'; did you mean 'a'"):
            topic.read(columns=["aa"])
        assert [0.0] == [row["imu.x"] for row in shared.tracks("robot/pose").read(0, 0, ["imu.x"])["entries"]]

    def test_jsonl_is_lines_that_read_as_the_rows(self, topic):
        topic.append(q=[1.5], bad=math.inf, word="NaN", _ts=1).append(q=[2.5], _ts=0)

        assert (
            b'{"timestamp":0.0,"q":[2.5]}\n{"timestamp":1.0,"q":[1.5],"bad":"Infinity","word":"\\\\NaN"}\n'
        ) == topic.read(format="jsonl")

    def test_parquet_has_typed_columns_and_the_time_first(self, topic):
        topic.append(n=1, x=0.5, q=[1.0, 2.0], word="a", mixed=1, _ts=1)
        topic.append(n=2, q=[3.0], mixed=["b"], bad=math.nan, _ts=0)
        table = parquet(topic.read(format="parquet"))

        assert ("timestamp", pa.float64()) == (table.schema.names[0], table.schema.types[0])
        kinds = {"n": pa.int64(), "x": pa.float64(), "q": pa.list_(pa.float64()), "word": pa.string()}
        assert kinds == {name: table.schema.field(name).type for name in kinds}
        assert [0.0, 1.0] == table["timestamp"].to_pylist()
        assert ([None, 0.5], [[3.0], [1.0, 2.0]]) == (table["x"].to_pylist(), table["q"].to_pylist())
        assert ['["b"]', "1"] == table["mixed"].to_pylist()
        assert math.isnan(table["bad"].to_pylist()[0])
        assert {"ZSTD"} == {
            pq.ParquetFile(io.BytesIO(topic.read(format="parquet"))).metadata.row_group(0).column(0).compression
        }

    def test_parquet_takes_the_window_and_the_columns(self, shared):
        table = parquet(shared.tracks("robot/pose").read(2, 3, ["imu.x"], "parquet"))

        assert {"timestamp": [2.0, 3.0], "imu.x": [2, 3]} == table.to_pydict()

    def test_mocap_is_one_document(self, topic):
        topic.append(q=[0.2], time="mine", _ts=13.0).append(q=[0.1], imu={"x": 1}, _ts=12.5)

        assert {
            "version": "1.0",
            "metadata": {
                "topic": topic.topic, "description": None, "tags": [], "fps": 30, "duration": 0.5, "frameCount": 2,
                "startTime": 12.5, "endTime": 13.0,
            },
            "channels": ["imu.x", "q"],
            "frames": [{"time": 12.5, "q": [0.1], "imu.x": 1}, {"time": 13.0, "q": [0.2]}],
        } == topic.read(format="mocap")  # fmt: skip

    def test_mocap_knows_the_speed_from_the_metadata(self, tmp_path):
        about = {"topic": "arm", "description": "left", "tags": ["a"], "metadata": {"fps": 120}}
        write(tmp_path / "tracks/arm", ['{"timestamp": 1, "q": 2}'], about)
        found = TracksReader(Closed(tmp_path))("arm").read(format="mocap")["metadata"]

        assert (120, "left", ["a"]) == (found["fps"], found["description"], found["tags"])

    def test_a_track_that_does_not_exist_is_empty_in_every_format(self, shared):
        track = shared.tracks("no/such/track")
        table = parquet(track.read(format="parquet"))

        assert ({"entries": [], "count": 0}, b"", []) == (
            track.read(),
            track.read(format="jsonl"),
            track.list_entries(),
        )
        assert ({"timestamp": []}, [pa.float64()]) == (table.to_pydict(), table.schema.types)
        assert {
            "version": "1.0",
            "metadata": {"topic": "no/such/track", "duration": 0.0, "frameCount": 0},
            "channels": [],
            "frames": [],
        } == track.read(format="mocap")
        assert {
            "topic": "robot/pose", "duration": 0.0, "frameCount": 0, "startTime": None, "endTime": None
        } == shared.tracks("robot/pose").read(99, format="mocap")["metadata"]  # fmt: skip
        assert "no/such/track" not in shared.tracks.topics()

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"start_timestamp": "soon"}, "start_timestamp='soon' is no number"),
            ({"end_timestamp": math.nan}, "end_timestamp=nan is no number"),
            ({"end_timestamp": [1]}, r"end_timestamp=\[1\] is no number"),
            ({"start_timestamp": 10**400}, "is no number"),
            ({"columns": "q"}, r"columns='q' is one text; pass a list, columns=\['q'\]"),
            ({"columns": ["q", 3]}, "must be a list of names"),
            ({"columns": 3}, "must be a list of names"),
            ({"columns": b"q"}, "must be a list of names"),
            ({"format": "parket"}, "format='parket' is not known; did you mean 'parquet'"),
            ({"format": "mcap"}, "did you mean 'mocap'"),
            ({"format": "xyz"}, "use one of json, jsonl, parquet, mocap"),
            ({"format": None}, "use one of json, jsonl, parquet, mocap"),
        ],
    )
    def test_bad_arguments_are_named(self, shared, arguments, text):
        with pytest.raises(InvalidValueError, match=text):
            shared.tracks("robot/pose").read(**arguments)

    def test_a_slice_refuses_bad_limits(self, shared):
        with pytest.raises(InvalidValueError, match="start_timestamp='soon'"):
            shared.tracks("robot/pose").slice("soon")


class TestSlice:
    def test_it_holds_the_rows_of_its_moment(self, shared, topic):
        topic.append(n=0, _ts=0).append(n=1, _ts=1).append(n=2, _ts=2)
        window = topic.slice(start_timestamp=0.5)
        topic.append(n=3, _ts=3)

        assert [1, 2] == [row["n"] for row in window]
        assert [1, 2, 3] == [row["n"] for row in topic.slice(0.5)]
        assert [1.0, 2.0] == window.timestamps.tolist()
        assert 1 == window.findByTime(1.75)["n"]
        with pytest.raises(MissingEntryError):
            window.find_by_time(0.25)

    def test_it_stays_usable_when_the_run_is_closed(self, tmp_path):
        with Experiment(PREFIX, dash_root=str(tmp_path), echo=False).run as exp:
            track = exp.tracks("pose").append(q=1, _ts=1)
            window = track.slice()
        assert [{"timestamp": 1.0, "q": 1}] == list(window)
        for call in (track.read, track.slice, track.list_entries):
            with pytest.raises(ExperimentError, match="closed"):
                call()


class TestList:
    def test_topics_come_with_what_they_hold(self, shared):
        [found] = shared.tracks.list("robot/pose")

        assert {
            "topic": "robot/pose", "columns": ["imu.x", "note", "q"], "totalEntries": 10, "firstTimestamp": 0.0,
            "lastTimestamp": 9.0,
        }.items() <= found.items()  # fmt: skip

    def test_a_filter_is_a_topic_or_a_glob(self, tmp_path):
        for topic in ("robot/pose", "robot/arm/left", "robots", "cam[0]", "cam0"):
            write(tmp_path / "tracks" / topic, ['{"timestamp": 1}'])
        topics = TracksReader(Closed(tmp_path)).topics

        assert ["cam0", "cam[0]", "robot/arm/left", "robot/pose", "robots"] == topics() == topics("*")
        assert ["robot/arm/left", "robot/pose"] == topics("robot/*")
        assert ["robot/pose"] == topics("robot/pose")
        assert ["robot/arm/left"] == topics("*left")
        assert ["cam0", "cam[0]"] == topics("cam[0]")
        assert [] == topics("Robot/*")

    @pytest.mark.parametrize("call", ["list", "topics"])
    def test_a_filter_that_is_no_text_is_refused(self, shared, call):
        with pytest.raises(InvalidValueError, match="topic_filter=3 must be text"):
            getattr(shared.tracks, call)(3)

    def test_a_run_without_tracks_has_none(self, tmp_path):
        assert [] == TracksReader(Closed(tmp_path)).list()
        assert [] == TracksReader(Closed(tmp_path / "missing")).topics()

    def test_rows_that_metadata_does_not_count_are_counted(self, tmp_path):
        about = {"topic": "a", "columns": ["q"], "totalEntries": 1, "firstTimestamp": 5.0, "lastTimestamp": 5.0}
        lines = ['{"timestamp": 5.0, "q": 1}', '{"timestamp": 3, "z": 1}', "torn", '{"timestamp": NaN}', "[1]"]
        write(tmp_path / "tracks/a", lines, about | {"createdAt": "2026-03-01T09:00:07Z"})
        (tmp_path / "tracks/a/data.host-1-2.jsonl").write_text('{"timestamp": 9.0, "y": 1}\n{"timestamp": 10')
        [found] = TracksReader(Closed(tmp_path)).list()

        assert {
            "topic": "a", "columns": ["q", "y", "z"], "totalEntries": 3, "firstTimestamp": 3.0, "lastTimestamp": 9.0,
            "createdAt": "2026-03-01T09:00:07Z",
        } == found  # fmt: skip

    @pytest.mark.parametrize("about", [{"totalEntries": 1}, {"totalEntries": 1, "columns": [3]}, "broken", None])
    def test_metadata_that_is_no_help_is_left_aside(self, tmp_path, about):
        write(tmp_path / "tracks/a", ['{"timestamp": 5.0, "q": 1}'], about)
        [found] = TracksReader(Closed(tmp_path)).list()

        assert ("a", ["q"], 1, 5.0) == tuple(
            found[key] for key in ("topic", "columns", "totalEntries", "firstTimestamp")
        )


class TestFoldersOfThePublishedClient:
    """That client makes one folder of a topic, with `_` for each slash."""

    def test_one_is_listed_once_under_its_topic(self, tmp_path):
        about = {"topic": "robot/arm", "columns": ["q"], "totalEntries": 2, "firstTimestamp": 1.0, "lastTimestamp": 2.0}
        write(tmp_path / "tracks/robot_arm", ['{"timestamp": 2.0, "q": 1}', '{"timestamp": 1.0, "q": 1}'], about)
        write(tmp_path / "tracks/robot/arm", ['{"timestamp": 2.0, "v": 3}', '{"timestamp": 4, "v": 4}'])
        write(tmp_path / "tracks/robot_leg", ['{"timestamp": 2.0}'])
        tracks = TracksReader(Closed(tmp_path))
        arm, leg = tracks.list()

        assert ("robot/arm", "robot_leg") == (arm["topic"], leg["topic"])
        assert (["q", "v"], 4, 1.0, 4.0) == tuple(
            arm[key] for key in ("columns", "totalEntries", "firstTimestamp", "lastTimestamp")
        )
        assert [
            {"timestamp": 1.0, "q": 1},
            {"timestamp": 2.0, "q": 1, "v": 3},
            {"timestamp": 4.0, "v": 4},
        ] == tracks("robot/arm").list_entries()

    @pytest.mark.parametrize("topic", ["/robot/arm", "robot//arm", "../arm", 3, "quite/different"])
    def test_a_topic_that_cannot_be_asked_for_keeps_the_name_of_its_folder(self, tmp_path, topic):
        folder = topic.replace("/", "_") if topic not in {"quite/different", 3} else "arm"
        write(tmp_path / f"tracks/{folder}", ['{"timestamp": 2.0, "q": 1}'], {"topic": topic})
        tracks = TracksReader(Closed(tmp_path))

        assert [folder] == tracks.topics()
        assert [{"timestamp": 2.0, "q": 1}] == tracks(folder).list_entries()

    def test_lines_without_a_time_are_passed_over(self, tmp_path):
        lines = [
            '{"q": 1}',
            '{"timestamp": "soon"}',
            '{"timestamp": true}',
            '{"timestamp": Infinity}',
            '{"timestamp": 1}',
        ]
        write(tmp_path / "tracks/a", [*lines, '{"timestamp": 1%s}' % ("0" * 400)])

        assert [{"timestamp": 1.0}] == TracksReader(Closed(tmp_path))("a").list_entries()

    def test_a_reader_refuses_a_topic_that_is_no_place(self, tmp_path):
        with pytest.raises(InvalidNameError):
            TracksReader(Closed(tmp_path))("../x")
        assert "<track 'a/b'>" == repr(TracksReader(Closed(tmp_path))("a/b"))
