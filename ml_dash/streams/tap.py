"""One captured descriptor: what programs write to it is read here, shown where it went before, and cut into lines."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct

from ml_dash.streams.terminal_text import LineFolder, MarkFilter

READ_BYTES = 64 * 1024
"""One read: a pipe of the usual size."""

PIPE_BYTES = 1024 * 1024
"""Asked for as the size of a pipe, the most that is allowed to everybody: a burst of output waits for nobody."""

ROUND_BYTES = 2 * PIPE_BYTES
"""Read before others get their turn: more than a pipe holds, so that one round takes all that was there before it."""

FIRST_FREE_FD = 3
"""Descriptors of ours never become stdin, stdout or stderr, also where these are closed."""

NAMES = {1: "stdout", 2: "stderr"}


class Tap:
    """Takes the place of a descriptor at once. Everything but ``restore`` belongs to the reading thread.

    Attributes:
        name: ``stdout`` or ``stderr``.
        reader: where to read; non-blocking, -1 once everybody who could write is gone.
        folder: the lines so far.
        shown: bytes written to where the output went before.

    Args:
        fd: 1 or 2.

    Raises:
        OSError: the descriptor is closed, or no more descriptors are to be had.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.name = NAMES[fd]
        self.folder = LineFolder()
        self._marks = MarkFilter()
        self.shown = 0
        self._can_show = True
        self._size = b""
        self._saved = _safe_copy(fd)
        self._on_terminal = os.isatty(fd)
        try:
            self.reader, end = _open_pair(self._saved, self._on_terminal)
        except OSError:
            os.close(self._saved)
            raise
        self._identity = _identity(end)
        os.set_blocking(self.reader, False)
        os.dup2(end, fd)
        os.close(end)
        self._restored = False

    def in_place(self) -> bool:
        """Whether the descriptor leads here: the program may have put something else in its place."""
        return not self._restored and _identity(self.fd) == self._identity

    def restore(self) -> None:
        """Put back what was there before, unless the program has put something there itself. Idempotent."""
        if self.in_place():
            os.dup2(self._saved, self.fd)
        self._restored = True  # what leads here later has only the same number

    def pump(self) -> list[str]:
        """Show everything that waits, and return the lines that are whole."""
        lines: list[str] = []
        taken = 0
        if self._on_terminal:
            self._copy_window_size()
        while taken < ROUND_BYTES and self.reader >= 0:
            data = self._read()
            if data is None:
                break
            taken += len(data)
            for piece, ours in self._marks.feed(data):
                self.show(piece)
                if not ours:
                    lines += self.folder.feed(piece)
        return lines

    def show(self, data: bytes) -> None:
        """Write to where the output went before. If that is gone, the output is kept in the log alone."""
        while data and self._can_show:
            try:
                written = os.write(self._saved, data)
                self.shown += written
                data = data[written:]
            except BlockingIOError:
                poller = select.poll()
                poller.register(self._saved, select.POLLOUT)
                poller.poll()
            except OSError:
                self._can_show = False

    def close(self) -> None:
        """Let go of every descriptor. Idempotent."""
        for fd in (self.reader, self._saved):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.reader = self._saved = -1
        self._can_show = False

    def _read(self) -> bytes | None:
        """What waits, or None for nothing."""
        try:
            data = os.read(self.reader, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:  # a terminal that nobody has open any longer says EIO
            data = b""
            if error.errno not in (errno.EIO, errno.EBADF):
                raise
        if not data:
            self.show(self._marks.rest())
            with contextlib.suppress(OSError):
                os.close(self.reader)
            self.reader = -1
            return None
        return data

    def _copy_window_size(self) -> None:
        """A program that asks how wide the terminal is, is told what the real one says."""
        import fcntl
        import termios

        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self._saved, termios.TIOCGWINSZ, bytes(struct.calcsize("4H")))
            if size != self._size:
                self._size = size
                fcntl.ioctl(self.reader, termios.TIOCSWINSZ, size)


def open_pipe() -> tuple[int, int]:
    """A pipe whose ends are neither stdin, stdout nor stderr, and which no child inherits.

    Raises:
        OSError: no more descriptors are to be had.
    """
    return _out_of_the_way(*os.pipe())


def _open_pair(original: int, on_terminal: bool) -> tuple[int, int]:
    """The end to read from and the end to write to: a terminal for a terminal, so that programs keep their colours."""
    if on_terminal:
        with contextlib.suppress(OSError):  # no pseudo-terminal is to be had
            return _open_terminal(original)
    reader, end = open_pipe()
    _widen(end)
    return reader, end


def _out_of_the_way(*fds: int) -> tuple[int, int]:
    """The same two descriptors, as others if one of them is a standard one."""
    if min(fds) >= FIRST_FREE_FD:
        return fds[0], fds[1]
    copies: list[int] = []
    try:
        copies += [_safe_copy(fds[0]), _safe_copy(fds[1])]
    finally:
        for fd in fds:
            os.close(fd)
    return copies[0], copies[1]


def _open_terminal(original: int) -> tuple[int, int]:
    """Both ends of a pseudo-terminal that changes no byte."""
    import fcntl
    import termios

    reader, end = _out_of_the_way(*os.openpty())
    with contextlib.suppress(OSError, termios.error):
        mode = termios.tcgetattr(original)
        mode[1] &= ~termios.OPOST  # the real terminal turns \n into \r\n, once
        termios.tcsetattr(end, termios.TCSANOW, mode)
        size = fcntl.ioctl(original, termios.TIOCGWINSZ, bytes(struct.calcsize("4H")))
        fcntl.ioctl(end, termios.TIOCSWINSZ, size)
    return reader, end


def _widen(end: int) -> None:
    import fcntl

    resize = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux
    if resize is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(end, resize, PIPE_BYTES)


def _safe_copy(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)


def _identity(fd: int) -> tuple[int, int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_rdev
