"""Let the writer sleep until there is work, or the training process has ended."""

from __future__ import annotations

import contextlib
import os
import select
import socket


class ParentWatch:
    """Waits for the doorbell, for other threads of the writer, and for the end of the training process.

    It notices the end by the socket, and by a pidfd, since a forked sibling may keep the socket open.

    Attributes:
        gone: whether the training process has ended.

    Args:
        pid: process id of the training process.
        connection: the socket to it; None if the writer is a thread of it.
    """

    def __init__(self, pid: int, connection: socket.socket | None) -> None:
        self.gone = False
        self._pid = pid
        self._connection = connection
        self._pidfd = -1
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        if connection is None:
            return
        connection.setblocking(False)
        with contextlib.suppress(OSError, AttributeError):  # before Linux 5.3, and elsewhere
            self._pidfd = os.pidfd_open(pid)
        # After pidfd_open: the process with this id is still the parent, or the writer is an orphan already.
        self._check_parent()

    def wake(self) -> None:
        """End a ``wait``. Any thread may call it."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"!")

    def wait(self, seconds: float, *, is_wakeable: bool = True) -> None:
        """Sleep until the time is over, the doorbell rings, the training process ends, or ``wake`` is called.

        Args:
            seconds: the time.
            is_wakeable: whether ``wake`` ends the sleep.
        """
        poller = select.poll()
        if self._connection is not None and not self.gone:
            poller.register(self._connection, select.POLLIN)
        if self._pidfd >= 0 and not self.gone:
            poller.register(self._pidfd, select.POLLIN)
        if is_wakeable:
            poller.register(self._wake_read, select.POLLIN)
        ready = [fd for fd, _ in poller.poll(seconds * 1000)]
        if self._pidfd >= 0 and self._pidfd in ready:
            self.gone = True
        if self._connection is not None and self._connection.fileno() in ready:
            self._read_bells()
        if not ready:
            self._check_parent()
        self.forget_wakes()

    def forget_wakes(self) -> None:
        """Have the calls of ``wake`` until now not end the next ``wait``."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def close(self) -> None:
        """Close all descriptors, which tells the training process that the writer has ended."""
        os.close(self._wake_read)
        os.close(self._wake_write)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._connection is not None:
            self._connection.close()

    def _read_bells(self) -> None:
        assert self._connection is not None
        try:
            self.gone = self.gone or self._connection.recv(65536) == b""
        except BlockingIOError:
            return
        except OSError:
            self.gone = True

    def _check_parent(self) -> None:
        if self._connection is not None and os.getppid() != self._pid:
            self.gone = True
