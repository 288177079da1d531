"""Printing to the user's console. Marks around our text keep it out of captured output.

Our text takes the same way as the program's, instead of going straight to the original destination of the descriptor:
there it would overtake output that the relay has not shown yet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ml_dash._printable import clean_text

Mark = Callable[[int, str], str]

_mark: Mark | None = None


def set_mark(mark: Mark) -> None:
    """Pass every printed text through ``mark`` first.

    Args:
        mark: takes 1 or 2 and the text, and returns the text between marks that the capture recognizes.
    """
    global _mark  # noqa: PLW0603 - one console for each process
    _mark = mark


def clear_mark(mark: Mark) -> None:
    """Undo ``set_mark``; does nothing if another mark was set since."""
    global _mark  # noqa: PLW0603 - as above
    if _mark == mark:
        _mark = None


def write(fd: int, text: str) -> None:
    """Print whole lines to stdout (1) or stderr (2). Never raises: a closed or full stream must not stop training."""
    stream: Any = sys.stderr if fd == 2 else sys.stdout
    try:
        if _mark is None:
            stream.write(text)
            return
        stream = getattr(stream, "ml_dash_original", stream)
        stream.write(_mark(fd, text) if writes_to(stream, fd) else text)
    except Exception:  # noqa: BLE001 - a closed pipe, no stream, or a stand-in that raises anything
        return


class PrintOnce:
    """Prints each text once, as a line on stderr. It is made printable, since it may hold names from disk."""

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def __call__(self, text: str) -> None:
        """Print a text, unless it was printed before."""
        if text not in self._printed:
            self._printed.add(text)
            write(2, f"ml_dash: {clean_text(text)}\n")


def writes_to(stream: object, fd: int) -> bool:
    """Whether a stream such as ``sys.stdout`` ends in a descriptor: those of notebooks and test runners do not."""
    try:
        return bool(stream.fileno() == fd)  # type: ignore[attr-defined]  # a stream without fileno raises
    except Exception:  # noqa: BLE001 - a stand-in's fileno() may raise anything
        return False
