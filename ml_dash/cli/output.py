"""Standard output and standard error: a terminal of some size, with or without colours, or a pipe to a program."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import click

from ml_dash._printable import clean, clean_json, clean_text
from ml_dash._progress import ProgressLine
from ml_dash.cli.exits import print_message

DEFAULT_SIZE = (80, 24)
"""Columns and lines of a terminal that does not know its size."""

NARROWEST = 40
"""Columns to which output is fitted at least; on a narrower terminal its lines wrap."""

_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
"""What ``paint`` puts around a text."""

LEVEL_STYLES = {"debug": "dim", "info": "green", "warn": "yellow", "error": "red", "fatal": "bold red"}


def prepare_streams() -> bool:
    """Make the three standard streams usable; return False, after a message, if standard output is closed.

    A closed stream (``2>&-``) is replaced by the null device. Otherwise the next file that is opened would get its
    number, and messages would be written into that file.
    """
    is_closed = sys.stdout is None
    sys.stdin = sys.stdin or _null_stream("r")
    sys.stdout = _null_stream("w") if is_closed else _buffered(sys.stdout)
    sys.stderr = sys.stderr or _null_stream("w")
    for stream in (sys.stdout, sys.stderr):
        # A name that this terminal cannot show is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if is_closed:
        print_message("the output is closed; send it to /dev/null if only the exit status counts")
    return not is_closed


def _null_stream(mode: str) -> TextIO:
    fd = os.open(os.devnull, os.O_RDWR)  # the lowest free number: that of the closed stream
    os.set_inheritable(fd, True)
    return io.TextIOWrapper(io.FileIO(fd, mode, closefd=False), encoding="utf-8", write_through=mode == "w")


def _buffered(stream: TextIO) -> TextIO:
    """Give a stream a buffer if it has none (PYTHONUNBUFFERED).

    One write to an unbuffered file may write a part only, as when the reader of a pipe goes away, and Python then
    drops the rest without an error.
    """
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def is_terminal() -> bool:
    """Whether standard output is a terminal. A program that reads it gets everything in full."""
    return sys.stdout.isatty()


def width() -> int | None:
    """Return the columns of the terminal; None if standard output is none: lines may then be of any length."""
    return max(NARROWEST, _terminal_size().columns) if is_terminal() else None


def height() -> int | None:
    """Return the lines of the terminal; None if standard output is none."""
    return _terminal_size().lines if is_terminal() else None


def _terminal_size() -> os.terminal_size:
    import shutil

    return shutil.get_terminal_size(DEFAULT_SIZE)


def has_colour() -> bool:
    """Whether to use styles: on a terminal, unless NO_COLOR is set or TERM is ``dumb``."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def has_unicode() -> bool:
    """Whether the encoding of standard output has the block and braille letters of plots."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def paint(text: str, style: str) -> str:
    """Clean a text, and return it in a style such as ``"green"``, ``"bold"``, ``"dim"`` or ``"bold red"`` if styles are used."""
    text = clean_text(text)
    if not style or not text or not has_colour():
        return text
    words = style.split()
    colours = [word for word in words if word not in {"bold", "dim"}]
    return click.style(
        text, fg=colours[0] if colours else None, bold="bold" in words or None, dim="dim" in words or None
    )


def write(lines: Iterable[str], *, to_stderr: bool = False) -> None:
    """Write lines, in which only the styles of ``paint`` are no ordinary text; everything else is cleaned."""
    text = "\n".join(map(_clean_line, lines))
    if text:
        click.echo(text, err=to_stderr, color=True)  # `paint` has decided about colours; click is not to strip them


def _clean_line(line: str) -> str:
    if not has_colour() or "\x1b" not in line:
        return clean_text(line)
    return "".join(part if _STYLE.fullmatch(part) else clean_text(part) for part in _STYLE.split(line))


def write_json(document: Mapping[str, Any]) -> None:
    """Write one JSON document on a line. Floats that are not finite are text, as in the files of a run."""
    write_json_lines([document])


def write_json_lines(documents: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON documents, one on each line."""
    from ml_dash.records.values import encode

    text = "\n".join(encode(document, "the output").decode() for document in documents)
    if text:
        click.echo(clean_json(text).encode())


class Progress:
    """A line on standard error with the progress of a long command, such as ``checking alice/seed-1, 3.2 MiB``.

    It is shown on a terminal only, and wiped at the end.

    Args:
        verb: what the command does, such as ``checking``.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._item = ""
        self._bytes = 0
        self._line = ProgressLine(self._describe)

    def begin(self, item: str) -> None:
        """Name the item, such as a run's prefix, that is next."""
        self._item = item
        self.advance(0)

    def advance(self, count: int) -> None:
        """Count bytes that have been processed."""
        self._bytes += count
        self._line.update()

    def wipe(self) -> None:
        """Empty the line, so that something else can be printed there."""
        self._line.erase()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def _describe(self) -> str:
        from ml_dash.cli import formatting

        text = clean_text(f"{self._verb} {clean(self._item)}, {formatting.size(self._bytes)}")
        return formatting.clip(text, _terminal_size().columns - 1)
