"""The slab: one piece of shared memory per experiment, with the control block, the record ring and the frame buffer.

It never has a name that a killed process could leave behind. In order of preference it is a file without a name in
/dev/shm, memory from ``memfd_create``, or a file without a name on a local disk; on systems without ``O_TMPFILE`` it is
what ``named_memory`` makes. The writer process inherits the descriptor.
Memory is reserved with ``posix_fallocate`` before its first use: to touch pages that /dev/shm has no room for would kill
the process with SIGBUS.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import sys
import threading
from collections.abc import Callable
from functools import cache

from ml_dash._file_systems import file_system_of, is_network
from ml_dash.ipc.control import FRAMES_OFFSET

HEADROOM = 8 * 1024 * 1024
"""Bytes of /dev/shm that are left free for other programs (DataLoader workers pass tensors through it)."""

_MADV_POPULATE_WRITE = 23


class NoSharedMemoryError(Exception):
    """The machine offers no shared memory; the writer then runs on a thread."""


class Slab:
    """A mapping of memory, and the descriptor that the writer process inherits.

    Attributes:
        kind: ``shared_memory``, ``memfd``, ``file``, ``private`` or ``inherited``.
        fd: the descriptor; -1 for memory private to this process.
        memory: the mapping.
        size: bytes of the mapping.
    """

    __slots__ = ("_lock", "fd", "kind", "memory", "size")

    def __init__(self, kind: str, fd: int, memory: mmap.mmap, size: int) -> None:
        self.kind = kind
        self.fd = fd
        self.memory = memory
        self.size = size
        self._lock = threading.Lock()

    def reserve(self, offset: int, length: int) -> bool:
        """Allocate ``length`` bytes at ``offset``. False if the machine has no room for them."""
        if self.fd < 0:
            return True
        try:
            os.posix_fallocate(self.fd, offset, length)
        except OSError as error:
            return error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
        return True

    def populate(self, offset: int, length: int) -> None:
        """Map the pages of a reserved range ahead of use. Without this, the first copy to a page takes ten times as long."""
        populate_pages(self.memory, offset, length)

    def close(self) -> None:
        """Unmap the memory and close the descriptor. Views that exist keep the mapping until they are gone. Idempotent."""
        with self._lock, contextlib.suppress(BufferError):
            self.memory.close()
        self._close_descriptor()

    def disarm(self) -> None:
        """Close in a forked child, without the lock, which another thread may have held at the fork."""
        with contextlib.suppress(BufferError):
            self.memory.close()
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def populate_pages(memory: mmap.mmap, offset: int, length: int) -> None:
    """Have the kernel map a range for writing. Linux before 5.14 and other systems map each page at its first use."""
    if not sys.platform.startswith("linux"):
        return
    start = offset // mmap.PAGESIZE * mmap.PAGESIZE
    view = (ctypes.c_char * 1).from_buffer(memory, start)
    # Through ctypes: mmap.madvise holds the interpreter lock for the milliseconds that this takes.
    _libc().madvise(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(length), _MADV_POPULATE_WRITE)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def create(frame_bytes: int) -> Slab:
    """Make a slab with a frame buffer of ``frame_bytes``, of the best kind that this machine has.

    The frame buffer gets addresses but no memory yet: see ``Slab.reserve``.

    Raises:
        NoSharedMemoryError: the machine has no shared memory with enough room.
    """
    size = FRAMES_OFFSET + frame_bytes
    for attempt in (_from_shared_memory, _from_memfd, _from_file):
        slab = _try(attempt, size)
        if slab is not None:
            return slab
    raise NoSharedMemoryError


def private(frame_bytes: int) -> Slab:
    """Make a slab of memory that only this process has, for a writer on a thread."""
    size = FRAMES_OFFSET + frame_bytes
    return Slab("private", -1, mmap.mmap(-1, size), size)


def attach(fd: int, size: int) -> Slab:
    """Map an inherited descriptor, in the writer process."""
    return Slab("inherited", fd, mmap.mmap(fd, size), size)


def _try(attempt: Callable[[int], int], size: int) -> Slab | None:
    try:
        fd = attempt(size)
    except (OSError, ValueError, ImportError, AttributeError):
        return None
    with contextlib.suppress(OSError):
        slab = Slab(attempt.__name__.removeprefix("_from_"), fd, mmap.mmap(fd, size), size)
        if slab.reserve(0, FRAMES_OFFSET):
            return slab
        slab.close()
        return None
    os.close(fd)
    return None


def _from_shared_memory(size: int) -> int:
    if not hasattr(os, "O_TMPFILE"):  # not Linux
        from ml_dash.ipc import named_memory

        return named_memory.create(size)
    room = os.statvfs("/dev/shm")
    if room.f_bavail * room.f_frsize < size + HEADROOM:
        raise OSError(errno.ENOSPC, "not enough room in /dev/shm")
    fd = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.ftruncate(fd, size)
    return fd


def _from_memfd(size: int) -> int:
    fd = os.memfd_create("ml_dash", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


def _from_file(size: int) -> int:
    import tempfile  # needed only where there is neither /dev/shm nor memfd

    for folder in (os.environ.get("SLURM_TMPDIR"), tempfile.gettempdir()):
        if folder and os.path.isdir(folder) and not is_network(file_system_of(folder)):
            with tempfile.TemporaryFile(dir=folder) as file:
                os.ftruncate(file.fileno(), size)
                return os.dup(file.fileno())
    raise OSError(errno.ENOENT, "no folder on a local disk")
