"""Redirection of descriptor 1 or 2 to a pipe or a pseudo-terminal, and back."""

from __future__ import annotations

import contextlib
import os
import struct

PIPE_BYTES = 1024 * 1024
"""Requested size of a pipe, the most that Linux allows without privileges: a burst of output does not wait."""

FIRST_FREE_FD = 3
"""Our descriptors never take the numbers of stdin, stdout and stderr, also where these are closed."""

NAMES = {1: "stdout", 2: "stderr"}


class Redirect:
    """A redirected descriptor; making one redirects it.

    Attributes:
        fd: 1 or 2.
        name: ``stdout`` or ``stderr``.
        reader: non-blocking descriptor to read the output from. It stays open although another process reads: if that
            process is killed, a pipe without a reader would kill the program.
        saved: descriptor of the original destination.
        on_terminal: whether the original destination is a terminal.

    Args:
        fd: 1 or 2.

    Raises:
        OSError: the descriptor is closed, or no descriptor is left.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.name = NAMES[fd]
        self.saved = copy_descriptor(fd)
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
        """Whether the descriptor still leads here: the program may have redirected it itself."""
        return not self._restored and _identity(self.fd) == self._identity

    def restore(self) -> None:
        """Restore the original destination, unless the program has redirected the descriptor itself. Idempotent."""
        if self.in_place():
            os.dup2(self.saved, self.fd)
        self._restored = True  # a later match of the identity would be a reused inode number

    def close(self) -> None:
        """Close the reader and the saved descriptor. Idempotent."""
        for fd in (self.reader, self.saved):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.reader = self.saved = -1


def _open_pair(original: int, on_terminal: bool) -> tuple[int, int]:
    """Return the end to read from and the end to write to: for a terminal a terminal, so programs keep their colours."""
    import fcntl

    if on_terminal:
        with contextlib.suppress(OSError):  # no pseudo-terminal is left
            return _open_terminal(original)
    reader, end = _above_standard(*os.pipe())
    resize = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux
    if resize is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(end, resize, PIPE_BYTES)
    return reader, end


def _above_standard(*fds: int) -> tuple[int, int]:
    """Return two descriptors, or copies of them if one has the number of a standard stream."""
    if min(fds) >= FIRST_FREE_FD:
        return fds[0], fds[1]
    copies: list[int] = []
    try:
        copies += [copy_descriptor(fds[0]), copy_descriptor(fds[1])]
    finally:
        for fd in fds:
            os.close(fd)
    return copies[0], copies[1]


def _open_terminal(original: int) -> tuple[int, int]:
    """Return both ends of a pseudo-terminal that changes no byte."""
    import fcntl
    import termios

    reader, end = _above_standard(*os.openpty())
    with contextlib.suppress(OSError, termios.error):
        mode = termios.tcgetattr(original)
        mode[1] &= ~termios.OPOST  # the real terminal turns \n into \r\n, once
        termios.tcsetattr(end, termios.TCSANOW, mode)
        size = fcntl.ioctl(original, termios.TIOCGWINSZ, bytes(struct.calcsize("4H")))
        fcntl.ioctl(end, termios.TIOCSWINSZ, size)
    return reader, end


def copy_descriptor(fd: int) -> int:
    """Duplicate a descriptor to one that is closed on exec and has no number of a standard stream."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)


def _identity(fd: int) -> tuple[int, int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_rdev
