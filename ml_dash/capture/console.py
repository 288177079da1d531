"""Text of ours for the user's console, which must not come back as captured output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Mark = Callable[[int, str], str]

_mark: Mark | None = None


def set_mark(mark: Mark) -> None:
    """From now on text for a descriptor is passed through ``mark``.

    Args:
        mark: takes 1 or 2 and the text, and returns the text with marks by which the capture knows it again.
    """
    global _mark  # noqa: PLW0603 - one console for each process
    _mark = mark


def clear_mark(mark: Mark) -> None:
    """The end of ``set_mark``; does nothing if another one has taken its place."""
    global _mark  # noqa: PLW0603 - as above
    if _mark == mark:
        _mark = None


def write(fd: int, text: str) -> None:
    """Print whole lines to stdout (1) or stderr (2). A stream that is closed or full stops no training."""
    stream: Any = sys.stderr if fd == 2 else sys.stdout
    try:
        if _mark is None:
            stream.write(text)
            return
        stream = getattr(stream, "ml_dash_original", stream)
        stream.write(_mark(fd, text) if writes_to(stream, fd) else text)
    except Exception:  # noqa: BLE001 - a closed pipe, no stream, whatever stands in for one
        return


def writes_to(stream: object, fd: int) -> bool:
    """Whether a stream such as ``sys.stdout`` ends in a descriptor, rather than in a notebook or a test's memory."""
    try:
        return bool(stream.fileno() == fd)  # type: ignore[attr-defined]  # what has none raises
    except Exception:  # noqa: BLE001 - whatever a stand-in's fileno() raises
        return False
