"""Reach files that other users may have put in the way: by descriptors, one name at a time, never through a link.

A run's folder is input. Any name in it may be a link to somewhere else, a FIFO that blocks whoever opens it, or a device
without an end. So a folder is held by its descriptor, every name below it is looked up from there without following
links, files are opened without waiting, and what was opened is checked on its descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from typing import IO

SET_ASIDE = "quarantine"
"""Folder of a run that takes what was in the way of a writer."""

DOCUMENT_BYTES = 256 * 1024 * 1024
"""The largest JSON or TOML document that is read: far above any real one, and small enough for memory."""

SMALL_READ = 4096
"""Bytes that are read beyond what a file says that it has: it may grow, or be of a file system that does not say."""

LINE_BYTES = 256 * 1024 * 1024
"""The longest line of a journal that is read: far above that of any record, and small enough for memory."""

_LINK_ERRORS = frozenset({errno.ELOOP, errno.EMLINK, errno.EFTYPE} if hasattr(errno, "EFTYPE") else {errno.ELOOP})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeFileError(OSError):
    """A name that is not followed, or a file that is not read: a link, no regular file, or larger than its limit."""


def open_descriptor(path: str, flags: int, *, dir_fd: int | None = None, shown: str = "") -> int:
    """Open a regular file without following a link as its last name and without waiting; return the descriptor.

    Args:
        path: the file, relative to ``dir_fd`` if that is given.
        flags: as for ``os.open``; a file that is made gets the mode that the umask leaves of 0666.
        dir_fd: an open folder.
        shown: the path that an error names; default ``path``.

    Raises:
        UnsafeFileError: it is a link, a FIFO, a socket or a device.
        OSError: as the system says; IsADirectoryError for a folder.
    """
    shown = shown or path
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _LINK_ERRORS:
            raise UnsafeFileError(errno.ELOOP, "it is a link, which is not followed", shown) from None
        if error.errno == errno.ENXIO:  # a socket, or a FIFO that nobody reads
            raise UnsafeFileError(errno.EPERM, "it is no regular file", shown) from None
        error.filename = shown
        raise
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
    raise UnsafeFileError(errno.EPERM, "it is no regular file", shown)


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading, as ``open_descriptor`` does. Its folder is trusted.

    Raises:
        UnsafeFileError: it is a link, a folder, a FIFO, a socket or a device.
        OSError: as the system says.
    """
    try:
        return open(os.fspath(path), "rb", opener=open_descriptor)
    except IsADirectoryError as error:
        raise UnsafeFileError(errno.EISDIR, os.strerror(errno.EISDIR), error.filename) from None


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to the user of this process. True on a system without users."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def regular_size(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a regular file; 0 for one that is missing, and for a link or anything else."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def walk(top: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below ``top``, itself first, with the names in it that are no folders. Links are not followed.

    The depth of the tree does not matter. A folder that cannot be listed is left out.
    """
    waiting = [] if os.path.islink(top) else [top]
    while waiting:
        folder = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else names).append(entry.name)
        yield folder, names
        waiting += (os.path.join(folder, name) for name in sorted(folders, reverse=True))


def warn_refused(error: UnsafeFileError) -> None:
    """Warn that a file is left out of what is read."""
    with contextlib.suppress(Warning):  # a program that turns warnings into errors must not end by a neighbour's file
        warnings.warn(f"{error.filename!r} is left out: {error.strerror}", stacklevel=3)


def read_file(path: str | os.PathLike[str], limit: int = DOCUMENT_BYTES) -> bytes:
    """Read a regular file whole.

    Args:
        path: the file; its folder is trusted.
        limit: bytes that it may have at most.

    Raises:
        UnsafeFileError: it is a link, no regular file, or larger than ``limit``.
        OSError: as the system says.
    """
    fd = open_descriptor(os.fspath(path), os.O_RDONLY)
    try:
        return _read_to_end(fd, limit, os.fspath(path))
    finally:
        os.close(fd)


def read_whole(file: IO[bytes], limit: int, shown: str) -> bytes:
    """Read a file that was just opened to its end.

    Raises:
        UnsafeFileError: it is larger than ``limit`` bytes.
    """
    return _read_to_end(file.fileno(), limit, shown)


def _read_to_end(fd: int, limit: int, shown: str) -> bytes:
    data = b""
    while len(data) <= limit:
        # As much as the file says that it has, since the limit itself would be allocated for each small document.
        rest = max(0, os.fstat(fd).st_size - len(data))
        block = os.read(fd, min(rest, limit - len(data)) + SMALL_READ)
        if not block:
            return data
        data = data + block if data else block
    raise UnsafeFileError(errno.EFBIG, f"it is larger than {limit:,} bytes", shown)


class HeldFolder:
    """A folder held by its descriptor. It stays the same folder when it is renamed, or when its path becomes a link.

    Paths are relative to it or begin with its own path. May be used from any thread.

    Args:
        path: absolute path. Made when something is written and it is missing; a link to a folder is followed, once.

    Attributes:
        path: as it was given.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._lock = threading.Lock()

    def descriptor(self, *, make: bool = False) -> int:
        """Return the descriptor of the folder.

        A folder that was removed is opened anew by its path.

        Args:
            make: whether to make the folder if it is missing.

        Raises:
            OSError: it cannot be opened, or is missing.
        """
        with self._lock:
            if self._fd >= 0 and os.fstat(self._fd).st_nlink:
                return self._fd
            if make:
                os.makedirs(self.path, exist_ok=True)
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = fd
            return fd

    def close(self) -> None:
        """Close the descriptor. Idempotent; the next use opens the folder by its path again."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def names_of(self, path: str) -> list[str]:
        """Split a path into the names below the folder.

        Raises:
            UnsafeFileError: it lies outside of the folder.
        """
        if os.path.isabs(path):
            base = self.path.rstrip(os.sep) + os.sep
            if path != self.path and not path.startswith(base):
                raise UnsafeFileError(errno.EPERM, f"it lies outside of {self.path}", path)
            path = path[len(base) :]
        names = [name for name in path.split(os.sep) if name not in ("", os.curdir)]
        if os.pardir in names:
            raise UnsafeFileError(errno.EPERM, f"it may lie outside of {self.path}", path)
        return names

    @contextlib.contextmanager
    def parent_of(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the descriptor of the folder that holds ``path``, and the last name of ``path``.

        Args:
            path: something below the folder.
            make: whether to make missing folders. A link in the place of a folder is then set aside.

        Raises:
            UnsafeFileError: a folder on the way is a link, or the path leads outside.
            OSError: as the system says; FileNotFoundError where a folder is missing.
        """
        *folders, name = self.names_of(path)
        with contextlib.ExitStack() as opened:
            fd = self.descriptor(make=make)
            for index, folder in enumerate(folders):
                fd = self._enter(fd, folder, os.path.join(self.path, *folders[: index + 1]), make=make)
                opened.callback(os.close, fd)
            yield fd, name

    def _enter(self, fd: int, name: str, shown: str, *, make: bool) -> int:
        """Open a folder within a folder."""
        for _ in range(3):  # a name may be set aside, then made, and in between be taken again
            try:
                return os.open(name, _FOLDER, dir_fd=fd)
            except FileNotFoundError:
                if not make:
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in _LINK_ERRORS and error.errno != errno.ENOTDIR:
                    raise
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                if stat.S_ISREG(mode):  # the run's own: another name of the user's needs a folder here
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown) from None
                if not make:
                    raise UnsafeFileError(errno.ELOOP, "it is a link, which is not followed", shown) from None
                self.set_aside(fd, name)
        raise UnsafeFileError(errno.ELOOP, "it became a link again and again", shown)

    def set_aside(self, fd: int, name: str) -> str:
        """Move what has a name that is needed into the folder ``quarantine``; a link is moved and never followed.

        Args:
            fd: descriptor of the folder that holds it.
            name: its name there.

        Returns:
            Its new path, relative to the held folder.
        """
        root = self.descriptor()
        with contextlib.suppress(FileExistsError):
            os.mkdir(SET_ASIDE, dir_fd=root)
        try:
            quarantine = os.open(SET_ASIDE, _FOLDER, dir_fd=root)
        except OSError:  # the quarantine itself is in the way
            aside = f"{SET_ASIDE}-{os.urandom(4).hex()}"
            os.rename(SET_ASIDE, aside, src_dir_fd=root, dst_dir_fd=root)
            if name == SET_ASIDE and os.path.samestat(os.fstat(fd), os.fstat(root)):
                return aside
            os.mkdir(SET_ASIDE, dir_fd=root)
            quarantine = os.open(SET_ASIDE, _FOLDER, dir_fd=root)
        try:
            aside = f"in-the-way-{os.urandom(4).hex()}-{name}"[:200]
            os.rename(name, aside, src_dir_fd=fd, dst_dir_fd=quarantine)
        finally:
            os.close(quarantine)
        return f"{SET_ASIDE}/{aside}"


def open_below(folder: str, path: str) -> io.BufferedReader:
    """Open a regular file below a folder for reading; only the folder itself may be named by a link.

    Args:
        folder: absolute path, such as a run's.
        path: relative to it, or absolute and below it.

    Raises:
        UnsafeFileError: a name below the folder is a link, the last one is no regular file, or the path leads outside.
        OSError: as the system says.
    """
    shown = os.path.join(folder, path)
    if os.sep not in path and path != os.pardir:  # no folder on the way: as safe, and much faster
        return open_file(shown)
    held = HeldFolder(folder)
    try:
        with held.parent_of(path) as (fd, name):
            return open(shown, "rb", opener=lambda _, flags: open_descriptor(name, flags, dir_fd=fd, shown=shown))
    except IsADirectoryError as error:
        raise UnsafeFileError(errno.EISDIR, "it is a folder", error.filename) from None
    finally:
        held.close()


def read_below(folder: str, path: str, limit: int = DOCUMENT_BYTES) -> bytes:
    """Read a regular file whole that ``open_below`` opens.

    Raises:
        UnsafeFileError: as ``open_below``, or it is larger than ``limit`` bytes.
        OSError: as the system says.
    """
    with open_below(folder, path) as file:
        return read_whole(file, limit, os.path.join(folder, path))
