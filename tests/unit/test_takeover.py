"""Which process says how a run is, when one was killed and another goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ml_dash.writer.takeover import ended_meanwhile, session_before, spoken_for

BEFORE = {"host": "a", "pid": 1, "started_at": "09:00", "status": "FAILED", "status_reason": "killed", "readme": "kept"}
OURS = {"host": "a", "pid": 2, "started_at": "09:10", "status": "COMPLETED", "status_reason": None, "follows": "09:00"}


@pytest.fixture
def ended_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_session_follows_one_whose_process_is_gone(ended_pid):
    assert {"follows": "09:00"} == session_before(BEFORE | {"pid": ended_pid}, "a", os.getpid())


def test_one_that_nobody_has_waited_for_is_gone_too():
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert b"" == process.stdout.read()  # it has closed its end, and is a zombie in a moment
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert {"follows": "09:00"} == session_before(BEFORE | {"pid": process.pid}, "a", os.getpid())


@pytest.mark.parametrize(
    "other",
    [{"pid": os.getppid()}, {"pid": os.getpid()}, {"host": "b"}, {"pid": None}, {"started_at": None}, {"pid": True}],
    ids=["alive", "the same", "another host", "no process", "no start", "no number"],
)
def test_it_does_not_follow_one_that_may_live(other, ended_pid):
    assert {} == session_before(BEFORE | {"pid": ended_pid} | other, "a", os.getpid())


def test_the_one_that_follows_speaks_when_the_one_before_has_ended():
    assert spoken_for(BEFORE | {"status": "RUNNING"}, OURS) is None
    assert {**BEFORE, "pid": 2, "started_at": "09:10", "status": "COMPLETED", "status_reason": None} == spoken_for(
        BEFORE, OURS
    )


def test_it_goes_on_speaking_and_nobody_else_does():
    said = spoken_for(BEFORE, OURS | {"status": "RUNNING"})
    assert said is not None

    assert "COMPLETED" == (spoken_for(said, OURS) or {})["status"]
    assert spoken_for(said, OURS | {"pid": 3, "started_at": "09:11"}) is None
    assert spoken_for(BEFORE, {key: value for key, value in OURS.items() if key != "follows"}) is None
    assert spoken_for(BEFORE | {"started_at": "10:00"}, OURS) is None


def test_of_several_that_ended_meanwhile_the_last_counts():
    writers = [OURS | {"ended_at": "09:20"}, OURS | {"ended_at": "09:30", "status": "FAILED", "pid": 4}]
    others = [OURS | {"status": "RUNNING", "ended_at": None}, OURS | {"follows": "08:00"}, {}]

    assert 4 == (ended_meanwhile(BEFORE, [*writers, *others]) or {})["pid"]
    assert ended_meanwhile(BEFORE, others) is None
