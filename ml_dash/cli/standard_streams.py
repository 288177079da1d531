"""The streams that the command was started with: some may be closed, and some write less than they are given."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from ml_dash.cli.exits import tell


def take_streams() -> bool:
    """Make the three streams usable. False, and one line on stderr, if the output is closed.

    A stream that is closed (``2>&-``) is replaced by one that leads nowhere: what is opened next would get its number
    otherwise, and what is meant for a person would be written there.
    """
    is_closed = sys.stdout is None
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = _nowhere("w") if is_closed else _written_whole(sys.stdout)
    sys.stderr = sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        # A name that this terminal cannot show is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if is_closed:
        tell("the output is closed; send it to /dev/null if only the exit status counts")
    return not is_closed


def _nowhere(mode: str) -> TextIO:
    fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: that of the closed stream
    os.set_inheritable(fd, True)
    return io.TextIOWrapper(io.FileIO(fd, mode, closefd=False), encoding="utf-8", write_through=mode == "w")


def _written_whole(stream: TextIO) -> TextIO:
    """The same stream with a buffer, if it has none (PYTHONUNBUFFERED).

    A file without one may write a part of what it is given, and the rest is lost without a word: so it is when the
    reader of a pipe goes away in the middle.
    """
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True)
