"""MLRun on the real engine, and with the real wandb in offline mode."""

from __future__ import annotations

import argparse
import datetime
import inspect
import json
import math
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from ml_dash import ExperimentError, InvalidNameError, InvalidTypeError, InvalidValueError, MissingFileError, MLRun
from ml_dash.errors import StorageError
from ml_dash.manager.run_info import RunInfo
from ml_dash.manager.wandb_link import OPTIONS, WAITING_CALLS, WandbLink
from tests.support import SUBPROCESS_SECONDS, python_environment, run_python, wait_until

CONFIG = {"lr": 1e-3, "seed": None, "model": {"name": "CNN", "layers": 5}}


def create(base, config=CONFIG, project="demo", **options):
    return MLRun.create(config, str(base), project, wandb_mode="disabled", **options)


def toml(run, name):
    return tomllib.loads((Path(run.run_dir) / name).read_text())


def points(run):
    text = (Path(run.run_dir) / "metrics/None/data.jsonl").read_text()
    return [{k: v for k, v in json.loads(line)["data"].items() if k != "_ts"} for line in text.splitlines()]


def test_a_run_has_its_files_and_says_that_it_is_local(tmp_path, capfd):
    run = create(tmp_path, entity="team", tags=["first"])
    run.add_metrics({"accuracy": 0.92, "epoch": 10, "eval": {"f1": np.float32(0.5)}})
    run.finish()

    assert str(tmp_path / "demo" / run.run_id) == run.run_dir
    assert re.fullmatch(r"[a-z0-9]{8}", run.run_id)
    config = toml(run, "config.toml")
    assert (0.001, {"name": "CNN", "layers": 5}) == (config["lr"], config["model"])
    assert {"run_id": run.run_id, "project": "demo", "entity": "team", "mode": "local"} == config["_wandb"]
    assert "COMPLETED" == config["_meta"]["status"]
    assert datetime.datetime.now(datetime.UTC) >= config["_meta"]["created_at"] == run.created_at
    assert {"accuracy": 0.92, "epoch": 10, "eval": {"f1": 0.5}} == toml(run, "metrics.toml") == run.metrics
    assert (None, None, "team", "demo") == (
        run.get_wandb_url(),
        run.wandb_run,
        run.wandb_entity,
        run.wandb_project,
    )
    line = f"ml_dash: demo/{run.run_id}: wandb is disabled; the run is local, with the id {run.run_id}\n"
    assert line == capfd.readouterr().err
    about = json.loads((tmp_path / "demo" / run.run_id / "experiment.json").read_text())
    assert ("demo", ["first"], "COMPLETED") == (about["project"], about["tags"], about["status"])


def test_a_loaded_run_is_what_was_created(tmp_path):
    with create(tmp_path / "base") as run:
        run.add_metrics({"accuracy": 0.5})

    loaded = MLRun.load(run.run_id, tmp_path / "base")

    assert (CONFIG, {"accuracy": 0.5}, run.run_dir) == (loaded.config, loaded.metrics, loaded.run_dir)
    assert (run.created_at, run.git_commit, "COMPLETED") == (loaded.created_at, loaded.git_commit, loaded.status)
    assert (run.run_id, "demo", None, None) == (
        loaded.run_id,
        loaded.project_name,
        loaded.wandb_run,
        loaded.experiment,
    )
    assert loaded.metrics == MLRun.load(run.run_id, str(tmp_path / "base"), "demo").metrics


def test_metrics_are_merged_and_their_history_is_kept(tmp_path):
    with create(tmp_path) as run:
        run.add_metrics({"eval": {"f1": 0.1}, "a.b": 1, "loss": math.inf})
        run.add_metrics({"eval": {"accuracy": 0.9}, "loss": 0.5})
        run.add_metrics({"loss": {"train": 0.25}, "when": datetime.date(2024, 1, 1), "_ts": 7, "none": None})
        run.add_metrics({})

    expected = {
        "eval": {"f1": 0.1, "accuracy": 0.9},
        "a.b": 1,
        "loss": {"train": 0.25},
        "when": datetime.date(2024, 1, 1),
        "_ts": 7,
        "none": None,
    }
    assert expected == run.metrics
    assert expected == MLRun.load(run.run_id, tmp_path).metrics
    (Path(run.run_dir) / "metrics.toml").unlink()
    assert expected == MLRun.load(run.run_id, tmp_path).metrics
    date = {"__ml_dash__": "date", "value": "2024-01-01"}
    assert [
        {"eval.f1": 0.1, "a\\.b": 1, "loss": "Infinity"},
        {"eval.accuracy": 0.9, "loss": 0.5},
        {"loss.train": 0.25, "when": date, "none": None, "\\_ts": 7},
        {},
    ] == points(run)


def test_metrics_toml_follows_while_the_run_goes_on(tmp_path):
    with create(tmp_path) as run:
        run.add_metrics({"step": 1})
        wait_until(lambda: (Path(run.run_dir) / "metrics.toml").exists() and {"step": 1} == toml(run, "metrics.toml"))
        run.add_metrics({"step": 2})
        wait_until(lambda: {"step": 2} == toml(run, "metrics.toml"))
        wait_until(lambda: {"step": 2} == MLRun.load(run.run_id, tmp_path).metrics)
        assert "RUNNING" == MLRun.load(run.run_id, tmp_path).status == run.status


def test_a_folder_that_refuses_metrics_toml_loses_nothing(tmp_path, capfd):
    run = create(tmp_path)
    (Path(run.run_dir) / "metrics.toml").mkdir()
    run.add_metrics({"a": 1})
    run.finish()
    (Path(run.run_dir) / "metrics.toml").rmdir()

    assert {"a": 1} == MLRun.load(run.run_id, tmp_path).metrics
    assert 1 <= run.health()["save_errors"]
    assert 1 == capfd.readouterr().err.count("metrics.toml is behind")


def test_a_configuration_may_be_a_namespace_and_is_among_the_parameters(tmp_path):
    with create(tmp_path, argparse.Namespace(lr=0.1, net={"depth": 3, "act": None})) as run:
        assert {"lr": 0.1, "net.depth": 3, "net.act": None} == run.experiment.params.get()

    assert {"lr": 0.1, "net": {"depth": 3, "act": None}} == MLRun.load(run.run_id, tmp_path).config


def test_what_is_edited_by_hand_is_not_saved(tmp_path):
    mine = {"l": [1, [2]], "n": {"l": [1], "rows": [{"a": 1}]}, "s": {1}}
    expected = {"l": [1, [2]], "n": {"l": [1], "rows": [{"a": 1}]}, "s": {1}}
    with create(tmp_path) as run:
        run.add_metrics(mine)
        mine["l"][1].append(98)
        mine["n"]["l"].append(98)
        run.metrics["l"].append(99)
        run.metrics["l"][1].append(99)
        run.metrics["n"]["l"].append(99)
        run.metrics["n"]["rows"][0]["a"] = 99
        run.metrics["n"]["by hand"] = 99
        run.metrics["s"].add(99)
        run.add_metrics({"later": 1})

    loaded = MLRun.load(run.run_id, tmp_path)
    assert {**expected, "later": 1} == loaded.metrics
    loaded.metrics["l"].append(99)
    loaded.metrics["n"]["l"].append(99)
    loaded.add_metrics({"later": 2})
    loaded.finish()
    assert {**expected, "later": 2} == MLRun.load(run.run_id, tmp_path).metrics


def test_a_metric_may_become_an_empty_dict(tmp_path):
    with create(tmp_path) as run:
        run.add_metrics({"a": 1, "b": {"c": 2}})
    loaded = MLRun.load(run.run_id, tmp_path)
    loaded.add_metrics({"a": {}, "b": {}})
    loaded.finish()

    assert {"a": {}, "b": {"c": 2}} == loaded.metrics == MLRun.load(run.run_id, tmp_path).metrics


def test_a_timeout_that_is_none_is_refused_and_the_run_goes_on(tmp_path):
    run = create(tmp_path)
    run._link = WandbLink(BrokenRun(), run._warn)
    for timeout, error in ((-1, InvalidValueError), (math.nan, InvalidValueError), ("1", InvalidTypeError)):
        with pytest.raises(error, match=r"timeout=.* must be .*, or None for 60"):
            run.finish(timeout)
    with pytest.raises(InvalidTypeError):
        run.finish(True)
    run.add_metrics({"a": 1})
    assert ("RUNNING", None) == (run.status, run._link.run.finished)
    run.finish(None)

    assert ("COMPLETED", 0) == (run.status, run._link.run.finished)
    with create(tmp_path) as other:
        other._link = WandbLink(BrokenRun(), other._warn)
        other.finish(math.inf)
    assert 0 == other._link.run.finished


def test_a_name_with_braces_is_a_name(tmp_path):
    with create(tmp_path, project="{user} {x}") as run:
        run.add_metrics({"a": 1})

    assert {"a": 1} == MLRun.load(run.run_id, tmp_path, "{user} {x}").metrics


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"config": 3}, InvalidTypeError, "config=3 must be a dict, not int"),
        ({"config": {"net": {"f": object()}}}, InvalidTypeError, r"'config\.net\.f' is of type object"),
        ({"config": {"_meta": 1}}, InvalidValueError, "the key '_meta' is for what ml_dash writes"),
        ({"project": "a/b"}, InvalidNameError, "project_name 'a/b' has a slash"),
        ({"project": ".."}, InvalidNameError, "has the segment '..'"),
        ({"project": 3}, InvalidTypeError, "project_name must be a str"),
        ({"base": 3}, InvalidTypeError, "base_dir=3 must be the path of a folder"),
        ({"wandb_mode": "onlin"}, InvalidValueError, "wandb_mode='onlin' is none of online, offline"),
        ({"tags": "abc"}, InvalidTypeError, "tags='abc' must be a list of strings"),
        ({"tags": [1]}, InvalidTypeError, r"tags=\[1\] must be a list of strings"),
        ({"name": 5}, InvalidTypeError, "name=5 must be text, not int"),
        ({"entity": 5}, InvalidTypeError, "entity=5 must be text, not int"),
        ({"id": "a/b"}, InvalidNameError, "id 'a/b' has a slash"),
        ({"grup": "typo"}, InvalidTypeError, "has no keyword 'grup'; did you mean 'group'"),
    ],
)
def test_bad_arguments_raise_and_write_nothing(tmp_path, arguments, error, text):
    options = {"wandb_mode": "disabled", **arguments}
    first = options.pop("config", {}), options.pop("base", tmp_path / "base"), options.pop("project", "demo")

    with pytest.raises(error, match=text):
        MLRun.create(*first, **options)

    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "base").write_text("a file")

    with pytest.raises(StorageError, match="check base_dir"):
        create(tmp_path / "base")


def test_bad_metrics_raise_and_change_nothing(tmp_path):
    with create(tmp_path) as run:
        for bad in ([1], None, {"a": 1, "b": object()}, {(1,): 2}, {"\ud800": 1.0}):
            with pytest.raises((InvalidTypeError, InvalidValueError)):
                run.add_metrics(bad)
        run.add_metrics({"good": 1})

    assert {"good": 1} == run.metrics == toml(run, "metrics.toml")
    assert [{"good": 1}] == points(run)
    with pytest.raises(ExperimentError, match=r"is finished; MLRun\.load"):
        run.add_metrics({"late": 1})
    run.finish()


def test_an_exception_is_recorded_and_adding_later_does_not_hide_it(tmp_path):
    run = create(tmp_path)
    run.add_metrics({"a": 1})
    with pytest.raises(ZeroDivisionError), run:
        1 / 0  # noqa: B018 - it raises
    loaded = MLRun.load(run.run_id, tmp_path)
    assert ("FAILED", "FAILED") == (run.status, loaded.status)
    assert "ZeroDivisionError: division by zero" == toml(run, "config.toml")["_meta"]["status_reason"]

    loaded.add_metrics({"test": {"accuracy": 0.5}})
    loaded.finish()

    again = MLRun.load(run.run_id, tmp_path)
    assert ("FAILED", {"a": 1, "test": {"accuracy": 0.5}}) == (again.status, again.metrics)
    assert {"a": 1, "test": {"accuracy": 0.5}} == toml(run, "metrics.toml")


def test_a_missing_or_ambiguous_run_is_named(tmp_path):
    for project, run_id in [("one", "abcd1234"), ("two", "abcd1234"), ("two", "abcd1299")]:
        create(tmp_path, project=project, id=run_id).finish()

    with pytest.raises(ExperimentError, match="2 projects have a run 'abcd1234': 'one', 'two'; give project_name="):
        MLRun.load("abcd1234", tmp_path)
    assert "two" == MLRun.load("abcd1234", tmp_path, "two").project_name
    with pytest.raises(MissingFileError, match="no run 'abcd1235'; the nearest ids are 'abcd1234', 'abcd1299'"):
        MLRun.load("abcd1235", tmp_path)
    with pytest.raises(MissingFileError, match="no run 'abcd1299' of project 'one'; it is in 'two'"):
        MLRun.load("abcd1299", tmp_path, "one")
    with pytest.raises(MissingFileError, match="no run 'abcd1298' of project 'two'; the nearest ids are 'abcd1299', "):
        MLRun.load("abcd1298", tmp_path, "two")
    with pytest.raises(MissingFileError, match=r"no run 'x': there is no folder '.*nothing'"):
        MLRun.load("x", tmp_path / "nothing")
    with pytest.raises(InvalidNameError, match="has a slash"):
        MLRun.load("one/abcd1234", tmp_path)


def test_a_folder_that_cannot_be_listed_is_a_clear_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(StorageError, match="the folder cannot be listed"):
        MLRun.load("x", tmp_path / "loop")
    with pytest.raises(MissingFileError, match="no run 'x'"):  # what lies beside the projects is no matter
        MLRun.load("x", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_one_may_not_list_is_a_clear_error(tmp_path):
    (tmp_path / "base").mkdir(mode=0o300)

    with pytest.raises(StorageError, match="the folder cannot be listed: Permission denied"):
        MLRun.load("x", tmp_path / "base")


def test_files_of_the_original_and_damaged_ones(tmp_path):
    folder = tmp_path / "old/run1"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        'lr = 0.1\n[_wandb]\nentity = "team"\nurl = "https://wandb.ai/team/old/runs/run1"\n'
    )
    (folder / "metrics.toml").write_text("accuracy = 0.5\n")

    run = MLRun.load("run1", tmp_path)
    assert ({"lr": 0.1}, {"accuracy": 0.5}, "UNKNOWN") == (run.config, run.metrics, run.status)
    assert "https://wandb.ai/team/old/runs/run1" == run.get_wandb_url()
    run.add_metrics({"f1": 0.25})
    run.finish()
    assert {"accuracy": 0.5, "f1": 0.25} == MLRun.load("run1", tmp_path).metrics

    (folder / "metrics.toml").write_text("accuracy = ")  # from the journal, as far as it goes
    assert {"f1": 0.25} == MLRun.load("run1", tmp_path).metrics
    (folder / "config.toml").write_text("lr = ")
    with pytest.raises(StorageError, match=r"config\.toml is damaged: .*restore it"):
        MLRun.load("run1", tmp_path)
    (folder / "config.toml").write_text("")
    with pytest.raises(StorageError, match=r"config\.toml is empty; restore it"):
        MLRun.load("run1", tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        '{"data":5}',
        "5",
        "{}",
        '{"data":{"v":9,"_ts":null}}',
        '{"data":{"v":9,"_ts":"NaN"}}',
        '{"data":{"v":9,"_ts":{}}}',
    ],
)
def test_a_damaged_line_of_the_journal_costs_itself(finished, line):
    folder = Path(finished.run_dir)
    journal = folder / "metrics/None/data.jsonl"
    first, second = journal.read_text().splitlines()
    journal.write_text(f"{first}\n{line}\n{second}\n")
    (folder / "metrics.toml").unlink()

    assert {"v": 1, "w": 2} == MLRun.load(finished.run_id, folder.parents[1]).metrics


@pytest.mark.parametrize("size", ["null", '"x"', "-5", "1e400", "true", "[1]", "99999"])
def test_a_damaged_size_in_the_header_of_metrics_toml_costs_itself(finished, size):
    folder = Path(finished.run_dir)
    header = f'# The last value of each metric. Journals up to: {{"data.jsonl":{size}}}'
    (folder / "metrics.toml").write_text(f"{header}\nv = 1\nhand = 3\n")

    assert {"v": 1, "w": 2, "hand": 3} == MLRun.load(finished.run_id, folder.parents[1]).metrics


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory):
    with create(tmp_path_factory.mktemp("finished")) as run:
        run.add_metrics({"v": 1})
        run.add_metrics({"w": 2})
    return run


@pytest.fixture
def finished(finished_once, tmp_path):
    """A copy of a run whose journal has two lines, to damage."""
    copied = shutil.copytree(finished_once.run_dir, tmp_path / "demo" / finished_once.run_id)
    return SimpleNamespace(run_id=finished_once.run_id, run_dir=str(copied))


def test_the_address_of_a_run_that_was_not_sent_is_composed():
    info = RunInfo("abcd1234", "demo", entity="team", project="demo", mode="offline")

    assert "https://wandb.ai/team/demo/runs/abcd1234" == info.wandb_url()
    assert RunInfo("abcd1234", "demo", project="demo", mode="offline").wandb_url() is None


def test_a_run_with_the_same_id_goes_on(tmp_path):
    with create(tmp_path, id="same") as first:
        first.add_metrics({"a": 1, "b": 1})
    with create(tmp_path, {"lr": 2}, id="same") as second:
        assert {"a": 1, "b": 1} == second.metrics
        second.add_metrics({"b": 2})

    loaded = MLRun.load("same", tmp_path)
    assert ({"a": 1, "b": 2}, {"lr": 2}) == (loaded.metrics, loaded.config)


ADDER = """
import sys
from ml_dash import MLRun
run = MLRun.load(sys.argv[1], "base")
name = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for step in range(200):
    run.add_metrics({name: {"step": step}, "last": {"by": name, "step": step}})
run.finish()
"""


def test_two_processes_that_add_to_one_run_lose_nothing(tmp_path):
    run = create(tmp_path / "base")
    others = [
        subprocess.Popen(
            [sys.executable, "-c", ADDER, run.run_id, name],
            cwd=tmp_path,
            env=python_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("left", "right")
    ]
    for other in others:
        assert b"ready\n" == other.stdout.readline()
        other.stdin.write(b"go\n")
        other.stdin.flush()
    for step in range(200):
        run.add_metrics({"mine": {"step": step}})
    for other in others:
        other.communicate()
        assert 0 == other.returncode
    run.finish()

    saved = toml(run, "metrics.toml")
    assert {"left": {"step": 199}, "right": {"step": 199}, "mine": {"step": 199}} == {
        name: saved[name] for name in ("left", "right", "mine")
    }
    assert 199 == saved["last"]["step"]
    assert saved == MLRun.load(run.run_id, tmp_path / "base").metrics
    journals = Path(run.run_dir).glob("metrics/None/data*.jsonl")
    assert [200, 200, 200] == [len(path.read_bytes().splitlines()) for path in journals]


CHILD_ADDS = """
import multiprocessing, sys
from ml_dash import MLRun

def add(run):
    run.add_metrics({"child": 2})
    run.finish()

if __name__ == "__main__":
    with MLRun.create({}, "base", "demo", wandb_mode="disabled") as run:
        run.add_metrics({"parent": 1, "child": 0})
        child = multiprocessing.get_context(sys.argv[1]).Process(target=add, args=(run,))
        child.start()
        child.join()
        assert 0 == child.exitcode
        run.add_metrics({"parent": 2})
    print(run.run_id)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_adds_to_the_run_of_its_parent(tmp_path, method):
    """In a script of its own: a child that is spawned imports its parent's, which no test is for it."""
    (tmp_path / "train.py").write_text(CHILD_ADDS)
    done = subprocess.run(
        [sys.executable, "train.py", method],
        cwd=tmp_path,
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
    )
    assert 0 == done.returncode, done.stderr

    found = MLRun.load(done.stdout.strip(), tmp_path / "base")
    assert ({"parent": 2, "child": 2}, "COMPLETED") == (found.metrics, found.status)
    assert {"parent": 2, "child": 2} == toml(found, "metrics.toml")


def test_a_run_can_be_pickled(tmp_path):
    with create(tmp_path) as run:
        run.add_metrics({"a": 1})

    copy = pickle.loads(pickle.dumps(run))
    assert (run.run_id, {"a": 1}) == (copy.run_id, copy.metrics)


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        ("", "COMPLETED", None),
        ("raise SystemExit(0)", "COMPLETED", None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "FAILED", "SIGTERM: the process was told to end"),
        ("1 / 0", "FAILED", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_run_that_nobody_finishes_is_finished_at_the_end(tmp_path, end, status, reason):
    code = f"""
from ml_dash import MLRun
run = MLRun.create({{}}, "base", "demo", wandb_mode="disabled", id="left")
run.add_metrics({{"a": 1}})
{end}
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=python_environment(), stderr=subprocess.PIPE)

    run = MLRun.load("left", tmp_path / "base")
    assert (status, {"a": 1}) == (run.status, run.metrics)
    meta = toml(run, "config.toml")["_meta"]
    assert (status, reason) == (meta["status"], meta.get("status_reason"))


LEFT_OPEN = """
import sys
from ml_dash import MLRun
run = MLRun.create({}, "base", "demo", wandb_mode="disabled", id="left")
run.add_metrics({"a": 1})
run.experiment.flush()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.crash
def test_adding_to_a_run_whose_writer_was_killed_too_does_not_mend_it(tmp_path):
    left = subprocess.Popen(
        [sys.executable, "-c", LEFT_OPEN],
        cwd=tmp_path,
        env=python_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert b"ready\n" == left.stdout.readline()
    document = tmp_path / "base/demo/left/experiment.json"
    writer = json.loads(document.read_text())["writer_pid"]
    others = MLRun.load("left", tmp_path / "base")
    others.add_metrics({"b": 1})
    others.finish()
    assert "RUNNING" == json.loads(document.read_text())["status"], "a run that goes on is not failed by who adds to it"
    os.kill(writer, signal.SIGSTOP)  # so that it says nothing of how the run ended
    left.kill()
    left.communicate()
    os.kill(writer, signal.SIGKILL)

    loaded = MLRun.load("left", tmp_path / "base")
    assert "RUNNING" == loaded.status
    loaded.add_metrics({"test": {"accuracy": 0.5}})
    loaded.finish()

    again = MLRun.load("left", tmp_path / "base")
    assert ("FAILED", {"a": 1, "b": 1, "test": {"accuracy": 0.5}}) == (again.status, again.metrics)
    reason = (
        f"the training process (pid {left.pid}) ended without closing the run: it was killed, and its writer with it"
    )
    assert reason == json.loads(document.read_text())["status_reason"]
    again.add_metrics({"more": 1})
    again.finish()
    assert ("FAILED", reason) == (again.status, again._info.reason)


# ---------------------------------------------------------------------------------------------------------------------
# wandb
# ---------------------------------------------------------------------------------------------------------------------

OFFLINE = """
from ml_dash import MLRun
import wandb

run = MLRun.create({"lr": 1e-3, "model": {"name": "CNN", "drop": None}}, "base", "demo", "team", tags=["x"], group="g")
assert run.wandb_run is wandb.run and run.wandb_run.id == run.run_id
other = MLRun.create({}, "base", "demo", wandb_mode="offline")
assert other.run_id != run.run_id and wandb.run is run.wandb_run
for step in range(50):
    run.add_metrics({"loss": step / 2, "eval": {"accuracy": step}})
other.add_metrics({"b": 1})
other.finish()
run.finish()
assert 0 == run.health()["wandb_waiting"] == run.health()["wandb_errors"]
print(run.run_id, run.get_wandb_url())
"""


def wandb_records(path):
    """What wandb wrote, by its own messages; the file is a log in blocks of 32 KiB, as LevelDB has it."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


@pytest.mark.ecosystem
def test_wandb_gets_the_configuration_and_every_metric(tmp_path):
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    run_id, url = run_python(OFFLINE, tmp_path, environment=environment).split()

    assert f"https://wandb.ai/team/demo/runs/{run_id}" == url
    run = MLRun.load(run_id, tmp_path / "base")
    assert ({"loss": 24.5, "eval": {"accuracy": 49}}, "COMPLETED") == (run.metrics, run.status)
    assert ("offline", "team") == (toml(run, "config.toml")["_wandb"]["mode"], run.wandb_entity)
    assert (url, None) == (run.get_wandb_url(), run.wandb_run)
    records = list(wandb_records(next(tmp_path.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))))
    about = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert ("demo", "team", "g", ["x"]) == (about.project, about.entity, about.run_group, list(about.tags))
    sent = {update.key: json.loads(update.value_json) for update in about.config.update}
    assert {"lr": 1e-3, "model": {"name": "CNN", "drop": None}} == {key: sent[key] for key in ("lr", "model")}
    rows = [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    expected = [(step, step / 2, step) for step in range(50)]
    assert expected == [(row["_step"], row["loss"], row["eval.accuracy"]) for row in rows]
    assert [0] == [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"]


LOCAL = """
from ml_dash import MLRun
with MLRun.create({}, "base", "demo", **options) as run:
    run.add_metrics({"a": 1})
print(run.run_id, run.get_wandb_url(), run.wandb_run)
"""


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("import sys; sys.modules['wandb'] = None; options = {}", "wandb is not installed"),
        # A folder of earlier runs looks like a package to Python.
        ("import sys, types; sys.modules['wandb'] = types.ModuleType('wandb'); options = {}", "wandb is not installed"),
        ("import os; os.environ['WANDB_MODE'] = 'disabled'; options = {}", "wandb is disabled"),
        ("options = {'wandb_mode': 'online'}", "wandb.init failed (UsageError: "),
    ],
    ids=["missing", "folder", "disabled", "no-login"],
)
def test_without_wandb_the_run_is_local(tmp_path, before, text):
    environment = python_environment({"HOME": str(tmp_path)})
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", before + "\n" + LOCAL],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stderr

    run_id, url, wandb_run = done.stdout.split()[-3:]
    assert ("None", "None") == (url, wandb_run)
    ours = [line for line in done.stderr.splitlines() if line.startswith("ml_dash: ")]
    assert 1 == len(ours), done.stderr
    assert f"demo/{run_id}: {text}" in ours[0]
    assert ours[0].endswith(f"the run is local, with the id {run_id}")
    assert {"a": 1} == MLRun.load(run_id, tmp_path / "base").metrics


def test_an_option_is_checked_where_wandb_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(InvalidTypeError, match=r"has no keyword 'grup'; did you mean 'group'\?"):
        create(tmp_path / "base", grup="a")
    assert [] == list(tmp_path.iterdir())
    with create(tmp_path / "base", group="a", job_type="test", notes="n") as run:
        assert "local" == toml(run, "config.toml")["_wandb"]["mode"]


@pytest.mark.ecosystem
def test_the_named_options_are_those_that_wandb_has():
    wandb = pytest.importorskip("wandb")

    # Those that every version has; a newer one may have more, or have dropped some of the rest.
    usual = {
        "config",
        "dir",
        "entity",
        "group",
        "id",
        "job_type",
        "mode",
        "name",
        "notes",
        "project",
        "settings",
        "tags",
    }
    assert usual <= set(OPTIONS) & set(inspect.signature(wandb.init).parameters)


@pytest.mark.ecosystem
def test_an_option_that_wandb_does_not_have_is_named(tmp_path):
    pytest.importorskip("wandb")

    with pytest.raises(InvalidTypeError, match=r"MLRun\.create\(\) has no keyword 'grup'; did you mean 'group'\?"):
        MLRun.create({}, tmp_path / "base", "demo", wandb_mode="offline", grup="a")


class BrokenRun:
    """Stands in for a wandb that does not work: its server cannot be had here."""

    def __init__(self, release=None, error=None):
        self.release = release
        self.error = error or ConnectionError("no server\nmore lines")
        self.finished = None

    def log(self, values):
        if self.release is None:
            raise self.error
        self.release.wait()

    def finish(self, exit_code):
        self.finished = exit_code


def test_a_wandb_that_refuses_is_counted_and_named_once():
    warnings = []
    link = WandbLink(BrokenRun(), warnings.append)
    for step in range(3):
        link.log({"step": step})
    link.end(exit_code=1)

    assert link.join(10)
    assert (3, "ConnectionError: no server", 1) == (link.errors, link.last_error, link.run.finished)
    assert 1 == len(set(warnings))


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("the text of an error may fail too")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), UnspeakableError()])
def test_a_wandb_that_wants_to_end_the_process_is_an_error_like_any_other(tmp_path, capfd, error):
    run = create(tmp_path)
    run._link = WandbLink(BrokenRun(error=error), run._warn)
    for step in range(3):
        run.add_metrics({"step": step})
    run.finish()

    health = run.health()
    assert (0, 3) == (health["wandb_waiting"], health["wandb_errors"])
    assert health["wandb_last_error"].startswith(type(error).__name__)
    assert 0 == run._link.run.finished
    assert 1 == capfd.readouterr().err.count("wandb refused a call")


def test_wandb_gets_containers_of_its_own(tmp_path, monkeypatch):
    """A wandb that edits whatever it is given, as none is known to."""
    seen = []

    class EditingRun:
        id, entity, project, offline, url = "edited", "team", "demo", True, None

        def log(self, values):
            seen.append(json.dumps(values))
            values["l"].append(99)
            values["n"]["l"].append(99)
            values["n"]["more"] = 99

        def finish(self, exit_code):
            seen.append(exit_code)

    def init(project=None, entity=None, name=None, tags=None, config=None, mode=None, settings=None):
        config["model"]["layers"] = 99
        config["sizes"].append(99)
        return EditingRun()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, run=None))
    config = {"model": {"layers": 5}, "sizes": [1, 2]}
    with MLRun.create(config, tmp_path, "demo", wandb_mode="offline") as run:
        run.add_metrics({"l": [1], "n": {"l": [2]}})
        wait_until(lambda: 0 == run.health()["wandb_waiting"])

    loaded = MLRun.load("edited", tmp_path)
    assert {"model": {"layers": 5}, "sizes": [1, 2]} == config == run.config == loaded.config
    assert {"l": [1], "n": {"l": [2]}} == run.metrics == loaded.metrics
    assert ['{"l": [1], "n": {"l": [2]}}', 0] == seen


def test_a_wandb_that_hangs_stops_neither_training_nor_the_end(tmp_path):
    release = multiprocessing.Event()
    run = create(tmp_path)
    run._link = WandbLink(BrokenRun(release), run._warn)
    for step in range(20):
        run.add_metrics({"step": step})
    run.finish(timeout=0.05)

    assert {"step": 19} == toml(run, "metrics.toml")
    assert "COMPLETED" == run.status
    assert 19 <= run.health()["wandb_waiting"]
    release.set()
    assert run._link.join(10)


def test_adding_metrics_waits_for_nothing(tmp_path):
    """The disk refuses, wandb hangs and the writer stands still; a call that waited would give the processor back."""
    release = multiprocessing.Event()
    run = create(tmp_path)
    run._link = WandbLink(BrokenRun(release), run._warn)
    run.add_metrics({"step": -1})
    assert run.experiment.flush(SUBPROCESS_SECONDS)  # the writer is up, and says who it is
    writer = run.experiment.health()["writer_pid"]
    with FileLock(Path(run.run_dir) / ".manager.lock"):
        os.kill(writer, signal.SIGSTOP)
        try:
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            for step in range(1_000):
                run.add_metrics({"step": step})
            waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
        finally:
            os.kill(writer, signal.SIGCONT)
            release.set()
    run.finish()

    assert waits <= 10  # another thread of this process may want the interpreter
    assert [{"step": step} for step in range(-1, 1_000)] == points(run)
    assert 0 == run.health()["wandb_waiting"]


def test_a_queue_that_is_full_drops_for_wandb_alone_and_says_so():
    release, warnings = multiprocessing.Event(), []
    link = WandbLink(BrokenRun(release), warnings.append)
    for step in range(WAITING_CALLS + 10):
        link.log({"step": step})

    assert 9 <= link.dropped <= 10
    assert f"wandb is behind by {WAITING_CALLS} calls" in warnings[0]
    release.set()
    link.end(exit_code=0)
    assert link.join(30)
