"""The index of one frame stream, followed on disk as it grows: the frames, and where their lines and bytes are.

An index keeps 32 bytes for each frame in memory: the offset and length of its line, its number and its time. The lines
themselves are read again when they are asked for. A refresh reads the lines that were added to a journal.

Where several processes wrote a stream (a forked child, a second run with the same prefix), each has numbered its frames
itself. The index then numbers all frames in the order of their times, and keeps a writer's own number beside its name.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ml_dash.errors import StorageError
from ml_dash.records.values import decode
from ml_dash.storage.beneath import UnsafeFileError, open_file, warn_refused
from ml_dash.storage.follow import Position
from ml_dash.storage.journal import shards

FIRST_WRITER = "main"
"""Name of the writer without a writer id."""

Entry = dict[str, Any]
_Positions = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Journal:
    """The part of one journal that was read. A journal only grows; a rewritten one gets a new object."""

    path: str
    writer: str
    position: Position = field(default_factory=Position)
    frame_bytes: int = 0
    offsets: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    is_ascending: bool = True

    def read_on(self, file: BinaryIO) -> None:
        """Read the whole lines that were added."""
        for start, block in self.position.read(file):
            offset = start
            for line in block.split(b"\n"):
                entry = frame_of(line)
                if entry is not None:
                    self._add(entry, offset, len(line))
                offset += len(line) + 1

    def _add(self, entry: Entry, offset: int, length: int) -> None:
        self.is_ascending = self.is_ascending and (not self.numbers or entry["seq"] > self.numbers[-1])
        self.offsets.append(offset)
        self.lengths.append(length)
        self.times.append(entry["timestamp"])
        self.frame_bytes += entry["size"]
        self.numbers.append(entry["seq"])  # last: other threads take its length for the number of frames


@dataclass(frozen=True, slots=True)
class FrameView:
    """The frames of a stream at one moment, in the order of their numbers. It stays valid while the index grows.

    Attributes:
        count: number of frames; they have the positions 0 to ``count - 1``.
        has_several_writers: whether more than one process wrote them, so that a frame's number is its position.
        frame_bytes: size of all encoded frames.
        journals: those with frames.
        journal_of: index of each frame's journal, by position; None for frames in the order of the only journal.
        row_of: index of each frame in its journal, by position; None as for ``journal_of``.
    """

    count: int
    has_several_writers: bool
    frame_bytes: int
    journals: tuple[_Journal, ...]
    journal_of: _Positions | None
    row_of: _Positions | None

    def position_of(self, number: int) -> int | None:
        """Return the position of the frame with that number; None if there is none."""
        if self.has_several_writers:
            return number if 0 <= number < self.count else None
        if not self.count:
            return None
        numbers = self.journals[0].numbers
        if self.row_of is None:
            position = bisect_left(numbers, number, 0, self.count)
            return position if position < self.count and numbers[position] == number else None
        position = bisect_left(self.row_of, number, 0, self.count, key=lambda row: numbers[row])
        return position if position < self.count and numbers[int(self.row_of[position])] == number else None

    def times(self) -> npt.NDArray[np.float64]:
        """Return every frame's timestamp in seconds, by position: float64, shape ``(count,)``."""
        parts = [_copied(journal.times, np.float64) for journal in self.journals]
        if self.journal_of is None or self.row_of is None:
            return parts[0][: self.count] if parts else np.empty(0)
        times = np.empty(self.count)
        for index, part in enumerate(parts):
            is_in_part = self.journal_of == index
            times[is_in_part] = part[self.row_of[is_in_part]]
        return times

    def entries(self, positions: Iterable[int]) -> Iterator[Entry]:
        """Yield the entries of the frames at these positions.

        Raises:
            StorageError: the index was removed or rewritten meanwhile.
        """
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for position in positions:
                journal, row = self.journals[0], position
                if self.journal_of is not None and self.row_of is not None:
                    journal, row = self.journals[int(self.journal_of[position])], int(self.row_of[position])
                if journal.path not in files:
                    files[journal.path] = stack.enter_context(_open(journal.path))
                line = os.pread(files[journal.path].fileno(), journal.lengths[row], journal.offsets[row])
                entry = frame_of(line)
                if entry is None or entry["seq"] != journal.numbers[row]:
                    raise StorageError(f"{journal.path!r} was rewritten while it was read; read again")
                if self.has_several_writers:
                    entry |= {"seq": position, "writer": journal.writer, "writer_seq": entry["seq"]}
                yield entry


class FrameIndex:
    """The journals of one topic. May be used from several threads, but not in a forked child (see ``is_for``).

    Args:
        folder: absolute path of the topic's folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._journals: dict[str, _Journal] = {}
        self._view = _view_of([])

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameIndex, (self._folder,)

    def is_for(self, folder: str) -> bool:
        """Whether this index is of that folder and this process: in a forked child the lock may be held."""
        return self._folder == folder and self._process == os.getpid()

    def refresh(self) -> FrameView:
        """Read the lines that were added on disk, and return a view of all frames."""
        with self._lock:
            paths = shards(self._folder, "data")
            changed = [self._refresh_journal(path) for path in paths]
            gone = self._journals.keys() - set(paths)
            for path in gone:
                del self._journals[path]
            if gone or any(changed):
                self._view = _view_of([self._journals[path] for path in paths if path in self._journals])
            return self._view

    def _refresh_journal(self, path: str) -> bool:
        """Read the lines that were added to a journal, and return whether it had changed."""
        known = self._journals.get(path) or _Journal(path, _writer_of(path))
        try:
            if known.position.is_current(path):
                return False
            with open_file(path) as file:
                journal = known if known.position.is_in(file) else _Journal(path, known.writer)
                try:
                    journal.read_on(file)
                except BaseException:  # an interrupt in the middle of a block: begin again, or its frames count twice
                    self._journals.pop(path, None)
                    raise
        except FileNotFoundError:
            return self._journals.pop(path, None) is not None
        except UnsafeFileError as error:
            warn_refused(error)
            return self._journals.pop(path, None) is not None
        self._journals[path] = journal
        return True


def frame_of(line: bytes) -> Entry | None:
    """Parse a line of the index; return None if it names no frame."""
    try:
        entry = decode(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    shard, when = entry.get("shard"), entry.get("timestamp")
    is_frame = (
        all(type(entry.get(name)) is int and 0 <= entry[name] < 2**63 for name in ("seq", "offset", "size"))
        and isinstance(when, (int, float))
        and not isinstance(when, bool)
        and abs(when) <= sys.float_info.max  # false for NaN
        and isinstance(shard, str)
        and shard.endswith(".tar")
        and "\0" not in shard
        and os.path.basename(shard) == shard  # in the topic's own folder, whoever wrote the index
    )
    return entry if is_frame else None


def _view_of(journals: list[_Journal]) -> FrameView:
    journals = [journal for journal in journals if journal.numbers]
    counts = [len(journal.numbers) for journal in journals]
    has_several_writers = len(journals) > 1
    frame_bytes = sum(journal.frame_bytes for journal in journals)
    journal_of = row_of = None
    if has_several_writers or (journals and not journals[0].is_ascending):
        journal_of = np.repeat(np.arange(len(journals)), counts)
        row_of = np.concatenate([np.arange(count) for count in counts])
        numbers = np.concatenate([_copied(journal.numbers, np.int64) for journal in journals])
        times = np.concatenate([_copied(journal.times, np.float64) for journal in journals])
        order = np.lexsort((numbers, journal_of, times)) if has_several_writers else np.argsort(numbers, kind="stable")
        journal_of, row_of = journal_of[order], row_of[order]
    return FrameView(sum(counts), has_several_writers, frame_bytes, tuple(journals), journal_of, row_of)


def _copied(values: array[Any], dtype: Any) -> npt.NDArray[Any]:
    """Copy an array, since a view would keep it from growing. Slicing copies without letting another thread in."""
    return np.frombuffer(values[:], dtype)


def _open(path: str) -> BinaryIO:
    try:
        return open_file(path)
    except (FileNotFoundError, UnsafeFileError):
        raise StorageError(f"{path!r} was removed while it was read") from None


def _writer_of(path: str) -> str:
    """Return the writer of ``data.<writer>.jsonl`` or ``data.jsonl``."""
    return os.path.basename(path).removesuffix(".jsonl").removeprefix("data").removeprefix(".") or FIRST_WRITER
