"""The process that reads captured output, shows it, and hands it to the program's process for the log.

It is a separate process because C code may print while it holds the interpreter's lock: a thread of the program could
not run then, and the print would wait for ever once the pipe is full. It lives until no process can print into the
pipe any more, also if the program was killed or has replaced itself.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ml_dash.capture.descriptor_reader import DescriptorReader
from ml_dash.ipc import NO_SIGNAL

FRAME = struct.Struct("=BI")
"""Header of each message: its kind and the size of its content in bytes."""

MOVED = 0
"""Kind: output was shown, or the relay has begun. Kinds 1 and 2 are output of these descriptors."""

SYNC = 3
"""Kind: the answer to one byte from the other side. All output from before that byte was handed on and shown.

Its content is one byte: 1 if no process can print any more and ``END`` follows, else 0.
"""

END = 4
"""Kind: the last message; no process can print any more."""

BACKLOG_BYTES = 64 * 1024 * 1024
"""Output kept here while the program's process takes none: a long burst of C code, and little memory."""

PATIENCE_S = 1.0
"""How long a full backlog waits for the program's process, which may itself be waiting for the relay."""

NAP_S = 0.002
"""Pause after little output, so that the writes of a progress bar are read in groups."""

_BUSY_BYTES = 4096
"""Output in one round after which there is no pause: the buffer of a terminal holds no more."""

_REQUESTS = 512


class Relay:
    """Reads descriptors until no process can write to them.

    Args:
        link: a stream socket to the program's process; becomes non-blocking.
        sources: for each descriptor its number (1 or 2), the descriptor to read, the descriptor to show the output on,
            and whether that is a terminal.
    """

    def __init__(self, link: socket.socket, sources: Sequence[tuple[int, int, int, bool]]) -> None:
        self._link = link
        self._linked = True
        self._waiting = bytearray()
        self._stalled = False
        self._lost = 0
        self._readers = [DescriptorReader(*source, self._keep, self._moved) for source in sources]
        self._poller = select.poll()
        link.setblocking(False)

    def run(self) -> None:
        """Read, show and hand on output until the end."""
        try:
            self._put(MOVED)
            self._flush()
            for reader in self._readers:
                self._poller.register(reader.reader, select.POLLIN)
            self._poller.register(self._link, select.POLLIN)
            while not self._is_over():
                self._poller.poll()
                self._round()
            self._put(END)
            self._link.setblocking(True)
            self._link.sendall(self._waiting, NO_SIGNAL)
        except OSError:  # the other side has closed the socket; all output was shown
            return
        finally:
            for reader in self._readers:
                reader.close()
            self._link.close()

    def _round(self) -> None:
        asked = self._requests()
        taken = 0
        for source in self._readers:
            fd = source.reader
            taken += source.round()
            if fd >= 0 > source.reader:
                self._poller.unregister(fd)
        for _ in range(asked):
            self._put(SYNC, bytes([self._is_over()]))
        self._flush()
        if self._linked:
            self._poller.modify(self._link, select.POLLIN | (select.POLLOUT if self._waiting else 0))
        if taken < _BUSY_BYTES:
            time.sleep(NAP_S)

    def _is_over(self) -> bool:
        return all(reader.reader < 0 for reader in self._readers)

    def _requests(self) -> int:
        try:
            asked = len(self._link.recv(_REQUESTS)) if self._linked else 0
        except BlockingIOError:
            return 0
        except OSError:
            asked = 0
        if not asked:  # the program's process has ended: from now on output is only shown
            if self._linked:
                self._linked = False
                self._poller.unregister(self._link)
            self._waiting.clear()
        return asked

    def _keep(self, fd: int, data: bytes) -> None:
        if not self._linked:
            return
        if not self._has_room():
            self._lost += len(data)
            return
        if self._lost:
            self._put(fd, b"\n[%d bytes of output are not in this log: too many at once]\n" % self._lost)
            self._lost = 0
        self._put(fd, data)
        self._flush()

    def _has_room(self) -> bool:
        while self._linked and len(self._waiting) >= BACKLOG_BYTES:
            poller = select.poll()
            poller.register(self._link, select.POLLOUT)
            if not poller.poll(0 if self._stalled else PATIENCE_S * 1000):
                self._stalled = True
                return False
            self._flush()
        self._stalled = False
        return True

    def _moved(self) -> None:
        if not self._waiting:
            self._put(MOVED)
            self._flush()

    def _put(self, kind: int, data: bytes = b"") -> None:
        if self._linked:
            self._waiting += FRAME.pack(kind, len(data)) + data

    def _flush(self) -> None:
        try:
            while self._waiting:
                with memoryview(self._waiting) as whole:
                    sent = self._link.send(whole, NO_SIGNAL)
                del self._waiting[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._waiting.clear()  # the next read of requests finds the socket closed


def main(boot: Mapping[str, Any]) -> None:
    """Run the relay in its own process. Its parent has blocked the signals that end others: it ends with the output."""
    Relay(socket.socket(fileno=boot["link"]), boot["sources"]).run()
    os._exit(0)  # no clean-up is left, and the program waits for the exit
