"""Every file operation of the writer, in one place: the seam where tests make the disk fail.

Files that readers look at appear at once or not at all: a temporary name in the same folder, then a rename. Nothing is
reached through a link, since other users may have put one into the run's folder: see ``beneath``. What is in the way of
a writer is set aside, and said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from ml_dash.storage.atomic import temporary_name
from ml_dash.storage.beneath import (
    DOCUMENT_BYTES,
    HeldFolder,
    UnsafeFileError,
    open_descriptor,
    open_file,
    read_whole,
)

COPY_CHUNK = 64 * 1024 * 1024
"""Bytes copied per system call, so that a copy of many GB can be interrupted."""

COPY_ATTEMPTS = 3
"""How often a file that changes while it is copied is copied anew: a save that is just ending is over by then."""

READ_BLOCK = 1 << 20
"""Bytes of a file of any size that are in memory at once."""

_MISSING = (FileNotFoundError, NotADirectoryError)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Disk:
    """The real disk. Every method raises ``OSError`` and leaves nothing half done that a reader would take as whole.

    Args:
        folder: absolute path of the folder that every path lies in, usually a run's: it is held, and nothing below it
            is reached through a link. Empty: the folder of each path is trusted, and only its last name is not followed.

    Attributes:
        owner: part of temporary names. A writer has the owner of the one before it: by doing its work again it also
            replaces what that one left behind when it was killed. Empty: the process id.
        report: called with a text when something was in the way and was set aside.
    """

    owner = ""

    def __init__(self, folder: str = "") -> None:
        self._held = HeldFolder(folder) if folder else None
        self.report: Callable[[str], None] = lambda _: None

    def hold(self, folder: str) -> None:
        """Hold a folder, as if it had been given to the constructor."""
        self._held = HeldFolder(folder)

    def release(self) -> None:
        """Close the held folder's descriptor. Idempotent."""
        if self._held is not None:
            self._held.close()

    def open_append(self, path: str) -> int:
        """Return a descriptor that appends; the file is made if it is missing, with its folders."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with self._parent(path, make=True) as (folder, name):
            try:
                fd = open_descriptor(name, flags, dir_fd=folder, shown=path)
            except (UnsafeFileError, IsADirectoryError):
                self._set_aside(folder, name, path)
                fd = open_descriptor(name, flags, dir_fd=folder, shown=path)
        if os.fstat(fd).st_nlink <= 1:
            return fd
        # The same file has another name, maybe somewhere else: only a copy of it is ours to append to.
        os.close(fd)
        self.write_file(path, self.read_blocks(path), mode=self._mode(path))
        with self._parent(path) as (folder, name):
            return open_descriptor(name, flags, dir_fd=folder, shown=path)

    def append(self, fd: int, data: bytes) -> None:
        """Append all of ``data`` with as few calls as the system needs, normally one."""
        rest = memoryview(data)
        while rest:
            written = os.write(fd, rest)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]

    def length(self, fd: int) -> tuple[int, bool]:
        """Return the bytes in the file, and whether it still has a name (its folder may be removed meanwhile)."""
        status = os.fstat(fd)
        return status.st_size, status.st_nlink > 0

    def truncate(self, path: str, length: int) -> None:
        """Cut a file to ``length`` bytes; a file that is missing counts as cut, a shorter one is left alone."""
        try:
            with self._parent(path) as (folder, name):
                fd = open_descriptor(name, os.O_RDWR, dir_fd=folder, shown=path)
        except (*_MISSING, UnsafeFileError):
            return  # what is no regular file of the run was never written by a writer
        try:
            status = os.fstat(fd)
            if status.st_size > length and status.st_nlink <= 1:
                os.ftruncate(fd, length)
            elif status.st_size > length:
                self.write_file(path, _blocks_up_to(fd, length), mode=stat.S_IMODE(status.st_mode))
        finally:
            os.close(fd)

    def sync(self, fd: int) -> None:
        """Bring a file's data to the disk."""
        (os.fdatasync if sys.platform != "darwin" else os.fsync)(fd)

    def sync_path(self, path: str) -> None:
        """Bring a file to the disk; one that is gone needs none."""
        with contextlib.suppress(FileNotFoundError, UnsafeFileError), self._parent(path) as (folder, name):
            fd = open_descriptor(name, os.O_RDONLY, dir_fd=folder, shown=path)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def sync_file_system(self, path: str) -> bool:
        """Bring everything of the file system that holds ``path`` to the disk; False where that cannot be done."""
        try:
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            with self._parent(path) as (folder, _):
                return hasattr(libc, "syncfs") and libc.syncfs(folder) == 0
        except OSError:
            return False

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that exists is fine."""
        if self._held is None:
            os.makedirs(path, exist_ok=True)
            return
        with self._parent(os.path.join(path, os.curdir, "name"), make=True):
            pass

    def write_file(
        self, path: str, parts: Iterable[bytes | memoryview], sync: bool = False, *, mode: int | None = None
    ) -> None:
        """Put a whole file in place, replacing one that is there; readers see the old or the new one.

        Args:
            path: the file.
            parts: its content.
            sync: whether to bring it to the disk first.
            mode: its permissions; default those that the umask leaves.
        """
        with self._parent(path, make=True) as (folder, name):
            temporary = temporary_name(name, f"tmp-{self.owner or os.getpid()}")
            fd, temporary = self._create(folder, temporary)
            try:
                try:
                    if mode is not None:
                        os.fchmod(fd, mode)
                    for part in parts:
                        self.append(fd, part)  # type: ignore[arg-type]  # any bytes-like works, and bytes is the usual one
                    if sync:
                        self.sync(fd)
                finally:
                    self.close(fd)
                self.put_in_place(folder, temporary, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def put_in_place(self, folder: int, temporary: str, name: str) -> None:
        """Rename a complete file within a folder, over a file or link that has the name."""
        try:
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            self._set_aside(folder, name, name)
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)

    def keep(self, path: str, kept: str) -> None:
        """Give a file a second name in its folder, which it keeps when another file gets its first one."""
        with self._parent(path) as (folder, name):
            try:
                os.link(name, os.path.basename(kept), src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
                return
            except OSError:  # a file system without links
                pass
        self.write_file(kept, self.read_blocks(path), sync=True, mode=self._mode(path))

    def rename(self, source: str, target: str) -> None:
        """Move a file over another within one file system."""
        with (
            self._parent(source) as (source_folder, source_name),
            self._parent(target, make=True) as (target_folder, target_name),
        ):
            os.replace(source_name, target_name, src_dir_fd=source_folder, dst_dir_fd=target_folder)

    def remove(self, path: str) -> None:
        """Remove a file; one that is missing is fine."""
        with contextlib.suppress(FileNotFoundError, UnsafeFileError), self._parent(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def remove_folder(self, path: str) -> None:
        """Remove a folder and all in it; one that is missing is fine. Links in it are removed and not followed."""
        import shutil

        with contextlib.suppress(FileNotFoundError, UnsafeFileError), self._parent(path) as (folder, name):
            shutil.rmtree(name, dir_fd=folder)

    def remove_empty_folder(self, path: str) -> None:
        """Remove a folder if nothing is in it; one that is missing is fine."""
        try:
            with self._parent(path) as (folder, name):
                os.rmdir(name, dir_fd=folder)
        except UnsafeFileError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise

    def open_read(self, path: str) -> BinaryIO:
        """Open a regular file for reading. In a held folder, anything else is set aside and counts as missing.

        Raises:
            UnsafeFileError: it is a link or no regular file, and no folder is held.
        """
        try:
            with self._parent(path) as (folder, name):
                return os.fdopen(open_descriptor(name, os.O_RDONLY, dir_fd=folder, shown=path), "rb")
        except (UnsafeFileError, IsADirectoryError):
            if self._held is None:
                raise
            self._set_aside_path(path)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def read_file(self, path: str, limit: int | None = DOCUMENT_BYTES) -> bytes | None:
        """Return a whole file, or None if it is missing.

        Args:
            path: the file. In a held folder, one that is larger is set aside and counts as missing.
            limit: bytes that it may have at most; None for a file that this run's own process has made.
        """
        try:
            with self.open_read(path) as file:
                return file.read() if limit is None else read_whole(file, limit, path)
        except _MISSING:
            return None
        except UnsafeFileError:
            if self._held is None:
                raise
            self._set_aside_path(path)
            return None

    def read_blocks(self, path: str) -> Iterator[bytes]:
        """Yield a file of any size in blocks; none if it is missing."""
        try:
            file = self.open_read(path)
        except _MISSING:
            return
        with file:
            yield from iter(lambda: file.read(READ_BLOCK), b"")

    def size(self, path: str) -> int | None:
        """Return the bytes of a file, or None if it is missing or no regular file.

        A disk that refuses to say is an error, not a missing file.
        """
        try:
            status = self.status(path)
        except UnsafeFileError:
            return None
        return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of a file, or of the link in its place; None if it is missing.

        Raises:
            UnsafeFileError: a folder on the way is a link.
        """
        try:
            with self._parent(path) as (folder, name):
                return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except _MISSING:
            return None

    def _mode(self, path: str) -> int | None:
        status = self.status(path)
        return None if status is None else stat.S_IMODE(status.st_mode)

    def list_folder(self, path: str) -> list[str] | None:
        """Return the names in a folder, or None if it is missing. A link in its place is set aside."""
        try:
            with self._parent(os.path.join(path, os.curdir, "name")) as (folder, _):
                return os.listdir(folder)
        except _MISSING:
            return None
        except UnsafeFileError:
            self._set_aside_path(path)
            return None

    def _parent(self, path: str, *, make: bool = False) -> contextlib.AbstractContextManager[tuple[int, str]]:
        """Yield the descriptor of the folder that holds ``path``, and its last name."""
        if self._held is not None:
            return self._held.parent_of(path, make=make)
        return _trusted_parent(path, make=make)

    def _create(self, folder: int, name: str) -> tuple[int, str]:
        """Make a file that nobody else can have prepared; return its descriptor and its name."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with contextlib.suppress(FileExistsError):
            return open_descriptor(name, flags, dir_fd=folder), name
        with contextlib.suppress(OSError):  # left by a writer that was killed, or put there; a link is not followed
            os.unlink(name, dir_fd=folder)
            return open_descriptor(name, flags, dir_fd=folder), name
        name = f"{name[:200]}-{os.urandom(8).hex()}"
        return open_descriptor(name, flags, dir_fd=folder), name

    def _set_aside_path(self, path: str) -> None:
        """Set aside what is in the way at a path, or in the place of one of its folders."""
        with self._parent(path, make=True) as (folder, name):
            self._set_aside(folder, name, path)

    def _set_aside(self, folder: int, name: str, path: str) -> None:
        """Set aside what is in the way: a link, a FIFO, a device. A folder with something in it is the run's own.

        Raises:
            IsADirectoryError: it is such a folder: another name of the user's needs it.
            UnsafeFileError: no folder is held.
        """
        if self._held is None:
            raise UnsafeFileError(errno.EPERM, "it is no regular file", path)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                try:
                    return os.rmdir(name, dir_fd=folder)
                except OSError:
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
            self.report(f"{path} was in the way, no regular file: it was moved to {self._held.set_aside(folder, name)}")
        return None


@contextlib.contextmanager
def _trusted_parent(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    folder, name = os.path.split(path)
    try:
        fd = os.open(folder or os.curdir, _FOLDER)
    except FileNotFoundError:
        if not make:
            raise
        os.makedirs(folder, exist_ok=True)
        fd = os.open(folder, _FOLDER)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _blocks_up_to(fd: int, length: int) -> Iterator[bytes]:
    """Yield the first ``length`` bytes of an open file in blocks."""
    offset = 0
    while offset < length and (block := os.pread(fd, min(READ_BLOCK, length - offset), offset)):
        offset += len(block)
        yield block


class ChangedError(OSError):
    """A file changed each time it was copied."""


def copy_file(source: str, target: str, *, within_umask: bool = False) -> int:
    """Copy one consistent state of a file, with its time and permissions, without reading it into memory.

    Shares blocks where the file system can. A change during the copy is noticed by the file's size or time of the last
    change, but not if it follows another one within a step of the file system's clock, which is a few milliseconds.

    Args:
        source: an existing file.
        target: the copy; it is created.
        within_umask: for a source that somebody else may have made: only a regular file is copied, links are not
            followed, and the copy gets only those permissions that a new file of this process may have.

    Returns:
        The size in bytes.

    Raises:
        ChangedError: the file changed each time. The target is removed.
        OSError: as the system says. The target is removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)  # never written into: it may be a link
    with open_file(source) if within_umask else open(source, "rb") as reader, open(target, "xb") as writer:
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
