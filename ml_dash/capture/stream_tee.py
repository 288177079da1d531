"""``sys.stdout`` where it does not end in descriptor 1: in a notebook, under a test runner, on Windows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from ml_dash.capture.terminal_text import LineFolder


class StreamTee:
    """Stands in for a text stream: passes everything on, and hands whole lines to the log.

    Attributes:
        ml_dash_original: the stream that it stands for.
        name: ``stdout`` or ``stderr``.

    Args:
        original: the stream.
        name: ``stdout`` or ``stderr``.
        keep: called with the name and the lines.
    """

    def __init__(self, original: Any, name: str, keep: Callable[[str, list[str]], None]) -> None:
        self.ml_dash_original = original
        self.name = name
        self._keep = keep
        self._folder = LineFolder()
        # Re-entrant: a signal handler may print while this thread is inside write.
        self._lock = threading.RLock()

    def write(self, text: str) -> Any:
        """Write a text, and keep the lines that it completes."""
        written = self.ml_dash_original.write(text)
        if isinstance(text, str):
            with self._lock:
                lines = self._folder.feed(text.encode("utf-8", "replace"))
            if lines:
                self._keep(self.name, lines)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def pending(self) -> str:
        """The line that is not ended yet, or an empty text."""
        with self._lock:
            return self._folder.pending()

    def after_fork_in_child(self) -> None:
        """Another thread may have held the lock."""
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ml_dash_original, name)
