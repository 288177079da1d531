"""Which process says how a run is, when one was killed and another goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ml_dash.writer.takeover import killed_session, take_over, take_over_late

BEFORE = {"host": "a", "pid": 1, "started_at": "09:00", "status": "FAILED", "status_reason": "killed", "readme": "kept"}
OURS = {"host": "a", "pid": 2, "started_at": "09:10", "status": "COMPLETED", "status_reason": None, "follows": "09:00"}


@pytest.fixture
def ended_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_session_follows_one_whose_process_is_gone(ended_pid):
    assert {"follows": "09:00"} == killed_session(BEFORE | {"pid": ended_pid}, "a", os.getpid())


def test_one_that_nobody_has_waited_for_is_gone_too():
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert b"" == process.stdout.read()  # it has closed its end, and is a zombie in a moment
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert {"follows": "09:00"} == killed_session(BEFORE | {"pid": process.pid}, "a", os.getpid())


@pytest.mark.parametrize(
    "other",
    [{"pid": os.getppid()}, {"pid": os.getpid()}, {"host": "b"}, {"pid": None}, {"started_at": None}, {"pid": True}],
    ids=["alive", "the same", "another host", "no process", "no start", "no number"],
)
def test_it_does_not_follow_one_that_may_live(other, ended_pid):
    assert {} == killed_session(BEFORE | {"pid": ended_pid} | other, "a", os.getpid())


def test_a_continuing_session_takes_over_when_the_one_before_has_ended():
    assert take_over(BEFORE | {"status": "RUNNING"}, OURS) is None
    assert {**BEFORE, "pid": 2, "started_at": "09:10", "status": "COMPLETED", "status_reason": None} == take_over(
        BEFORE, OURS
    )


def test_the_session_that_took_over_stays_in_charge_and_no_other_takes_over():
    said = take_over(BEFORE, OURS | {"status": "RUNNING"})
    assert said is not None

    assert "COMPLETED" == (take_over(said, OURS) or {})["status"]
    assert take_over(said, OURS | {"pid": 3, "started_at": "09:11"}) is None
    assert take_over(BEFORE, {key: value for key, value in OURS.items() if key != "follows"}) is None
    assert take_over(BEFORE | {"started_at": "10:00"}, OURS) is None


def test_of_several_that_take_over_late_the_last_counts():
    writers = [OURS | {"ended_at": "09:20"}, OURS | {"ended_at": "09:30", "status": "FAILED", "pid": 4}]
    others = [OURS | {"status": "RUNNING", "ended_at": None}, OURS | {"follows": "08:00"}, {}]

    assert 4 == (take_over_late(BEFORE, [*writers, *others]) or {})["pid"]
    assert take_over_late(BEFORE, others) is None
