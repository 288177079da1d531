"""Logs, parameters, metrics and tracks: what is logged is what is read, and what lies on disk."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import enum
import json
import math
from pathlib import PurePosixPath

import numpy as np
import pytest

from ml_dash import Experiment, LogLevel
from ml_dash.errors import ConfigurationError, InvalidValueError
from tests.support import PREFIX, lines, shown


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    lr: float = 3e-4


class Tensor:
    """What the package uses of a torch tensor."""

    def __init__(self, values):
        self.values = values

    def detach(self):
        return self

    def cpu(self):
        return self

    def tolist(self):
        return self.values

    def __float__(self):
        if np.size(self.values) != 1:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return float(self.values)


VALUES = {
    "f32": (np.float32(0.5), 0.5),
    "i64": (np.int64(3), 3),
    "flag": (np.bool_(True), True),
    "array": (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    "tensor": (Tensor([1.5, 2.5]), [1.5, 2.5]),
    "enum": (Colour.RED, "red"),
    "path": (PurePosixPath("a/b"), "a/b"),
    "when": (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
    "inf": (math.inf, math.inf),
    "minus": (np.float32("-inf"), -math.inf),
    "text": ("NaN", "NaN"),
    "big": (2**80, 2**80),
    "half": ("\udcff", "\udcff"),
    "none": (None, None),
    "é 🤖": ("é 🤖", "é 🤖"),
}
GIVEN = {name: given for name, (given, _) in VALUES.items()}
EXPECTED = {name: expected for name, (_, expected) in VALUES.items()}


@pytest.fixture
def metric(shared, own_name):
    return shared.metrics(own_name)


@pytest.fixture
def track(shared, own_name):
    return shared.tracks(own_name)


def document(path):
    return json.loads(path.read_text())


class TestLogs:
    def test_every_spelling_of_a_line(self, exp):
        exp.log("plain")
        exp.log("level", level="WARNING", lr=3e-4)
        exp.log("metadata", "debug", {"a": 1}, b=2)
        exp.logs("called", level=LogLevel.ERROR)
        for level in ("debug", "info", "warn", "warning", "error", "fatal"):
            getattr(exp.logs, level)(f"as {level}", step=1)

        read = [(line["level"], line["message"], line.get("metadata")) for line in exp.logs.read()]
        assert [
            ("info", "plain", None),
            ("warn", "level", {"lr": 3e-4}),
            ("debug", "metadata", {"a": 1, "b": 2}),
            ("error", "called", None),
            ("debug", "as debug", {"step": 1}),
            ("info", "as info", {"step": 1}),
            ("warn", "as warn", {"step": 1}),
            ("warn", "as warning", {"step": 1}),
            ("error", "as error", {"step": 1}),
            ("fatal", "as fatal", {"step": 1}),
        ] == read

    def test_the_lines_on_disk(self, exp, run):
        exp.log("one", lr=1)
        exp.log("two")
        exp.flush()
        first, second = lines(run / "logs/logs.jsonl")

        assert ["sequenceNumber", "timestamp", "level", "message", "metadata"] == list(first)
        assert ["sequenceNumber", "timestamp", "level", "message"] == list(second)
        assert [0, 1] == [first["sequenceNumber"], second["sequenceNumber"]]
        assert dt.datetime.fromisoformat(first["timestamp"]).tzinfo is dt.UTC

    def test_metadata_holds_any_value(self, exp):
        exp.log("values", **GIVEN)

        assert EXPECTED == exp.logs.read()[0]["metadata"]

    @pytest.mark.parametrize("message", ["", "NaN", "two\nlines", 'quote " \\', "\0", "\udcff", "x" * 2_000_000])
    def test_any_text_is_a_message(self, exp, message):
        exp.log(message)
        exp.log("after")

        assert [message, "after"] == [line["message"] for line in exp.logs.read()]


class TestParams:
    def test_later_values_win_and_the_rest_stays(self, exp):
        exp.params.set(lr=3e-4, model={"layers": 4, "act": "relu"})
        exp.params.set({"seed": 1}, lr=1e-3, **{"model.layers": 8})

        assert {"lr": 1e-3, "model.layers": 8, "model.act": "relu", "seed": 1} == exp.params.get()
        assert {"layers": 8, "act": "relu"} == exp.params.get(flatten=False)["model"]

    def test_the_document_on_disk(self, exp, run):
        exp.params.set(a=1)
        exp.flush()
        exp.params.set(b={"c": [1, {"d": 2}]})
        exp.flush()
        found = document(run / "parameters.json")

        assert ["version", "data", "createdAt", "updatedAt"] == list(found)
        assert (2, {"a": 1, "b.c": [1, {"d": 2}]}) == (found["version"], found["data"])
        assert found["createdAt"] < found["updatedAt"]

    def test_any_value(self, exp):
        exp.params.set(GIVEN, nested=GIVEN)

        assert EXPECTED | {f"nested.{key}": value for key, value in EXPECTED.items()} == exp.params.get()
        assert EXPECTED == exp.params.get(flatten=False)["nested"]

    def test_everything_that_holds_settings(self, exp):
        class Config:
            lr = 0.1
            _hidden = 1

            class Model:
                layers = 2

            def method(self):
                """No setting."""

        exp.params.set(
            Config, argparse.Namespace(seed=3), Optimizer(), opt=Optimizer(name="sgd"), args=argparse.Namespace(x=1)
        )

        assert {
            "lr": 3e-4, "Model.layers": 2, "seed": 3, "name": "adam", "opt.name": "sgd", "opt.lr": 3e-4, "args.x": 1,
        } == exp.params.get()  # fmt: skip

    def test_nothing_given_writes_nothing(self, exp, run):
        exp.params.set()
        exp.params.set({})
        exp.flush()

        assert not (run / "parameters.json").exists()
        assert {} == exp.params.get()

    def test_a_document_larger_than_the_ring_keeps_its_place(self, exp):
        exp.params.set(big="a" * 10_000_000, last=1)
        exp.params.set(last=2)

        assert (10_000_000, 2) == (len(exp.params.get()["big"]), exp.params.get()["last"])

    def test_names_that_are_pythons_own(self, exp):
        exp.params.set(self=1, given=2, params=3)

        assert {"self": 1, "given": 2, "params": 3} == exp.params.get()

    def test_calls_can_be_chained(self, exp):
        assert exp.params is exp.params.set(a=1).log(b=2).update(c=3)
        assert {"a": 1, "b": 2, "c": 3} == exp.params.get()


class TestMetrics:
    def test_points_come_back_in_the_order_of_calls(self, metric):
        for step in range(5):
            metric.log(loss=1 / (step + 1), step=step)
        read = metric.read()

        assert [0, 1, 2, 3, 4] == [point["data"]["step"] for point in read["data"]]
        assert [0, 1, 2, 3, 4] == [point["index"] for point in read["data"]]
        assert {"startIndex": 0, "endIndex": 4, "total": 5, "hasMore": False} == {
            key: read[key] for key in read if key != "data"
        }

    @pytest.mark.parametrize(
        ("start", "limit", "steps", "more"),
        [(0, 2, [0, 1], True), (3, 2, [3, 4], False), (4, None, [4], False), (5, 10, [], False), (2, 0, [], True)],
    )
    def test_reading_a_part(self, metric, start, limit, steps, more):
        for step in range(5):
            metric.log(step=step)
        read = metric.read(start, limit)

        assert steps == [point["data"]["step"] for point in read["data"]]
        assert (start, start + len(steps) - 1, len(steps), more) == (
            read["startIndex"], read["endIndex"], read["total"], read["hasMore"],
        )  # fmt: skip

    def test_a_metric_that_was_never_logged(self, exp):
        assert {"data": [], "startIndex": 0, "endIndex": -1, "total": 0, "hasMore": False} == exp.metrics("none").read()

    def test_one_call_for_several_metrics(self, exp):
        exp.metrics.log(epoch=1, train={"loss": 0.5}, eval={"loss": 0.6, "epoch": 9})
        points = {name: exp.metrics(name).read()["data"][0]["data"] for name in (None, "train", "eval")}
        times = {point.pop("_ts") for point in points.values()}

        assert {None: {"epoch": 1}, "train": {"epoch": 1, "loss": 0.5}, "eval": {"epoch": 9, "loss": 0.6}} == points
        assert 1 == len(times)

    def test_only_groups_leave_the_unnamed_metric_alone(self, exp):
        exp.metrics.log(train={"loss": 1}, _ts=5)

        assert 0 == exp.metrics().read()["total"]
        assert {"loss": 1, "_ts": 5.0} == exp.metrics("train").read()["data"][0]["data"]

    def test_only_scalars_go_to_the_unnamed_one(self, exp, run):
        exp.metrics.log(_flush=True, loss=1)
        about = document(run / "metrics/None/metadata.json") if (run / "metrics/None/metadata.json").exists() else None

        assert {"loss": 1} == {k: v for k, v in exp.metrics().read()["data"][0]["data"].items() if k != "_ts"}
        assert about is None or about["name"] is None

    def test_a_name_with_a_slash_is_a_folder_in_a_folder(self, exp, run):
        exp.metrics("train").log(a=1)
        exp.metrics("train/loss").log(a=2)
        exp.flush()

        assert 1 == len(lines(run / "metrics/train/data.jsonl")) == len(lines(run / "metrics/train/loss/data.jsonl"))
        assert ["train", "train/loss"] == [about["name"] for about in exp.metrics("train").list_all()]

    def test_the_lines_on_disk(self, exp, run):
        exp.metrics("train").log(loss=math.nan, step=1, _ts=1772355601.25)
        exp.flush()
        (line,) = lines(run / "metrics/train/data.jsonl")

        assert ["index", "data", "createdAt"] == list(line)
        assert {"loss": "NaN", "step": 1, "_ts": 1772355601.25} == line["data"]

    def test_the_metadata_on_disk(self, tmp_path, run):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            metric = exp.metrics("train", description="what", tags=["a"], metadata={"unit": "nats"})
            metric.log(loss=1).log(loss=2)
            exp.metrics("train", description="another").log(loss=3)
            exp.metrics.log(epoch=1)
        named, unnamed = document(run / "metrics/train/metadata.json"), document(run / "metrics/None/metadata.json")

        assert {
            "metricId", "name", "description", "tags", "metadata", "totalDataPoints", "nextIndex", "createdAt", "updatedAt",
        } == set(named) == set(unnamed)  # fmt: skip
        assert ("local-metric-train", "train", "what", ["a"], {"unit": "nats"}, 3, 3) == tuple(
            named[key]
            for key in ("metricId", "name", "description", "tags", "metadata", "totalDataPoints", "nextIndex")
        )
        assert ("local-metric-None", None, None, [], None) == tuple(
            unnamed[key] for key in ("metricId", "name", "description", "tags", "metadata")
        )

    def test_stats_count_what_was_just_logged(self, metric):
        for step in range(7):
            metric.log(step=step)

        assert (7, metric.name) == tuple(metric.stats()[key] for key in ("totalDataPoints", "name"))

    def test_any_value(self, metric):
        metric.log(**GIVEN, nan=math.nan)
        data = metric.read()["data"][0]["data"]

        assert math.isnan(data.pop("nan"))
        assert EXPECTED == {key: value for key, value in data.items() if key != "_ts"}

    def test_a_field_may_have_any_name(self, exp):
        exp.metrics("train").log(self=1, name=2, index=3)
        exp.metrics.log(train={"self": 4})
        first, second = (point["data"] for point in exp.metrics("train").read()["data"])

        assert {"self": 1, "name": 2, "index": 3}.items() <= first.items()
        assert 4 == second["self"]

    @pytest.mark.parametrize("given", [12.5, 12, np.float32(12.5), "12.5", Tensor(12.5)], ids=shown)
    def test_whatever_is_a_number_is_a_timestamp(self, metric, given):
        metric.log(a=1, _ts=given)

        assert 12 == int(metric.read()["data"][0]["data"]["_ts"])

    def test_a_point_may_inherit_the_last_timestamp(self, exp):
        with pytest.raises(ConfigurationError, match="has used none yet"):
            exp.metrics("train").log(a=1, _ts=-1)
        exp.tracks("pose").append(q=1, _ts=2.5)
        exp.metrics("train").log(a=2, _ts=-1)

        assert [2.5] == [point["data"]["_ts"] for point in exp.metrics("train").read()["data"]]

    def test_the_time_of_the_call_is_the_default(self, metric):
        before = dt.datetime.now(dt.UTC).timestamp()
        metric.log(a=1)
        stamp = metric.read()["data"][0]["data"]["_ts"]

        assert before <= stamp <= dt.datetime.now(dt.UTC).timestamp()


class TestTracks:
    def test_rows_are_sorted_and_those_of_one_time_are_merged(self, track):
        track.append(q=[1.0], a=1, _ts=2.0)
        track.append(q=[0.5], _ts=1.0)
        track.append(q=[9.0], b=2, _ts=2.0)

        assert {
            "entries": [{"timestamp": 1.0, "q": [0.5]}, {"timestamp": 2.0, "q": [9.0], "a": 1, "b": 2}],
            "count": 2,
        } == track.read()
        assert track.read()["entries"] == track.list_entries()

    def test_a_window_and_some_columns(self, exp):
        for step in range(6):
            exp.track("pose").append(a=step, b=-step, _ts=step / 2)

        assert [{"timestamp": 0.5, "b": -1}, {"timestamp": 1.0, "b": -2}] == exp.tracks("pose").read(
            start_timestamp=0.5, end_timestamp=1.0, columns=["b", "missing"]
        )["entries"]

    def test_a_track_as_json_lines(self, track):
        track.append(q=math.nan, _ts=1)
        track.append(q="NaN", _ts=2)

        assert b'{"timestamp":1.0,"q":"NaN"}\n{"timestamp":2.0,"q":"\\\\NaN"}\n' == track.read(format="jsonl")

    def test_a_track_that_is_not_there(self, exp):
        assert {"entries": [], "count": 0} == exp.tracks("none").read()
        assert b"" == exp.tracks("none").read(format="jsonl")

    def test_topics_are_told_apart(self, exp, run):
        exp.tracks("a/b").append(x=1, _ts=0)
        exp.tracks("a_b").append(x=2, _ts=0)
        exp.tracks("a").append(x=3, _ts=0)

        assert [1, 2, 3] == [exp.tracks(topic).list_entries()[0]["x"] for topic in ("a/b", "a_b", "a")]
        assert (run / "tracks/a/b/data.jsonl").exists()

    def test_nested_values_get_dotted_names(self, exp):
        exp.tracks("cam").append(
            pose={"pos": np.zeros(2), "opt": Optimizer(), "text": "NaN"}, q=[{"kept": 1}], none={}, _ts=1
        )

        assert {
            "timestamp": 1.0, "pose.pos": [0.0, 0.0], "pose.opt.name": "adam", "pose.opt.lr": 3e-4, "pose.text": "NaN",
            "q": [{"kept": 1}], "none": {},
        } == exp.tracks("cam").list_entries()[0]  # fmt: skip

    def test_the_files_on_disk(self, tmp_path, run):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            exp.tracks("robot/arm").append(q=[1, 2], _ts=13)
            exp.tracks("robot/arm").append(cam={"x": 1}, _ts=12.5)
            exp.tracks("robot/arm").append(_ts=14)
        rows, about = lines(run / "tracks/robot/arm/data.jsonl"), document(run / "tracks/robot/arm/metadata.json")

        assert [{"timestamp": 13.0, "q": [1, 2]}, {"timestamp": 12.5, "cam.x": 1}, {"timestamp": 14.0}] == rows
        assert ["timestamp", "q"] == list(rows[0])
        assert {
            "trackId", "topic", "columns", "totalEntries", "firstTimestamp", "lastTimestamp", "createdAt",
        } == set(about)  # fmt: skip
        assert ("local-track-robot_arm", "robot/arm", ["cam.x", "q"], 3, 12.5, 14.0) == tuple(
            about[key] for key in ("trackId", "topic", "columns", "totalEntries", "firstTimestamp", "lastTimestamp")
        )

    def test_any_value(self, track):
        track.append(**GIVEN, nan=np.array([1.0, math.nan]), self=1, _ts=0)
        row = track.list_entries()[0]

        np.testing.assert_array_equal([1.0, math.nan], row.pop("nan"))
        assert EXPECTED | {"timestamp": 0.0, "self": 1} == row

    @pytest.mark.parametrize("stamp", [-5.5, 0, 1e18, 1e-300, np.float32(0.5), np.int64(3)], ids=shown)
    def test_any_clock(self, track, stamp):
        track.append(q=1, _ts=stamp)

        assert [float(stamp)] == [row["timestamp"] for row in track.list_entries()]

    def test_a_track_of_an_older_client_is_found(self, exp, run):
        """It kept the topic a/b in the folder a_b."""
        exp.flush()
        old = run / "tracks/robot_arm"
        old.mkdir(parents=True)
        (old / "metadata.json").write_text('{"trackId": "local-track-robot_arm", "topic": "robot/arm"}')
        (old / "data.jsonl").write_text('{"timestamp": 2, "q": NaN}\n{"timestamp": 1, "q": 0}\nnonsense\n{"q": 1}\n')
        rows = exp.tracks("robot/arm").list_entries()

        assert [1.0, 2.0] == [row["timestamp"] for row in rows]
        assert math.isnan(rows[1]["q"])


def test_metadata_of_the_experiment_holds_any_value(tmp_path, run):
    from ml_dash.storage.reading import read_experiment

    given = {"metadata": GIVEN, "readme": "half \udcff", "tags": ["NaN"]}
    with Experiment(PREFIX, dash_root=tmp_path, echo=False, **given).run:
        pass

    assert EXPECTED == read_experiment(run)["metadata"]
    assert ("half \udcff", ["NaN"]) == tuple(read_experiment(run)[key] for key in ("description", "tags"))


def test_a_read_sees_everything_published_before_it(exp):
    """Whatever stream it is, and without a flush in between."""
    for step in range(30):
        exp.log(str(step))
        exp.params.set(step=step)
        exp.metrics("m").log(step=step)
        exp.tracks("t").append(step=step, _ts=step)
        exp.files.save_text(str(step), to=f"{step}.txt")
        if step % 10 == 9:
            assert step + 1 == len(exp.logs.read())
            assert step == exp.params.get()["step"]
            assert step + 1 == exp.metrics("m").read()["total"]
            assert step + 1 == exp.tracks("t").read()["count"]
            assert step + 1 == len(exp.files.list())


def test_values_are_taken_at_the_call(exp):
    values, array = [1], np.ones(3)
    exp.metrics("m").log(values=values, array=array)
    exp.tracks("t").append(array=array, _ts=0)
    exp.params.set(values=values)
    exp.log("x", values=values)
    values.append(2)
    array[:] = 9

    assert [[1], [1.0] * 3] == [exp.metrics("m").read()["data"][0]["data"][key] for key in ("values", "array")]
    assert [1.0] * 3 == exp.tracks("t").list_entries()[0]["array"]
    assert {"values": [1]} == exp.params.get() == exp.logs.read()[0]["metadata"]


@pytest.mark.parametrize(("start", "limit"), [(-1, 10), (0, -1)])
def test_a_range_before_the_beginning_is_refused(exp, start, limit):
    with pytest.raises(InvalidValueError, match=f"start_index={start}, limit={limit}"):
        exp.metrics("m").read(start, limit)


def test_an_unknown_format_is_refused(exp):
    with pytest.raises(InvalidValueError, match="format='csv'"):
        exp.tracks("t").read(format="csv")
