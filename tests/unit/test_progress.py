"""The line that shows the progress of a long operation."""

from __future__ import annotations

import io
import sys

import pytest

from ml_dash import _progress
from ml_dash._progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, in seconds."""
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def test_an_operation_that_is_quick_shows_nothing(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressLine(lambda: "half") as progress:
        clock[0] += _progress.PATIENCE_S - 0.01
        progress.update()

    assert "" == sys.stderr.getvalue()


def test_a_long_operation_is_drawn_at_intervals_and_erased_at_the_end(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    texts = iter(["one", "two"])
    with ProgressLine(lambda: next(texts)) as progress:
        for seconds in (_progress.PATIENCE_S, _progress.REDRAW_S / 2, _progress.REDRAW_S):
            clock[0] += seconds
            progress.update()

    assert "\rone\x1b[K\rtwo\x1b[K\r\x1b[K" == sys.stderr.getvalue()


@pytest.mark.parametrize("stderr", [io.StringIO(), None], ids=["a pipe", "closed"])
def test_only_a_terminal_gets_the_line(clock, monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    with ProgressLine(lambda: "half") as progress:
        clock[0] += 10
        progress.update()

    assert stderr is None or "" == stderr.getvalue()
