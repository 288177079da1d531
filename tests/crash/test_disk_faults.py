"""Every file operation of the writer fails once, or from then on: training continues and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from ml_dash import Experiment
from ml_dash.ipc import launch
from ml_dash.settings import BufferConfig
from ml_dash.storage import reading
from tests.crash.every_stream import EveryStream, picture
from tests.crash.faulty_disk import Plan
from tests.crash.programs import wait_for_exit
from tests.run_contents import read_logs
from tests.support import POLL_SECONDS, REPOSITORY, wait_until

pytestmark = pytest.mark.crash

ROUNDS = int(os.environ.get("ML_DASH_CRASH_ROUNDS", "1"))

LONGEST_SECONDS = 60.0
"""Bounds a hang: a case takes a second."""

MOST_OPERATIONS = 2_000
"""Far more than a run here needs: the loop over operations ends when a case does not reach its fault."""

LINES = 2_000
"""More log lines than the record ring of 4 MiB holds."""

FAILURES = 3
"""Failed operations after which a disk recovers: the first of them, and attempts to repeat it."""

PATIENT = BufferConfig(echo=False, frame_buffer_mb=1, sync_interval=0.02, fault_timeout=LONGEST_SECONDS)
IMPATIENT = BufferConfig(
    echo=False, frame_buffer_mb=1, sync_interval=0.02, fault_timeout=0.3, stall_timeout=0.6, close_timeout=0.6
)


class Case:
    """One run on a disk that follows a plan."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, first: int, error: int, **plan) -> None:
        folder.mkdir()
        self.reached = folder / "reached"
        self.error = error
        self.root = folder / "runs"
        self.run = self.root / "tests/faults/run"
        self.load = EveryStream(folder)
        planned = Plan(first, error, str(self.root), str(self.reached), **plan)
        for name, value in planned.to_environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(launch, "WRITER_ENTRY", "tests.crash.faulty_disk")
        monkeypatch.setattr(sys, "path", [*sys.path, str(REPOSITORY)])

    def open(self, config: BufferConfig = PATIENT):
        return Experiment("tests/faults/run", dash_root=self.root, buffer_config=config).run.start()

    def check_report(self, health: dict, shown: str) -> None:
        """Check that the fault was counted and shown once."""
        name = errno.errorcode[self.error]
        assert health["errors"] >= 1
        assert name in health["last_error"]
        lines = [line for line in shown.splitlines() if f"cannot write: {name}" in line]
        assert len(set(lines)) == len(lines) >= 1, shown


def fail_once_at(case: Case, capsys: pytest.CaptureFixture[str]) -> bool:
    """Run with one fault; return whether it occurred."""
    exp = case.open()
    case.load.log(exp)
    assert exp.flush(LONGEST_SECONDS)
    case.load.log(exp)
    exp.run.complete()
    health = exp.health()
    case.load.check(case.run)
    assert (0, 0, 0) == (health["records_refused"], health["frames_dropped"], health["writer_restarts"])
    shown = capsys.readouterr().err
    if health["errors"]:
        case.check_report(health, shown)
        assert 1 == shown.count("cannot write")
    return case.reached.exists()


def fail_for_a_while(case: Case, flag: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Run with all operations failing from one of them on, until several have failed; return whether any did."""
    flag.touch()
    with recovery(case, flag):
        exp = case.open()
        case.load.log(exp)
        case.load.log(exp)
        exp.run.complete()
    health = exp.health()
    case.load.check(case.run)
    assert (0, 0, 0) == (health["records_refused"], health["frames_dropped"], health["writer_restarts"])
    shown = capsys.readouterr().err
    if health["errors"]:
        case.check_report(health, shown)
    return case.reached.exists()


@contextlib.contextmanager
def recovery(case: Case, flag: Path):
    """While the block runs, remove the flag once `FAILURES` operations have failed."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if case.reached.exists() and case.reached.stat().st_size >= FAILURES:
                break
        flag.unlink()

    thread = threading.Thread(target=watch, name="recovery")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


SPARSE = 24
"""By default one of so many operations fails; with 24 rounds or more each of them does."""

STRIDE = max(1, SPARSE // ROUNDS)


def operations(first: int = 1, stride: int = STRIDE) -> range:
    """Return the numbers of the operations that fail, one in each run."""
    return range(first, MOST_OPERATIONS, stride)


@pytest.mark.timeout(120 * ROUNDS)
@pytest.mark.parametrize(
    ("error", "late", "first", "stride"),
    [
        (errno.ENOSPC, False, 1, max(1, STRIDE // 3)),
        (errno.EIO, True, 3, STRIDE),
        (errno.EACCES, False, 5, STRIDE),
    ],
    ids=["no-space", "io-error-after-it-was-done", "no-access"],
)
def test_an_operation_that_fails_once_costs_nothing(monkeypatch, tmp_path, capsys, error, late, first, stride):
    """Each operation, also at the end of the run, is tried again, counted, and shown once."""
    for operation in operations(first, stride):
        case = Case(monkeypatch, tmp_path / str(operation), operation, error, late=late)
        if not fail_once_at(case, capsys):
            assert operation > 100, "a run has more operations than this: most were not seen"
            return
    pytest.fail(f"a run has more than {MOST_OPERATIONS} operations")


@pytest.mark.timeout(120 * ROUNDS)
@pytest.mark.parametrize(
    ("error", "late", "first"),
    [(errno.ENOSPC, False, 2), (errno.EIO, True, 10), (errno.EACCES, False, 18)],
    ids=["no-space", "io-error-after-it-was-done", "no-access"],
)
def test_a_disk_that_refuses_for_a_while_gets_everything_afterwards(monkeypatch, tmp_path, capsys, error, late, first):
    """All operations from one of them on fail; once the fault is gone, everything logged meanwhile arrives."""
    for operation in operations(first):
        flag = tmp_path / f"refuses-{operation}"
        case = Case(monkeypatch, tmp_path / str(operation), operation, error, late=late, while_exists=str(flag))
        if not fail_for_a_while(case, flag, capsys):
            return
    pytest.fail(f"a run has more than {MOST_OPERATIONS} operations")


@pytest.mark.parametrize("operation", range(7, 200, 200 // (5 * min(ROUNDS, 20))))
def test_a_writer_on_a_thread_outlives_a_fault_too(monkeypatch, tmp_path, capsys, operation):
    """The same holds where no process can be started, and the error is shown while the run continues."""
    monkeypatch.setattr(launch, "can_launch", lambda: False)
    case = Case(monkeypatch, tmp_path / "case", operation, errno.ENOSPC)
    assert fail_once_at(case, capsys)


@pytest.mark.parametrize("can_launch", [True, False], ids=["process", "thread"])
def test_an_error_is_shown_while_the_run_goes_on(monkeypatch, tmp_path, capsys, can_launch):
    """The error is not shown only at the end."""
    monkeypatch.setattr(launch, "can_launch", lambda: can_launch)
    flag = tmp_path / "refuses"
    flag.touch()
    case = Case(monkeypatch, tmp_path / "case", 1, errno.EIO, while_exists=str(flag))
    exp = case.open()
    case.load.log(exp)
    shown: list[str] = []
    wait_until(lambda: shown.append(capsys.readouterr().err) or "EIO" in "".join(shown), LONGEST_SECONDS)
    flag.unlink()
    exp.run.complete()
    case.load.check(case.run)


def test_a_disk_that_never_recovers_ends_no_training(monkeypatch, tmp_path, capsys):
    """Closing has a deadline and names what is missing; the writer finishes later by itself."""
    case, flag = _refusing_case(monkeypatch, tmp_path)
    exp = case.open(IMPATIENT)
    case.load.log(exp)
    pid = _writer_pid(exp)
    assert not exp.flush()
    seconds = _seconds_of(exp.run.complete)
    health = exp.health()
    assert seconds < LONGEST_SECONDS / 2
    assert health["bytes_waiting"] > 0
    shown = capsys.readouterr().err
    case.check_report(health, shown)
    assert "not on disk yet" in shown
    flag.unlink()
    wait_for_exit([pid])
    case.load.check(case.run)


def test_what_finds_no_room_while_the_disk_refuses_is_counted(monkeypatch, tmp_path, capsys):
    """The first call without room waits for `fault_timeout`, later calls do not; every accepted record arrives."""
    case, flag = _refusing_case(monkeypatch, tmp_path)
    exp = case.open(IMPATIENT)
    pid = _writer_pid(exp)
    wait_until(lambda: exp.health()["errors"], LONGEST_SECONDS)
    frames = [picture(index, (96, 128, 3)) for index in range(50)]
    seconds = _seconds_of(lambda: [exp.frames("camera").append(frame) for frame in frames])
    # The large lines fill most of the ring and the small ones the rest, so that the end of the run finds no room.
    lines = [f"{index} {'x' * (40_000 if index < 200 else 10)}" for index in range(LINES)]
    seconds += _seconds_of(lambda: [exp.log(line) for line in lines])
    assert seconds < LONGEST_SECONDS / 2
    refused, dropped = exp.health()["records_refused"], exp.health()["frames_dropped"]
    assert refused > 0
    assert dropped > 0
    exp.run.complete()
    assert exp.health()["published"] == 1 + len(lines) + len(frames) - refused - dropped
    flag.unlink()
    wait_for_exit([pid])
    written = read_logs(str(case.run))
    kept = reading.read_frames(str(case.run), "camera")
    assert exp.health()["published"] == 1 + len(written) + len(kept)
    messages = [line["message"] for line in written]
    assert [line for line in lines if line in set(messages)] == messages
    document = reading.read_experiment(str(case.run))
    assert ("COMPLETED", refused) == (document["status"], document["records_refused"])
    assert "given up" in capsys.readouterr().err


def test_a_disk_that_refuses_only_at_the_end_leaves_the_run_to_the_writer(monkeypatch, tmp_path, capsys):
    """Files that are only written when a run ends are tried until they are there."""
    flag = tmp_path / "refuses"
    case = Case(monkeypatch, tmp_path / "case", 1, errno.ENOSPC, while_exists=str(flag))
    exp = case.open(IMPATIENT)
    case.load.log(exp)
    wait_until(exp.flush, LONGEST_SECONDS)  # on a busy machine the writer may seem to stall for a moment
    pid = exp.health()["writer_pid"]
    flag.touch()
    assert _seconds_of(exp.run.complete) < LONGEST_SECONDS / 2
    assert "not on disk yet" in capsys.readouterr().err
    flag.unlink()
    wait_for_exit([pid])
    case.load.check(case.run)


def _refusing_case(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[Case, Path]:
    flag = folder / "refuses"
    flag.touch()
    return Case(monkeypatch, folder / "case", 1, errno.ENOSPC, while_exists=str(flag)), flag


def _writer_pid(exp: Experiment) -> int:
    wait_until(lambda: exp.health()["writer_pid"], LONGEST_SECONDS)
    return int(exp.health()["writer_pid"])


def _seconds_of(call) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began
