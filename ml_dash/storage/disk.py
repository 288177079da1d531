"""Every file operation of the writer, in one class: tests replace it to make the disk fail."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator

from ml_dash.storage.atomic import replacing_path

COPY_CHUNK = 64 * 1024 * 1024
"""Bytes copied per system call, so that a copy of many GB can be interrupted."""

COPY_ATTEMPTS = 3
"""Attempts to copy a file that changes meanwhile: a save that is about to end is over by the last one."""

READ_BLOCK = 1 << 20
"""Bytes of a file in memory at once, whatever its size."""

_MISSING = (FileNotFoundError, NotADirectoryError)


class Disk:
    """The real disk. Every method raises ``OSError``, and leaves nothing half done that a reader would take as whole.

    Attributes:
        owner: part of temporary names; empty for the process id. A writer has the owner of the one before it, so that
            it replaces the temporary files of a killed one when it does the same work again.
    """

    owner = ""

    def open_append(self, path: str) -> int:
        """Open a file for appending and return the descriptor; makes the file and its folders if they are missing."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            self.make_folder(os.path.dirname(path))
            return os.open(path, flags, 0o644)

    def append(self, fd: int, data: bytes) -> None:
        """Append all of ``data``, normally in one call."""
        rest = memoryview(data)
        while rest:
            written = os.write(fd, rest)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]

    def length(self, fd: int) -> tuple[int, bool]:
        """Return the size of a file in bytes, and whether it still has a name: its folder may have been deleted."""
        status = os.fstat(fd)
        return status.st_size, status.st_nlink > 0

    def truncate(self, path: str, length: int) -> None:
        """Cut a file to ``length`` bytes; a missing or shorter one is left alone."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size > length:
                os.truncate(path, length)

    def sync(self, fd: int) -> None:
        """Wait until a file's data is on the disk."""
        (os.fdatasync if sys.platform != "darwin" else os.fsync)(fd)

    def sync_path(self, path: str) -> None:
        """Wait until a file or a folder is on the disk; a missing one is fine."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def sync_file_system(self, path: str) -> bool:
        """Wait until the whole file system that holds ``path`` is on the disk; False where there is no such call."""
        try:
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return hasattr(libc, "syncfs") and libc.syncfs(fd) == 0
        finally:
            os.close(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents; an existing one is fine."""
        os.makedirs(path, exist_ok=True)

    def write_file(self, path: str, parts: Iterable[bytes | memoryview], sync: bool = False) -> None:
        """Write a whole file, or replace one: readers see the old or the new one."""
        with replacing_path(path, f"tmp-{self.owner or os.getpid()}", self.rename) as temporary:
            fd = self._create(temporary, os.path.dirname(path))
            try:
                for part in parts:
                    self.append(fd, part)  # type: ignore[arg-type]  # any bytes-like works, and bytes is the usual one
                if sync:
                    self.sync(fd)
            finally:
                self.close(fd)

    def rename(self, source: str, target: str) -> None:
        """Move a file over another one in the same file system."""
        os.replace(source, target)

    def remove(self, path: str) -> None:
        """Remove a file; a missing one is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def remove_folder(self, path: str) -> None:
        """Remove a folder with its files; a missing one is fine."""
        import shutil

        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)

    def remove_empty_folder(self, path: str) -> None:
        """Remove a folder if it is empty; a missing one is fine."""
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise

    def read_file(self, path: str) -> bytes | None:
        """Read a whole small file; None if it is missing."""
        try:
            with open(path, "rb") as file:
                return file.read()
        except _MISSING:
            return None

    def read_blocks(self, path: str) -> Iterator[bytes]:
        """Read a file of any size in blocks; no block if it is missing."""
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by the with statement below
        except _MISSING:
            return
        with file:
            yield from iter(lambda: file.read(READ_BLOCK), b"")

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes; None if it is missing. An error of the disk is raised, not taken for that."""
        try:
            return os.stat(path).st_size
        except _MISSING:
            return None

    def list_folder(self, path: str) -> list[str] | None:
        """Return the names in a folder; None if it is missing."""
        try:
            return os.listdir(path)
        except _MISSING:
            return None

    def _create(self, path: str, folder: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            self.make_folder(folder)
            return os.open(path, flags, 0o644)


class ChangedError(OSError):
    """A file changed each time it was copied."""


def copy_file(source: str, target: str, *, within_umask: bool = False) -> int:
    """Copy one consistent state of a file, with its time and permissions, without reading it into memory.

    Shares blocks where the file system can. A change during the copy is noticed by the file's size or time of the last
    change, but not if it follows another one within a step of the file system's clock, which is a few milliseconds.

    Args:
        source: an existing file.
        target: the copy; it is created.
        within_umask: whether the copy gets only those permissions of the source that a new file of this process may
            have, for a source that somebody else has made.

    Returns:
        The size in bytes.

    Raises:
        ChangedError: the file changed each time. The target is removed.
        OSError: as the system says. The target is removed.
    """
    with open(source, "rb") as reader, open(target, "wb") as writer:
        try:
            new = os.fstat(writer.fileno()).st_mode & 0o666
            rights = new | (new & 0o444) >> 2 if within_umask else 0o777
            for _ in range(COPY_ATTEMPTS):
                before = os.fstat(reader.fileno())
                size = _copy(reader.fileno(), writer.fileno())
                after = os.fstat(reader.fileno())
                if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
                    with contextlib.suppress(OSError):  # not every file system has times and permissions to set
                        os.fchmod(writer.fileno(), before.st_mode & rights)
                        os.utime(writer.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
                    return size
                os.lseek(reader.fileno(), 0, os.SEEK_SET)
                os.lseek(writer.fileno(), 0, os.SEEK_SET)
                os.ftruncate(writer.fileno(), 0)
            raise ChangedError(errno.EAGAIN, "the file changed each time it was copied", source)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(target)
            raise


def _copy(source: int, target: int) -> int:
    if _clone(source, target):
        return os.fstat(target).st_size
    total = 0
    copy_range = getattr(os, "copy_file_range", None)
    while copy_range is not None:
        try:
            copied = copy_range(source, target, COPY_CHUNK)
        except OSError as error:
            if total or error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
                raise
            break
        if copied == 0:
            break  # at the end, or at the start of a file that the kernel makes while it is read (/proc)
        total += copied
    if not total:
        with open(os.dup(source), "rb") as reader, open(os.dup(target), "wb") as writer:
            while block := reader.read(READ_BLOCK):
                writer.write(block)
    return os.fstat(target).st_size


_FICLONE = 0x40049409


def _clone(source: int, target: int) -> bool:
    """Share the blocks of ``source`` (btrfs, XFS, bcachefs); False on other file systems."""
    try:
        import fcntl

        fcntl.ioctl(target, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True
