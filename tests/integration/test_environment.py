"""What a run records of itself, through a real writer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import psutil
import pytest

from ml_dash import BufferConfig, Experiment
from ml_dash.ipc import launch
from ml_dash.storage.disk import Disk
from ml_dash.storage.reading import read_environment
from ml_dash.writer import environment as recorder_module
from ml_dash.writer.environment import EnvironmentRecorder
from tests.support import python_environment, run_python, wait_until

SECRET = "hunter2-hunter2"
PREFIX = "alice/walker/run-1"

OPENED = f"""
import os, sys, time
from ml_dash import Experiment

def wait_for_the_record(exp):
    deadline = time.monotonic() + 30
    while not exp.environment().get("complete"):
        assert time.monotonic() < deadline
        time.sleep(0.01)

exp = Experiment({PREFIX!r}, dash_root="runs", echo=False).run.start()
"""
WHOLE = OPENED + "wait_for_the_record(exp); exp.run.complete()"


@pytest.fixture(autouse=True)
def _recorded(monkeypatch):
    monkeypatch.setenv("ML_DASH_RECORD_ENVIRONMENT", "1")


@pytest.fixture
def project(tmp_path):
    """A repository with one commit and one change, to run programs in."""
    folder = tmp_path / "project"
    folder.mkdir()
    identity = {"GIT_AUTHOR_NAME": "A", "GIT_COMMITTER_NAME": "A", "GIT_CONFIG_GLOBAL": os.devnull}
    identity |= {"GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_EMAIL": "a@example.com"}
    (folder / "train.py").write_text("lr = 1\n")
    (folder / ".gitignore").write_text("runs\n")
    for command in (
        ["init", "-q", "-b", "main"],
        ["remote", "add", "origin", f"https://me:{SECRET}@host/x.git"],
        ["add", "."],
        ["commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=folder, env={**os.environ, **identity}, check=True)
    (folder / "train.py").write_text("lr = 2\n")
    return folder


def run_in(folder, code, *arguments, **variables):
    """Run a program with arguments, and return its run's folder."""
    subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, env=python_environment(variables), check=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    return folder / "runs" / PREFIX


def texts_in(run):
    return {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_everything_of_a_run(project):
    variables = {"SLURM_JOB_ID": "12", "SLURM_JWT": SECRET, "RANK": "1", "MUJOCO_GL": "egl", "WANDB_API_KEY": SECRET}
    variables |= {"CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "5"}
    run = run_in(project, WHOLE, "--lr=1", "--token", SECRET, f"db.password={SECRET}", **variables)
    found = read_environment(str(run))

    assert (True, []) == (found["complete"], found["problems"])
    assert ["-c", "--lr=1", "--token", "***", "db.password=***"] == found["process"]["argv"]
    assert str(project) == found["process"]["cwd"]
    assert json.loads((run / "experiment.json").read_bytes())["pid"] == found["process"]["pid"]
    assert {"SLURM_JOB_ID": "12"} == found["slurm"]
    assert {"RANK": "1"} == found["distributed"]
    assert ("egl", "3", "5") == tuple(
        found["variables"][name] for name in ("MUJOCO_GL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    )
    assert numpy.__version__ == found["packages"]["numpy"]
    assert ".".join(map(str, sys.version_info[:3])) == found["python"]["version"]
    assert os.cpu_count() == found["system"]["cpu_count"]
    assert ("main", "https://host/x.git", True, "code.diff") == tuple(
        found["code"][key] for key in ("branch", "remote", "dirty", "diff")
    )
    assert b"-lr = 1\n+lr = 2\n" in (run / "code.diff").read_bytes()
    assert [] == [name for name, content in texts_in(run).items() if SECRET.encode() in content]


@pytest.mark.parametrize("switch", ["argument", "variable", "config"])
def test_it_can_be_switched_off(tmp_path, monkeypatch, switch):
    if switch == "variable":
        monkeypatch.setenv("ML_DASH_RECORD_ENVIRONMENT", "0")
    options = {
        "argument": {"record_environment": False, "echo": False},
        "variable": {"echo": False},
        "config": {"buffer_config": BufferConfig(echo=False, record_environment=False)},
    }[switch]
    with Experiment(PREFIX, dash_root=tmp_path, **options).run as exp:
        assert {} == exp.environment()

    assert {} == exp.environment()
    assert [] == [name for name in texts_in(tmp_path / PREFIX) if "environment" in name or "diff" in name]


def test_what_the_process_told_is_there_at_once_and_the_rest_after_the_end(tmp_path):
    experiment = Experiment(PREFIX, dash_root=tmp_path, echo=False, entry=str(tmp_path / "train.py"))
    before = experiment.environment()
    with experiment.run as exp:
        told = exp.environment()
    wait_until(lambda: experiment.environment()["complete"])

    assert {} == before
    assert (os.getpid(), str(tmp_path / "train.py")) == (told["process"]["pid"], told["process"]["entry"])


def test_starting_a_run_starts_no_process_but_the_writer(tmp_path):
    printed = run_python(
        """
import sys
started = []
sys.addaudithook(lambda event, given: started.append(given[0]) if event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system") else None)
"""
        + OPENED
        + "exp.flush(); wait_for_the_record(exp); exp.run.complete(); print(len(started))",
        tmp_path,
    )

    assert ["1"] == printed.splitlines()


def test_a_git_that_hangs_delays_nobody_and_is_stopped(project, tmp_path):
    place = tmp_path / "bin"
    place.mkdir()
    (place / "git").write_text(f"#!/bin/sh\necho $$ > {place}/pid; exec sleep 600\n")
    (place / "git").chmod(0o755)
    code = OPENED + "exp.log('x'); exp.flush()\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    path = f"{place}{os.pathsep}{os.environ['PATH']}"
    environment = python_environment() | {"PATH": path}
    subprocess.run(
        [sys.executable, "-c", code + "exp.run.complete()", str(place / "pid")],
        cwd=project, env=environment, check=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    run = str(project / "runs" / PREFIX)
    wait_until(lambda: read_environment(run).get("complete"), 30)
    found = read_environment(run)

    assert ["code: git rev-parse gave no answer in time; what else is here is what it said"] == found["problems"]
    assert numpy.__version__ == found["packages"]["numpy"]
    assert "COMPLETED" == json.loads(Path(run, "experiment.json").read_bytes())["status"]
    wait_until(lambda: not psutil.pid_exists(int((place / "pid").read_text())))


def test_no_git_and_no_repository(tmp_path):
    run = run_in(tmp_path, WHOLE, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    plain = read_environment(str(run))

    assert ({}, []) == (plain["code"], plain["problems"])
    assert not (run / "code.diff").exists()


def test_a_writer_that_was_killed_leaves_it_to_the_next(project, tmp_path):
    """The first one is killed while git hangs; git answers the second."""
    place = tmp_path / "bin"
    place.mkdir()
    real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    (place / "git").write_text(
        f'#!/bin/sh\n[ -e {place}/go ] || {{ touch {place}/asked; exec sleep 2; }}\nexec {real} "$@"\n'
    )
    (place / "git").chmod(0o755)
    code = (
        OPENED
        + f"""
exp.flush()
while not os.path.exists("{place}/asked"): time.sleep(0.01)
open("{place}/go", "w").close()
os.kill(exp.health()["writer_pid"], {int(signal.SIGKILL)})
wait_for_the_record(exp)
exp.run.complete()
"""
    )
    environment = python_environment() | {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, check=True, timeout=60)
    found = read_environment(str(project / "runs" / PREFIX))

    assert (True, [], "main") == (found["complete"], found["problems"], found["code"]["branch"])


def test_a_trainer_that_was_killed_leaves_it_to_the_writer(project):
    code = OPENED + "exp.log('x'); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=python_environment(), check=False, timeout=60)
    run = str(project / "runs" / PREFIX)
    wait_until(lambda: read_environment(run).get("complete"), 30)

    assert -signal.SIGKILL == done.returncode
    assert "main" == read_environment(run)["code"]["branch"]


def test_earlier_starts_are_kept_where_they_differ(project):
    for job in ("1", "1", "2", "2", "3"):
        run = run_in(project, WHOLE, SLURM_JOB_ID=job)
        if job == "2":
            (project / "train.py").write_text("lr = 1\n")
    history = [json.loads(line) for line in (run / "environment.history.jsonl").read_bytes().splitlines()]

    assert ["1", "2", "2"] == [line["slurm"]["SLURM_JOB_ID"] for line in history]
    assert [True, True, False] == [line["code"]["dirty"] for line in history]
    assert "3" == read_environment(str(run))["slurm"]["SLURM_JOB_ID"]
    assert not (run / "code.diff").exists(), "the newest start has no difference"


def test_a_second_writer_of_a_run_leaves_the_record_of_the_first(tmp_path):
    with Experiment(PREFIX, dash_root=tmp_path, echo=False, entry="/first.py").run as first:
        first.flush()
        with Experiment(PREFIX, dash_root=tmp_path, echo=False, entry="/second.py").run as second:
            assert "/first.py" == second.environment()["process"]["entry"]
        assert "/first.py" == first.environment()["process"]["entry"]


def test_a_writer_on_a_thread_asks_no_git(tmp_path, monkeypatch):
    """It runs within the training process, where no program is to be started."""
    monkeypatch.setattr(launch, "can_launch", lambda: False)
    with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
        wait_until(lambda: exp.environment()["complete"])
        found = exp.environment()

    assert "packages" in found
    assert ["code: git was not asked, since the writer runs within the training process"] == found["problems"]


@pytest.mark.parametrize(
    "damaged", ['{"process":5}', '{"process":{"pid":[1]}}', '{"process":{},"problems":7}', "[]", "{"]
)
def test_a_record_that_was_damaged_by_hand_is_replaced(tmp_path, damaged):
    run = tmp_path / PREFIX
    run.mkdir(parents=True)
    (run / "environment.json").write_text(damaged)
    (run / "environment.history.jsonl").write_text(damaged + "\n")
    with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
        exp.log("x")
        exp.flush()
        wait_until(lambda: exp.environment().get("complete"))
        health = exp.health()

    assert os.getpid() == read_environment(str(run))["process"]["pid"]
    assert (0, 0) == (health["records_refused"], health["errors"])
    assert not (run / "quarantine").exists()


def test_a_run_that_follows_a_damaged_history(project):
    for job in ("1", "2"):
        run = run_in(project, WHOLE, SLURM_JOB_ID=job)
        (run / "environment.history.jsonl").write_text('{"process":5}\n')
    run = run_in(project, WHOLE, SLURM_JOB_ID="3")

    assert 2 == len((run / "environment.history.jsonl").read_bytes().splitlines())
    assert "3" == read_environment(str(run))["slurm"]["SLURM_JOB_ID"]


def test_a_run_can_start_where_the_current_folder_is_gone(tmp_path):
    printed = run_python(
        f"""
import os
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
from ml_dash import ConfigurationError, Experiment, MLRun
from ml_dash.run.script import find_project_root
exp = Experiment({PREFIX!r}, dash_root={str(tmp_path)!r}, echo=False).run.start()
exp.log("x")
exp.flush()
print(find_project_root())
try:
    MLRun.create({{}}, "relative", "p", wandb_mode="disabled")
except ConfigurationError as error:
    print(error)
os.chdir("/")
exp.run.complete()
""",
        tmp_path,
    )

    assert [
        "/",
        "base_dir='relative' is relative, and there is no current folder (No such file or directory); give an absolute "
        "path, or change to a folder that exists",
    ] == printed.splitlines()


class RefusingDisk(Disk):
    """A disk that refuses to put files in place until it is told otherwise."""

    refuses = True

    def write_file(self, path, parts, sync=False):
        """Refuse, or do it."""
        if self.refuses:
            raise OSError(28, "No space left on device", path)
        super().write_file(path, parts, sync)


@pytest.fixture
def refusing(tmp_path):
    """A recorder whose disk refuses once the run is open."""
    disk = RefusingDisk()
    recorder = EnvironmentRecorder(str(tmp_path), disk, os.getpid(), on_stored=lambda path: None, may_run_git=False)
    disk.refuses = False
    told = {"process": {"pid": os.getpid()}, "problems": []}
    start = recorder_module.timestamp(1.0)
    document = {"version": 1, "complete": False, "started_at": start, **told}
    (tmp_path / "environment.json").write_text(json.dumps(document))
    disk.refuses = True
    recorder.opened(told, 1.0)
    return recorder, disk


def test_a_disk_that_refuses_is_tried_again(refusing, tmp_path):
    recorder, disk = refusing
    wait_until(lambda: recorder._refusals)
    disk.refuses = False
    wait_until(lambda: read_environment(str(tmp_path))["complete"])

    assert any("No space left" in problem for problem in read_environment(str(tmp_path))["problems"])


def test_it_is_tried_once_more_at_the_end(refusing, tmp_path, monkeypatch):
    recorder, disk = refusing
    wait_until(lambda: recorder._refusals)
    disk.refuses = False
    recorder.finish(0.0)

    assert read_environment(str(tmp_path))["complete"]


def test_a_disk_that_never_recovers_ends_nothing(refusing, tmp_path):
    recorder, _ = refusing
    wait_until(lambda: recorder._refusals)
    recorder.finish(0.0)

    assert not read_environment(str(tmp_path))["complete"]


def test_a_folder_that_was_removed_is_not_made_again(refusing, tmp_path):
    recorder, disk = refusing
    wait_until(lambda: recorder._refusals)
    (tmp_path / "environment.json").unlink()
    disk.refuses = False
    recorder.finish(0.0)

    assert {} == read_environment(str(tmp_path))
