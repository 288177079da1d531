"""How long a run was open, as its document counts it over several openings."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import timestamp
from ml_dash.storage.liveness import open_seconds
from ml_dash.writer.status import RunStatus

if TYPE_CHECKING:
    from pathlib import Path

OPENING = {"name": "one", "project": "b", "prefix": "a/b/one"}


def document(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "experiment.json").read_text())
    return found


def opened(run: Path, now: float) -> RunStatus:
    status = RunStatus(str(run), "", Disk(), 1)
    status.open(OPENING, now)
    return status


def replacing(run: Path) -> RunStatus:
    """The writer after one that was killed: it has the same training process, and the run is open."""
    return RunStatus(str(run), "", Disk(), 1)


def test_every_opening_counts_and_one_that_was_killed_until_it_was_last_heard_of(tmp_path: Path) -> None:
    killed = opened(tmp_path, 1000.0)
    killed.beat(1010.0, {})
    opened(tmp_path, 5000.0).end(5002.5, {})
    last = opened(tmp_path, 9000.0)
    at_opening = document(tmp_path)["active_seconds"]
    last.end(9001.0, {})

    assert 12.5 == at_opening
    assert 13.5 == document(tmp_path)["active_seconds"]


def test_an_opening_that_did_not_count_is_taken_from_its_times(tmp_path: Path) -> None:
    times = {"started_at": timestamp(1000.0), "heartbeat_at": timestamp(1030.0), "ended_at": timestamp(1040.0)}
    (tmp_path / "experiment.json").write_text(json.dumps({"name": "one"} | times))

    opened(tmp_path, 2000.0).end(2002.0, {})

    assert 42.0 == document(tmp_path)["active_seconds"]


def test_a_heartbeat_before_the_run_could_be_opened_leaves_what_earlier_ones_counted(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text('{"active_seconds": 7.5}')

    RunStatus(str(tmp_path), "", Disk(), 1).beat(2000.0, {})

    assert 7.5 == document(tmp_path)["active_seconds"]


def test_a_writer_that_replaces_another_counts_on_and_the_time_between_them_too(tmp_path: Path) -> None:
    opened(tmp_path, 1000.0).end(1010.0, {})
    opened(tmp_path, 5000.0).beat(5003.0, {})
    next_writer = replacing(tmp_path)

    next_writer.beat(5008.0, {})
    at_beat = document(tmp_path)["active_seconds"]
    replacing(tmp_path).end(5009.0, {})

    assert 18.0 == at_beat
    assert 19.0 == document(tmp_path)["active_seconds"]


def test_a_writer_of_a_new_session_does_not_count_the_pause_before_it(tmp_path: Path) -> None:
    opened(tmp_path, 1000.0).beat(1010.0, {})
    opened(tmp_path, 5000.0)

    replacing(tmp_path).end(5002.0, {})

    assert 12.0 == document(tmp_path)["active_seconds"]


def test_an_opening_that_is_written_again_counts_once(tmp_path: Path) -> None:
    """A writer was killed, or refused by the disk, before it could say that it had opened the run."""
    opened(tmp_path, 1000.0).end(1010.0, {})
    opened(tmp_path, 5000.0).beat(5003.0, {})

    again = opened(tmp_path, 5000.0)
    again.open(OPENING, 5000.0)
    again.end(5004.0, {})

    assert 14.0 == document(tmp_path)["active_seconds"]


@pytest.mark.parametrize(
    "changed",
    [{"pid": 2}, {"host": "elsewhere"}, {"status": "COMPLETED"}, {"started_at": "never"}, {"heartbeat_at": None}],
)
def test_a_writer_that_is_not_known_to_replace_another_leaves_the_count(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    opened(tmp_path, 1000.0).beat(1003.0, {})
    (tmp_path / "experiment.json").write_text(json.dumps(document(tmp_path) | changed))

    replacing(tmp_path).beat(9000.0, {})

    assert 3.0 == document(tmp_path)["active_seconds"]


def test_a_second_writer_counts_on_in_its_own_document(tmp_path: Path) -> None:
    RunStatus(str(tmp_path), "tag", Disk(), 1).open(OPENING, 1000.0)

    RunStatus(str(tmp_path), "tag", Disk(), 1).end(1004.0, {})

    assert 4.0 == json.loads((tmp_path / ".writers/tag.json").read_text())["active_seconds"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"active_seconds": 12.5, "started_at": timestamp(5000.0), "ended_at": timestamp(5001.0)}, 12.5),
        ({"started_at": timestamp(5000.0), "ended_at": timestamp(5001.0)}, 1.0),
        ({"created_at": timestamp(5000.0), "heartbeat_at": timestamp(5002.0), "active_seconds": "x"}, 2.0),
        ({"created_at": timestamp(5000.0)}, None),
        ({"created_at": "never", "ended_at": 5}, None),
    ],
)
def test_a_run_that_does_not_count_is_told_by_its_last_opening(found: dict[str, Any], expected: float | None) -> None:
    assert expected == open_seconds(found, live=False)


def test_a_live_run_counts_until_now_but_never_back() -> None:
    now = time.time()

    heard = open_seconds({"active_seconds": 10.0, "heartbeat_at": timestamp(now - 5)}, live=True)
    ahead = open_seconds({"active_seconds": 10.0, "heartbeat_at": timestamp(now + 500)}, live=True)

    assert heard is not None
    assert heard >= 14.9
    assert 10.0 == ahead
