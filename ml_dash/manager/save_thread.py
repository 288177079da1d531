"""The thread of a run that writes metrics.toml, so that the training loop never waits for a file."""

from __future__ import annotations

import threading
from collections.abc import Callable

INTERVAL_S = 0.25
"""Pause between two writes: people and dashboards need no newer file, and the thread's share of the processor is too
small to be measured."""

STOP_S = 10.0
"""How long the end of a run waits for a write in progress: twice as long as a write waits for the run's lock."""


class SaveThread:
    """Calls ``save`` soon after ``mark``, once for all marks since the last call.

    Args:
        save: writes the file; raises nothing.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._marked = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. It ends with ``stop``, or with the process."""
        self._thread = threading.Thread(target=self._work, name="ml-dash-manager", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or there can be no more threads: the end of the run saves too
            self._thread = None

    def mark(self) -> None:
        """Ask for a call of ``save``; starts the thread if needed."""
        if not self._marked.is_set():
            self._marked.set()
        if self._thread is None and not self._stopped.is_set():
            self.start()

    def stop(self) -> None:
        """End the thread without another call of ``save``."""
        self._stopped.set()
        self._marked.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_S)

    def _work(self) -> None:
        while True:
            self._marked.wait()
            if self._stopped.is_set():
                return
            self._marked.clear()
            self._save()
            self._stopped.wait(INTERVAL_S)
