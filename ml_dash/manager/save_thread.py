"""One thread of a run that writes metrics.toml, so that the training loop never waits for a file."""

from __future__ import annotations

import threading
from collections.abc import Callable

INTERVAL_S = 0.25
"""Between two writes: a file that people and dashboards look at need not be newer, and the thread takes a share of the
processor that cannot be measured."""

STOP_S = 10.0
"""How long the end of a run waits for a write in progress: twice what the write itself waits for the run's lock."""


class Saver:
    """Calls ``save`` soon after ``mark``; marks that come meanwhile are one call.

    Args:
        save: does the work; it raises nothing.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._marked = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, as the first ``mark`` does. It ends with ``stop``, or with the process."""
        self._thread = threading.Thread(target=self._work, name="ml-dash-manager", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or no more threads can be had: the end of the run saves too
            self._thread = None

    def mark(self) -> None:
        """There is something to save."""
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
