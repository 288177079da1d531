"""What programs and people do to a run that is open."""

from __future__ import annotations

import errno
import json
import shutil
import threading

import numpy as np
import pytest

from ml_dash import Experiment, ExperimentError, InvalidTypeError, ml_dash_experiment
from ml_dash.ipc import launch
from ml_dash.storage import metric_reading, reading
from ml_dash.writer import main as writer_main
from tests.run_contents import read_logs
from tests.support import run_python

PREFIX = "alice/walker/run-1"


@pytest.fixture
def experiment(tmp_path):
    return Experiment(PREFIX, dash_root=tmp_path, echo=False, frame_buffer_mb=2)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / PREFIX


def status(folder):
    return json.loads((folder / "experiment.json").read_bytes())


def test_training_that_waits_for_room_again_and_again_keeps_its_writer(experiment, folder):
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)

    with experiment.run as exp:
        for step in range(300):
            exp.frames("camera").append(frame, _ts=step)
            exp.log(f"step {step}")
        exp.flush()
        health, during = exp.health(), status(folder)["status"]

    assert "RUNNING" == during
    assert 0 == health["writer_restarts"]
    assert 300 == health["frames_written"] == len(reading.read_frames(str(folder), "camera"))
    assert "COMPLETED" == status(folder)["status"]


@pytest.mark.parametrize("stream", ["frames", "metrics"])
def test_what_returned_beside_the_end_of_the_run_is_on_disk(experiment, folder, stream):
    """A call of another thread returns and counts, or raises; there is nothing between."""
    frame = np.zeros((48, 64, 3), np.uint8)
    exp = experiment.run.start()
    camera, metric = exp.frames("camera"), exp.metrics("train")
    returned = []

    def train():
        for step in range(10**6):
            try:
                camera.append(frame, _ts=step) if stream == "frames" else metric.log(step=step)
            except ExperimentError:
                return
            returned.append(step)

    thread = threading.Thread(target=train)
    thread.start()
    while len(returned) < 50:
        thread.join(0.001)
    experiment.run.complete()
    thread.join()

    found = (
        reading.read_frames(str(folder), "camera")
        if stream == "frames"
        else metric_reading.read_metric(str(folder), "train", 0, None)["data"]
    )
    assert len(returned) == len(found)


def test_a_name_that_is_in_the_way_of_another_costs_its_own_records_only(experiment, folder):
    frame = np.zeros((48, 64, 3), np.uint8)

    with experiment.run as exp:
        exp.frames("camera").append(frame)
        exp.flush()
        exp.frames("camera/shard-00000.tar").append(frame)
        exp.log("after")
        done, health = exp.flush(30), exp.health()

    assert done
    assert 1 == health["records_refused"]
    assert ["after"] == [line["message"] for line in read_logs(str(folder))]


def test_frames_after_their_shard_was_deleted_can_be_read(experiment, folder):
    frame = np.full((48, 64, 3), 7, np.uint8)

    with experiment.run as exp:
        for step in range(5):
            exp.frames("camera").append(frame, _ts=step)
        exp.flush()
        (folder / "frames/camera/shard-00000.tar").unlink()
        for step in range(5, 10):
            exp.frames("camera").append(frame, _ts=step)
        shapes = [exp.frames("camera").read(step).shape for step in range(5, 10)]

    assert [(48, 64, 3)] * 5 == shapes


def test_a_run_whose_folder_was_deleted_goes_on(experiment, folder):
    with experiment.run as exp:
        exp.log("before")
        exp.flush()
        shutil.rmtree(folder)
        exp.log("after")
        assert exp.flush(30)

    assert ["after"] == [line["message"] for line in read_logs(str(folder))]


@pytest.mark.parametrize(
    "bare", [{"version": 2, "lr": 0.1}, {"data": "cifar10", "lr": 0.1}, {"data": None, "version": None, "lr": 0.1}]
)
def test_bare_parameters_that_look_like_ours_are_kept(experiment, folder, bare):
    folder.mkdir(parents=True)
    (folder / "parameters.json").write_text(json.dumps(bare))

    with experiment.run as exp:
        exp.params.set(seed=1)
        params = exp.params.get()

    assert bare | {"seed": 1} == params


def test_an_exception_that_cannot_say_what_it_is_ends_the_run_all_the_same(experiment, folder):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    with pytest.raises(MuteError), experiment.run:
        raise MuteError

    assert "FAILED" == status(folder)["status"]


def test_training_goes_on_where_no_thread_can_be_started(experiment, folder, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    exp = experiment.run.start()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for step in range(10):
            exp.frames("camera").append(np.zeros((480, 640, 3), np.uint8), _ts=step)
    exp.run.complete()

    assert 10 == len(reading.read_frames(str(folder), "camera"))


def test_a_writer_that_found_no_descriptors_is_started_again(experiment, folder, monkeypatch):
    """On a thread, since no process could be had either; the fault passes, and nothing was lost."""
    begin, failures = writer_main.Writer.__init__, [OSError(errno.EMFILE, "Too many open files")]

    def refused_once(self, *arguments):
        if failures:
            raise failures.pop()
        begin(self, *arguments)

    monkeypatch.setattr(launch, "can_launch", lambda: False)
    monkeypatch.setattr(writer_main.Writer, "__init__", refused_once)
    with experiment.run as exp:
        exp.log("kept")
        assert exp.flush(30)

    assert [] == failures
    assert ["kept"] == [line["message"] for line in read_logs(str(folder))]


def test_more_streams_than_the_usual_limit_of_descriptors(tmp_path):
    """The writer takes as many as the hard limit allows."""
    program = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
from ml_dash import Experiment
with Experiment("a/b/c", dash_root="root", echo=False).run as exp:
    for number in range(200):
        exp.metrics(f"metric-{number}").log(value=number)
    print(exp.flush(30), len(exp.metrics("metric-0").list_all()))
"""

    assert "True 200" == run_python(program, tmp_path).strip()


def test_a_stdout_that_raises_stops_no_logging(tmp_path, folder, monkeypatch):
    class Raising:
        def write(self, text):
            raise RuntimeError(text)

    with Experiment(PREFIX, dash_root=tmp_path).run as exp:
        monkeypatch.setattr("sys.stdout", Raising())
        exp.log("kept")
        monkeypatch.undo()

    assert ["kept"] == [line["message"] for line in read_logs(str(folder))]


class TestDecorator:
    def test_it_works_without_parentheses(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ML_DASH_PREFIX", "alice/decorated/run")
        monkeypatch.chdir(tmp_path)

        @ml_dash_experiment
        def train(steps, experiment):
            experiment.metrics("train").log(steps=steps)
            return experiment.prefix

        assert "alice/decorated/run" == train(3)
        assert "COMPLETED" == status(tmp_path / ".dash/alice/decorated/run")["status"]

    def test_a_function_without_the_parameter_is_refused_at_once(self):
        with pytest.raises(InvalidTypeError, match="no parameter named 'experiment'"):

            @ml_dash_experiment(prefix="a/b/c")
            def train(exp):
                return exp


class TestHints:
    def test_an_experiment_as_a_context_manager_names_its_run(self, experiment):
        with pytest.raises(ExperimentError, match=r"\.run as exp"), experiment:
            pass

    def test_a_misspelt_stream_names_the_closest_one(self, experiment):
        with experiment.run as exp, pytest.raises(AttributeError, match="did you mean 'metrics'"):
            exp.metric("train")

    def test_a_server_is_recorded_beside_and_never_mistaken_for_a_folder(self, tmp_path, capfd):
        with Experiment("a/b/c", dash_url="http://localhost", dash_root=str(tmp_path), echo=False).run as exp:
            assert "http://localhost" == exp.dash_url

        assert f"recording to {tmp_path}/a/b/c; nothing is sent to a server in this version" in capfd.readouterr().err

    def test_the_older_names_of_arguments_still_work(self, tmp_path):
        with pytest.warns(DeprecationWarning, match="local_path= is now called dash_root="):
            older = Experiment("a/b/c", local_path=str(tmp_path), echo=False)
        with older.run as exp:
            assert exp.folder.startswith(str(tmp_path))
        with pytest.warns(DeprecationWarning, match="remote= is now called dash_url="):
            assert "http://localhost" == Experiment("a/b/c", remote="http://localhost").dash_url

    @pytest.mark.parametrize("dash_url", [1, ["http://localhost"], b"http://localhost"])
    def test_an_address_is_text(self, dash_url):
        with pytest.raises(InvalidTypeError, match="must be an address"):
            Experiment("a/b/c", dash_url=dash_url)

    def test_a_metric_takes_a_dict_as_well(self, experiment, folder):
        with experiment.run as exp:
            exp.metrics("train").log({"loss": 0.5}, step=1)

        [point] = metric_reading.read_metric(str(folder), "train", 0, None)["data"]
        assert {"loss": 0.5, "step": 1} == {name: point["data"][name] for name in ("loss", "step")}


def test_a_program_without_standard_descriptors_does_not_print_into_the_run(tmp_path):
    """A daemon that has closed them: what the run opens must not become its stdout."""
    code = """
import os
from ml_dash import Experiment
for fd in range(3):
    os.close(fd)
with Experiment("a/b/c", dash_root="root").run as exp:
    exp.log("started")
    for fd in range(3):
        os.write(fd, b"prin" + b"ted")  # in two parts: the run records its own program text
    exp.flush()
"""
    run_python(code, tmp_path)

    run = tmp_path / "root/a/b/c"
    assert ["started"] == [line["message"] for line in read_logs(str(run))]
    assert b"" == (run / ".lock").read_bytes()
    assert not any(b"printed" in path.read_bytes() for path in run.rglob("*") if path.is_file())
