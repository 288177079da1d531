"""Locks of a run: a file system without any, a lock that somebody looks at, a writer that is replaced."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import threading
import time

import filelock
import pytest
from filelock import FileLock

from ml_dash import Experiment, open_run
from ml_dash.experiment.channels import LOCK_PATIENCE_S
from ml_dash.ipc import launch
from ml_dash.storage import locks
from ml_dash.storage.locks import RETRY_S, document_lock
from tests.support import wait_until

PREFIX = "alice/walker/run"

NO_LOCKS = ("ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL")

WRITER = """
import errno, fcntl, os
import ml_dash.writer.main
from ml_dash.writer.main import run_on_thread

def refuse(*_):
    raise OSError(errno.{name}, os.strerror(errno.{name}))

def main(boot):
    fcntl.flock = refuse
    ml_dash.writer.main.main(boot)
"""

REAL_FLOCK = fcntl.flock


def refuse_locks(monkeypatch, name):
    """From now on no file of this process can be locked."""

    def flock(fd, operation):
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr(fcntl, "flock", flock)


def held(path, operation):
    """A descriptor that holds the lock of a file as another process would."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    REAL_FLOCK(fd, operation)
    return fd


def document(folder):
    return json.loads((folder / PREFIX / "experiment.json").read_text())


@pytest.mark.parametrize("name", NO_LOCKS)
def test_a_run_is_recorded_on_a_file_system_without_locks(tmp_path, monkeypatch, name):
    (tmp_path / "lockless_writer.py").write_text(WRITER.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(launch, "WRITER_ENTRY", "lockless_writer")
    refuse_locks(monkeypatch, name)

    with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
        exp.params.set(x=1)
        exp.metrics("m").log(v=1)
        flushed, health = exp.flush(10), exp.health()

    found = open_run(PREFIX, dash_root=tmp_path)
    assert (True, "", False) == (flushed, health["last_error"], health["writer_on_thread"])
    assert ({"x": 1}, 1) == (found.params.get(), len(found.metrics("m").read()["data"]))
    assert [] == list((tmp_path / PREFIX).rglob("*.lock.*"))


class OldFileLock(FileLock):
    """A filelock that does not know the option ``fallback_to_soft``."""

    def __init__(self, lock_file, timeout=-1):
        super().__init__(lock_file, timeout)


class PatientFileLock(FileLock):
    """What filelock did before 3.20: every errno but ENOSYS was contention."""

    def acquire(self, *args, **kwargs):
        raise filelock.Timeout(self.lock_file)


@pytest.mark.parametrize("kind", [FileLock, OldFileLock])
@pytest.mark.parametrize("name", NO_LOCKS)
def test_a_document_is_merged_without_a_lock_where_there_is_none(tmp_path, monkeypatch, recwarn, name, kind):
    monkeypatch.setattr(filelock, "FileLock", kind)
    refuse_locks(monkeypatch, name)
    began = time.monotonic()

    with document_lock(str(tmp_path / "lock")) as one, document_lock(str(tmp_path / "lock")) as other:
        held_locks = (one, other)

    assert time.monotonic() - began < locks.DOCUMENT_LOCK_S / 2
    if kind is FileLock:
        assert ((False, False), []) == (held_locks, recwarn.list), "a soft lock was taken"


def test_a_refusal_that_filelock_takes_for_a_held_lock_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(filelock, "FileLock", PatientFileLock)
    (tmp_path / "lock").touch()
    refuse_locks(monkeypatch, "ENOLCK")

    with document_lock(str(tmp_path / "lock")) as is_held:
        assert not is_held


def test_a_disk_that_refuses_the_lock_is_no_file_system_without_locks(tmp_path, monkeypatch):
    refuse_locks(monkeypatch, "EIO")

    with pytest.raises(OSError, match="EIO"), document_lock(str(tmp_path / "lock")):
        pass


def test_a_lock_that_is_held_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "DOCUMENT_LOCK_S", 0.1)
    fd = held(tmp_path / "lock", fcntl.LOCK_EX)
    with pytest.raises(OSError, match="another process holds"), document_lock(str(tmp_path / "lock")):
        pass

    monkeypatch.setattr(locks, "DOCUMENT_LOCK_S", 10.0)
    timer = threading.Timer(0.1, os.close, [fd])
    timer.start()
    with document_lock(str(tmp_path / "lock")), (tmp_path / "lock").open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        timer.join()


def test_a_reader_that_looks_at_the_lock_makes_no_second_writer(tmp_path, monkeypatch):
    """It lets go after the first try has failed."""
    fd = held(tmp_path / ".lock", fcntl.LOCK_SH)
    failed = threading.Event()
    reader = threading.Thread(target=lambda: failed.wait(10) and os.close(fd))
    reader.start()

    def flock(fd, operation):
        try:
            REAL_FLOCK(fd, operation)
        except BlockingIOError:
            failed.set()
            reader.join()
            raise

    monkeypatch.setattr(fcntl, "flock", flock)
    taken = locks.acquire(str(tmp_path / ".lock"), LOCK_PATIENCE_S)

    assert failed.is_set()
    assert taken >= 0
    os.close(taken)


@pytest.mark.parametrize("operation", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_lock_that_stays_held_is_given_up_soon(tmp_path, monkeypatch, operation):
    fd = held(tmp_path / ".lock", operation)
    naps, now = [], [100.0]

    def sleep(seconds):
        naps.append(seconds)
        now[0] += seconds

    with monkeypatch.context() as clock:  # its own clock: a busy machine sleeps as long as it likes
        clock.setattr(time, "sleep", sleep)
        clock.setattr(time, "monotonic", lambda: now[0])
        taken = locks.acquire(str(tmp_path / ".lock"), LOCK_PATIENCE_S)
    os.close(fd)

    assert -1 == taken
    assert {RETRY_S} == set(naps)
    assert LOCK_PATIENCE_S <= sum(naps) <= LOCK_PATIENCE_S + 2 * RETRY_S


def test_a_file_system_without_locks_is_not_asked_twice(tmp_path, monkeypatch):
    asked = []

    def flock(fd, operation):
        asked.append(operation)
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)

    assert -1 == locks.acquire(str(tmp_path / ".lock"), LOCK_PATIENCE_S)
    assert 1 == len(asked)


def test_the_time_that_a_run_is_open_goes_on_when_its_writer_is_killed(tmp_path):
    exp = Experiment(PREFIX, dash_root=tmp_path, echo=False).run.start()
    assert exp.flush(10)
    began = time.monotonic()
    pid = exp.health()["writer_pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: exp.health()["writer_pid"] not in {0, pid}, message="another writer")
    expected = time.monotonic() - began
    exp.run.complete()
    killed = document(tmp_path)["active_seconds"]

    with Experiment(PREFIX, dash_root=tmp_path, echo=False).run:
        resumed = document(tmp_path)["active_seconds"]

    assert expected - 0.05 <= killed <= expected + 10.0
    assert killed <= resumed <= killed + 5.0
