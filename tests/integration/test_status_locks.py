"""Locks of a run: a file system without any, a lock that somebody looks at, a writer that is replaced."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import threading
import time

import pytest

from ml_dash import Experiment, open_run
from ml_dash.experiment import channels
from ml_dash.experiment.channels import LOCK_PATIENCE_S
from ml_dash.ipc import launch
from ml_dash.storage.locks import LOCK_NAP_S
from ml_dash.writer import status
from ml_dash.writer.status import locked
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


@pytest.mark.parametrize("options", [status._NATIVE_ONLY, {}])  # {}: a filelock that does not know the option
@pytest.mark.parametrize("name", NO_LOCKS)
def test_a_document_is_merged_without_a_lock_where_there_is_none(tmp_path, monkeypatch, recwarn, name, options):
    monkeypatch.setattr(status, "_NATIVE_ONLY", options)
    refuse_locks(monkeypatch, name)
    began = time.monotonic()

    with locked(str(tmp_path / "lock")), locked(str(tmp_path / "lock")):
        pass

    assert time.monotonic() - began < status.LOCK_TIMEOUT_S / 2
    assert not options or [] == recwarn.list, "a soft lock was taken"


def test_a_refusal_that_filelock_takes_for_a_held_lock_is_found_out(tmp_path, monkeypatch):
    """What filelock did before 3.20: every errno but ENOSYS was contention."""

    class Patient:
        def acquire(self, blocking=True):
            raise status.Timeout("lock")

        def release(self):
            pass

    (tmp_path / "lock").touch()
    refuse_locks(monkeypatch, "ENOLCK")
    lock = locked(str(tmp_path / "lock"))
    lock._file_lock = Patient()

    with lock:
        pass


def test_a_disk_that_refuses_the_lock_is_no_file_system_without_locks(tmp_path, monkeypatch):
    refuse_locks(monkeypatch, "EIO")

    with pytest.raises(OSError, match="EIO"), locked(str(tmp_path / "lock")):
        pass


def test_a_lock_that_is_held_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "LOCK_TIMEOUT_S", 0.1)
    fd = held(tmp_path / "lock", fcntl.LOCK_EX)
    with pytest.raises(OSError, match="another process holds"), locked(str(tmp_path / "lock")):
        pass

    monkeypatch.setattr(status, "LOCK_TIMEOUT_S", 10.0)
    timer = threading.Timer(0.1, os.close, [fd])
    timer.start()
    with locked(str(tmp_path / "lock")), (tmp_path / "lock").open("rb") as file:
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
    taken = channels._take_lock(str(tmp_path))

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
        taken = channels._take_lock(str(tmp_path))
    os.close(fd)

    assert -1 == taken
    assert {LOCK_NAP_S} == set(naps)
    assert LOCK_PATIENCE_S <= sum(naps) <= LOCK_PATIENCE_S + 2 * LOCK_NAP_S


def test_a_file_system_without_locks_is_not_asked_twice(tmp_path, monkeypatch):
    asked = []

    def flock(fd, operation):
        asked.append(operation)
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)

    assert -1 == channels._take_lock(str(tmp_path))
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
