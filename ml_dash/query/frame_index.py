"""The index of one frame stream, as it lies on disk and grows: which frames there are, and where.

What is kept in memory is 32 bytes per frame: where its line begins and how long it is, its number and its time. The
lines themselves are read again when they are asked for. A look at a journal that has grown reads what was added.

Where several processes wrote (a forked child, a second run of the same prefix), each numbered its frames itself. The
index then counts anew, in the order of time, and keeps a writer's own number beside its name.
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
from ml_dash.storage.follow import Position
from ml_dash.storage.journal import shards

FIRST_WRITER = "main"
"""What the writer without a tag is called."""

Entry = dict[str, Any]
_Positions = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Journal:
    """What is known of one journal. It only grows; one that was rewritten is replaced by a new object."""

    path: str
    writer: str
    position: Position = field(default_factory=Position)
    frame_bytes: int = 0
    starts: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    ascending: bool = True

    def read_on(self, file: BinaryIO) -> None:
        """Take in the whole lines that were added."""
        for start, block in self.position.read(file):
            place = start
            for line in block.split(b"\n"):
                self._take(line, place)
                place += len(line) + 1

    def _take(self, line: bytes, start: int) -> None:
        entry = frame_of(line)
        if entry is not None:
            self.ascending = self.ascending and (not self.numbers or entry["seq"] > self.numbers[-1])
            self.starts.append(start)
            self.lengths.append(len(line))
            self.times.append(entry["timestamp"])
            self.frame_bytes += entry["size"]
            self.numbers.append(entry["seq"])  # last: its length is that of the journal for whoever reads meanwhile


@dataclass(frozen=True, slots=True)
class FrameView:
    """The frames that there were at one moment, in the order of their numbers. It stays true while the index grows.

    Attributes:
        count: how many there are; they have the positions 0 to ``count - 1``.
        several: whether more than one process wrote them, so that a frame's number is its position.
        frame_bytes: all encoded frames together.
    """

    count: int
    several: bool
    frame_bytes: int
    journals: tuple[_Journal, ...]
    journal_of: _Positions | None  # by position, as the next one; None: all in the only journal, in its order
    row_of: _Positions | None

    def position_of(self, number: int) -> int | None:
        """Where the frame with that number is; None if there is none."""
        if self.several:
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
        """Every frame's timestamp, by position."""
        parts = [_copied(journal.times, np.float64) for journal in self.journals]
        if self.journal_of is None or self.row_of is None:
            return parts[0][: self.count] if parts else np.empty(0)
        times = np.empty(self.count)
        for number, part in enumerate(parts):
            chosen = self.journal_of == number
            times[chosen] = part[self.row_of[chosen]]
        return times

    def entries(self, positions: Iterable[int]) -> Iterator[Entry]:
        """The index lines of frames.

        Raises:
            StorageError: the index was removed or rewritten meanwhile.
        """
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for position in positions:
                journal, row = self._place_of(position)
                if journal.path not in files:
                    files[journal.path] = stack.enter_context(_opened(journal.path))
                line = os.pread(files[journal.path].fileno(), journal.lengths[row], journal.starts[row])
                entry = frame_of(line)
                if entry is None or entry["seq"] != journal.numbers[row]:
                    raise StorageError(f"{journal.path!r} was rewritten while it was read; read again")
                if self.several:
                    entry |= {"seq": position, "writer": journal.writer, "writer_seq": entry["seq"]}
                yield entry

    def _place_of(self, position: int) -> tuple[_Journal, int]:
        if self.journal_of is None or self.row_of is None:
            return self.journals[0], position
        return self.journals[int(self.journal_of[position])], int(self.row_of[position])


class FrameIndex:
    """The journals of one topic. May be used from several threads; of no use in a forked child (see ``is_for``).

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
        """Whether it is the index of that folder and of this process: in a forked child the lock may be held."""
        return self._folder == folder and self._process == os.getpid()

    def refreshed(self) -> FrameView:
        """Look at the disk, and tell what is there."""
        with self._lock:
            paths = shards(self._folder, "data")
            changed = [self._refresh(path) for path in paths]
            gone = self._journals.keys() - set(paths)
            for path in gone:
                del self._journals[path]
            if gone or any(changed):
                self._view = _view_of([self._journals[path] for path in paths if path in self._journals])
            return self._view

    def _refresh(self, path: str) -> bool:
        """Read what was added to a journal; whether there was anything."""
        known = self._journals.get(path) or _Journal(path, _writer_of(path))
        try:
            if known.position.is_current(path):
                return False
            with open(path, "rb") as file:
                journal = known if known.position.is_in(file) else _Journal(path, known.writer)
                journal.read_on(file)
        except FileNotFoundError:
            return self._journals.pop(path, None) is not None
        self._journals[path] = journal
        return True


def frame_of(line: bytes) -> Entry | None:
    """The frame that an index line tells of; None if it tells of none."""
    try:
        entry = decode(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and _is_frame(entry) else None


def _is_frame(entry: Entry) -> bool:
    shard, when = entry.get("shard"), entry.get("timestamp")
    return (
        all(type(entry.get(name)) is int and 0 <= entry[name] < 2**63 for name in ("seq", "offset", "size"))
        and isinstance(when, (int, float))
        and not isinstance(when, bool)
        and abs(when) <= sys.float_info.max  # false for NaN
        and isinstance(shard, str)
        and shard.endswith(".tar")
        and os.path.basename(shard) == shard  # in the topic's own folder, whoever wrote the index
    )


def _view_of(journals: list[_Journal]) -> FrameView:
    written = tuple(journal for journal in journals if journal.numbers)
    count = sum(len(journal.numbers) for journal in written)
    several = len(written) > 1
    frame_bytes = sum(journal.frame_bytes for journal in written)
    if not written or (not several and written[0].ascending):
        return FrameView(count, several, frame_bytes, written, None, None)
    journal_of = np.repeat(np.arange(len(written)), [len(journal.numbers) for journal in written])
    row_of = np.concatenate([np.arange(len(journal.numbers)) for journal in written])
    numbers = np.concatenate([_copied(journal.numbers, np.int64) for journal in written])
    times = np.concatenate([_copied(journal.times, np.float64) for journal in written])
    order = np.lexsort((numbers, journal_of, times)) if several else np.argsort(numbers, kind="stable")
    return FrameView(count, several, frame_bytes, written, journal_of[order], row_of[order])


def _copied(values: array[Any], dtype: Any) -> npt.NDArray[Any]:
    """An array that does not keep the original from growing. Slicing copies without letting another thread in."""
    return np.frombuffer(values[:], dtype)


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise StorageError(f"{path!r} was removed while it was read") from None


def _writer_of(path: str) -> str:
    """``data.<writer>.jsonl`` or ``data.jsonl``."""
    return os.path.basename(path).removesuffix(".jsonl").removeprefix("data").removeprefix(".") or FIRST_WRITER
