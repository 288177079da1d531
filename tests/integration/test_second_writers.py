"""A run that a second writer has in hand too: what it says is read like what the first one says."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

import ml_dash
from ml_dash import RUN, Experiment
from ml_dash.verify.run import verify_run
from tests.support import run_python

PREFIX = "alice/walker/run"
FRAME = np.full((8, 8, 3), 7, np.uint8)

APPEND_FRAMES = """
import sys
import numpy as np
from ml_dash import Experiment

with Experiment("alice/walker/run", dash_root="root", echo=False).run as exp:
    for value in (100, 101, 102):
        exp.frames("camera").append(np.full((8, 8, 3), value, np.uint8), format="png")
"""


@pytest.fixture
def opened(tmp_path):
    return lambda **more: Experiment(PREFIX, dash_root=tmp_path / "root", echo=False, **more)


def test_what_a_second_writer_says_of_a_metric_is_kept(opened, tmp_path):
    with opened().run as first, opened().run as second:
        assert second.session.writer_id
        second.metrics("accuracy", description="top-1", tags=["eval"]).log(value=1)
        first.metrics("accuracy", description="of the first").log(value=2)
        second.metrics("loss", metadata={"unit": "nats"}).log(value=1)
        second.metrics("loss", description="later").log(value=1)

    run = ml_dash.open_run(PREFIX, dash_root=tmp_path / "root")
    listed = {entry["name"]: entry for entry in run.metrics.list_all()}
    assert ("of the first", ["eval"]) == (listed["accuracy"]["description"], listed["accuracy"]["tags"])
    assert ("later", {"unit": "nats"}) == (listed["loss"]["description"], listed["loss"]["metadata"])
    assert [] == verify_run(str(run.folder)).findings


def test_frames_go_on_behind_those_that_another_process_wrote_in_between(opened, tmp_path):
    exp = opened()
    with exp.run:
        exp.frames("camera").append(FRAME, format="png")
    run_python(APPEND_FRAMES, tmp_path)
    with exp.run:
        exp.frames("camera").append(FRAME, format="png")

    frames = ml_dash.open_run(PREFIX, dash_root=tmp_path / "root").frames("camera")
    assert [0, 1, 2, 3, 4] == [entry["seq"] for entry in frames.list()]
    assert [7, 100, 101, 102, 7] == [int(frames.read(number)[0, 0, 0]) for number in range(5)]


class TestWithoutAPrefix:
    """Jobs that start in the same second."""

    @pytest.fixture(autouse=True)
    def _same_second(self, monkeypatch):
        monkeypatch.delenv("DASH_PREFIX", raising=False)
        monkeypatch.delenv("ML_DASH_PREFIX", raising=False)
        RUN.now = dt.datetime(2026, 3, 1, 9, 0, 0)  # noqa: DTZ001 - as users write it
        RUN.job_counter = 0
        yield
        del RUN.now
        RUN.job_counter = 0

    def another_process(self, tmp_path, **settings):
        RUN.job_counter = 0
        return Experiment(dash_root=tmp_path, echo=False, **settings)

    def test_each_has_a_run_of_its_own(self, tmp_path):
        for number in range(3):
            exp = self.another_process(tmp_path)
            with exp.run:
                exp.params.set(number=number)
            assert exp.prefix.endswith(f"/09.00.00/{number:03d}")
            assert (f"{number:03d}", number) == (exp.name, exp.run.job_counter)
        assert [0, 1, 2] == [run.params.get()["number"] for run in ml_dash.runs(dash_root=tmp_path)]

    def test_one_that_is_opened_again_goes_on(self, tmp_path):
        exp = self.another_process(tmp_path)
        for _ in range(2):
            with exp.run:
                exp.metrics("train").log(loss=1)
        assert exp.prefix.endswith("/000")
        assert 2 == ml_dash.open_run(exp.prefix, dash_root=tmp_path).metrics("train").read()["total"]

    @pytest.mark.parametrize(
        "settings", [{"prefix": "a/b/{job_counter:03d}"}, {"job_name": "night"}, {"job_counter": 0}], ids=str
    )
    def test_what_was_chosen_is_the_same_run(self, tmp_path, settings):
        prefixes = set()
        for _ in range(2):
            exp = self.another_process(tmp_path, **settings)
            with exp.run:
                exp.metrics("train").log(loss=1)
            prefixes.add(exp.prefix)
        assert 1 == len(prefixes)
        assert 2 == ml_dash.open_run(exp.prefix, dash_root=tmp_path).metrics("train").read()["total"]
