"""MLProject on real runs: the table, the search, the objects, and an index that is there, damaged, missing or killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ml_dash import (
    Experiment,
    ExperimentError,
    InvalidTypeError,
    InvalidValueError,
    MissingFileError,
    MLProject,
    MLRun,
    open_run,
    runs,
)
from ml_dash.catalog import index, index_cache, walk
from ml_dash.catalog.dataframe import to_dataframe
from ml_dash.catalog.index import read_index
from tests.support import file_time, python_environment, wait_until

KILLS = int(os.environ.get("ML_DASH_CRASH_ROUNDS", "4"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_DASH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def reads(monkeypatch):
    """The places of the runs that were read, in order; files count as settled after 10 ms instead of two seconds."""
    places = []
    real = index.summarise
    monkeypatch.setattr(index, "summarise", lambda root, found: places.append(found.path) or real(root, found))
    monkeypatch.setattr(walk, "YOUNG_NS", 10_000_000)
    return places


def settle(base):
    """Wait until files that are written now are later than those that were, by more than files count as young."""
    start = file_time(base)
    wait_until(lambda: file_time(base) > start + 20_000_000)


def managed(base, name, config, metrics, project="demo"):
    """A run as the files of the original tool."""
    folder = base / project / name
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    (folder / "metrics.toml").write_text(metrics)
    return folder


def create(base, config, **options):
    return MLRun.create(config, str(base), "demo", wandb_mode="disabled", **options)


def test_the_example_of_the_manager_works(base):
    for config, metrics in [
        ({"learning_rate": 1e-3, "batch_size": 32, "model": {"name": "CNN", "layers": 5}}, (0.92, 0.91, 10)),
        ({"learning_rate": 5e-5, "batch_size": 16, "model": {"name": "BERT", "layers": 12}}, (0.96, 0.95, 5)),
    ]:
        run = create(base, config)
        run.add_metrics(dict(zip(("accuracy", "f1_score", "epoch"), metrics, strict=True)))
        run.finish()

    project = MLProject(base_dir=str(base))
    best = project.search(query_string="accuracy > 0.95")

    assert (2, []) == (len(project), project.problems)
    assert [[run.run_id, "BERT", 0.96, 0.95]] == best[["run_id", "model.name", "accuracy", "f1_score"]].values.tolist()
    loaded = project.get_run(best.iloc[0]["run_id"])
    assert ({"accuracy": 0.96, "f1_score": 0.95, "epoch": 5}, "BERT") == (
        loaded.metrics,
        loaded.config["model"]["name"],
    )
    [found] = project.search("`model.name` == 'BERT' and epoch == 5", return_objects=True)
    assert (MLRun, run.run_id, None) == (type(found), found.run_id, found.wandb_run)


def test_managed_runs_and_experiments_are_in_one_table(base):
    with create(base, {"lr": 0.1, "seed": None, "accuracy": "high"}, tags=["first"]) as run:
        run.add_metrics({"accuracy": 0.5, "eval": {"f1": 1}})
        run.experiment.metrics("train").log(loss=2.0)
    with Experiment("alice/walker/run-1", dash_root=str(base), echo=False, tags=["second"]).run as exp:
        exp.params.set(lr=1, model={"layers": 4})
        for loss in (4.0, 1.0, 2.5):
            exp.metrics("train").log(loss=loss)
        exp.metrics(None).log(reward=3)

    frame = MLProject(base).df

    assert ["run_id", "project_name", "created_at", "ended_at", "git_commit", "status", "tags"] == list(
        frame.columns[:7]
    )
    assert [["alice/walker/run-1", "walker", ["second"]], [run.run_id, "demo", ["first"]]] == (
        frame[["run_id", "project_name", "tags"]].values.tolist()
    )
    assert ["COMPLETED", "COMPLETED"] == frame["status"].tolist()
    assert pd.Timestamp(run.created_at) == frame["created_at"][1]
    assert (frame["ended_at"] >= frame["created_at"]).all()
    experiment, manager = frame.iloc[0], frame.iloc[1]
    assert (1.0, 0.1, 4, "high", 0.5, 1) == (
        experiment["lr"],
        manager["lr"],
        experiment["model.layers"],
        manager["accuracy"],
        manager["metrics.accuracy"],
        manager["eval.f1"],
    )
    assert "seed" in frame
    assert [2.5, 1.0, 4.0, 2.5, 3.0] == [
        experiment[name] for name in ("train/loss", "train/loss.min", "train/loss.max", "train/loss.mean", "reward")
    ]
    assert 2.0 == manager["train/loss"]
    assert {"Int64", "float64"} == {str(frame["model.layers"].dtype), str(frame["lr"].dtype)}


def test_each_row_is_an_object_of_its_kind(base):
    managed(base, "abc", "lr = 1", "")
    managed(base, "abc", "lr = 2", "", project="other")
    with Experiment("alice/walker/run-1", dash_root=str(base), echo=False).run as exp:
        exp.params.set(lr=3)

    project = MLProject(base)

    assert [3, 1, 2] == [run.config["lr"] if isinstance(run, MLRun) else run.params.get()["lr"] for run in project]
    assert ["alice/walker/run-1"] == [run.prefix for run in project.search("lr == 3", return_objects=True)]
    assert {"lr": 3} == project.get_run("alice/walker/run-1", "walker").params.get()
    assert {"lr": 2} == project.get_run("abc", project_name="other").config
    with pytest.raises(ExperimentError, match="'demo', 'other'"):
        project.get_run("abc")
    with pytest.raises(MissingFileError, match="abc"):
        project.get_run("abd")


def test_a_damaged_run_is_named_and_the_others_are_shown(base):
    managed(base, "good", "lr = 1", "")
    managed(base, "bad_config", "lr = = 1", "")
    managed(base, "bad_metrics", "lr = 1", "= 1")
    managed(base, "emptied", "", "a = 1")
    deep = base / "alice/walker/deep"
    deep.mkdir(parents=True)
    (deep / "experiment.json").write_text('{"tags": ')

    project = MLProject(base)

    assert ["good"] == project.df["run_id"].tolist()
    assert [str(deep), str(base / "demo/bad_config"), str(base / "demo/bad_metrics"), str(base / "demo/emptied")] == [
        problem.folder for problem in project.problems
    ]
    assert "config.toml is damaged" in project.problems[1].reason
    assert "config.toml is empty" == project.problems[3].reason
    assert "4 with problems" in repr(project)


def test_a_folder_that_is_empty_or_missing_has_an_empty_table(base):
    missing = MLProject(base)
    base.mkdir()
    empty = MLProject(base)

    assert (0, [str(base)]) == (len(missing), [problem.folder for problem in missing.problems])
    assert (0, [], []) == (len(empty), empty.problems, list(empty))
    assert "datetime64[us, UTC]" == str(empty.df["created_at"].dtype)
    assert empty.search("status == 'FAILED'").empty
    assert empty.search("'baseline' in tags").empty


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr < 1e-3 and status = completed", "cannot be read: write == for equality; this is the language of pandas"),
        ("model.name = 'x'", "write == for equality; write `model.name` in backticks"),
        ("status == completed", "put text in quotes"),
        ("created_at > '2d'", "compare a time with text such as '2026-03-01'"),
        ("lr > 'a'", "; compare numbers with numbers, and text with text in quotes"),
    ],
)
def test_the_advice_fits_the_mistake(tmp_path: Path, text: str, said: str) -> None:
    run = MLRun.create({"lr": 0.1, "model": {"name": "x"}}, tmp_path, "p", wandb_mode="disabled")
    run.finish()

    with pytest.raises(InvalidValueError) as caught:
        MLProject(tmp_path).search(text)

    assert said in str(caught.value)


def test_a_missing_folder_is_named_by_the_project(tmp_path: Path) -> None:
    assert f"<0 runs: there is no folder '{tmp_path / 'nope'}'>" == repr(MLProject(tmp_path / "nope"))
    (tmp_path / "p" / "one").mkdir(parents=True)
    (tmp_path / "p" / "one" / "config.toml").write_text("lr = 1")
    with pytest.raises(MissingFileError, match=r"there is 1 other run$"):
        MLRun.load("zz", tmp_path)


def test_a_bad_query_names_the_nearest_columns(base):
    managed(base, "abc", "[model]\nname = 'x'", "accuracy = 1\n'train/loss' = 2")
    project = MLProject(base)

    with pytest.raises(InvalidValueError, match="`accuracy`"):
        project.search("acuracy > 1")
    with pytest.raises(InvalidValueError, match=r"write `model\.name` in backticks"):
        project.search("model.name == 'x'")
    with pytest.raises(InvalidValueError, match="write `train/loss` in backticks"):
        project.search("train/loss > 0")
    with pytest.raises(InvalidTypeError):
        MLProject(5)


def test_only_what_changed_is_read_again(base, reads):
    folders = [managed(base, f"run{k}", f"lr = {k}", "accuracy = 0.5") for k in range(3)]
    settle(base)
    MLProject(base)
    settle(base)
    reads.clear()
    assert [0, 1, 2] == MLProject(base).df["lr"].tolist()
    assert [] == reads

    (folders[1] / "metrics.toml").write_text("accuracy = 0.7")
    managed(base, "run3", "lr = 3", "")
    folders[0].rename(base / "demo/run9")
    frame = MLProject(base).df

    assert ["demo/run1", "demo/run3", "demo/run9"] == reads
    assert [["run1", 1, 0.7], ["run2", 2, 0.5], ["run9", 0, 0.5]] == (
        frame.dropna(subset="accuracy")[["run_id", "lr", "accuracy"]].values.tolist()
    )


def test_a_run_that_is_being_written_is_read_again(base):
    with create(base, {"lr": 1}) as run:
        run.add_metrics({"accuracy": 0.1})
        run.experiment.flush()
        project = MLProject(base)
        assert ([0.1], ["RUNNING"]) == (project.df["accuracy"].tolist(), project.df["status"].tolist())
        run.add_metrics({"accuracy": 0.2})
        run.experiment.flush()
        project.load_project()
        assert [0.2] == project.df["accuracy"].tolist()
    project.load_project()

    assert ["COMPLETED"] == project.df["status"].tolist()


def test_runs_are_found_by_a_tag(base):
    managed(base, "abc", "lr = 1", "")
    for run_id, tags in (("one", ["baseline", "long"]), ("two", ["base"])):
        create(base, {}, id=run_id, tags=tags).finish()

    assert ["one"] == MLProject(base).search("'baseline' in tags")["run_id"].tolist()
    assert ["abc", "two"] == MLProject(base).search("'baseline' not in tags")["run_id"].tolist()


REPLACING = """
import os, signal
from ml_dash import MLRun
run = MLRun.create({}, "checkpoints", "demo", wandb_mode="disabled", id="killed")
run.add_metrics({"a": {"x": 1}, "b": 1, "c": {"x": 1}, "d": 1})
run._saver.stop()
run.experiment.flush()
run._save()
run.add_metrics({"a": 5, "b": {"x": 2}, "c": 3, "d": {}})
run.add_metrics({"c": {"y": 4}})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_metric_that_was_replaced_is_gone_from_the_table_too(base, tmp_path):
    """metrics.toml knows the first call, the journal the others: by a killed process, and by one that goes on."""
    environment = python_environment()
    subprocess.run([sys.executable, "-c", REPLACING], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    journal = base / "demo/killed/metrics/None/data.jsonl"
    # By the writer, which outlives it.
    wait_until(lambda: journal.exists() and 3 == len(journal.read_bytes().splitlines()))

    killed = MLProject(base).df
    loaded = MLRun.load("killed", base)

    assert {"a": 5, "b": {"x": 2}, "c": {"y": 4}, "d": {}} == loaded.metrics
    assert {"a": 5, "b.x": 2, "c.y": 4, "d": {}} == killed.iloc[0, 7:].to_dict()
    assert set(killed.columns) == set(MLProject(base).df.columns)  # of the file that loading wrote
    with create(base, {}, id="live") as run:
        run.add_metrics({"a": {"x": 1}})
        run._saver.stop()
        run.experiment.flush()
        run._save()
        run.add_metrics({"a": 5})
        run.experiment.flush()
        live = MLProject(base).search("run_id == 'live'").dropna(axis="columns")
        assert {"a": 5} == live.iloc[0].drop(list(live.columns[:6]), errors="ignore").to_dict()


def test_a_damaged_index_and_a_cache_that_cannot_be_written_change_nothing(base, tmp_path, monkeypatch):
    managed(base, "abc", "lr = 1", "accuracy = 0.5")
    expected = MLProject(base).df
    path = Path(index_cache.folder_of(str(base)), "index")
    assert 0o700 == path.parent.stat().st_mode & 0o777
    with path.open("r+b") as file:
        file.seek(40)
        file.write(b"?")
    pd.testing.assert_frame_equal(expected, MLProject(base).df)

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ML_DASH_CACHE_DIR", str(tmp_path / "file"))
    pd.testing.assert_frame_equal(expected, MLProject(base).df)


def test_the_cache_is_where_the_environment_says(base, tmp_path, monkeypatch):
    managed(base, "abc", "lr = 1", "")
    monkeypatch.delenv("ML_DASH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    MLProject(base)

    assert ["index"] == [path.name for path in (tmp_path / "xdg/ml_dash/index").glob("*/*")]


def test_chosen_runs_are_a_table_too(tmp_path):
    for seed in range(3):
        with Experiment(f"alice/walker/seed-{seed}", dash_root=str(tmp_path / ".dash"), echo=False).run as exp:
            exp.params.set(seed=seed, **({"extra": True} if seed == 0 else {}))
            exp.metrics("train").log(loss=seed / 2)

    chosen = runs(tmp_path / ".dash", params={"seed": lambda seed: seed > 0})

    frame = chosen.dataframe()
    assert [["alice/walker/seed-1", 1, 0.5], ["alice/walker/seed-2", 2, 1.0]] == (
        frame[["run_id", "seed", "train/loss"]].values.tolist()
    )
    assert "extra" not in frame
    assert ["alice/walker/seed-2"] == chosen[1:].dataframe()["run_id"].tolist()
    assert frame["status"].tolist() == [open_run(prefix, tmp_path / ".dash").status for prefix in frame["run_id"]]


SCAN_FOR_EVER = """
import sys
from ml_dash.catalog import walk
from ml_dash.catalog.index import read_index

walk.YOUNG_NS = -10**9  # every file is known at once, so that each scan writes an index
root, step = sys.argv[1], 0
while True:
    step += 1
    with open(f"{root}/demo/run0/config.toml", "w") as file:
        file.write(f"step = {step}")
    read_index(root)
    print(step, flush=True)
"""


@pytest.mark.crash
def test_a_scan_that_is_killed_leaves_an_index_that_is_right(base, monkeypatch):
    for k in range(40):
        managed(base, f"run{k}", "\n".join(f"p{i} = {i * k}" for i in range(30)), "accuracy = 0.5")
    generator = random.Random(0)
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", SCAN_FOR_EVER, str(base)], env=python_environment(), stdout=subprocess.PIPE
        ) as child:
            for _ in range(generator.randrange(1, 40)):
                assert child.stdout.readline()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(generator.random() / 100)  # the kill comes anywhere within a scan
                raise AssertionError("the program ended by itself")
            child.send_signal(signal.SIGKILL)
        assert index_cache.load(str(base)) is not None
        fresh, kept = read_index(str(base), cached=False), read_index(str(base))
        assert fresh.paths == kept.paths
        pd.testing.assert_frame_equal(to_dataframe(fresh.rows), to_dataframe(kept.rows))
    monkeypatch.setattr(index_cache, "ORPHAN_S", -1.0)
    managed(base, "last", "lr = 1", "")
    MLProject(base)

    assert ["index"] == [path.name for path in Path(index_cache.folder_of(str(base))).iterdir()]


def test_an_experiment_is_found_by_its_prefix_or_the_end_of_it(base):
    managed(base, "abc", "lr = 1", "")
    for prefix in ("alice/walker/job_0", "alice/walker/job_1", "bob/walker/job_1"):
        (base / prefix).mkdir(parents=True)
        (base / prefix / "experiment.json").write_text('{"project": "walker"}')

    project = MLProject(base)

    assert "alice/walker/job_0" == project.get_run("alice/walker/job_0").prefix
    assert "alice/walker/job_0" == project.get_run("job_0").prefix
    assert "alice/walker/job_0" == project.get_run("walker/job_0", "walker").prefix
    assert "abc" == project.get_run("demo/abc").run_id
    with pytest.raises(ExperimentError, match="2 runs end in 'job_1': 'alice/walker/job_1', 'bob/walker/job_1'"):
        project.get_run("job_1")
    with pytest.raises(MissingFileError) as missing:
        project.get_run("walker/job_9")
    assert "'alice/walker/job_0'" in str(missing.value)
    assert "Errno" not in str(missing.value)
    with pytest.raises(
        MissingFileError, match=r"^no run 'job_0' of project 'demo' below .*; the nearest ids are 'abc'$"
    ):
        project.get_run("job_0", "demo")


def test_a_project_without_runs_says_so(base):
    with pytest.raises(MissingFileError, match=r"^no run 'abc' below .*; there is none at all$"):
        MLProject(base).get_run("abc")
