"""Keep one writer running on a slab: start it, notice that it is gone, start another, and at last take over."""

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

MAX_RESTARTS = 5
RESTART_WINDOW_S = 60.0
"""A writer that is gone more often than this within the window is not started again: a thread takes over."""

TICK_S = 0.5
"""How often errors of the writer are looked at."""

EXIT_TIMEOUT_S = 2.0
"""How long a writer that closed its socket, or a thread that has finished, may take to end."""

LAUNCH_TIMEOUT_S = 60.0
"""How long the watching thread waits for the launch that goes on beside it."""

EXIT_GRACE_S = 0.03
"""How long closing a run waits for the writer process to be gone; it may still bring files to the disk."""

_CRASHES = {-getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")}


class Supervisor:
    """Watches the writer on a thread of its own.

    Args:
        assignment: the writer's work.
        slab: the shared memory.
        control: its control block.
        lock_fd: the run's locked file or -1.
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

    @property
    def alive(self) -> bool:
        """Whether somebody is there to apply records, or will be within a moment."""
        return self._thread_writer.is_alive() if self._thread_writer else self._watcher.is_alive()

    def start(self) -> None:
        """Start the writer and the watch over it. Waits for neither, but when it returns the writer exists.

        Were the process started in the background, a training process killed before that would take everything with it.
        """
        # The thread first: starting one waits until it runs, which takes milliseconds beside a process that starts.
        with contextlib.suppress(
            RuntimeError
        ):  # no more threads are to be had: then nobody replaces a writer that dies
            self._watcher.start()
        self._start_writer()
        self._launched.set()

    def ring_bell(self) -> None:
        """Wake the writer if it sleeps."""
        if self._words[Word.SLEEPING] and self._writer is not None:
            self._writer.ring_bell()

    def expect_end(self) -> None:
        """From now on the writer may finish; before, one that does is as good as dead."""
        self._end_expected = True

    def end(self, *, drained: bool) -> bool:
        """The writer has finished, or we give up: stop watching, reap it. False if it goes on without us.

        A writer that has finished may still sync; that goes on without us too, and the run is free for the next one.
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
        """In a forked child: close our copy of the socket, so that the writer sees the parent's end."""
        self._done.set()
        if self._writer is not None:
            self._writer.connection.close()
            self._writer.process.returncode = 0  # not our child
            self._writer = None
        self._close_lock(release=False)

    def _close_lock(self, *, release: bool) -> None:
        """Close our copy of the locked file. With ``release`` no other copy holds the run any longer either."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd < 0:
            return
        if release:
            import fcntl

            # A child that was forked behind Python's back may have a copy of the descriptor, and live on.
            fcntl.flock(fd, fcntl.LOCK_UN)
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
            self._revive_thread()
            writer = self._writer
            gone = self._is_gone(writer) if writer is not None else self._done.wait(TICK_S)
            if self._is_over():
                return
            if gone and writer is not None:
                self._replace(writer)
            self._on_tick()

    def _revive_thread(self) -> None:
        """A writer on a thread that could not even begin, for want of descriptors say, is started again."""
        thread = self._thread_writer
        if thread is not None and not thread.is_alive() and not self._is_over():
            self._thread_writer = None
            self._start_writer()

    def _is_over(self) -> bool:
        return self._done.is_set() or (self._end_expected and self._words[Word.STATE] == State.FINISHED)

    def _is_gone(self, writer: WriterProcess) -> bool:
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
        self._suspect(launch.CRASH if crashed else launch.KILL)
        self.restarts += 1
        now = time.monotonic()
        too_many = len(self._starts) == MAX_RESTARTS and now - self._starts[0] < RESTART_WINDOW_S
        self._starts.append(now)
        if too_many:
            self._writer = None
            # What crashes a process must not be tried in this one.
            suspicion = launch.GUILTY if crashed else self._suspicion
            self._thread_writer = launch.run_on_thread(self._assignment._replace(suspicion=suspicion), self._slab)
        else:
            self._start_writer()

    def _suspect(self, weight: int) -> None:
        """A writer that is gone at the same record as the one before makes that record more suspect."""
        tail = self._words[Word.TAIL]
        if tail != self._died_at:
            self._suspicion = 0
        self._died_at = tail
        self._suspicion += weight
