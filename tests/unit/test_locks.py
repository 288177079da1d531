"""Locks of files, held by another open file as another process would."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from ml_dash.storage import locks


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / ".lock")


@pytest.fixture
def hold(path):
    """A function that takes the lock with another open file, and gives it back at the end of the test."""
    held = []

    def take(operation=fcntl.LOCK_EX):
        held.append(os.open(path, os.O_RDWR | os.O_CREAT))
        fcntl.flock(held[-1], operation | fcntl.LOCK_NB)

    yield take
    for fd in held:
        os.close(fd)


def refuse(monkeypatch):
    def flock(fd, operation):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)


class TestAcquire:
    def test_the_lock_is_held_until_the_descriptor_is_closed(self, path):
        fd = locks.acquire(path, 0.0)
        assert locks.is_locked(path)
        os.close(fd)
        assert not locks.is_locked(path)

    def test_one_that_is_held_is_not_taken(self, path, hold):
        hold()
        assert -1 == locks.acquire(path, 0.0)

    def test_in_a_missing_folder_there_is_none(self, path):
        assert -1 == locks.acquire(f"{path}/missing", 0.0)


class TestHolding:
    def test_the_lock_is_held_for_the_block(self, path):
        with locks.holding(path) as is_held:
            assert (True, True) == (is_held, locks.is_locked(path))
        assert not locks.is_locked(path)

    @pytest.mark.parametrize("operation", [fcntl.LOCK_EX, fcntl.LOCK_SH])
    def test_one_that_is_held_is_left_to_its_holder(self, path, hold, operation):
        hold(operation)
        with locks.holding(path) as is_held:
            assert not is_held
        assert locks.is_locked(path, shared=True)

    def test_a_file_system_without_locks_counts_as_free(self, path, monkeypatch):
        refuse(monkeypatch)
        with locks.holding(path) as is_held:
            assert is_held

    def test_a_child_with_a_copy_of_the_file_does_not_keep_it(self, path, monkeypatch):
        copies = []
        real = os.open

        def open_with_copy(*arguments, **options):
            fd = real(*arguments, **options)
            copies.append(os.dup(fd))
            return fd

        monkeypatch.setattr(os, "open", open_with_copy)
        with locks.holding(path):
            pass
        monkeypatch.undo()

        assert not locks.is_locked(path, shared=True)
        for copy in copies:
            os.close(copy)


class TestIsLocked:
    def test_a_shared_lock_only_counts_if_it_is_asked_for(self, path, hold):
        hold(fcntl.LOCK_SH)
        assert (False, True) == (locks.is_locked(path), locks.is_locked(path, shared=True))

    def test_a_missing_file_and_a_file_system_without_locks_have_none(self, path, hold, monkeypatch):
        assert not locks.is_locked(path)
        hold()
        refuse(monkeypatch)
        assert not locks.is_locked(path)

    def test_to_ask_makes_no_file(self, path, tmp_path):
        locks.is_locked(path)
        assert [] == list(tmp_path.iterdir())
