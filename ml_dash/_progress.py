"""A line on stderr with the progress of a long operation. Only a terminal gets it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ml_dash._printable import clean_text

PATIENCE_S = 0.5
"""Seconds after which an operation begins to show its progress."""

REDRAW_S = 0.1
"""Seconds between two updates of the line."""


class ProgressLine:
    """Draws the progress of an operation that takes long, and erases it at the end. Not for use by several threads.

    Args:
        describe: returns the text of the line, of at most one line; called only when the line is drawn.
    """

    def __init__(self, describe: Callable[[], str]) -> None:
        self._describe = describe
        self._next_update = time.monotonic() + PATIENCE_S
        self._is_drawn = False
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def update(self) -> None:
        """Draw the line if it is time."""
        if self._is_terminal and time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + REDRAW_S
            self._is_drawn = True
            _write(self._describe())

    def erase(self) -> None:
        """Empty the line, so that other text can be printed there."""
        if self._is_drawn:
            self._is_drawn = False
            _write("")

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.erase()


def _write(text: str) -> None:
    sys.stderr.write(f"\r{clean_text(text)}\x1b[K")
    sys.stderr.flush()
