"""``capture_output=True``: everything that the process prints, as lines of the log of each run that asks for it.

Descriptors 1 and 2 of the process are redirected, so that C libraries and subprocesses are captured too. A relay reads
them, shows the output where it went before, and hands it to a thread, which gives whole lines to the runs. A forked
child goes on writing into the same descriptors, and the process that started the capture goes on reading them.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ml_dash import _fork
from ml_dash.capture import console
from ml_dash.capture.redirect import NAMES, Redirect
from ml_dash.capture.relay_client import RelayClient
from ml_dash.capture.relay_process import END, SYNC
from ml_dash.capture.stream_tee import StreamTee
from ml_dash.capture.terminal_text import BEGIN as MARK_BEGIN
from ml_dash.capture.terminal_text import END as MARK_END
from ml_dash.capture.terminal_text import LineAssembler

NAP_S = 0.005
"""Between two reads: output comes in groups, and each wake-up takes the interpreter from training for a moment."""

STOP_TIMEOUT_S = 2.0
"""How long a run that begins or ends waits while the relay takes no output: its terminal may be paused."""

START_TIMEOUT_S = 20.0
"""How long it waits until the relay has begun: a busy machine takes seconds to start an interpreter."""


class Sink(Protocol):
    """Takes captured lines into the log of a run."""

    def keep_printed(self, stream: str, text: str) -> None:
        """Log a line of ``stdout`` or ``stderr``. Never raises."""

    def keep_exception(self, error: BaseException) -> None:
        """Log a traceback. Never raises."""


class _Request:
    """Asks the reading thread to add or remove a sink once it has read everything that was printed before."""

    def __init__(self, sink: Sink, *, joins: bool) -> None:
        self.sink = sink
        self.joins = joins
        self.done = threading.Event()
        self.ended = False
        self.given_up = False


class Capture:
    """The redirected descriptors of this process, while at least one run wants its output.

    Args:
        warn: prints a text once.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.sinks: tuple[Sink, ...] = ()
        self._requests: deque[_Request] = deque()
        self._lock = threading.RLock()
        self._ended = False
        self._received = 0
        self._buffered: list[io.TextIOWrapper[Any]] = []
        self._redirects = tuple(_open_redirects(warn)) if os.name == "posix" else ()
        self._assemblers = {redirect.fd: LineAssembler() for redirect in self._redirects}
        self._tees = self._place_tees()
        self._thread = threading.Thread(target=self._run, name="ml_dash-capture", daemon=True)
        self._relay: RelayClient | None = None
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
        """Give ``sink`` what was printed so far, and nothing after that.

        Returns:
            Whether the relay has ended: no process can print to the descriptors any more.
        """
        request = _Request(sink, joins=False)
        self._ask(request)
        self._remove(sink)
        for tee in self._tees:
            _keep_rest(sink, tee.name, tee.pending())
        return request.ended

    def stop(self, last: Sink) -> None:
        """Put the descriptors back and let the last run leave.

        If a subprocess still has one of them, the relay goes on showing its output until that process ends.
        """
        self._restore()
        if self.leave(last) and self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)

    def after_fork_in_child(self) -> None:
        """Close what belongs to the parent, which goes on reading what this process prints."""
        self.sinks = ()
        self._lock = threading.RLock()
        for redirect in self._redirects:
            redirect.close()
        for tee in self._tees:
            tee.after_fork_in_child()
        if self._relay is not None:
            self._relay.after_fork_in_child()

    def keep(self, stream: str, lines: list[str]) -> None:
        """Give lines to every run."""
        for sink in self.sinks:
            for line in lines:
                sink.keep_printed(stream, line)

    def _run(self) -> None:
        relay = self._relay
        try:
            while relay is not None:
                messages = relay.receive()
                if messages is None and relay.on_thread:
                    break
                if messages is None:  # the relay process was killed: a thread takes its place
                    with self._lock:
                        relay.start_thread()
                        for _ in self._requests:
                            relay.ask()
                elif self._take(messages):
                    break
                time.sleep(NAP_S)
        finally:  # also after an error: nobody may write into a pipe that is not read
            self._restore()
            self._close()
            with self._lock:
                self._ended = True
                self._answer_all()

    def _take(self, messages: list[tuple[int, bytes]]) -> bool:
        """Keep the output in some messages and answer requests. Returns whether the last message was among them."""
        self._received += len(messages)
        for kind, data in messages:
            if kind == SYNC:
                self._answer_all(1, ended=data == b"\1")
            elif kind == END:
                return True
            elif kind in NAMES:
                self.keep(NAMES[kind], self._assemblers[kind].feed(data))
        return False

    def _answer_all(self, count: int | None = None, *, ended: bool = True) -> None:
        """Answer the oldest ``count`` requests; None: all."""
        waiting = len(self._requests)
        for _ in range(waiting if count is None else min(count, waiting)):
            self._answer(self._requests.popleft(), ended=ended)

    def _answer(self, request: _Request, *, ended: bool) -> None:
        if request.given_up:
            return
        if request.joins:
            self._add(request.sink)
        else:
            for fd, assembler in self._assemblers.items():
                _keep_rest(request.sink, NAMES[fd], assembler.pending())
            self._remove(request.sink)
        request.ended = ended
        request.done.set()

    def _ask(self, request: _Request) -> None:
        """Wait for the thread's answer, or until no output moves."""
        with self._lock:
            if self._ended:
                self._answer(request, ended=True)
                return
            self._requests.append(request)
            if self._relay is not None:
                self._relay.ask()
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
        redirect = next((redirect for redirect in self._redirects if redirect.fd == fd), None)
        if redirect is None or not redirect.in_place():
            return text
        return f"{MARK_BEGIN.decode()}{text}{MARK_END.decode()}"

    def _start_thread(self, warn: Callable[[str], None]) -> None:
        if not self._redirects:
            self._ended = True
            return
        try:
            self._relay = RelayClient(self._redirects)
            self._thread.start()
        except (OSError, RuntimeError):  # no descriptor, process or thread is left
            self._ended = True
            self._restore()
            self._close()
            warn("capture_output: no process or thread could be started; what is printed is not captured")

    def _restore(self) -> None:
        """Undo every change to the descriptors and to ``sys``. Idempotent."""
        for redirect in self._redirects:
            with contextlib.suppress(OSError):
                redirect.restore()
        for tee in self._tees:
            if getattr(sys, tee.name) is tee:
                setattr(sys, tee.name, tee.ml_dash_original)
        while self._buffered:
            with contextlib.suppress(ValueError, OSError, RuntimeError):
                self._buffered.pop().reconfigure(line_buffering=False)
        console.clear_mark(self._mark)

    def _close(self) -> None:
        if self._relay is not None:
            self._relay.close()
        for redirect in self._redirects:
            redirect.close()
        _fork.unregister(self)

    def _place_tees(self) -> list[StreamTee]:
        """Replace those of Python's streams that do not end in a redirected descriptor."""
        tees = []
        redirected = {redirect.fd for redirect in self._redirects}
        for fd, name in NAMES.items():
            stream = getattr(sys, name)
            if stream is not None and not (fd in redirected and console.writes_to(stream, fd)):
                tees.append(StreamTee(stream, name, self.keep))
                setattr(sys, name, tees[-1])
        return tees

    def _buffer_lines(self) -> None:
        """Let Python flush each line: it buffers output to a pipe or file, which would falsify the times of lines."""
        for redirect in self._redirects:
            stream = getattr(sys, redirect.name)
            if (
                isinstance(stream, io.TextIOWrapper)
                and not stream.line_buffering
                and console.writes_to(stream, redirect.fd)
            ):
                with contextlib.suppress(ValueError, OSError):
                    stream.reconfigure(line_buffering=True)
                    self._buffered.append(stream)


def _keep_rest(sink: Sink, stream: str, text: str) -> None:
    if text:
        sink.keep_printed(stream, text)


def _open_redirects(warn: Callable[[str], None]) -> list[Redirect]:
    redirects, missing = [], []
    for fd, name in NAMES.items():
        try:
            redirects.append(Redirect(fd))
        except OSError as error:
            missing.append(f"{name} ({error.strerror})")
    if missing:
        warn(f"capture_output: not captured, since it is not open: {', '.join(missing)}")
    return redirects


# Descriptors 1 and 2 are the process's, so all its runs share one capture.
_current: Capture | None = None
_lock = threading.RLock()
_hooks_exec = False


def start(sink: Sink, warn: Callable[[str], None]) -> None:
    """Give ``sink`` everything that this process prints from now on.

    Args:
        sink: the log of a run.
        warn: prints a text once; called with the streams that cannot be captured.
    """
    global _current, _hooks_exec  # noqa: PLW0603 - see above
    with _lock:
        _flush_streams()
        try:
            _current = _current or Capture(warn)
        except OSError as error:  # no descriptor is left
            warn(f"capture_output: what is printed is not captured: {error.strerror}")
            return
        if not _hooks_exec:
            _hooks_exec = True
            # A program that replaces itself must get its old descriptors back, and only an audit hook tells of that
            # beforehand. The hook cannot be removed, and is called at each audited event.
            with contextlib.suppress(RuntimeError):  # a hook of the program forbids it
                sys.addaudithook(_on_audit)
        _current.join(sink)


@contextlib.contextmanager
def starting(sink: Sink, warn: Callable[[str], None]) -> Iterator[None]:
    """Start, and stop again if the block, the rest of a run's start, raises."""
    start(sink, warn)
    try:
        yield
    except BaseException:
        stop(sink)
        raise


def stop(sink: Sink, *, failed: bool = False) -> None:
    """Give ``sink`` everything that was printed so far; after the last sink, restore the descriptors. Idempotent.

    Args:
        sink: as for ``start``.
        failed: whether the exception that is being handled ends the run. Python prints its traceback too late to be
            captured, if at all, so it is logged here.
    """
    global _current  # noqa: PLW0603 - see above
    with _lock:
        capture = _current
        if capture is None or sink not in capture.sinks:
            return
        _flush_streams()
        if len(capture.sinks) == 1:
            _current = None
            capture.stop(sink)
        else:
            capture.leave(sink)
    error = sys.exception()
    if failed and error is not None and not isinstance(error, SystemExit):
        sink.keep_exception(error)


def _on_audit(event: str, _arguments: object) -> None:
    if event == "os.exec":
        with contextlib.suppress(Exception):  # else the program's exec would fail
            for sink in _current.sinks if _current is not None else ():
                stop(sink)


def _flush_streams() -> None:
    """Empty the buffers of Python's and C's stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):  # an exotic C library
        import ctypes

        library = ctypes.CDLL(None)
        prefix, suffix = ("__", "p") if sys.platform == "darwin" else ("", "")
        for name in NAMES.values():
            library.fflush(ctypes.c_void_p.in_dll(library, prefix + name + suffix))


def _after_fork_in_child() -> None:
    global _current, _lock
    _current, _lock = None, threading.RLock()  # another thread may have held the lock; the capture is the parent's


_fork.call_in_child(_after_fork_in_child)
