"""Reading of one redirected descriptor in the relay: the output is shown at its original destination and handed on."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
from collections.abc import Callable

from ml_dash.capture.redirect import PIPE_BYTES
from ml_dash.capture.terminal_text import MarkFilter

READ_BYTES = 64 * 1024
"""One read: a pipe of the usual size."""

ROUND_BYTES = 2 * PIPE_BYTES
"""Read in one round before the other descriptor: more than a pipe holds, so a round takes all earlier output."""

SHOW_BYTES = 4096
"""One write: short even on a slow terminal, so that those who wait often see that output moves."""


class DescriptorReader:
    """Reads one redirected descriptor.

    Attributes:
        reader: non-blocking descriptor to read from; -1 once no process can write to it any more.

    Args:
        fd: 1 or 2, for ``keep``.
        reader: the attribute's first value.
        saved: descriptor of the original destination.
        on_terminal: whether that is a terminal.
        keep: called with ``fd`` and a piece of output; echoed log lines are left out.
        moved: called when a part of a piece is shown.
    """

    def __init__(
        self,
        fd: int,
        reader: int,
        saved: int,
        on_terminal: bool,
        keep: Callable[[int, bytes], None],
        moved: Callable[[], None],
    ) -> None:
        self.reader = reader
        self._fd = fd
        self._saved = saved
        self._on_terminal = on_terminal
        self._keep = keep
        self._moved = moved
        self._marks = MarkFilter()
        self._can_show = True
        self._size = b""

    def round(self) -> int:
        """Keep and show all output that waits. Returns its size in bytes."""
        taken = 0
        if self._on_terminal and self.reader >= 0:
            self._copy_window_size()
        while taken < ROUND_BYTES and self.reader >= 0:
            data = self._read()
            if data is None:
                break
            taken += len(data)
            for piece, is_echo in self._marks.feed(data):
                if not is_echo:
                    self._keep(self._fd, piece)
                self._show(piece)
        return taken

    def close(self) -> None:
        """Close both descriptors. Idempotent."""
        for fd in (self.reader, self._saved):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.reader = self._saved = -1
        self._can_show = False

    def _show(self, data: bytes) -> None:
        """Write to the original destination. If that is closed, the output is in the log only."""
        while data and self._can_show:
            try:
                data = data[os.write(self._saved, data[:SHOW_BYTES]) :]
            except BlockingIOError:
                poller = select.poll()
                poller.register(self._saved, select.POLLOUT)
                poller.poll()
            except OSError:
                self._can_show = False
            self._moved()

    def _read(self) -> bytes | None:
        """Read once; None if nothing waits."""
        try:
            data = os.read(self.reader, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:  # EIO: no process has the terminal open any more
            if error.errno not in (errno.EIO, errno.EBADF):
                raise
            data = b""
        if data:
            return data
        self._show(self._marks.rest())
        with contextlib.suppress(OSError):
            os.close(self.reader)
        self.reader = -1
        return None

    def _copy_window_size(self) -> None:
        """Give the pseudo-terminal the window size of the real one."""
        import fcntl
        import termios

        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self._saved, termios.TIOCGWINSZ, bytes(struct.calcsize("4H")))
            if size != self._size:
                self._size = size
                fcntl.ioctl(self.reader, termios.TIOCSWINSZ, size)
