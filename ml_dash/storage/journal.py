"""Append-only files of JSON lines: the open ones of a writer, and how every reader takes their lines.

A line is whole when it ends in a newline. The bytes after the last newline were never finished: readers ignore them, and
the next writer of that file cuts them off. A stream has a journal for each of its writers.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from ml_dash.records.values import decode, is_published, parse, parse_values
from ml_dash.storage import layout
from ml_dash.storage.beneath import LINE_BYTES, UnsafeFileError, open_file, warn_refused
from ml_dash.storage.disk import Disk
from ml_dash.storage.follow import Position

MAX_OPEN = 64
"""Descriptors that a writer keeps open; a run with more streams opens the least used ones again."""

BATCH_BYTES = 128 * 1024
"""Bytes of lines parsed at once: enough that the call costs nothing beside them, and a page of points is one batch."""

TAIL_BLOCK = 1 << 16
"""How much of a journal's end is read at a time, until it holds as many lines as were asked for."""


Opener = Callable[[str], BinaryIO]


class Journals:
    """The journals of one writer. Paths are relative to the run's directory."""

    def __init__(self, run: str, disk: Disk) -> None:
        self._run = run
        self._disk = disk
        self._open: OrderedDict[str, int] = OrderedDict()
        self._dirty: set[str] = set()

    def length(self, path: str) -> int:
        """Return the size of a journal in bytes; opens it, which cuts off an unfinished line."""
        length, has_name = self._disk.length(self._descriptor(path))
        if has_name:
            return length
        self._forget(path)  # the folder was deleted: begin the file again
        return self._disk.length(self._descriptor(path))[0]

    def append(self, path: str, data: bytes) -> None:
        """Append whole lines."""
        self._dirty.add(path)
        self._disk.append(self._descriptor(path), data)

    def truncate(self, path: str, length: int) -> None:
        """Cut a journal to ``length`` bytes, to undo appends."""
        self._disk.truncate(os.path.join(self._run, path), length)

    def take_dirty(self) -> list[str]:
        """Return the absolute paths of the journals that were appended to since the last call."""
        dirty, self._dirty = self._dirty, set()
        return [os.path.join(self._run, path) for path in dirty]

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        for path in list(self._open):
            with contextlib.suppress(OSError):  # the data was synced before, and the descriptor is closed in any case
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
    """Remove the bytes after the last newline of a file; a missing file is fine."""
    size = disk.size(path)
    if not size:
        return
    with disk.open_read(path) as file:
        whole = whole_length_in(file, size)
    if whole < size:
        disk.truncate(path, whole)


def append_lines(disk: Disk, path: str, data: bytes) -> None:
    """Append whole lines to a journal that this process does not keep open."""
    cut_unfinished_line(disk, path)
    fd = disk.open_append(path)
    try:
        disk.append(fd, data)
    finally:
        disk.close(fd)


def whole_length(path: str, size: int) -> int:
    """Return the length of a file up to and including the last newline within its first ``size`` bytes.

    Raises:
        UnsafeFileError: the last line is longer than ``LINE_BYTES``, or it is no regular file.
    """
    with open_file(path) as file:
        return whole_length_in(file, size, LINE_BYTES)


def whole_length_in(file: BinaryIO, size: int, limit: float = math.inf) -> int:
    """Return the same of an open file.

    Raises:
        UnsafeFileError: the last line is longer than ``limit`` bytes.
    """
    end = size
    while end > 0:
        if size - end > limit:
            raise UnsafeFileError(errno.EFBIG, f"a line in it is longer than {limit:,} bytes", file.name)
        start = max(0, end - TAIL_BLOCK)
        file.seek(start)
        position = file.read(end - start).rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0


def last_lines(path: str, count: int, opener: Opener = open_file) -> tuple[list[bytes], int]:
    """Return the last whole lines of a journal without their newlines, and the offset at which the next one begins.

    Only as much of the file is read as they need, and at most ``LINE_BYTES``; a missing one is empty.
    """
    blocks: list[bytes] = []  # from the end
    try:
        with opener(path) as file:
            end = start = whole_length_in(file, os.fstat(file.fileno()).st_size, LINE_BYTES)
            newlines = 0
            while start > 0 and newlines <= count and end - start < LINE_BYTES:
                size = min(TAIL_BLOCK, start)
                start -= size
                file.seek(start)
                blocks.append(file.read(size))
                newlines += blocks[-1].count(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    except UnsafeFileError as error:
        warn_refused(error)
        return [], 0
    lines = b"".join(reversed(blocks)).split(b"\n")[:-1]
    if start > 0:  # the first line is the end of one
        del lines[0]
    return lines[-count:] if count else [], end


def last_line(path: str, opener: Opener = open_file) -> bytes | None:
    """Return the last whole line of a journal without its newline, or None if there is none."""
    lines, _ = last_lines(path, 1, opener)
    return lines[0] if lines else None


def read_lines(path: str, start: int = 0, opener: Opener = open_file) -> Iterator[bytes]:
    """Yield the whole lines of a journal without their newlines; none if the file is missing or cannot be read safely.

    Args:
        path: the journal.
        start: the offset at which the first line begins.
        opener: opens the file; a writer passes ``Disk.open_read``.
    """
    try:
        file = opener(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except UnsafeFileError as error:
        warn_refused(error)
        return
    with file:
        try:
            yield from lines_in(file, start)
        except UnsafeFileError as error:
            warn_refused(error)


def lines_in(file: BinaryIO, start: int = 0) -> Iterator[bytes]:
    """Yield the whole lines of an open journal without their newlines.

    Raises:
        UnsafeFileError: a line is longer than ``LINE_BYTES``.
    """
    for _, block in Position(start).read(file):
        yield from block.split(b"\n")


def read_objects(path: str, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a journal; other lines are left out."""
    return objects(read_lines(path, start))


def objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects among some lines."""
    for line in lines:
        try:
            value = decode(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def read_batches(path: str, start: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Yield the JSON objects of a journal in batches, not revived: a float that is not finite is still a text.

    Args:
        path: the journal.
        start: the offset at which the first line begins.
    """
    batch: list[bytes] = []
    size = 0
    for line in read_lines(path, start):
        batch.append(line)
        size += len(line)
        if size >= BATCH_BYTES:
            yield [value for value in _parse_lines(batch) if isinstance(value, dict)]
            batch, size = [], 0
    if batch:
        yield [value for value in _parse_lines(batch) if isinstance(value, dict)]


def shards(folder: str, stem: str) -> list[str]:
    """Return the absolute paths of a stream's journals, the first writer's before the others'.

    Args:
        folder: absolute path of the stream's folder.
        stem: ``data``, ``logs`` or ``index``.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if layout.is_shard(name, stem))
    except (FileNotFoundError, NotADirectoryError):
        return []
    names.sort(key=lambda name: name != f"{stem}.jsonl")
    return [os.path.join(folder, name) for name in names]


def _parse_lines(lines: list[bytes]) -> list[Any]:
    """Parse lines in one call, which takes half of the time; one by one if a line is broken, which is None then."""
    joined = b"[" + b",".join(lines) + b"]"
    if not ((b'NaN"' in joined or b'Infinity"' in joined) and any(map(is_published, lines))):
        with contextlib.suppress(ValueError):
            values = parse(joined)
            if isinstance(values, list) and len(values) == len(lines):
                return values
    values = []
    for line in lines:
        try:
            values.append(parse_values(line))
        except ValueError:
            values.append(None)
    return values
