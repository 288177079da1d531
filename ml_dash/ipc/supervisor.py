"""Keep a writer running on a slab: start it, notice its end, replace it, and in the end run it on a thread."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable

from ml_dash.ipc import launch
from ml_dash.ipc.control import Control, State, Word
from ml_dash.ipc.launch import Assignment, WriterProcess
from ml_dash.ipc.slab import Slab
from ml_dash.storage import locks

MAX_RESTARTS = 5
RESTART_WINDOW_S = 60.0
"""After this many restarts within the window, the writer runs on a thread of the training process."""

TICK_S = 0.5
"""Seconds between two checks for errors of the writer."""

EXIT_TIMEOUT_S = 2.0
"""Seconds that a writer which closed its socket, or a thread which has finished, may take to end."""

LAUNCH_TIMEOUT_S = 60.0
"""Seconds that the watching thread waits for the first launch."""

EXIT_GRACE_S = 0.03
"""Seconds that closing a run waits for the writer process to end; it may go on to sync files."""

_CRASHES = {-getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")}


class Supervisor:
    """Watches the writer on a thread of its own.

    Attributes:
        restarts: how often the writer was replaced.

    Args:
        assignment: the writer's work.
        slab: the shared memory.
        control: its control block.
        lock_fd: descriptor of the run's locked file, or -1.
        on_tick: called every ``TICK_S`` seconds and after each restart, to report errors.
    """

    def __init__(
        self, assignment: Assignment, slab: Slab, control: Control, lock_fd: int, on_tick: Callable[[], None]
    ) -> None:
        self.restarts = 0
        self._assignment = assignment
        self._slab = slab
        self._words = control.words
        self._lock_fd = lock_fd
        self._on_tick = on_tick
        self._starts: deque[float] = deque(maxlen=MAX_RESTARTS)
        self._suspicion = 0
        self._died_at = -1
        self._writer: WriterProcess | None = None
        self._thread_writer: threading.Thread | None = None
        self._done = threading.Event()
        self._end_expected = False
        self._launched = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="ml_dash-supervisor", daemon=True)

    @property
    def on_thread(self) -> bool:
        """Whether the writer runs on a thread of this process."""
        return self._thread_writer is not None

    def start(self) -> None:
        """Start the writer and the thread that watches it. When it returns the writer process exists.

        The process is not started by that thread: a training process killed before would leave no writer.
        """
        # The thread first: to start one waits until it runs, which takes milliseconds while a process starts.
        with contextlib.suppress(RuntimeError):  # no thread can be started: a writer that dies is then not replaced
            self._watcher.start()
        self._start_writer()
        self._launched.set()

    def ring_bell(self) -> None:
        """Wake the writer if it is asleep."""
        if self._words[Word.SLEEPING] and self._writer is not None:
            self._writer.ring_bell()

    def expect_end(self) -> None:
        """Take a writer that finishes from now on for ended, and not for dead."""
        self._end_expected = True

    def end(self, *, drained: bool) -> bool:
        """Stop watching, and wait a moment for the writer's end. False if the writer goes on by itself.

        Args:
            drained: whether the writer has finished. It may go on to sync files, but the run is free for the next writer.
        """
        self._done.set()
        timeout = EXIT_GRACE_S if drained else 0.0
        ended = self._writer is None or self._writer.close(timeout) is not None or drained
        if self._thread_writer is not None:
            self._thread_writer.join(EXIT_TIMEOUT_S if drained else 0.0)
            ended = ended and not self._thread_writer.is_alive()
        if self._watcher.is_alive() and self._watcher is not threading.current_thread():
            self._watcher.join(EXIT_TIMEOUT_S)
        if ended or self._thread_writer is None:
            self._close_lock(release=ended)
        return ended

    def disarm(self) -> None:
        """In a forked child: close its copies of the descriptors, so that the writer notices the end of the parent."""
        self._done.set()
        if self._writer is not None:
            self._writer.connection.close()
            self._writer.process.returncode = 0  # it is no child of this process
            self._writer = None
        self._close_lock(release=False)

    def _close_lock(self, *, release: bool) -> None:
        """Close the descriptor of the locked file. With ``release`` the lock is released for all copies of it."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd < 0:
            return
        if release:
            # A child that C code forked may have a copy of the descriptor, and outlive the run.
            locks.release(fd)
        os.close(fd)

    def _start_writer(self) -> None:
        assignment = self._assignment._replace(suspicion=self._suspicion)
        if self._slab.fd >= 0 and launch.can_launch():
            try:
                self._writer = launch.launch(assignment, self._slab, self._lock_fd)
            except OSError:
                self._writer = None
            else:
                return
        self._thread_writer = launch.run_on_thread(assignment, self._slab)

    def _watch(self) -> None:
        self._launched.wait(LAUNCH_TIMEOUT_S)
        while not self._done.is_set():
            self._restart_thread()
            writer = self._writer
            is_gone = self._is_gone(writer) if writer is not None else self._done.wait(TICK_S)
            if self._is_over():
                return
            if is_gone and writer is not None:
                self._replace(writer)
            self._on_tick()

    def _restart_thread(self) -> None:
        """Start the writer again if it ran on a thread that ended early, for example for want of descriptors."""
        thread = self._thread_writer
        if thread is not None and not thread.is_alive() and not self._is_over():
            self._thread_writer = None
            self._start_writer()

    def _is_over(self) -> bool:
        return self._done.is_set() or (self._end_expected and self._words[Word.STATE] == State.FINISHED)

    def _is_gone(self, writer: WriterProcess) -> bool:
        """Wait up to ``TICK_S`` seconds for the writer to close its socket. Whether it did."""
        try:
            poller = select.poll()
            poller.register(writer.connection, select.POLLIN)
            return bool(poller.poll(TICK_S * 1000)) and writer.connection.recv(4096) == b""
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            return True

    def _replace(self, writer: WriterProcess) -> None:
        status = writer.close(EXIT_TIMEOUT_S)
        if self._is_over():
            return
        crashed = status is None or status > 0 or status in _CRASHES
        tail = self._words[Word.TAIL]
        if tail != self._died_at:
            self._suspicion = 0
        self._died_at = tail
        self._suspicion += launch.CRASH if crashed else launch.KILL
        self.restarts += 1
        now = time.monotonic()
        too_many = len(self._starts) == MAX_RESTARTS and now - self._starts[0] < RESTART_WINDOW_S
        self._starts.append(now)
        if too_many:
            self._writer = None
            # A record that crashes a process must not be tried in this one.
            suspicion = launch.GUILTY if crashed else self._suspicion
            self._thread_writer = launch.run_on_thread(self._assignment._replace(suspicion=suspicion), self._slab)
        else:
            self._start_writer()
