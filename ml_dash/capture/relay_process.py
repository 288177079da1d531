"""The process that reads captured output, shows it, and hands it to the program's own process for the log.

It is a process since C code may print while it holds the interpreter's lock: a thread of the program could not run
then, and the print would wait for ever once the pipe is full. It lives until nobody can print into the pipe any more,
also when the program was killed or has replaced itself.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ml_dash.capture.descriptor_reader import Pump
from ml_dash.ipc import NO_SIGNAL

FRAME = struct.Struct("=BI")
"""Before each message: its kind and the size of what follows."""

MOVED = 0
"""Kind: something is shown, or the relay has begun. 1 and 2 are output of these descriptors."""

SYNC = 3
"""Kind: the answer to one byte from the other side. What was printed before that came has been handed on and shown.

Its content is one byte: 1 if nobody can print any more and ``END`` follows, else 0.
"""

END = 4
"""Kind: the last message; nobody can print any more."""

BACKLOG_BYTES = 64 * 1024 * 1024
"""Kept here while the program's process takes nothing: a long burst of C code, and little memory beside a training."""

PATIENCE_S = 1.0
"""How long a full backlog waits for the program's process; if that takes nothing, it may itself be waiting for us."""

NAP_S = 0.002
"""After little output: a progress bar is read in groups and not write by write."""

_BUSY_BYTES = 4096
"""Output in one round after which there is no nap: a terminal's own buffer holds no more."""

_REQUESTS = 512


class Relay:
    """Reads descriptors until nobody can write to them.

    Args:
        link: a stream socket to the program's process; non-blocking from here on.
        sources: for each descriptor its number (1 or 2), where to read, where to show, and whether that is a terminal.
    """

    def __init__(self, link: socket.socket, sources: Sequence[tuple[int, int, int, bool]]) -> None:
        self._link = link
        self._linked = True
        self._waiting = bytearray()
        self._stalled = False
        self._lost = 0
        self._pumps = [Pump(*source, self._keep, self._moved) for source in sources]
        self._poller = select.poll()
        link.setblocking(False)

    def run(self) -> None:
        """Work until the end."""
        try:
            self._put(MOVED)
            self._flush()
            self._watch()
            while not self._is_over():
                self._poller.poll()
                self._round()
            self._put(END)
            self._link.setblocking(True)
            self._link.sendall(self._waiting, NO_SIGNAL)
        except OSError:  # the other side is gone, and everything is shown
            return
        finally:
            for pump in self._pumps:
                pump.close()
            self._link.close()

    def _watch(self) -> None:
        for pump in self._pumps:
            self._poller.register(pump.reader, select.POLLIN)
        self._poller.register(self._link, select.POLLIN)

    def _round(self) -> None:
        asked = self._requests()
        taken = 0
        for pump in self._pumps:
            reader = pump.reader
            taken += pump.round()
            if reader >= 0 > pump.reader:
                self._poller.unregister(reader)
        for _ in range(asked):
            self._put(SYNC, bytes([self._is_over()]))
        self._flush()
        if self._linked:
            self._poller.modify(self._link, select.POLLIN | (select.POLLOUT if self._waiting else 0))
        if taken < _BUSY_BYTES:
            time.sleep(NAP_S)

    def _is_over(self) -> bool:
        return all(pump.reader < 0 for pump in self._pumps)

    def _requests(self) -> int:
        try:
            asked = len(self._link.recv(_REQUESTS)) if self._linked else 0
        except BlockingIOError:
            return 0
        except OSError:
            asked = 0
        if not asked:
            self._unlink()
        return asked

    def _unlink(self) -> None:
        """The program's process is gone: what comes is shown, and nothing else."""
        if self._linked:
            self._linked = False
            self._poller.unregister(self._link)
        self._waiting.clear()

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
            self._waiting.clear()  # the next look at the requests tells the same


def main(boot: Mapping[str, Any]) -> None:
    """The process. Signals that end others were blocked before it began: it ends when the output does."""
    Relay(socket.socket(fileno=boot["link"]), boot["sources"]).run()
    os._exit(0)  # nothing is left to be tidied up, and somebody waits
