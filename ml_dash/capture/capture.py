"""What a process prints while at least one run wants it: descriptors 1 and 2, the relay that reads them, and a thread.

The relay shows the output where it went before; the thread takes it from the relay and hands whole lines to the runs.
It lives in the process that started it: forked children go on writing into the same descriptors.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ml_dash import _fork
from ml_dash.capture import console
from ml_dash.capture.redirect import NAMES, Tap
from ml_dash.capture.relay_client import RelayLink
from ml_dash.capture.relay_process import END, SYNC
from ml_dash.capture.stream_tee import StreamTee
from ml_dash.capture.terminal_text import BEGIN as MARK_BEGIN
from ml_dash.capture.terminal_text import END as MARK_END
from ml_dash.capture.terminal_text import LineFolder

NAP_S = 0.005
"""Between two reads: output comes in groups, and each wake-up takes the interpreter from training for a moment."""

STOP_TIMEOUT_S = 2.0
"""How long a run that begins or ends waits for earlier output while none of it is taken: a terminal may be held up."""

START_TIMEOUT_S = 20.0
"""The same until the relay has begun: a busy machine starts an interpreter in seconds, and nothing is shown before."""


class Sink(Protocol):
    """Who keeps captured lines: the log of a run."""

    def keep_printed(self, stream: str, text: str) -> None:
        """Keep a line of ``stdout`` or ``stderr``. Never raises."""

    def keep_exception(self, error: BaseException) -> None:
        """Keep a traceback. Never raises."""


class _Request:
    """Asks the reading thread to begin or end with a run once it has read all that was printed before."""

    def __init__(self, sink: Sink, *, joins: bool) -> None:
        self.sink = sink
        self.joins = joins
        self.done = threading.Event()
        self.ended = False
        self.given_up = False


class Capture:
    """The descriptors of this process while at least one run wants them.

    Args:
        warn: shows a text once.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.sinks: tuple[Sink, ...] = ()
        self._asked: deque[_Request] = deque()
        self._lock = threading.RLock()
        self._ended = False
        self._received = 0
        self._buffered: list[io.TextIOWrapper[Any]] = []
        self._taps = tuple(_open_taps(warn)) if os.name == "posix" else ()
        self._folders = {tap.fd: LineFolder() for tap in self._taps}
        self._tees = self._place_tees()
        self._thread = threading.Thread(target=self._run, name="ml_dash-capture", daemon=True)
        self._link: RelayLink | None = None
        self._start_thread(warn)
        self._buffer_lines()
        console.set_mark(self._mark)
        _fork.register(self)

    def join(self, sink: Sink) -> None:
        """Give ``sink`` every line that is printed from now on."""
        if self.sinks:
            self._ask(_Request(sink, joins=True))
        self._add(sink)

    def leave(self, sink: Sink) -> bool:
        """Give ``sink`` what was printed so far, and nothing after that. Returns whether the relay has seen the end."""
        request = _Request(sink, joins=False)
        self._ask(request)
        self._remove(sink)
        for tee in self._tees:
            _keep_rest(sink, tee.name, tee.pending())
        return request.ended

    def stop(self, last: Sink) -> None:
        """Put the descriptors back and let the last run go.

        Where a subprocess still holds one, the relay goes on showing what it prints, until that one ends.
        """
        self._restore()
        if self.leave(last) and self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)

    def after_fork_in_child(self) -> None:
        """The parent goes on reading; what this process prints goes there."""
        self.sinks = ()
        self._lock = threading.RLock()
        for tap in self._taps:
            tap.close()
        for tee in self._tees:
            tee.after_fork_in_child()
        if self._link is not None:
            self._link.after_fork_in_child()

    def keep(self, stream: str, lines: list[str]) -> None:
        """Hand lines to every run."""
        for sink in self.sinks:
            for line in lines:
                sink.keep_printed(stream, line)

    def _run(self) -> None:
        link = self._link
        try:
            while link is not None:
                messages = link.receive()
                if messages is None and link.on_thread:
                    break
                if messages is None:
                    self._replace_relay(link)
                elif self._take(messages):
                    break
                time.sleep(NAP_S)
        finally:  # whatever went wrong, nobody may write into a pipe that is not read
            self._restore()
            self._close()
            with self._lock:
                self._ended = True
                self._answer_all()

    def _take(self, messages: list[tuple[int, bytes]]) -> bool:
        """Keep what came, and answer. Returns whether it was the last."""
        self._received += len(messages)
        for kind, data in messages:
            if kind == SYNC:
                self._answer_all(1, ended=data == b"\1")
            elif kind == END:
                return True
            elif kind in NAMES:
                self.keep(NAMES[kind], self._folders[kind].feed(data))
        return False

    def _replace_relay(self, link: RelayLink) -> None:
        """Somebody has killed it: the output is read here from now on."""
        with self._lock:
            link.start_thread()
            for _ in self._asked:
                link.ask()

    def _answer_all(self, count: int | None = None, *, ended: bool = True) -> None:
        """Answer those who asked first; all if no number is given."""
        waiting = len(self._asked)
        for _ in range(waiting if count is None else min(count, waiting)):
            self._answer(self._asked.popleft(), ended=ended)

    def _answer(self, request: _Request, *, ended: bool) -> None:
        if request.given_up:
            return
        if request.joins:
            self._add(request.sink)
        else:
            for fd, folder in self._folders.items():
                _keep_rest(request.sink, NAMES[fd], folder.pending())
            self._remove(request.sink)
        request.ended = ended
        request.done.set()

    def _ask(self, request: _Request) -> None:
        """Wait for the thread's answer, or until nothing moves."""
        with self._lock:
            if self._ended:
                self._answer(request, ended=True)
                return
            self._asked.append(request)
            if self._link is not None:
                self._link.ask()
        received = -1
        patience = time.monotonic() + START_TIMEOUT_S
        while not request.done.wait(STOP_TIMEOUT_S):
            if received == (received := self._received) and (received or time.monotonic() > patience):
                request.given_up = True
                return

    def _add(self, sink: Sink) -> None:
        with self._lock:
            if sink not in self.sinks:
                self.sinks = (*self.sinks, sink)

    def _remove(self, sink: Sink) -> None:
        with self._lock:
            self.sinks = tuple(other for other in self.sinks if other is not sink)

    def _mark(self, fd: int, text: str) -> str:
        tap = next((tap for tap in self._taps if tap.fd == fd), None)
        if tap is None or not tap.in_place():
            return text
        return f"{MARK_BEGIN.decode()}{text}{MARK_END.decode()}"

    def _start_thread(self, warn: Callable[[str], None]) -> None:
        if not self._taps:
            self._ended = True
            return
        try:
            self._link = RelayLink(self._taps)
            self._thread.start()
        except (OSError, RuntimeError):  # no more descriptors, processes or threads are to be had
            self._ended = True
            self._restore()
            self._close()
            warn("capture_output: no process or thread could be started; what is printed is not captured")

    def _restore(self) -> None:
        """Everything as it was before. Idempotent."""
        for tap in self._taps:
            with contextlib.suppress(OSError):
                tap.restore()
        for tee in self._tees:
            if getattr(sys, tee.name) is tee:
                setattr(sys, tee.name, tee.ml_dash_original)
        while self._buffered:
            with contextlib.suppress(ValueError, OSError, RuntimeError):
                self._buffered.pop().reconfigure(line_buffering=False)
        console.clear_mark(self._mark)

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
        for tap in self._taps:
            tap.close()
        _fork.unregister(self)

    def _place_tees(self) -> list[StreamTee]:
        """Stand in for the streams of Python that do not end in a captured descriptor."""
        tees = []
        tapped = {tap.fd for tap in self._taps}
        for fd, name in NAMES.items():
            stream = getattr(sys, name)
            if stream is not None and not (fd in tapped and console.writes_to(stream, fd)):
                tees.append(StreamTee(stream, name, self.keep))
                setattr(sys, name, tees[-1])
        return tees

    def _buffer_lines(self) -> None:
        """Python keeps what it prints to a file or pipe back for a while; then the times of the lines are wrong."""
        for tap in self._taps:
            stream = getattr(sys, tap.name)
            if isinstance(stream, io.TextIOWrapper) and not stream.line_buffering and console.writes_to(stream, tap.fd):
                with contextlib.suppress(ValueError, OSError):
                    stream.reconfigure(line_buffering=True)
                    self._buffered.append(stream)


def _keep_rest(sink: Sink, stream: str, text: str) -> None:
    if text:
        sink.keep_printed(stream, text)


def _open_taps(warn: Callable[[str], None]) -> list[Tap]:
    taps, missing = [], []
    for fd, name in NAMES.items():
        try:
            taps.append(Tap(fd))
        except OSError as error:
            missing.append(f"{name} ({error.strerror})")
    if missing:
        warn(f"capture_output: not captured, since it is not open: {', '.join(missing)}")
    return taps
