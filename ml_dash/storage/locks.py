"""Locks of open files, for whoever waits for one a moment. On a system without ``fcntl`` every call raises ImportError."""

from __future__ import annotations

import os
import time

LOCK_NAP_S = 0.001
"""The pause between two tries: a lock that is only looked at is free again within microseconds."""


def open_lock(path: str) -> int:
    """The descriptor of a file to lock, made if it is missing; read only where nothing can be written.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def take(fd: int, operation: int, patience: float) -> None:
    """Take a lock. Only one that somebody holds is asked for again.

    Args:
        fd: the open file.
        operation: ``fcntl.LOCK_EX`` or ``fcntl.LOCK_SH``.
        patience: seconds until the last try.

    Raises:
        OSError: somebody holds it for longer (BlockingIOError), or the file system has no locks.
    """
    import fcntl

    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(LOCK_NAP_S)


def release(fd: int) -> None:
    """Give a lock back. To close the file is not enough: a child forked meanwhile has it open as well.

    Raises:
        OSError: the file system has no locks.
    """
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_UN)
