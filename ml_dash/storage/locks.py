"""Locks of files. They belong to the open file: a child process that has it open as well holds them too."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ml_dash.storage.beneath import UnsafeFileError, is_own, open_descriptor, open_file

if TYPE_CHECKING:
    from filelock import BaseFileLock

RETRY_S = 0.001
"""Pause between two tries: a lock that is only tested is free again within microseconds."""

DOCUMENT_LOCK_S = 5.0
"""How long ``document_lock`` waits for another process, whose write takes a few milliseconds."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
"""Errors of a file system without locks."""


def acquire(path: str, patience: float) -> int:
    """Take the exclusive lock of a file, made if it is missing; it is held until every copy of the descriptor is closed.

    Args:
        path: the file.
        patience: seconds until the last try.

    Returns:
        The descriptor; -1 if another process holds the lock, or locks are not available.
    """
    fd = -1
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        # Never read-only: a process that may not write the lock file may not write the files that it protects either.
        fd = _open_own(path)
        take(fd, fcntl.LOCK_EX, patience)
        return fd
    if fd >= 0:
        os.close(fd)
    return -1


@contextlib.contextmanager
def holding(path: str, patience: float = 0.0) -> Iterator[bool]:
    """Hold the exclusive lock of a file, made if it is missing, for the block.

    Yields:
        False if another process holds it for longer than ``patience`` seconds. True on a file system without locks.

    Raises:
        OSError: the file cannot be opened.
        ImportError: the system has no ``fcntl``.
    """
    import fcntl

    fd = open_lock(path)
    try:
        try:
            take(fd, fcntl.LOCK_EX, patience)
            is_held = True
        except BlockingIOError:
            is_held = False
        except OSError:  # a file system without locks
            is_held = True
        yield is_held
    finally:
        with contextlib.suppress(OSError):
            release(fd)
        os.close(fd)


def is_locked(path: str, *, shared: bool = False) -> bool:
    """Whether a process holds the exclusive lock of a file, or with ``shared`` a shared one.

    False if the file is missing, cannot be read, or lies on a file system without locks.
    """
    try:
        import fcntl

        with open_file(path) as file:
            fcntl.flock(file, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            release(file.fileno())
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


@contextlib.contextmanager
def document_lock(path: str) -> Iterator[bool]:
    """Hold the lock of a shared document for the block.

    Yields:
        Whether it is held. False on a file system without locks, and where the lock is no regular file: another process
        rarely writes at the same time, and not to write at all would be worse.

    Raises:
        TimeoutError: another process held it for longer than ``DOCUMENT_LOCK_S``.
        OSError: as the system says.
    """
    from filelock import Timeout

    try:
        lock = _native_lock(path)
    except (UnsafeFileError, IsADirectoryError):  # something in the way of a lock is no reason not to write
        yield False
        return
    try:
        try:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                _check_support(path)
                lock.acquire()
        except Timeout:
            raise TimeoutError(f"another process holds {path} for more than {DOCUMENT_LOCK_S:g} s") from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
        yield lock.is_locked
    finally:
        lock.release()


def open_lock(path: str) -> int:
    """Open a file to lock, made if it is missing, and return the descriptor; read-only where nothing can be written.

    Raises:
        OSError: it cannot be opened, is a link, or is no regular file.
    """
    try:
        return _open_own(path)
    except PermissionError:
        return open_descriptor(path, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return open_descriptor(path, os.O_RDONLY)


def _open_own(path: str) -> int:
    """Open a lock file to write, made if it is missing.

    Whoever can read a lock file can hold its lock, and keep a writer waiting. So nobody may read it who could not write
    it: others never, the group only under a umask that lets it write.
    """
    fd = open_descriptor(path, os.O_RDWR | os.O_CREAT)
    status = os.fstat(fd)
    mode = status.st_mode & (0o660 if status.st_mode & 0o020 else 0o600)
    if mode != stat.S_IMODE(status.st_mode) and is_own(status):
        with contextlib.suppress(OSError):  # not every file system has permissions to set
            os.fchmod(fd, mode)
    return fd


def take(fd: int, operation: int, patience: float) -> None:
    """Take the lock of an open file, and try again while another process holds it.

    Args:
        fd: the open file.
        operation: ``fcntl.LOCK_EX`` or ``fcntl.LOCK_SH``.
        patience: seconds until the last try.

    Raises:
        BlockingIOError: another process holds it for longer.
        OSError: the file system has no locks.
        ImportError: the system has no ``fcntl``.
    """
    import fcntl

    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_S)


def release(fd: int) -> None:
    """Release a lock. Closing the file is not enough: a child that was forked meanwhile has it open as well.

    Raises:
        OSError: the file system has no locks.
        ImportError: the system has no ``fcntl``.
    """
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_UN)


def _native_lock(path: str) -> BaseFileLock:
    """Return a lock that never becomes a soft one, in the versions of filelock that have that option.

    A soft lock is a file that says who holds it: a process killed within it on another machine would leave it for ever.
    """
    import inspect

    from filelock import FileLock

    options: dict[str, Any] = {}
    parameters = inspect.signature(FileLock.__init__).parameters
    with contextlib.suppress(PermissionError, FileNotFoundError, NotADirectoryError):  # which filelock reports
        fd = _open_own(path)
        if "mode" in parameters:  # some versions set it again
            options["mode"] = stat.S_IMODE(os.fstat(fd).st_mode)
        os.close(fd)
    if "fallback_to_soft" in parameters:
        options["fallback_to_soft"] = False
    return FileLock(path, timeout=DOCUMENT_LOCK_S, **options)


def _check_support(path: str) -> None:
    """Ask the file system whether it has locks: filelock before 3.20 takes any refusal for a lock that is held.

    Raises:
        OSError: it has none.
    """
    try:
        import fcntl
    except ImportError:
        return
    with contextlib.suppress(BlockingIOError, FileNotFoundError, PermissionError, UnsafeFileError):
        fd = open_descriptor(path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
