"""Capture of a ``sys.stdout`` that does not end in descriptor 1: in a notebook, under a test runner, on Windows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from ml_dash.capture.terminal_text import LineAssembler


class StreamTee:
    """A text stream that passes everything to another stream, and hands whole lines to the log.

    Attributes:
        ml_dash_original: the other stream.
        name: ``stdout`` or ``stderr``.

    Args:
        original: the other stream.
        name: ``stdout`` or ``stderr``.
        keep: called with the name and the lines.
    """

    def __init__(self, original: Any, name: str, keep: Callable[[str, list[str]], None]) -> None:
        self.ml_dash_original = original
        self.name = name
        self._keep = keep
        self._lines = LineAssembler()
        # Re-entrant: a signal handler may print while this thread is inside write.
        self._lock = threading.RLock()

    def write(self, text: str) -> Any:
        """Write a text, and keep each line that it completes."""
        written = self.ml_dash_original.write(text)
        if isinstance(text, str):
            with self._lock:
                lines = self._lines.feed(text.encode("utf-8", "replace"))
            if lines:
                self._keep(self.name, lines)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def pending(self) -> str:
        """Return the unfinished line, or an empty text."""
        with self._lock:
            return self._lines.pending()

    def after_fork_in_child(self) -> None:
        """Replace the lock."""
        self._lock = threading.RLock()  # another thread may have held it

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ml_dash_original, name)
