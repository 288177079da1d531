"""What is said on stderr: one line each, once for each run."""

from __future__ import annotations

import sys


class Voice:
    """Call it with a text; a text that was said before is not said again.

    Args:
        name: the run, for the start of the line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        """Say it."""
        if text in self._said:
            return
        self._said.add(text)
        try:
            sys.stderr.write(f"ml_dash: {self._name}: {text}\n")
        except (OSError, ValueError, AttributeError):  # nobody is there to read it
            return
