"""Whether a run is being written, and how long it was open, from its documents and its lock."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_dash.storage.liveness import HEARTBEAT_LIMIT_S, is_live, open_seconds, other_writers, writer_of
from tests.run_folders import RunFolder


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def dated(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with a time for each number of seconds ago: computed in the test, since it may run long after the import."""
    return {key: ago(value) if type(value) is float and key.endswith("_at") else value for key, value in fields.items()}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"heartbeat_at": -30.0}, True),  # the clock of another machine is ahead
        ({"heartbeat_at": HEARTBEAT_LIMIT_S + 5}, False),
        ({"status": "COMPLETED"}, False),
        ({"status": None}, False),
        ({"heartbeat_at": None}, False),
        ({"heartbeat_at": "yesterday"}, False),
        ({"heartbeat_at": 7}, False),
    ],
)
def test_a_run_is_live_while_it_says_so_and_its_heartbeat_is_fresh(fields: dict[str, Any], expected: bool) -> None:
    assert expected == is_live(dated({"status": "RUNNING", "heartbeat_at": 5.0, **fields}))


def test_a_run_that_ended_has_no_writer_with_and_without_a_lock_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    without = writer_of(str(run.folder))
    run.write(".lock", b"")

    assert ("", "") == (without, writer_of(str(run.folder)))
    assert "" == writer_of(str(tmp_path / "no run at all"))


def test_a_run_with_a_fresh_heartbeat_has_a_writer(tmp_path: Path) -> None:
    heartbeat = ago(3)
    run = RunFolder(tmp_path, status="RUNNING", heartbeat_at=heartbeat)

    assert f"it was heard of at {heartbeat}, less than a minute ago" == writer_of(str(run.folder))


def test_the_heartbeat_of_another_writer_counts_as_well(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.writer("w1", heartbeat_at=ago(3))
    ended = writer_of(str(run.folder))
    run.writer("w2", status="RUNNING", heartbeat_at=ago(3))

    assert ("", True) == (ended, "it was heard of" in writer_of(str(run.folder)))


def test_a_run_whose_lock_is_held_has_a_writer_and_the_lock_is_left_alone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    path = run.write(".lock", b"")

    with path.open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = writer_of(str(run.folder))
    with path.open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if somebody kept it

    assert "its lock is held" == held
    assert "" == writer_of(str(run.folder))


def test_documents_of_other_writers_are_listed_by_name_and_broken_ones_too(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert [] == list(other_writers(str(run.folder)))
    run.writer("w2", pid=2)
    run.writer("w1", pid=1)
    run.write(".writers/w3.json", b"{broken")
    run.write(".writers/.w4.json.tmp", b"{}")
    run.write(".writers/.hidden.json", b"{}")

    found = [(path, None if about is None else about["pid"]) for path, about in other_writers(str(run.folder))]

    assert [(".writers/w1.json", 1), (".writers/w2.json", 2), (".writers/w3.json", None)] == found


@pytest.mark.parametrize(
    ("fields", "live", "expected"),
    [
        ({"active_seconds": 60.0, "heartbeat_at": 10.0}, True, 70.0),
        ({"active_seconds": 60, "heartbeat_at": 1000.0}, False, 60.0),
        ({"active_seconds": 60.0, "heartbeat_at": -30.0}, True, 60.0),  # the clock of another machine is ahead
        ({"active_seconds": -5.0}, False, 0.0),
        ({"active_seconds": 60.0}, True, 60.0),
        ({"active_seconds": True, "started_at": 30.0, "ended_at": 10.0}, False, 20.0),
        ({"started_at": 30.0, "heartbeat_at": 5.0}, False, 25.0),
        ({"created_at": 30.0}, True, 30.0),
        ({"created_at": 10.0, "ended_at": 30.0}, False, 0.0),
        ({"created_at": 10.0}, False, None),
        ({"ended_at": 10.0}, False, None),
        ({}, True, None),
    ],
)
def test_the_time_that_a_run_was_open(fields: dict[str, Any], live: bool, expected: float | None) -> None:
    found = open_seconds(dated(fields), live=live)

    assert pytest.approx(expected, abs=2) == found if expected is not None else found is None


def test_a_lock_that_may_not_be_opened_is_not_held(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write(".lock", b"").chmod(0)

    assert "" == writer_of(str(run.folder))
