"""A program on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING

from tests.support import SUBPROCESS_SECONDS, python_environment

if TYPE_CHECKING:
    from pathlib import Path

ML_DASH = (sys.executable, "-m", "ml_dash")


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A program on a terminal of its own.

    Args:
        command: the program and its arguments.
        cwd: where it runs.
        columns: width of the terminal.
        lines: its height.
        is_session: whether it is the terminal of a session of its own, as a shell wants it.
        environment: variables on top of the present ones.
    """

    def __init__(
        self, *command: str, cwd: Path, columns: int = 80, lines: int = 24, is_session: bool = False, **environment: str
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._ours = ours
        self._read = bytearray()
        # The size is that of this terminal, not of the one in which the tests run.
        variables = python_environment({"TERM": "xterm", "COLUMNS": "", "LINES": "", **environment})
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={key: value for key, value in variables.items() if value},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=is_session,
            preexec_fn=_take_terminal if is_session else None,  # noqa: PLW1509 - it makes a system call and no more
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read_all)
        self._reader.start()

    def _read_all(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self._read += data

    @property
    def text(self) -> str:
        """What was printed so far."""
        return bytes(self._read).decode("utf-8", "replace").replace("\r\n", "\n")

    def end(self) -> tuple[str, int]:
        """Wait for the end; return what was printed, and the exit status."""
        try:
            status = self.process.wait(SUBPROCESS_SECONDS)
        finally:
            self.process.kill()  # does nothing to a process that has ended
            self.process.wait()
            self._reader.join(SUBPROCESS_SECONDS)
            os.close(self._ours)
        return self.text, status

    def send(self, text: str) -> None:
        """Type a text."""
        os.write(self._ours, text.encode())

    def wait_quiet(self, seconds: float = 0.3) -> None:
        """Wait until nothing was printed for a while."""
        before = -1
        while before < len(self._read):
            before = len(self._read)
            self._reader.join(seconds)
