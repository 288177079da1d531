"""Append-only files of JSON lines: the writer's open ones, and how any reader looks at one.

A line is whole when it ends in a newline. What stands after the last newline was never finished: readers ignore it,
the next writer of that file cuts it off.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator

from ml_dash.storage.disk import Disk

MAX_OPEN = 64
"""Descriptors kept open by a writer; a run with more streams opens the least used ones again."""

_BLOCK = 1 << 20
TAIL_BLOCK = 1 << 16
"""How much of a journal's end is read at a time, until it holds as many lines as were asked for."""


class Journals:
    """The journals of one writer. Paths are relative to the run's directory."""

    def __init__(self, run: str, disk: Disk) -> None:
        self._run = run
        self._disk = disk
        self._open: OrderedDict[str, int] = OrderedDict()
        self._dirty: set[str] = set()

    def length(self, path: str) -> int:
        """Bytes in a journal now; opens it, cutting off an unfinished line if it had been closed."""
        length, has_name = self._disk.length(self._descriptor(path))
        if has_name:
            return length
        self._forget(path)  # the user deleted the folder: start the file again
        return self._disk.length(self._descriptor(path))[0]

    def append(self, path: str, data: bytes) -> None:
        """Append whole lines."""
        self._dirty.add(path)
        self._disk.append(self._descriptor(path), data)

    def truncate(self, path: str, length: int) -> None:
        """Undo appends."""
        self._disk.truncate(os.path.join(self._run, path), length)

    def take_dirty(self) -> list[str]:
        """The absolute paths appended to since the last call."""
        dirty, self._dirty = self._dirty, set()
        return [os.path.join(self._run, path) for path in dirty]

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        for path in list(self._open):
            with contextlib.suppress(OSError):  # what was appended was synced, and the descriptor is gone all the same
                self._forget(path)

    def _descriptor(self, path: str) -> int:
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        while len(self._open) >= MAX_OPEN:
            self._forget(next(iter(self._open)))
        absolute = os.path.join(self._run, path)
        if path.endswith(".jsonl"):  # a tar shard has no lines, and a newline anywhere
            cut_unfinished_line(self._disk, absolute)
        self._open[path] = fd = self._disk.open_append(absolute)
        return fd

    def _forget(self, path: str) -> None:
        fd = self._open.pop(path, None)
        if fd is not None:
            self._disk.close(fd)


def cut_unfinished_line(disk: Disk, path: str) -> None:
    """Remove what stands after the last newline of a file; a missing file is fine."""
    size = disk.size(path)
    if not size:
        return
    whole = whole_length(path, size)
    if whole < size:
        disk.truncate(path, whole)


def whole_length(path: str, size: int) -> int:
    """The length of a file up to and with its last newline within the first ``size`` bytes."""
    with open(path, "rb") as file:
        end = size
        while end > 0:
            start = max(0, end - TAIL_BLOCK)
            file.seek(start)
            position = file.read(end - start).rfind(b"\n")
            if position >= 0:
                return start + position + 1
            end = start
    return 0


def last_lines(path: str, count: int) -> tuple[list[bytes], int]:
    """Return the last whole lines of a journal without their newlines, and the offset at which the next one begins.

    Only as much of the file is read as they need; a missing one is empty.
    """
    try:
        with open(path, "rb") as file:
            end = start = whole_length(path, os.fstat(file.fileno()).st_size)
            data = b""
            while start > 0 and data.count(b"\n") <= count:
                size = min(TAIL_BLOCK, start)
                start -= size
                file.seek(start)
                data = file.read(size) + data
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    lines = data.split(b"\n")[:-1]
    return lines[-count:] if count else [], end


def last_line(path: str) -> bytes | None:
    """Return the last whole line of a journal without its newline, or None if there is none."""
    lines, _ = last_lines(path, 1)
    return lines[0] if lines else None


def read_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The whole lines of a journal, without their newlines; nothing if the file is missing."""
    return read_lines_from(path, 0)


def read_lines_from(path: str | os.PathLike[str], start: int) -> Iterator[bytes]:
    """The same from the line on that begins at byte ``start``."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed by the with statement below
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        file.seek(start)
        rest = b""
        while block := file.read(_BLOCK):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            yield from lines
