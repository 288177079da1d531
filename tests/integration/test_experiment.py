"""The life of a run, as a user writes it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from ml_dash import Experiment, ml_dash_experiment
from ml_dash.experiment.experiment import OperationMode
from tests.support import lines, run_python, wait_until

PREFIX = "alice/walker/run-1"

EXPERIMENT_KEYS = {
    "name", "project", "description", "tags", "bindrs", "prefix", "metadata", "created_at", "write_protected",
    "host", "pid", "writer_pid", "started_at", "heartbeat_at", "status", "status_reason", "ended_at", "active_seconds",
    "frames_written", "frames_dropped", "records_refused", "tracker_errors",
}  # fmt: skip


@pytest.fixture
def make(tmp_path):
    """Make an experiment; one that a test leaves open is ended."""
    made = []

    def experiment(prefix=PREFIX, **options):
        made.append(Experiment(prefix, **{"dash_root": tmp_path, "echo": False} | options))
        return made[-1]

    yield experiment
    for experiment in made:
        experiment.run.cancel()


def document(root, prefix=PREFIX):
    return json.loads((root / prefix / "experiment.json").read_text())


def test_the_program_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.pth").write_bytes(b"weights")
    with Experiment(
        PREFIX, readme="A walker", tags=["ppo", "mujoco"], metadata={"seed": 1}, dash_root="runs", echo=False
    ).run as exp:
        exp.log("started", level="info", lr=3e-4)
        exp.logs.info("running")
        exp.params.set(lr=3e-4, model={"layers": 4})
        exp.metrics("train").log(loss=0.7, step=1)
        exp.metrics.log(epoch=1, train={"loss": 0.5}, eval={"loss": 0.6})
        exp.tracks("robot/pose").append(q=[0.1, 0.2], e=[1, 2, 3], _ts=0.5)
        exp.files("models").save("model.pth")
        exp.files("cfg").save_json({"a": 1}, to="a.json")

        assert exp.flush()
        assert {"lr": 3e-4, "model.layers": 4} == exp.params.get()
        assert [0.7, 0.5] == [point["data"]["loss"] for point in exp.metrics("train").read()["data"]]
        assert [{"timestamp": 0.5, "q": [0.1, 0.2], "e": [1, 2, 3]}] == exp.tracks("robot/pose").read()["entries"]
        assert ["model.pth"] == [entry["filename"] for entry in exp.files("models").list()]

    found = document(tmp_path / "runs")

    assert ("run-1", "walker", "A walker", ["ppo", "mujoco"], {"seed": 1}) == tuple(
        found[key] for key in ("name", "project", "description", "tags", "metadata")
    )
    assert "COMPLETED" == found["status"]


def test_nothing_is_written_before_the_start(make, tmp_path):
    experiment = make()

    assert not experiment.is_open
    assert [] == list(tmp_path.iterdir())
    assert {} == experiment.health()


def test_what_an_experiment_says_of_itself(make):
    experiment = make("alice/walker/seeds/run-7", readme="text", bindrs=["team"])

    assert ("alice", "walker", "run-7") == (experiment.owner, experiment.project, experiment.name)
    assert ("alice/walker/seeds/run-7", "text") == (experiment.prefix, experiment.description)
    assert ["team"] == experiment.bindrs()
    assert OperationMode.LOCAL == experiment.mode
    assert isinstance(experiment.id, int)
    assert "Experiment('alice/walker/seeds/run-7', not started)" == repr(experiment)
    with experiment.run:
        assert "Experiment('alice/walker/seeds/run-7', open)" == repr(experiment)
    assert "Experiment('alice/walker/seeds/run-7', closed)" == repr(experiment)


def test_experiment_json_has_every_key(make, tmp_path):
    experiment = make(readme="text", tags=["a"], bindrs=["b"], metadata={"k": [1]})
    experiment.run.start()
    experiment.run.complete()
    found = document(tmp_path)

    assert EXPERIMENT_KEYS == set(found)
    assert {"prefix": PREFIX, "write_protected": False, "bindrs": ["b"], "pid": os.getpid()}.items() <= found.items()
    assert found["created_at"] == found["started_at"] <= found["ended_at"] == found["heartbeat_at"]


def test_what_is_not_given_is_null_or_empty(make, tmp_path):
    experiment = make()
    experiment.run.start()
    experiment.run.complete()
    found = document(tmp_path)

    assert (None, [], [], None) == tuple(found[key] for key in ("description", "tags", "bindrs", "metadata"))


class TestStatus:
    def test_it_is_running_while_the_run_is_open(self, make, tmp_path):
        experiment = make().run.start()
        experiment.flush()

        assert ("RUNNING", None) == (document(tmp_path)["status"], document(tmp_path)["ended_at"])
        assert experiment.is_open

    @pytest.mark.parametrize(
        ("end", "status", "reason"),
        [
            (lambda run: run.complete(), "COMPLETED", None),
            (lambda run: run.fail("diverged"), "FAILED", "diverged"),
            (lambda run: run.fail(), "FAILED", None),
            (lambda run: run.fail(ValueError("loss is nan")), "FAILED", "ValueError: loss is nan"),
            (lambda run: run.fail(17), "FAILED", "17"),
            (lambda run: run.fail("a path \udcff of an old disk"), "FAILED", "a path \udcff of an old disk"),
            (lambda run: run.cancel("NaN"), "CANCELLED", "NaN"),
            (lambda run: run.cancel(), "CANCELLED", None),
        ],
    )
    def test_each_end_has_its_own(self, make, tmp_path, end, status, reason):
        experiment = make()
        experiment.run.start()
        end(experiment.run)
        found = document(tmp_path)

        assert (status, reason) == (found["status"], found["status_reason"])
        assert not experiment.is_open

    def test_a_block_that_ends_completes_the_run(self, make, tmp_path):
        with make().run as exp:
            assert exp.is_open

        assert "COMPLETED" == document(tmp_path)["status"]

    def test_an_exception_fails_the_run_and_goes_on(self, make, tmp_path):
        def train():
            with make().run as exp:
                exp.log("before")
                exp.log(1 / 0)

        with pytest.raises(ZeroDivisionError):
            train()

        found = document(tmp_path)
        assert ("FAILED", "ZeroDivisionError: division by zero") == (found["status"], found["status_reason"])
        assert "before" == lines(tmp_path / PREFIX / "logs/logs.jsonl")[0]["message"]

    @pytest.mark.parametrize(
        ("code", "status"), [(None, "COMPLETED"), (0, "COMPLETED"), (3, "FAILED"), ("no", "FAILED")]
    )
    def test_leaving_with_an_exit_code(self, make, tmp_path, code, status):
        with pytest.raises(SystemExit), make().run:
            raise SystemExit(code)

        assert status == document(tmp_path)["status"]

    def test_ending_twice_keeps_the_first_end(self, make, tmp_path):
        experiment = make()
        experiment.run.start()
        experiment.run.fail("first")
        experiment.run.complete()

        assert "first" == document(tmp_path)["status_reason"]

    def test_starting_twice_is_one_run(self, make, tmp_path):
        experiment = make()

        assert experiment.run.start() is experiment.run.start()
        experiment.run.complete()
        assert ["run-1"] == [path.name for path in (tmp_path / "alice/walker").iterdir()]

    def test_a_block_that_ended_the_run_itself(self, make, tmp_path):
        with make().run as exp:
            exp.run.fail("by hand")

        assert "by hand" == document(tmp_path)["status_reason"]


class TestDecorator:
    def test_the_function_gets_its_experiment(self, tmp_path):
        @ml_dash_experiment(prefix=PREFIX, dash_root=tmp_path, echo=False, tags=["decorated"])
        def train(steps, *, lr, experiment):
            """Docs."""
            for step in range(steps):
                experiment.metrics("train").log(loss=lr / (step + 1), step=step)
            return experiment

        used = train(3, lr=0.1)

        assert ("train", "Docs.") == (train.__name__, train.__doc__)
        assert not used.is_open
        assert 3 == len(lines(tmp_path / PREFIX / "metrics/train/data.jsonl"))
        assert ["decorated"] == document(tmp_path)["tags"]

    def test_each_call_goes_on_with_the_same_run(self, tmp_path):
        @ml_dash_experiment(PREFIX, dash_root=tmp_path, echo=False)
        def train(experiment):
            experiment.metrics("train").log(loss=1)

        train()
        train()

        assert [0, 1] == [line["index"] for line in lines(tmp_path / PREFIX / "metrics/train/data.jsonl")]

    def test_an_exception_fails_the_run(self, tmp_path):
        @ml_dash_experiment(PREFIX, dash_root=tmp_path, echo=False)
        def train(experiment):
            raise KeyError("gone")

        with pytest.raises(KeyError):
            train()
        assert ("FAILED", "KeyError: 'gone'") == tuple(document(tmp_path)[key] for key in ("status", "status_reason"))


class TestSeveralAtOnce:
    def test_each_run_gets_what_was_logged_to_it(self, make, tmp_path):
        opened = [make(f"alice/walker/run-{number}").run.start() for number in range(4)]
        for step in range(50):
            for number, exp in enumerate(opened):
                exp.metrics("train").log(loss=number, step=step)
        for exp in opened:
            exp.run.complete()

        for number in range(4):
            points = lines(tmp_path / f"alice/walker/run-{number}/metrics/train/data.jsonl")
            assert [(number, step) for step in range(50)] == [
                (point["data"]["loss"], point["data"]["step"]) for point in points
            ]

    def test_a_run_may_lie_inside_another(self, make, tmp_path):
        outer, inner = make("alice/walker").run.start(), make("alice/walker/run-1").run.start()
        outer.log("outer")
        inner.log("inner")
        inner.run.complete()
        outer.run.complete()

        assert ["outer"] == [line["message"] for line in lines(tmp_path / "alice/walker/logs/logs.jsonl")]
        assert ["inner"] == [line["message"] for line in lines(tmp_path / PREFIX / "logs/logs.jsonl")]

    def test_the_same_prefix_twice_at_once_loses_nothing(self, make):
        first, second = make().run.start(), make().run.start()
        for step in range(20):
            first.metrics("train").log(by=1, step=step)
            second.metrics("train").log(by=2, step=step)
            first.tracks("pose").append(a=step, _ts=step)
            second.tracks("pose").append(b=step, _ts=step)
        second.flush()
        points = first.metrics("train").read(limit=None)["data"]
        rows = first.tracks("pose").read()["entries"]

        assert list(range(40)) == [point["index"] for point in points]
        for by in (1, 2):
            assert list(range(20)) == [point["data"]["step"] for point in points if point["data"]["by"] == by]
        assert [{"timestamp": n, "a": n, "b": n} for n in range(20)] == rows


def test_many_threads_lose_nothing(make, tmp_path):
    exp = make().run.start()
    start = threading.Barrier(8)

    def work(worker):
        start.wait()
        for step in range(500):
            exp.metrics("train").log(worker=worker, step=step)
            if step % 10 == 0:
                exp.log(f"{worker}/{step}")
                exp.tracks(f"robot/{worker}").append(step=step, _ts=step)
                exp.params.set(**{f"w{worker}": step})

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exp.run.complete()
    run = tmp_path / PREFIX
    points = lines(run / "metrics/train/data.jsonl")
    logged = lines(run / "logs/logs.jsonl")

    assert list(range(4000)) == [point["index"] for point in points]
    assert list(range(400)) == [line["sequenceNumber"] for line in logged]
    for worker in range(8):
        assert list(range(500)) == [p["data"]["step"] for p in points if p["data"]["worker"] == worker]
        assert [f"{worker}/{step}" for step in range(0, 500, 10)] == [
            line["message"] for line in logged if line["message"].startswith(f"{worker}/")
        ]
        assert 50 == len(lines(run / f"tracks/robot/{worker}/data.jsonl"))
    assert {f"w{worker}": 490 for worker in range(8)} == json.loads((run / "parameters.json").read_text())["data"]


class TestFlush:
    def test_everything_is_on_disk_afterwards(self, make, tmp_path):
        exp = make().run.start()
        for step in range(200):
            exp.metrics("train").log(step=step)

        assert exp.flush() is True
        assert 200 == len(lines(tmp_path / PREFIX / "metrics/train/data.jsonl"))

    def test_a_timeout_that_is_too_short_says_so_once(self, make, capsys):
        import numpy as np

        exp = make().run.start()
        pixels = np.random.default_rng(0).integers(0, 255, (2160, 3840, 3), dtype=np.uint8)
        exp.files.save_image(pixels, to="large.png")

        assert [False, False] == [exp.flush(timeout=0), exp.flush(timeout=0)]
        assert 1 == capsys.readouterr().err.count("flush: not everything is on disk yet")
        assert exp.flush(timeout=60)

    def test_flushing_nothing_is_quick_and_true(self, make):
        exp = make().run.start()

        assert [True, True, True] == [exp.flush(timeout=30), exp.flush(timeout=0), exp.flush()]


def test_the_default_root_lies_in_the_current_directory(tmp_path):
    run_python("from ml_dash import Experiment\nwith Experiment('a/b/c', echo=False).run as e: e.log('x')", tmp_path)

    assert "COMPLETED" == document(tmp_path / ".dash", "a/b/c")["status"]


def test_the_root_is_fixed_when_the_experiment_is_made(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = make(dash_root="here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with experiment.run as exp:
        exp.log("x")

    assert (tmp_path / "here" / PREFIX / "logs/logs.jsonl").exists()


def test_a_program_that_forgets_to_close_its_run(tmp_path):
    """Without a guard for __main__, as people write scripts."""
    run_python(
        "from ml_dash import Experiment\n"
        "exp = Experiment('a/b/c', dash_root='runs', echo=False).run.start()\n"
        "for i in range(100): exp.metrics('m').log(i=i)\n",
        tmp_path,
    )

    assert "COMPLETED" == document(tmp_path / "runs", "a/b/c")["status"]
    assert 100 == len(lines(tmp_path / "runs/a/b/c/metrics/m/data.jsonl"))


def test_importing_and_making_an_experiment_starts_nothing(tmp_path):
    code = (
        "import threading, os, ml_dash\n"
        "ml_dash.Experiment('a/b/c', dash_root='runs')\n"
        "print(threading.active_count(), os.listdir('.'))"
    )
    assert "1 []" == run_python(code, tmp_path).strip()


def test_log_lines_are_echoed(make, capfd):
    exp = make(echo=True).run.start()
    exp.log("to the screen", lr=0.1)
    exp.logs.error("to the other one")
    captured = capfd.readouterr()

    assert "[INFO] to the screen [lr=0.1]\n" == captured.out
    assert "[ERROR] to the other one\n" == captured.err


def test_a_project_and_a_name_make_a_prefix(tmp_path):
    with Experiment("run-9", project="alice/walker", dash_root=tmp_path, echo=False).run as exp:
        exp.log("x")

    assert "alice/walker/run-9" == exp.prefix
    assert ("run-9", "walker") == tuple(document(tmp_path, "alice/walker/run-9")[key] for key in ("name", "project"))


def test_status_stays_running_until_the_writer_is_done(make, tmp_path):
    make().run.start()
    wait_until((tmp_path / PREFIX / "experiment.json").exists, message="the writer has opened the run")

    assert "RUNNING" == document(tmp_path)["status"]
