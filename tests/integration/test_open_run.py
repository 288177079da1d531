"""Runs that are only read: one of them, live or not, and many at once."""

from __future__ import annotations

import datetime
import json
import re

import numpy as np
import pytest

import ml_dash
from ml_dash import Experiment, InvalidNameError, InvalidTypeError, InvalidValueError, MissingFileError
from tests.support import run_python


def record(root, prefix, *, status=None, **params):
    with Experiment(prefix, dash_root=str(root), echo=False, tags=params.pop("tags", None)).run as exp:
        exp.params.set(**params)
        for step in range(3):
            exp.metrics("train").log(loss=1 / (step + 1), step=step)
        if status is not None:
            getattr(exp.run, status)()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    record(root, "alice/walker/seed-1", lr=0.1, model={"layers": 4}, tags=["ppo", "baseline"])
    record(root, "alice/walker/seed-2", lr=0.2, model={"layers": 8}, tags=["ppo"], status="fail")
    record(root, "bob/reacher/only", lr=0.1)
    record(root, "bob/reacher/only/again", lr=0.3, status="cancel")
    return root


class TestOpenRun:
    def test_every_stream_of_a_run_is_read(self, tmp_path):
        with Experiment("a/b/c", dash_root=str(tmp_path), echo=False, readme="why", tags=["x"]).run as exp:
            exp.log("started", level="warn")
            exp.params.set(lr=0.5)
            exp.metrics("train").log(loss=1.0)
            exp.tracks("robot/pose").append(q=[1, 2], _ts=0.5)
            exp.files("models").save_text("weights", to="model.txt")
            exp.frames("camera").append(np.full((8, 8, 3), 7, np.uint8), format="png", _ts=0.0)
        run = ml_dash.open_run("a/b/c", dash_root=tmp_path)

        assert ["started"] == [line["message"] for line in run.logs.read(level="warn")]
        assert {"lr": 0.5} == run.params.get()
        assert [1.0] == run.metrics("train").numpy(["loss"])["loss"].tolist()
        assert [[1, 2]] == [row["q"] for row in run.tracks("robot/pose").slice()]
        assert "weights" == run.files("models").read_text("model.txt")
        assert 7 == run.frames("camera").read(0)[0, 0, 0]
        assert ("COMPLETED", "why", ["x"], "c", "a", "b") == (
            run.status,
            run.readme,
            run.tags,
            run.name,
            run.owner,
            run.project,
        )
        assert 1 == run.health()["frames_written"]
        assert not run.is_live
        assert run.created_at <= run.ended_at

    def test_a_live_run_is_followed_from_another_process(self, tmp_path):
        reader = """
import json, sys
import ml_dash
run = ml_dash.open_run("a/b/c", dash_root=sys.argv[1] if len(sys.argv) > 1 else "root")
print(json.dumps([run.status, run.is_live, [p["data"]["step"] for p in run.metrics("train").read()["data"]]]))
"""
        with Experiment("a/b/c", dash_root=str(tmp_path / "root"), echo=False).run as exp:
            for step in range(3):
                exp.metrics("train").log(step=step)
                exp.flush()
                assert ["RUNNING", True, list(range(step + 1))] == json.loads(run_python(reader, tmp_path))

    def test_reading_changes_no_file(self, tree):
        before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
        run = ml_dash.open_run("alice/walker/seed-1", dash_root=tree)
        run.params.get(), run.metrics("train").table(), run.metrics("train").stats(), run.files.list(), run.logs.read()

        assert before == {path: path.stat().st_mtime_ns for path in tree.rglob("*")}

    def test_a_run_is_opened_by_its_folder_too(self, tree, monkeypatch):
        folder = tree / "bob/reacher/only"
        monkeypatch.chdir(tree / "bob")

        assert "bob/reacher/only" == ml_dash.open_run(folder, dash_root=tree).prefix
        assert "bob/reacher/only" == ml_dash.open_run(folder).prefix
        assert str(folder) == ml_dash.open_run("reacher/only").folder

    def test_a_run_that_is_not_there_names_those_that_are(self, tree):
        with pytest.raises(MissingFileError, match=r"there is '[^ ]*', '[^ ]*', '[^ ]*', and 1 more$"):
            ml_dash.open_run("zzzz", dash_root=tree)
        with pytest.raises(MissingFileError, match="'alice/walker/seed-1'"):
            ml_dash.open_run("alice/walker/seed1", dash_root=tree)
        with pytest.raises(MissingFileError, match="'bob/reacher/only/again'"):
            ml_dash.open_run("bob/reacher", dash_root=tree)
        with pytest.raises(MissingFileError, match="no runs below"):
            ml_dash.open_run("a/b", dash_root=tree / "bob/reacher/only/metrics")
        with pytest.raises(InvalidTypeError, match="no path"):
            ml_dash.open_run(3)


class TestRuns:
    def test_every_run_is_found_also_one_within_another(self, tree):
        found = ml_dash.runs(tree)

        assert [
            "alice/walker/seed-1",
            "alice/walker/seed-2",
            "bob/reacher/only",
            "bob/reacher/only/again",
        ] == found.prefixes()
        assert 4 == len(found)
        assert found[0].prefix == found[:1][0].prefix

    def test_a_folder_without_runs_or_none_at_all_has_none(self, tmp_path):
        assert 0 == len(ml_dash.runs(tmp_path))
        with pytest.raises(MissingFileError, match="no folder"):
            ml_dash.runs(tmp_path / "missing")

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"match": "alice/*"}, ["seed-1", "seed-2"]),
            ({"match": "*/seed-?"}, ["seed-1", "seed-2"]),
            ({"match": "bob/reacher/only"}, ["only", "again"]),
            ({"match": "bob/reacher/on"}, []),
            ({"tags": "ppo"}, ["seed-1", "seed-2"]),
            ({"tags": ["ppo", "baseline"]}, ["seed-1"]),
            ({"status": "failed"}, ["seed-2"]),
            ({"status": ["COMPLETED", "CANCELLED"]}, ["seed-1", "only", "again"]),
            ({"params": {"lr": 0.1}}, ["seed-1", "only"]),
            ({"params": {"model.layers": lambda layers: layers > 4}}, ["seed-2"]),
            ({"params": {"lr": None}}, []),
            ({"params": {"model": {"layers": 4}}}, ["seed-1"]),
            ({"since": "2020-01-01"}, ["seed-1", "seed-2", "only", "again"]),
            ({"until": 0}, []),
            ({"since": datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)}, []),
            ({"match": "alice/*", "status": "completed"}, ["seed-1"]),
        ],
    )
    def test_runs_are_filtered(self, tree, filters, expected):
        assert expected == [run.name for run in ml_dash.runs(tree, **filters)]

    @pytest.mark.parametrize(
        ("filters", "error"),
        [
            ({"match": 3}, InvalidTypeError),
            ({"tags": 3}, InvalidTypeError),
            ({"params": ["lr"]}, InvalidTypeError),
            ({"since": "soon"}, InvalidValueError),
            ({"since": float("nan")}, InvalidValueError),
            ({"until": 1e300}, InvalidValueError),
            ({"status": "done"}, InvalidValueError),
            ({"until": None, "since": [1]}, InvalidValueError),
            ({"params": {"unknown": None}}, InvalidValueError),
            ({"params": {"model": 4}}, InvalidValueError),
            ({"params": {3: 4}}, InvalidTypeError),
            ({"params": {"lr": object()}}, InvalidTypeError),
        ],
    )
    def test_a_wrong_filter_is_refused(self, tree, filters, error):
        with pytest.raises(error):
            ml_dash.runs(tree, **filters)

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ("alice/*", ["seed-1", "seed-2"]),
            ("bob/reacher/only", ["only", "again"]),
            ("", ["seed-1", "seed-2", "only", "again"]),
            ("lr = 0.1 and tags has ppo", ["seed-1"]),
            ("status in (failed, cancelled) or not has(lr)", ["seed-2", "again"]),
            ("model.layers > 4", ["seed-2"]),
            ("train/loss.max >= 0 and alice", ["seed-1", "seed-2"]),
            ("created > 1h and ended is not missing", ["seed-1", "seed-2", "only", "again"]),
            ("created < 1h", []),
        ],
    )
    def test_runs_are_filtered_by_a_condition(self, tree, where, expected):
        assert expected == [run.name for run in ml_dash.runs(tree, where)]
        assert expected == [run.name for run in ml_dash.runs(tree, where=where)]

    def test_a_condition_and_keywords_must_all_be_met(self, tree):
        found = ml_dash.runs(tree, "lr >= 0.1", tags="ppo", match="alice/*", since="1h", status="completed")

        assert ["seed-1"] == [run.name for run in found]

    def test_a_condition_alone_is_about_the_usual_root(self, tree, monkeypatch):
        (tree.parent / "elsewhere").mkdir()
        monkeypatch.chdir(tree.parent / "elsewhere")
        with pytest.raises(MissingFileError, match=r"no folder '.*\.dash' to look for 'lr = 0.1' in"):
            ml_dash.runs("lr = 0.1")
        (tree.parent / "elsewhere/.dash").symlink_to(tree)

        assert ["seed-1", "only"] == [run.name for run in ml_dash.runs("lr = 0.1")]

    def test_a_condition_that_is_also_the_prefix_of_a_run_is_the_prefix(self, tmp_path):
        record(tmp_path, "a/lr=0.1/x", lr=3)
        record(tmp_path, "a/b/y", lr=0.1)

        assert ["a/lr=0.1/x"] == ml_dash.runs(tmp_path, "a/lr=0.1/*").prefixes()
        assert ["a/b/y"] == ml_dash.runs(tmp_path, "lr=0.1").prefixes()

    @pytest.mark.parametrize(
        ("where", "error", "said"),
        [
            ("lr <", InvalidValueError, "a value is missing"),
            ("lrr < 3", InvalidValueError, "no run has a parameter or a metric 'lrr'; did you mean 'lr'?"),
            ("stauts = failed", InvalidValueError, "did you mean 'status'?"),
            ("train/los < 3", InvalidValueError, "did you mean 'train/loss'?"),
            ("params.lrr < 3", InvalidValueError, "no run has a parameter 'lrr'; did you mean 'lr'?"),
            (3, InvalidTypeError, "must be text"),
            (
                "metrics.lr < 3",
                InvalidValueError,
                "no run has a metric 'lr'; the values of metrics are train/loss, train/step",
            ),
            ("metrics.loss < 3", InvalidValueError, "did you mean 'train/loss'?"),
            ("not stauts = failed", InvalidValueError, "did you mean 'status'?"),
            ("lr < 1 or stauts = failed", InvalidValueError, "did you mean 'status'?"),
            ("lrr is missing", InvalidValueError, "did you mean 'lr'?"),
            ("not has(lrr)", InvalidValueError, "did you mean 'lr'?"),
            ("has(lrr)", InvalidValueError, "did you mean 'lr'?"),
            ("al < 3", InvalidValueError, "no run has a parameter or a metric 'al'; there is prefix"),
            ("loss < 1", InvalidValueError, "did you mean 'train/loss'?"),
            ("layers > 1", InvalidValueError, "did you mean 'model.layers'?"),
            ("zzz = 1", InvalidValueError, "duration, lr, model.layers"),
            ("alice/* or bob/reacher/o=1", InvalidValueError, "write a prefix that has signs in it in quotes"),
            ("model = 4", InvalidValueError, "'model' is a group of values; compare one of them: model.layers"),
            ("train < 4", InvalidValueError, "compare one of them: train/loss, train/step"),
            ("lr < O.1", InvalidValueError, "'lr' is a number in every run, such as 0.1, and 'O.1' is none"),
            ("model.layers > 1_000", InvalidValueError, "'1_000' is none; write digits"),
            ("model.layers = 4x", InvalidValueError, "'4x' is none; write digits"),
            ('lr > "0.1"', InvalidValueError, "without quotes"),
            ("train/loss < \u20131", InvalidValueError, "is a number in every run"),
            ("lr<1and", InvalidValueError, "'1and' is none"),
            ("lr", InvalidValueError, "the name of a value; compare it, as in lr = true, or write has(lr)"),
            ("alice and status", InvalidValueError, "or write has(status)"),
        ],
    )
    def test_a_condition_that_cannot_be_right_is_refused(self, tree, where, error, said):
        with pytest.raises(error, match=re.escape(said)):
            ml_dash.runs(tree, where)

    def test_a_name_is_known_by_one_run_however_late_or_long_ago(self, tmp_path):
        record(tmp_path, "a/b/one")
        record(tmp_path, "a/b/two", last=3, optimizer={"name": "adam"})
        journal = tmp_path / "a/b/two/metrics/train/data.jsonl"
        early = '{"data": {"early": 1, "_ts": 1}}\n' + '{"data": {"loss": 1.5, "_ts": 2}}\n' * 3000
        journal.write_text(early + journal.read_text())

        assert ["a/b/two"] == ml_dash.runs(tmp_path, "last = 3").prefixes()
        assert ["a/b/one"] == ml_dash.runs(tmp_path, "last is missing").prefixes()
        assert ["a/b/two"] == ml_dash.runs(tmp_path, "train/early.max = 1").prefixes()
        assert ["a/b/one"] == ml_dash.runs(tmp_path, "not has(train/early)").prefixes()

    def test_a_name_in_another_form_of_unicode_is_told_apart(self, tmp_path):
        record(tmp_path, "a/b/c", naïve=1)

        with pytest.raises(InvalidValueError, match=r"'nai\\u0308ve', but 'na\\xefve' looks the same"):
            ml_dash.runs(tmp_path, "nai\u0308ve = 1")

    def test_names_of_runs_are_printable_in_errors(self, tmp_path):
        record(tmp_path, "a/b/c", **{"x\x1b[31m": 1, "group": {"y\x1b": 2}})

        for where in ("unknown = 1", "params.unknown = 1", "group = 1"):
            with pytest.raises(InvalidValueError, match=r"\\x1b") as caught:
                ml_dash.runs(tmp_path, where)
            assert "\x1b" not in str(caught.value)

    def test_a_tree_without_runs_has_every_name(self, tmp_path):
        assert [] == ml_dash.runs(tmp_path, "not lr < 3", params={"seed": 1}).prefixes()

    def test_a_group_and_a_metric_are_there(self, tmp_path):
        record(tmp_path, "a/b/one", optimizer={"name": "adam"})
        record(tmp_path, "a/b/two", optimizers=3)
        with Experiment("a/b/three", dash_root=str(tmp_path), echo=False).run as exp:
            exp.metrics("eval").log(score=1)

        def names(where):
            return [run.name for run in ml_dash.runs(tmp_path, where)]

        assert ["one"] == names("has(optimizer)")
        assert ["one"] == names("has(params.optimizer)")
        assert ["three", "two"] == names("optimizer is missing")
        assert ["one", "two"] == names("has(train)")
        assert ["one", "two"] == names("has(metrics.train) and has(train/loss)")
        assert ["three"] == names("has(eval)")

    def test_an_exact_prefix_with_brackets_is_no_glob(self, tmp_path):
        for prefix in ("bob/x[1]/d", "bob/x1/d", "bob/y*/d", "bob/yy/d"):
            record(tmp_path, prefix)

        for where in ("bob/x[1]/d", "bob/x[1]", 'prefix = "bob/x[1]/d"', '"bob/x[1]"'):
            assert ["bob/x[1]/d"] == ml_dash.runs(tmp_path, where).prefixes(), where
        assert ["bob/x[1]/d"] == ml_dash.runs(tmp_path, match="bob/x[1]/d").prefixes()
        assert 3 == len(ml_dash.runs(tmp_path, "not bob/x[1]"))
        assert ["bob/x1/d", "bob/x[1]/d"] == ml_dash.runs(tmp_path, "bob/x*").prefixes()
        assert ["bob/y*/d", "bob/yy/d"] == ml_dash.runs(tmp_path, "bob/y*/d").prefixes()

    def test_keywords_compare_values_as_a_condition_does(self, tmp_path):
        values = {"gpu": True, "nan": float("nan"), "sizes": [64, 64], "one": 1, "when": datetime.date(2026, 3, 1)}
        record(tmp_path, "a/b/c", **values)

        def fits(**params):
            return len(ml_dash.runs(tmp_path, params=params)) == 1

        assert all(fits(**{name: value}) for name, value in values.items())
        assert fits(sizes=(64, 64))
        assert fits(one=1.0)
        assert fits(sizes=np.array([64, 64]))
        assert not any([fits(gpu=1), fits(one=True), fits(nan=None), fits(sizes=[64, True]), fits(one="1")])

    def test_a_boolean_is_not_compared_with_yes(self, tmp_path):
        record(tmp_path, "a/b/c", gpu=True)

        with pytest.raises(InvalidValueError, match="'gpu' is true or false, and 'yes' is neither"):
            ml_dash.runs(tmp_path, "gpu = yes")
        assert [1, 0, 0] == [len(ml_dash.runs(tmp_path, f"gpu {rest}")) for rest in ("= TRUE", "= 1", "> true")]

    def test_an_error_in_a_function_names_the_run_and_the_value(self, tmp_path):
        record(tmp_path, "a/b/one", lr=1)
        record(tmp_path, "a/b/two", lr="fast")

        with pytest.raises(InvalidValueError, match="'lr' failed on the value 'fast' of the run 'a/b/two': TypeError"):
            ml_dash.runs(tmp_path, params={"lr": lambda lr: lr < 1e-3})

    def test_a_prefix_or_glob_alone_is_about_the_usual_root(self, tree, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(MissingFileError, match="no folder"):
            ml_dash.runs("alice/*")
        (tmp_path / ".dash").symlink_to(tree)

        assert ["seed-1", "seed-2"] == [run.name for run in ml_dash.runs("alice/*")]
        assert ["seed-1", "seed-2"] == [run.name for run in ml_dash.runs("alice")]
        with pytest.raises(MissingFileError, match=r"no folder .*, and no run below .* has the prefix 'alise'"):
            ml_dash.runs("alise")
        with pytest.raises(MissingFileError, match="no folder"):
            ml_dash.runs("./alice")

    def test_a_metric_of_all_runs_is_one_table(self, tree):
        table = ml_dash.runs(tree, "alice/*").metric("train", "loss", "step")

        assert ["run", "_index", "_ts", "loss", "step"] == table.schema.names
        assert ["alice/walker/seed-1"] * 3 + ["alice/walker/seed-2"] * 3 == table["run"].to_pylist()
        assert [0, 1, 2] * 2 == table["step"].to_pylist()
        assert 0 == len(ml_dash.runs(tree).metric("nothing"))
        assert ["run", "_index", "_ts"] == ml_dash.runs(tree).metric("nothing").schema.names

    def test_a_value_that_is_called_run_stands_beside_the_run(self, tmp_path):
        with Experiment("a/b/c", dash_root=str(tmp_path), echo=False).run as exp:
            exp.metrics("train").log(run=7, loss=0.5)

        found = ml_dash.runs(tmp_path).metric("train").to_pydict()
        assert (["a/b/c"], [7]) == (found["run"], found["data.run"])

    def test_a_value_that_no_run_has_is_named(self, tree):
        with pytest.raises(InvalidValueError, match="did you mean 'loss'"):
            ml_dash.runs(tree).metric("train", "los")
        with pytest.raises(InvalidNameError, match=r"\.\."):
            ml_dash.runs(tree).metric("../train")

    def test_a_run_with_damaged_tags_costs_itself(self, tmp_path):
        record(tmp_path, "a/b/good", tags=["x"])
        record(tmp_path, "a/b/odd", tags=["x"])
        path = tmp_path / "a/b/odd/experiment.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tags": 5}))

        assert ["a/b/good"] == ml_dash.runs(tmp_path, tags="x").prefixes()
