"""Metrics: buffers and their summaries, statistics, reading in parts, and what several writers logged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading

import numpy as np
import pytest

from ml_dash import Experiment
from ml_dash.errors import (
    ConfigurationError,
    ExperimentError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
)
from ml_dash.query.metrics import MetricsReader
from ml_dash.streams import summaries
from tests.support import PREFIX, python_environment, run_python


class Folder:
    """A run that is only read."""

    def __init__(self, folder):
        self.folder = str(folder)

    def flush(self, timeout=None):
        return True


@pytest.fixture
def train(shared, own_name):
    return shared.metrics(own_name)


@pytest.fixture
def reader(run):
    return MetricsReader(Folder(run))


def points(metric):
    """What was logged, without the times."""
    return [{k: v for k, v in point["data"].items() if k != "_ts"} for point in metric.read(limit=None)["data"]]


def write(run, name, *data, tag=""):
    """A journal as a writer leaves it."""
    folder = run / "metrics" / name
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"index": i, "data": point, "createdAt": "x"}) + "\n" for i, point in enumerate(data))
    (folder / f"data{tag}.jsonl").write_text(text)


class TestBuffer:
    def test_a_summary_is_one_point_of_each_metric(self, exp):
        for value in (1.0, 2.0, 6.0):
            exp.metrics("train").buffer(loss=value, acc=value / 10)
            exp.metrics("eval").buffer({"loss": -value})
        exp.metrics.buffer.log_summary()

        assert [{"loss.mean": 3.0, "acc.mean": pytest.approx(0.3)}] == points(exp.metrics("train"))
        assert [{"loss.mean": -3.0}] == points(exp.metrics("eval"))

    def test_every_aggregation_by_name(self, exp):
        values = np.random.default_rng(0).normal(size=50)
        for value in values:
            exp.metrics("train").buffer(x=value)
        names = ("mean", "std", "min", "max", "count", "median", "sum", "p50", "p90", "p95", "p99", "last", "first")
        exp.metrics.buffer.log_summary(*names)
        [point] = points(exp.metrics("train"))

        assert [f"x.{name}" for name in names] == list(point)
        np.testing.assert_allclose(
            [
                values.mean(), values.std(ddof=1), values.min(), values.max(), 50, np.median(values), values.sum(),
                *np.percentile(values, [50, 90, 95, 99]), values[-1], values[0],
            ],
            list(point.values()),
        )  # fmt: skip

    def test_the_point_may_have_more_values_and_a_time(self, exp):
        exp.metrics("train").buffer(loss=1)
        exp.metrics().buffer(x=2)
        exp.metrics.buffer.log_summary("mean", "count", epoch=3, self="a", _ts=12.5)

        assert {"loss.mean": 1.0, "loss.count": 1, "epoch": 3, "self": "a", "_ts": 12.5} == exp.metrics("train").read()[
            "data"
        ][0]["data"]
        assert {"x.mean": 2.0, "x.count": 1, "epoch": 3, "self": "a", "_ts": 12.5} == exp.metrics().read()["data"][0][
            "data"
        ]

    def test_points_of_one_summary_have_one_time_that_can_be_inherited(self, exp):
        exp.metrics("a").buffer(x=1)
        exp.metrics("b").buffer(x=1)
        exp.metrics.buffer.log_summary()
        exp.metrics("c").log(x=1, _ts=-1)

        assert 1 == len({exp.metrics(name).read()["data"][0]["data"]["_ts"] for name in "abc"})

    def test_a_summary_begins_anew(self, exp):
        exp.metrics("train").buffer(loss=1)
        exp.metrics.buffer.log_summary("count")
        exp.metrics.buffer.log_summary("count")
        exp.metrics("train").buffer(loss=2, other=3)
        exp.metrics.buffer.log_summary("count")

        assert [{"loss.count": 1}, {"loss.count": 1, "other.count": 1}] == points(exp.metrics("train"))

    def test_missing_values_are_left_out(self, exp):
        for loss, never in ((1.0, None), (math.nan, math.nan), (None, np.float32("nan")), (3.0, None)):
            exp.metrics("train").buffer(loss=loss, never=never)
        exp.metrics("empty").buffer(x=None)
        exp.metrics.buffer.log_summary("mean", "count", epoch=1)

        assert [{"loss.mean": 2.0, "loss.count": 2, "epoch": 1}] == points(exp.metrics("train"))
        assert [] == points(exp.metrics("empty"))
        assert {} == exp.metrics.buffer.peek()

    def test_an_unknown_aggregation_clears_nothing(self, exp):
        exp.metrics("train").buffer(loss=1)
        for wrong, hint in (
            ("men", "did you mean 'mean'"),
            ("p101", "p0 to p100"),
            ("zzz", "std, min"),
            (5, "p0 to p100"),
        ):
            with pytest.raises(InvalidValueError, match=hint):
                exp.metrics.buffer.log_summary("mean", wrong)

        assert {"train/loss": [1.0]} == exp.metrics.buffer.peek()
        assert [] == points(exp.metrics("train"))

    @pytest.mark.parametrize(
        ("extra", "error"), [({"x": object()}, InvalidTypeError), ({"_ts": "soon"}, InvalidValueError)]
    )
    def test_an_extra_value_that_cannot_be_stored_clears_nothing(self, exp, extra, error):
        exp.metrics("train").buffer(loss=1)
        with pytest.raises(error):
            exp.metrics.buffer.log_summary(**extra)

        assert {"train/loss": [1.0]} == exp.metrics.buffer.peek()

    def test_whatever_is_one_number_is_taken(self, exp):
        given = (
            3,
            True,
            2.5,
            np.float32(3),
            np.int64(3),
            np.bool_(True),
            np.array(3),
            np.array([3]),
            np.array([[3.0]]),
        )
        for value in given:
            exp.metrics("train").buffer(x=value)

        assert {"x": [3, 1, 2.5, 3, 3, 1, 3, 3, 3]} == exp.metrics.buffer.peek("train", limit=None)

    def test_what_is_no_number_is_refused_with_the_whole_call(self, exp):
        for wrong in ("1.5", b"1", "x", [1], {"a": 1}, 1j, object(), np.zeros(2), np.array([]), 10**400):
            with pytest.raises(InvalidValueError, match="x="):
                exp.metrics("train").buffer(ok=1, x=wrong)

        assert {} == exp.metrics.buffer.peek()

    def test_a_dict_must_be_one(self, train):
        with pytest.raises(InvalidTypeError, match="is no dict"):
            train.buffer(0.5)

    def test_looking_changes_nothing(self, exp):
        for number in range(8):
            exp.metrics("train").buffer(a=number, b=-number)
        exp.metrics("eval").buffer(a=9)
        exp.metrics().buffer(c=None)
        buffer = exp.metrics.buffer

        assert {"a": [3, 4, 5, 6, 7], "b": [-3, -4, -5, -6, -7]} == buffer.peek("train")
        assert {"b": [-6, -7]} == buffer.peek("train", "b", "missing", limit=2)
        assert {"a": [float(n) for n in range(8)]} == buffer.peek("train", "a", limit=None)
        assert {"a": []} == buffer.peek("eval", limit=0)
        assert {} == buffer.peek("none")
        assert ["train/a", "train/b", "eval/a", "c"] == list(buffer.peek())
        assert math.isnan(buffer.peek("None")["c"][0])
        with pytest.raises(InvalidValueError, match="limit=-1"):
            buffer.peek("train", limit=-1)

    def test_values_stored_while_others_summarise_are_counted_once(self, exp):
        train, done = exp.metrics("train"), threading.Event()

        def store():
            for number in range(3000):
                train.buffer(x=number)

        def summarise():
            while not done.is_set():
                exp.metrics.buffer.log_summary("count", "sum")

        storing = [threading.Thread(target=store) for _ in range(3)]
        summarising = threading.Thread(target=summarise)
        for thread in (summarising, *storing):
            thread.start()
        for thread in storing:
            thread.join()
        done.set()
        summarising.join()
        exp.metrics.buffer.log_summary("count", "sum")
        logged = points(train)

        assert 9000 == sum(point["x.count"] for point in logged)
        assert 3 * 3000 * 2999 / 2 == sum(point["x.sum"] for point in logged)

    def test_two_threads_that_name_a_metric_at_once_share_its_buffer(self, exp):
        barrier = threading.Barrier(4)

        def work():
            for number in range(50):
                barrier.wait()
                exp.metrics(f"m{number}").buffer(x=1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {f"m{number}/x": [1.0] * 4 for number in range(50)} == exp.metrics.buffer.peek()

    def test_keys_without_end_are_refused_and_counted(self, exp, monkeypatch, capsys):
        monkeypatch.setattr(summaries, "MAX_KEYS", 3)
        for number in range(5):
            exp.metrics("train").buffer({f"key{number}": 1})
        exp.metrics("train").buffer(key0=2)

        assert {"key0": [1, 2], "key1": [1], "key2": [1]} == exp.metrics.buffer.peek("train")
        assert 2 == exp.health()["records_refused"]
        assert "keys wait for a summary" in capsys.readouterr().err

    def test_a_long_window_is_summarised_from_a_sample_and_says_so_once(self, exp, monkeypatch, capsys):
        monkeypatch.setattr("ml_dash.records.aggregate.MAX_VALUES", 10)
        for number in range(30):
            exp.metrics("train").buffer(x=number)
        exp.metrics.buffer.log_summary("count", "mean", "last")

        assert [{"x.count": 30, "x.mean": 14.5, "x.last": 29.0}] == points(exp.metrics("train"))
        assert 1 == capsys.readouterr().err.count("come from a sample")
        assert 0 == exp.health()["records_refused"]


class TestSummaryCache:
    def test_a_window_becomes_a_point(self, train):
        cache = train.summary_cache
        for value in (1.0, 2.0, 3.0):
            cache.store(loss=value)
        cache.store({"lr": 0.1})
        cache.set(epoch=1, phase="warm", _ts=5)
        cache.summarize()
        cache.summarize()
        cache.store(loss=9)
        cache.summarize()
        [first, second] = train.read()["data"]

        assert {
            "loss.mean": 2.0, "loss.min": 1.0, "loss.max": 3.0, "loss.count": 3, "loss.std": 1.0, "lr.mean": 0.1,
            "lr.min": 0.1, "lr.max": 0.1, "lr.count": 1, "lr.std": 0.0, "epoch": 1, "phase": "warm", "_ts": 5.0,
        } == first["data"]  # fmt: skip
        assert {"loss.mean", "loss.min", "loss.max", "loss.count", "loss.std", "_ts"} == set(second["data"])

    def test_without_clearing_a_window_grows_and_keeps_what_was_set(self, train):
        cache = train.summary_cache
        cache.set(epoch=1)
        for value in (1.0, 3.0):
            cache.store(loss=value)
            cache.summarize(clear=False)

        assert [(1, 1.0, 1), (2, 2.0, 1)] == [
            (point["loss.count"], point["loss.mean"], point["epoch"]) for point in points(train)
        ]
        assert {"loss": [1.0, 3.0]} == cache.peek()

    def test_a_window_of_nan_logs_nothing_and_is_cleared(self, train):
        cache = train.summary_cache
        cache.store(loss=math.nan, acc=None)
        cache.set(epoch=1)
        cache.summarize()
        cache.store(loss=1)
        cache.summarize()
        [point] = points(train)

        assert (1, None) == (point["loss.count"], point.get("epoch"))
        assert not [key for key in point if key.startswith("acc")]

    def test_looking_at_some_keys(self, train):
        cache = train.summary_cache
        for number in range(7):
            cache.store(a=number, b=number)

        assert {"b": [5.0, 6.0]} == cache.peek("b", "missing", limit=2)
        assert ["a", "b"] == list(cache.peek())

    def test_wrong_values_are_refused(self, train):
        cache = train.summary_cache
        with pytest.raises(InvalidValueError, match="a='x'"):
            cache.store(a="x")
        with pytest.raises(InvalidTypeError, match="what"):
            cache.set(what=object())
        with pytest.raises(InvalidValueError, match="_ts="):
            cache.set(_ts="soon")

        assert {} == cache.peek()

    def test_each_metric_has_its_own_and_the_buffer_is_another(self, exp):
        exp.metrics("a").summary_cache.store(x=1)
        exp.metrics("b").summary_cache.store(x=2)
        exp.metrics("a").buffer(x=3)
        exp.metrics("a").summary_cache.summarize()
        exp.metrics.buffer.log_summary()

        assert [1.0, 3.0] == [point["x.mean"] for point in points(exp.metrics("a"))]
        assert {"x": [2.0]} == exp.metrics("b").summary_cache.peek()


class TestTheEnd:
    @pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
    def test_what_is_left_is_summarised_as_the_last_time(self, tmp_path, reader, end):
        exp = Experiment(PREFIX, dash_root=tmp_path, echo=False).run.start()
        exp.metrics("train").buffer(loss=1)
        exp.metrics.buffer.log_summary("max", "count", epoch=1)
        exp.metrics("train").buffer(loss=2).buffer(loss=4)
        exp.metrics("other").summary_cache.store(x=1)
        getattr(exp.run, end)()

        assert [{"loss.max": 1.0, "loss.count": 1, "epoch": 1}, {"loss.max": 4.0, "loss.count": 2}] == points(
            reader("train")
        )
        assert [1] == [point["x.count"] for point in points(reader("other"))]

    def test_without_an_earlier_summary_it_is_the_mean(self, tmp_path, reader):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            exp.metrics("train").buffer(loss=2, nothing=None)
            exp.metrics("nan").buffer(x=math.nan)

        assert [{"loss.mean": 2.0}] == points(reader("train"))
        assert [] == points(reader("nan"))

    def test_a_cache_whose_values_are_all_summarised_adds_nothing(self, tmp_path, reader):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            exp.metrics("train").summary_cache.store(loss=2)
            exp.metrics("train").summary_cache.summarize(clear=False)

        assert [1] == [point["loss.count"] for point in points(reader("train"))]

    @pytest.mark.parametrize(("end", "status"), [("", 0), ("os.kill(os.getpid(), 15)", -15), ("1 / 0", 1)])
    def test_a_program_that_ends_without_ending_the_run(self, tmp_path, reader, end, status):
        code = (
            f"import os, ml_dash; exp = ml_dash.Experiment({PREFIX!r}, dash_root='.', echo=False).run.start();"
            f"exp.metrics('train').buffer(loss=3); {end}"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=python_environment(), timeout=60)

        assert status == done.returncode
        assert [{"loss.mean": 3.0}] == points(reader("train"))

    def test_a_closed_run_takes_nothing_and_a_new_start_begins_empty(self, tmp_path, reader):
        exp = Experiment(PREFIX, dash_root=tmp_path, echo=False).run.start()
        metric, buffer = exp.metrics("train"), exp.metrics.buffer
        exp.run.complete()
        for call in (
            lambda: metric.buffer(x=1),
            lambda: metric.summary_cache.store(x=1),
            buffer.log_summary,
            metric.summary_cache.summarize,
        ):
            with pytest.raises(ExperimentError, match="closed"):
                call()
        with exp.run as again:
            assert {} == again.metrics.buffer.peek() == metric.summary_cache.peek()
            again.metrics("train").buffer(x=5)

        assert [{"x.mean": 5.0}] == points(reader("train"))

    def test_a_forked_child_summarises_its_own_values_only(self, tmp_path, reader):
        run_python(
            f"""
import os, ml_dash
with ml_dash.Experiment({PREFIX!r}, dash_root='.', echo=False).run as exp:
    exp.metrics("train").buffer(x=1)
    exp.metrics("train").summary_cache.store(y=1)
    silent = os.fork()
    if not silent:
        exp.run.complete()
        os._exit(0)
    child = os.fork()
    if not child:
        exp.metrics("train").buffer(x=100).buffer(x=200)
        exp.run.complete()
        os._exit(0)
    for pid in (silent, child):
        assert os.waitpid(pid, 0)[1] == 0
""",
            tmp_path,
        )
        logged = points(reader("train"))

        assert [1.0, 150.0] == sorted(point["x.mean"] for point in logged if "x.mean" in point)
        assert [1] == [point["y.count"] for point in logged if "y.count" in point]


class TestStats:
    def test_numbers_of_every_kind(self, exp):
        train = exp.metrics("train", description="what", tags=["a"])
        for step, loss in enumerate((4.0, math.nan, 1.0, None, "text", math.inf, True, [1.0])):
            train.log(loss=loss, step=np.int64(step), nested={"deep": {"x": step}}, never="NaN", _ts=100 - step)
        train.log(only=math.nan, _ts=200)
        stats = train.stats()

        assert (9, 93.0, 200.0, "train") == tuple(
            stats[key] for key in ("totalDataPoints", "firstTimestamp", "lastTimestamp", "name")
        )
        assert {"loss", "step", "nested.deep.x", "only"} == set(stats["fields"])
        assert {
            "count": 3, "nan_count": 1, "first": 4.0, "last": math.inf, "min": 1.0, "max": math.inf, "mean": 2.5,
            "std": pytest.approx(math.sqrt(4.5)),
        } == stats["fields"]["loss"]  # fmt: skip
        assert {
            "count": 8, "nan_count": 0, "first": 0.0, "last": 7.0, "min": 0.0, "max": 7.0, "mean": 3.5,
            "std": pytest.approx(math.sqrt(6)),
        } == stats["fields"]["step"] == stats["fields"]["nested.deep.x"]  # fmt: skip
        only = stats["fields"]["only"]
        assert math.isnan(only.pop("first"))
        assert math.isnan(only.pop("last"))
        assert {"count": 0, "nan_count": 1} | dict.fromkeys(("min", "max", "mean", "std")) == only

    def test_what_the_metric_was_described_as(self, tmp_path, reader):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            exp.metrics("train", description="what", tags=["a"], metadata={"unit": "nats"}).log(loss=1)
        stats = reader("train").stats()

        assert ("what", ["a"], {"unit": "nats"}, 1) == tuple(
            stats[key] for key in ("description", "tags", "metadata", "totalDataPoints")
        )

    @pytest.mark.parametrize("about", [{"description": 5}, {"tags": "x"}, {"tags": [1]}, {"metadata": [1]}])
    def test_a_description_of_the_wrong_type_is_refused(self, exp, about):
        with pytest.raises(TypeError, match=next(iter(about))):
            exp.metrics("described", **about)

        assert "description" not in exp.metrics("described").stats()

    def test_a_metric_that_nobody_logged(self, exp):
        assert {
            "name": "none", "totalDataPoints": 0, "firstTimestamp": None, "lastTimestamp": None, "fields": {},
        } == exp.metrics("none").stats()  # fmt: skip
        assert [] == list(exp.metrics("none").points())

    def test_many_points_are_numpys_moments(self, run, reader):
        values = np.random.default_rng(0).normal(size=70_000)
        write(run, "train", *({"x": value} for value in values.tolist()))
        x = reader("train").stats()["fields"]["x"]

        np.testing.assert_allclose(
            [70_000, values[0], values[-1], values.min(), values.max(), values.mean(), values.std(ddof=1)],
            [x[key] for key in ("count", "first", "last", "min", "max", "mean", "std")],
        )

    def test_what_older_clients_and_crashes_leave(self, run, reader):
        write(run, "train", {"x": math.nan, "_ts": 1.0}, {"x": 10**400}, {"x": 2**70})
        with (run / "metrics/train/data.jsonl").open("a") as file:
            file.write(
                '{"index": 3, "da{"index": 4}\n[]\n{"index": 5}\n\n{"index":6,"data":7}\n{"index":7,"data":{"x":3'
            )
        stats = reader("train").stats()

        assert (4, 1.0) == (stats["totalDataPoints"], stats["lastTimestamp"])
        assert (2, 1, math.inf, 2.0**70) == tuple(
            stats["fields"]["x"][key] for key in ("count", "nan_count", "max", "last")
        )
        assert [10**400, 2**70, 7] == [
            point["data"] if isinstance(point["data"], int) else point["data"]["x"]
            for point in reader("train").read(1)["data"]
        ]


class TestOrder:
    STEPS = (5, 5, 3, 4, 3, 5)

    def test_steps_may_repeat_and_go_back(self, train):
        for step in self.STEPS:
            train.log(step=step, _ts=float(step))
        read = train.read()["data"]

        assert list(self.STEPS) == [point["data"]["step"] for point in read]
        assert [0, 1, 2, 3, 4, 5] == [point["index"] for point in read]

    def test_several_writers_are_merged_by_time(self, run, reader):
        write(run, "train", {"x": 1, "_ts": 1}, {"x": 4, "_ts": 4}, {"x": 5, "_ts": 4})
        write(run, "train", {"x": 0, "_ts": 0.5}, {"x": 3, "_ts": 3}, {"x": 6, "_ts": 4}, tag=".host-1-2")
        train = reader("train")

        assert [0, 1, 3, 4, 5, 6] == [point["data"]["x"] for point in train.read()["data"]]
        assert [2, 3] == [point["index"] for point in train.read(2, 2)["data"]]
        assert (2, 3, 2, True) == tuple(train.read(2, 2)[key] for key in ("startIndex", "endIndex", "total", "hasMore"))
        assert [5, 6] == [point["data"]["x"] for point in train.points(4)]
        assert (6, 0.0, 6.0) == (
            train.stats()["totalDataPoints"],
            train.stats()["fields"]["x"]["first"],
            train.stats()["fields"]["x"]["last"],
        )

    def test_one_run_opened_twice(self, tmp_path, exp):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as second:
            for number in range(4):
                (exp, second)[number % 2].metrics("train").log(number=number, _ts=number)
            second.flush()

            assert [0, 1, 2, 3] == [point["data"]["number"] for point in exp.metrics("train").read()["data"]]

    @pytest.mark.parametrize("start", [0, 1, 2500, 4999, 5000, 6000])
    @pytest.mark.parametrize("limit", [0, 1, 1000, None])
    def test_a_part_is_a_slice_of_the_whole(self, run, reader, start, limit):
        steps = list(range(5000))
        write(run, "train", *({"step": step} for step in steps))
        page = reader("train").read(start, limit)
        expected = steps[start:] if limit is None else steps[start : start + limit]

        assert expected == [point["data"]["step"] for point in page["data"]]
        assert (start + len(expected) < 5000, len(expected)) == (page["hasMore"], page["total"])

    def test_a_part_that_makes_no_sense(self, reader):
        for wrong in ({"start_index": -1}, {"limit": -1}, {"limit": 1.5}, {"start_index": "a"}):
            with pytest.raises(InvalidValueError, match="whole numbers, 0 or more"):
                reader("train").read(**wrong)


class TestNames:
    def test_the_unnamed_metric_is_also_called_none(self, exp):
        exp.metrics("None").log(a=1)
        exp.metrics(None).log(a=2)
        exp.metrics.log(a=3)

        assert exp.metrics("None") is exp.metrics(None) is exp.metrics()
        assert [1, 2, 3] == [point["a"] for point in points(exp.metrics())]
        assert [None] == exp.metrics.list()
        assert (None, 3) == tuple(exp.metrics(None).stats()[key] for key in ("name", "totalDataPoints"))
        assert [(None, 3)] == [(about["name"], about["totalDataPoints"]) for about in exp.metrics.list_all()]

    def test_every_metric_of_a_run_by_name(self, exp, reader):
        for name in ("train/loss", "train", None, "eval"):
            exp.metrics(name).log(x=1)
        exp.metrics("buffered").buffer(x=1)
        expected = [None, "eval", "train", "train/loss"]

        assert expected == exp.metrics.list() == [about["name"] for about in exp.metrics("eval").list_all()]
        assert expected == reader.list() == [about["name"] for about in reader.list_all()]
        assert [1, 1] == [point["data"]["x"] for name in ("train", "train/loss") for point in reader(name).points()]

    def test_a_reader_refuses_the_names_that_the_metric_refuses(self, exp, reader):
        for wrong in ("", "/a", "a//b", "..", "a\\b", "data.jsonl"):
            for manager in (exp.metrics, reader):
                with pytest.raises(InvalidNameError):
                    manager(wrong)


class TestTimes:
    def test_the_buffer_may_inherit_a_time_once_there_is_one(self, exp):
        exp.metrics("train").buffer(x=1)
        with pytest.raises(ConfigurationError, match="has used none yet"):
            exp.metrics.buffer.log_summary(_ts=-1)
        exp.metrics("other").log(a=1, _ts=2.5)
        exp.metrics.buffer.log_summary(_ts=-1)

        assert 2.5 == exp.metrics("train").read()["data"][0]["data"]["_ts"]
