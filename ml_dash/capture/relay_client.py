"""The program's side of the relay: starts it and receives its messages."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_dash.capture.redirect import FIRST_FREE_FD, Redirect, copy_descriptor
from ml_dash.capture.relay_process import FRAME, Relay
from ml_dash.ipc import NO_SIGNAL
from ml_dash.ipc.launch import can_launch, start_process

if TYPE_CHECKING:
    import subprocess

RECEIVE_BYTES = 1024 * 1024
"""Bytes of one read from the relay: more than a socket holds."""

REAP_S = 2.0
"""How long the end of a capture waits for the exit of a relay that has sent its last message."""

_ENTRY = "ml_dash.capture.relay_process"


class RelayClient:
    """A running relay for some descriptors: a process, or a thread where no process can be started.

    Attributes:
        on_thread: whether it is a thread.

    Args:
        redirects: the descriptors.

    Raises:
        OSError: no descriptor is left.
        RuntimeError: neither a process nor a thread can be started.
    """

    def __init__(self, redirects: Sequence[Redirect]) -> None:
        self._redirects = redirects
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
        """Ask for a message of kind ``SYNC``. If the relay is killed, ``Capture`` asks its successor again."""
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.send(b"?", NO_SIGNAL)

    def receive(self) -> list[tuple[int, bytes]] | None:
        """Wait for messages; return their kinds and contents, or None if the relay has ended."""
        link = self._link
        try:
            data = link.recv(RECEIVE_BYTES) if link is not None else b""
        except OSError:
            data = b""
        if not data:
            return None
        self._held += data
        messages, offset = [], 0
        while len(self._held) >= offset + FRAME.size:
            kind, size = FRAME.unpack_from(self._held, offset)
            begin = offset + FRAME.size
            if len(self._held) < begin + size:
                break
            messages.append((kind, bytes(self._held[begin : begin + size])))
            offset = begin + size
        del self._held[:offset]
        return messages

    def start_thread(self) -> None:
        """Run a relay on a thread: no process could be started, or the one that was started has ended."""
        self.close()
        ours, theirs = _pair()
        sources = []
        for redirect in self._redirects:
            with contextlib.suppress(OSError):
                reader, saved = copy_descriptor(redirect.reader), copy_descriptor(redirect.saved)
                sources.append((redirect.fd, reader, saved, redirect.on_terminal))
        self.on_thread = True
        self._link = ours
        self._held.clear()
        self._thread = threading.Thread(target=Relay(theirs, sources).run, name="ml_dash-relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the socket, and wait for a relay that has sent its last message."""
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
                process.returncode = 0  # it goes on showing output, and stays as a zombie until we end

    def after_fork_in_child(self) -> None:
        """Forget the relay, which is the parent's."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._process is not None:
            self._process.returncode = 0
            self._process = None

    def _start_process(self) -> None:
        ours, theirs = _pair()
        sources = [(redirect.fd, redirect.reader, redirect.saved, redirect.on_terminal) for redirect in self._redirects]
        inherited = [theirs.fileno(), *(fd for source in sources for fd in source[1:3])]
        try:
            self._process = start_process(_ENTRY, {"link": theirs.fileno(), "sources": sources}, inherited)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = ours


def _pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets whose descriptors are none of stdin, stdout and stderr."""
    first, second = socket.socketpair()
    return _above_standard(first), _above_standard(second)


def _above_standard(link: socket.socket) -> socket.socket:
    if link.fileno() >= FIRST_FREE_FD:
        return link
    with link:
        return socket.socket(fileno=copy_descriptor(link.fileno()))
