"""The program's side of the relay: starts it, and takes what it hands on."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_dash.capture.redirect import FIRST_FREE_FD, Tap
from ml_dash.capture.relay_process import FRAME, Relay
from ml_dash.ipc import NO_SIGNAL
from ml_dash.ipc.launch import can_launch, start_process

if TYPE_CHECKING:
    import subprocess

RECEIVE_BYTES = 1024 * 1024
"""One read from the relay: more than a socket holds."""

REAP_S = 2.0
"""How long the end of a capture waits for the relay, which has said that it is done."""

_ENTRY = "ml_dash.capture.relay_process"


class RelayLink:
    """A running relay for some descriptors: a process, or a thread where none can be had.

    Attributes:
        on_thread: whether it is a thread.

    Args:
        taps: the descriptors.

    Raises:
        OSError: no more descriptors are to be had.
        RuntimeError: no process and no thread can be had.
    """

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._held = bytearray()
        self.on_thread = False
        self._link: socket.socket | None = None
        if can_launch():
            with contextlib.suppress(OSError):
                self._start_process()
        if self._process is None:
            self.start_thread()

    def ask(self) -> None:
        """Ask for a message of kind ``SYNC``. One that gets lost with the relay is asked again by ``Capture``."""
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.send(b"?", NO_SIGNAL)

    def receive(self) -> list[tuple[int, bytes]] | None:
        """Wait for messages: kinds and contents. None says that the relay is gone."""
        link = self._link
        try:
            data = link.recv(RECEIVE_BYTES) if link is not None else b""
        except OSError:
            data = b""
        if not data:
            return None
        self._held += data
        return self._whole_messages()

    def start_thread(self) -> None:
        """Read on a thread of this process: where none can be started, or the one that was started is gone."""
        self.close()
        ours, theirs = _pair()
        sources = []
        for tap in self._taps:
            with contextlib.suppress(OSError):
                sources.append((tap.fd, _copy(tap.reader), _copy(tap.saved), tap.on_terminal))
        self.on_thread = True
        self._link = ours
        self._held.clear()
        self._thread = threading.Thread(target=Relay(theirs, sources).run, name="ml_dash-relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of the relay. Waits for one that is done."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join(REAP_S)
        process, self._process = self._process, None
        if process is not None:
            import subprocess

            try:
                process.wait(REAP_S)
            except subprocess.TimeoutExpired:
                process.returncode = 0  # it goes on showing output; it stays as a zombie until we end

    def after_fork_in_child(self) -> None:
        """The relay is the parent's."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._process is not None:
            self._process.returncode = 0
            self._process = None

    def _start_process(self) -> None:
        ours, theirs = _pair()
        sources = [(tap.fd, tap.reader, tap.saved, tap.on_terminal) for tap in self._taps]
        inherited = [theirs.fileno(), *(fd for source in sources for fd in source[1:3])]
        try:
            self._process = start_process(_ENTRY, {"link": theirs.fileno(), "sources": sources}, inherited)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = ours

    def _whole_messages(self) -> list[tuple[int, bytes]]:
        messages, place = [], 0
        while len(self._held) >= place + FRAME.size:
            kind, size = FRAME.unpack_from(self._held, place)
            begin = place + FRAME.size
            if len(self._held) < begin + size:
                break
            messages.append((kind, bytes(self._held[begin : begin + size])))
            place = begin + size
        del self._held[:place]
        return messages


def _pair() -> tuple[socket.socket, socket.socket]:
    """A pair of sockets whose descriptors are neither stdin, stdout nor stderr."""
    first, second = socket.socketpair()
    return _out_of_the_way(first), _out_of_the_way(second)


def _out_of_the_way(link: socket.socket) -> socket.socket:
    if link.fileno() >= FIRST_FREE_FD:
        return link
    with link:
        return socket.socket(fileno=_copy(link.fileno()))


def _copy(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
