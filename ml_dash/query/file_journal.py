"""One journal of a run's files, read as far as it goes: where the line of each file and of each change begins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ml_dash.query.file_lookup import Entry, full_name
from ml_dash.storage import file_index

TAIL_BYTES = 512
"""End of what was read of a journal, compared before reading on: a writer that took over may have cut and redone it."""

_BLOCK = 1 << 20

State = tuple[int, int, int, int]
Place = tuple[str, int]
"""When a change was made, and where its line begins."""


@dataclass(slots=True)
class FileJournal:
    """What is known of one journal. It only grows; one that was rewritten is replaced by a fresh object."""

    path: str
    state: State = (0, 0, 0, 0)
    consumed: int = 0
    tail: bytes = b""
    clock: str = ""
    is_plain: bool = True
    latest: dict[str, int] = field(default_factory=dict)  # path of a file -> its id
    places: dict[int, int] = field(default_factory=dict)  # id -> where the line begins
    changes: dict[int, dict[str, Place]] = field(default_factory=dict)  # id -> key -> the change that set it last
    first: dict[str, str] = field(default_factory=dict)  # bare name -> a path that has it
    others: dict[str, dict[str, None]] = field(default_factory=dict)  # bare name -> the other ones

    def read_on(self, file: BinaryIO, state: State) -> None:
        """Take in the whole lines that were added."""
        file.seek(self.consumed)
        rest = b""
        while block := file.read(_BLOCK):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                self._take_block(whole)
        file.seek(max(0, self.consumed - TAIL_BYTES))
        self.tail = file.read(min(TAIL_BYTES, self.consumed))
        self.state = state

    def is_continued_by(self, file: BinaryIO, state: State) -> bool:
        """Whether a file still begins with what was read."""
        if state[:2] != self.state[:2] or state[2] < self.consumed:
            return False
        file.seek(self.consumed - len(self.tail))
        return file.read(len(self.tail)) == self.tail

    def paths_of(self, name: str) -> Iterator[str]:
        """The paths with that bare name."""
        if name in self.first:
            yield self.first[name]
            yield from self.others.get(name, ())

    def _take_block(self, block: bytes) -> None:
        for line, value in zip(block.split(b"\n"), file_index.values_of(block), strict=True):
            if file_index.is_entry(value):
                self._take(value, self.consumed)
            self.consumed += len(line) + 1

    def _take(self, entry: Entry, place: int) -> None:
        if not entry["id"].isdecimal():
            self.is_plain = False
        elif "filename" in entry and "path" in entry:
            self._take_file(entry, int(entry["id"]), place)
        else:
            when = file_index.moment(entry)
            if when:
                self.clock = when = max(self.clock, when)
            known = self.changes.setdefault(int(entry["id"]), {})
            known.update({key: (when, place) for key in entry if key not in known or known[key][0] <= when})

    def _take_file(self, entry: Entry, number: int, place: int) -> None:
        if not _is_usual(entry["path"], entry["filename"]):
            self.is_plain = False
            return
        full, name = full_name(entry), entry["filename"]
        before = self.latest.get(full, number)
        if before != number:  # within a journal the last line of a name counts
            self.places.pop(before, None)
            self.changes.pop(before, None)
        self.latest[full] = number
        self.places[number] = place
        if self.first.setdefault(name, full) != full:
            self.others.setdefault(name, {})[full] = None


def _is_usual(path: object, filename: object) -> bool:
    """Whether a record names its file as this client does; else two names may mean one file."""
    if not isinstance(path, str) or not isinstance(filename, str) or "/" in filename:
        return False
    return path == "/" or (path.startswith("/") and not path.startswith("//") and not path.endswith("/"))


def state_of(found: os.stat_result) -> State:
    """What tells whether a file is the same, and as it was."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
