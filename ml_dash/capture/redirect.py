"""One captured descriptor: something else takes its place, and gives it back."""

from __future__ import annotations

import contextlib
import os
import struct

PIPE_BYTES = 1024 * 1024
"""Asked for as the size of a pipe, the most that is allowed to everybody: a burst of output waits for nobody."""

FIRST_FREE_FD = 3
"""Descriptors of ours never become stdin, stdout or stderr, also where these are closed."""

NAMES = {1: "stdout", 2: "stderr"}


class Tap:
    """Takes the place of a descriptor at once.

    Attributes:
        name: ``stdout`` or ``stderr``.
        reader: where to read what is written; non-blocking. Kept open here although another process reads: should
            that one be killed, nobody may write into a pipe without a reader.
        saved: where the output went before.
        on_terminal: whether that is a terminal.

    Args:
        fd: 1 or 2.

    Raises:
        OSError: the descriptor is closed, or no more descriptors are to be had.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.name = NAMES[fd]
        self.saved = _safe_copy(fd)
        self.on_terminal = os.isatty(fd)
        try:
            self.reader, end = _open_pair(self.saved, self.on_terminal)
        except OSError:
            os.close(self.saved)
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
            os.dup2(self.saved, self.fd)
        self._restored = True  # what leads here later has only the same number

    def close(self) -> None:
        """Let go of every descriptor. Idempotent."""
        for fd in (self.reader, self.saved):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.reader = self.saved = -1


def _open_pair(original: int, on_terminal: bool) -> tuple[int, int]:
    """The end to read from and the end to write to: a terminal for a terminal, so that programs keep their colours."""
    if on_terminal:
        with contextlib.suppress(OSError):  # no pseudo-terminal is to be had
            return _open_terminal(original)
    reader, end = _out_of_the_way(*os.pipe())
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
