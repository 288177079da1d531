"""The same prefix again continues the run: numbers go on, what was there stays."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest

from ml_dash import Experiment
from tests.support import lines

PREFIX = "alice/walker/run-1"


@pytest.fixture
def session(tmp_path):
    """Open the run once more."""

    def opened(**options):
        return Experiment(PREFIX, **{"dash_root": tmp_path, "echo": False} | options).run

    return opened


@pytest.fixture
def run(tmp_path):
    return tmp_path / PREFIX


def document(path):
    return json.loads(path.read_text())


def log_everything(exp, number):
    exp.log(f"session {number}")
    exp.params.set(last=number, **{f"only{number}": True})
    for step in range(3):
        exp.metrics("train").log(session=number, step=step)
        exp.tracks("pose").append(session=number, _ts=number * 10 + step)
    exp.files("models").save_blob(b"%d" % number, to=f"{number}.pt")
    exp.files("frames").save_image(np.full((8, 8), number, np.uint8), to=f"{number}.png")


def test_every_stream_goes_on(session, run):
    for number in range(3):
        with session() as exp:
            log_everything(exp, number)
    with session() as exp:
        points = exp.metrics("train").read()["data"]
        rows = exp.tracks("pose").list_entries()
        logged = exp.logs.read()

        assert list(range(9)) == [point["index"] for point in points]
        assert [n for n in range(3) for _ in range(3)] == [point["data"]["session"] for point in points]
        assert [n * 10 + step for n in range(3) for step in range(3)] == [row["timestamp"] for row in rows]
        assert [0, 1, 2] == [line["sequenceNumber"] for line in logged]
        assert {"last": 2, "only0": True, "only1": True, "only2": True} == exp.params.get()
        assert [f"{n}.{kind}" for n in range(3) for kind in ("pt", "png")] == [e["filename"] for e in exp.files.list()]
    about, track = document(run / "metrics/train/metadata.json"), document(run / "tracks/pose/metadata.json")

    assert (9, 9) == (about["totalDataPoints"], about["nextIndex"])
    assert (9, 0.0, 22.0, ["session"]) == tuple(
        track[key] for key in ("totalEntries", "firstTimestamp", "lastTimestamp", "columns")
    )
    assert 3 == document(run / "parameters.json")["version"]
    assert 6 == len(document(run / "files/.files_metadata.json")["files"])


def test_what_is_given_replaces_and_the_rest_stays(session, run):
    with session(readme="first", tags=["a"], metadata={"k": 1}):
        pass
    found = document(run / "experiment.json")
    (run / "experiment.json").write_text(json.dumps(found | {"starred": True}))
    with session(tags=["b"]):
        pass
    again = document(run / "experiment.json")

    assert ("first", ["b"], {"k": 1}, True) == tuple(
        again[key] for key in ("description", "tags", "metadata", "starred")
    )
    assert found["created_at"] == again["created_at"] < again["updated_at"]
    assert found["started_at"] < again["started_at"]


def test_a_failed_run_that_goes_on_is_running_and_then_complete(session, run):
    with pytest.raises(ValueError), session():
        raise ValueError("diverged")
    exp = session().start()
    exp.flush()
    running = document(run / "experiment.json")
    exp.run.complete()
    done = document(run / "experiment.json")

    assert ("RUNNING", None, None) == tuple(running[key] for key in ("status", "status_reason", "ended_at"))
    assert ("COMPLETED", None) == (done["status"], done["status_reason"])


def test_the_same_object_can_be_opened_again(session, run):
    life = session()
    for number in range(3):
        with life as exp:
            exp.log(str(number))
            exp.frames("cam").append(np.zeros((4, 4), np.uint8))

    assert [(0, "0"), (1, "1"), (2, "2")] == [
        (line["sequenceNumber"], line["message"]) for line in lines(run / "logs/logs.jsonl")
    ]
    assert [0, 1, 2] == [line["seq"] for line in lines(run / "frames/cam/data.jsonl")]


def test_builders_of_before_work_after_opening_again(session):
    life = session()
    with life as exp:
        metric, folder = exp.metrics("train"), exp.files("models")
        metric.log(step=0)
    with life:
        metric.log(step=1)
        folder.save_blob(b"1", to="a")

        assert [0, 1] == [point["data"]["step"] for point in metric.read()["data"]]
        assert ["a"] == [entry["filename"] for entry in folder.list()]


def test_the_tail_of_a_line_that_was_cut_off_is_dropped(session, run):
    """As a machine that lost power leaves it."""
    with session() as exp:
        log_everything(exp, 0)
    for name in ("logs/logs.jsonl", "metrics/train/data.jsonl", "tracks/pose/data.jsonl", "files/index.jsonl"):
        with (run / name).open("ab") as file:
            file.write(b'{"index": 99, "half')
    with session() as exp:
        log_everything(exp, 1)
        assert [0, 1] == [line["sequenceNumber"] for line in exp.logs.read()]
        assert list(range(6)) == [point["index"] for point in exp.metrics("train").read()["data"]]
        assert 6 == exp.tracks("pose").read()["count"]
        assert 4 == len(exp.files.list())


@pytest.mark.parametrize("broken", ["", "{", "[]", "null"])
def test_documents_that_are_broken_are_made_again(session, run, broken):
    with session() as exp:
        log_everything(exp, 0)
    for name in (
        "experiment.json",
        "metrics/train/metadata.json",
        "tracks/pose/metadata.json",
        "files/.files_metadata.json",
    ):
        (run / name).write_text(broken)
    with session(readme="again") as exp:
        log_everything(exp, 1)

    assert ("run-1", "again", "COMPLETED") == tuple(
        document(run / "experiment.json")[key] for key in ("name", "description", "status")
    )
    assert (6, 6) == tuple(
        document(run / "metrics/train/metadata.json")[key] for key in ("totalDataPoints", "nextIndex")
    )
    assert 6 == document(run / "tracks/pose/metadata.json")["totalEntries"]
    assert 4 == len(document(run / "files/.files_metadata.json")["files"])


def test_a_run_of_the_published_client_goes_on(session, run):
    """Its numbers are continued, also where it had lost count."""
    (run / "metrics/train").mkdir(parents=True)
    (run / "logs").mkdir()
    (run / "experiment.json").write_text(
        '{"name": "run-1", "project": "walker", "description": null, "tags": [], "bindrs": [], '
        f'"prefix": "{PREFIX}", "metadata": null, "created_at": "2026-03-01T09:00:00.100000Z", "write_protected": false}}'
    )
    (run / "parameters.json").write_text(
        '{"version": 4, "data": {"lr": NaN, "a": 1}, "updatedAt": "2026-03-01T09:00:00Z"}'
    )
    (run / "logs/logs.jsonl").write_text(
        '{"sequenceNumber": 41, "timestamp": "2026-03-01T09:00:01.250000Z", "level": "warn", "message": "old"}\n'
    )
    (run / "metrics/train/data.jsonl").write_text(
        '{"index": 6, "data": {"loss": NaN, "_ts": 1.0}, "createdAt": "2026-03-01T09:00:05.000120Z"}\n'
    )
    (run / "metrics/train/metadata.json").write_text(
        '{"name": "train", "totalDataPoints": 1, "nextIndex": 3, "mine": true}'
    )
    with session() as exp:
        exp.log("new")
        exp.params.set(a=2)
        exp.metrics("train").log(loss=1)
        params = exp.params.get()
        points = exp.metrics("train").read()["data"]

        assert [41, 42] == [line["sequenceNumber"] for line in exp.logs.read()]
        assert [6, 7] == [point["index"] for point in points]
        assert points[0]["data"]["loss"] != points[0]["data"]["loss"]
        assert (2, True) == (params["a"], params["lr"] != params["lr"])
    assert 5 == document(run / "parameters.json")["version"]
    assert document(run / "metrics/train/metadata.json")["mine"]
    assert "2026-03-01T09:00:00.100000Z" == document(run / "experiment.json")["created_at"]


class TestRunOfThePublishedClient:
    """A tree as that client writes it, continued by us."""

    def write_old_run(self, folder):
        (folder / "files/ckpt/7353347710644449").mkdir(parents=True)
        (folder / "files/ckpt/7353347710644449/best.pt").write_bytes(b"weights")
        record = {
            "id": "7353347710644449",
            "path": "/ckpt",
            "filename": "best.pt",
            "sizeBytes": 7,
            "checksum": hashlib.sha256(b"weights").hexdigest(),
            "contentType": "application/octet-stream",
            "deletedAt": None,
        }
        (folder / "files/.files_metadata.json").write_text(json.dumps({"files": [record]}))
        (folder / "tracks/robot_arm").mkdir(parents=True)
        (folder / "tracks/robot_arm/data.jsonl").write_text(
            '{"timestamp": 2.0, "q": [0.1]}\n{"timestamp": 1.0, "q": NaN}\n'
        )
        (folder / "tracks/robot_arm/metadata.json").write_text('{"topic": "robot/arm"}')
        (folder / "parameters.json").write_text('{"lr": NaN, "model.layers": 4}')

    def test_its_files_and_tracks_stay_beside_the_new_ones(self, tmp_path):
        self.write_old_run(tmp_path / "rosa/walker/run-7")

        with Experiment("rosa/walker/run-7", dash_root=tmp_path).run as exp:
            exp.files("ckpt").save_blob(b"more", to="last.pt")
            exp.tracks("robot/arm").append(q=[0.3], _ts=3.0)
            exp.params.set(seed=1)
            files = [entry["filename"] for entry in exp.files.list()]
            rows = exp.tracks("robot/arm").read()["entries"]
            params = exp.params.get()
        listed = json.loads((tmp_path / "rosa/walker/run-7/files/.files_metadata.json").read_bytes())["files"]

        assert ["best.pt", "last.pt"] == files
        assert ["best.pt", "last.pt"] == [entry["filename"] for entry in listed]
        assert [1.0, 2.0, 3.0] == [row["timestamp"] for row in rows]
        assert {"model.layers": 4, "seed": 1} == {name: params[name] for name in ("model.layers", "seed")}
        assert math.isnan(params["lr"])
