"""One line on stderr that says how far a long command is. Only a person at a terminal gets it."""

from __future__ import annotations

import sys
import time

from ml_dash.cli.table import clip

PATIENCE_S = 0.5
"""A command that takes longer than this shows how far it is."""

REDRAW_S = 0.1
"""How often the line is drawn anew."""


class Progress:
    """Shows what is being done and how many bytes that was so far. Wiped at the end.

    Args:
        verb: what is done, such as ``checking``.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._what = ""
        self._size = 0
        self._next = time.monotonic() + PATIENCE_S
        self._drawn = False
        self._is_shown = sys.stderr.isatty()

    def begin(self, what: str) -> None:
        """The next thing, such as a run's prefix, is being done."""
        self._what = what
        self.advance(0)

    def advance(self, size: int) -> None:
        """So many bytes more."""
        self._size += size
        if self._is_shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + REDRAW_S
            self._drawn = True
            self._draw()

    def wipe(self) -> None:
        """Leave the line empty, for something else to be printed there."""
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def _draw(self) -> None:
        import shutil

        from ml_dash.cli.formatting import clean, size

        text = f"{self._verb} {clean(self._what)}, {size(self._size)}"
        sys.stderr.write(f"\r{clip(text, shutil.get_terminal_size().columns - 1)}\x1b[K")
        sys.stderr.flush()
