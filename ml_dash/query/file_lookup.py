"""Find a run's files by path, name or id without reading the whole index at each call.

An ``IndexLookup`` keeps a file's path, its id and the offset of its line in memory: about 300 bytes for each name, a
quarter of the record, however often the name is saved. A changed file takes about 400 bytes more. The lines themselves
are read again when a record is asked for. A refresh reads what was added to a journal; one that was cut or rewritten is
read anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, Protocol

from ml_dash.query.reader import Source
from ml_dash.storage import file_index, layout, legacy, reading
from ml_dash.storage.beneath import LINE_BYTES, UnsafeFileError, open_file, warn_refused
from ml_dash.storage.file_index import Entry, full_name, is_below
from ml_dash.storage.follow import FileState, Position, file_state
from ml_dash.storage.journal import shards

SETTLED_NS = 1_000_000_000
"""Least age of a folder's last change for its listing to be complete. Some file systems keep time in coarse steps, and
two changes within one step look the same."""

LIST_EVERY_S = 1.0
"""Interval at which a changing folder of files is listed: with 20,000 files in it, listing takes 5 ms. In between, the
journals are those of the writers that have announced themselves, which every writer does before it writes."""

READ_ATTEMPTS = 3
"""Refreshes while an index is rewritten during the read; then the whole index is read once."""


class FileLookup(Protocol):
    """The files of a run at one moment, without deleted ones and earlier versions."""

    def by_id(self, file_id: object) -> list[Entry]:
        """Return the record with that id, or an empty list."""

    def by_path(self, full: str) -> list[Entry]:
        """Return the record with that path from the root of the run's files, or an empty list."""

    def by_name(self, name: str, folder: str) -> list[Entry]:
        """Return the records with that bare name in a folder and below it; the root is an empty text."""

    def paths_below(self, folder: str, limit: int) -> list[str]:
        """Return the paths of the first files in a folder and below it."""


class ListLookup:
    """A lookup in a list of all records, for a run whose index has lines of another client."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    def by_id(self, file_id: object) -> list[Entry]:
        """Return the record with that id, or an empty list."""
        return [entry for entry in self._entries if entry["id"] == file_id]

    def by_path(self, full: str) -> list[Entry]:
        """Return the record with that path, or an empty list."""
        return [entry for entry in self._entries if full_name(entry) == full]

    def by_name(self, name: str, folder: str) -> list[Entry]:
        """Return the records with that bare name in a folder and below it."""
        return [entry for entry in self._entries if entry["filename"] == name and is_below(entry, folder)]

    def paths_below(self, folder: str, limit: int) -> list[str]:
        """Return the paths of the first files in a folder and below it."""
        return list(islice((full_name(entry) for entry in self._entries if is_below(entry, folder)), limit))


class IndexLookup:
    """A lookup that follows the index of a run on disk. May be used from several threads.

    Args:
        run: absolute path of the run's directory.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._is_refreshing = False
        self._folder_state: FileState | None = None
        self._listed_at = -LIST_EVERY_S
        self._journals: dict[str, FileJournal] = {}

    def is_for(self, run: str) -> bool:
        """Whether this lookup is of that run and this process: in a forked child the lock may be held."""
        return self._run == run and self._process == os.getpid()

    def refresh(self) -> FileLookup:
        """Read what was added to the index, and return a lookup in it.

        Raises:
            OSError: the index cannot be read.
        """
        with self._lock:
            if self._is_refreshing:  # called by a signal handler that interrupted another refresh
                return ListLookup(reading.read_files(self._run))
            self._is_refreshing = True
            try:
                is_complete = self._read_new_lines()
            except BaseException:
                self._forget()  # the journal that was being read is half known
                raise
            finally:
                self._is_refreshing = False
            return self if is_complete else ListLookup(reading.read_files(self._run))

    def by_id(self, file_id: object) -> list[Entry]:
        """Return the record with that id, or an empty list."""
        if not isinstance(file_id, str) or not file_id.isdecimal():
            return []
        with self._lock:
            return [entry for entry in self._records([int(file_id)]) if entry["id"] == file_id]

    def by_path(self, full: str) -> list[Entry]:
        """Return the record with that path, or an empty list."""
        with self._lock:
            return self._records(self._newest(full))

    def by_name(self, name: str, folder: str) -> list[Entry]:
        """Return the records with that bare name in a folder and below it."""
        inside = f"{folder}/" if folder else ""
        with self._lock:
            paths = dict.fromkeys(path for journal in self._journals.values() for path in journal.paths_of(name))
            return self._records([number for path in paths if path.startswith(inside) for number in self._newest(path)])

    def paths_below(self, folder: str, limit: int) -> list[str]:
        """Return the paths of the first files in a folder and below it."""
        inside = f"{folder}/" if folder else ""
        journals = self._journals.values()
        with self._lock:
            paths = (path for journal in journals for path in journal.latest if path.startswith(inside))
            kept = (
                path
                for path in paths
                if not all(
                    any("deletedAt" in journal.changes.get(number, ()) for journal in journals)
                    for number in self._newest(path)
                )
            )
            return list(dict.fromkeys(islice(kept, limit)))

    def _newest(self, full: str) -> list[int]:
        # Among several journals the greatest id counts, as in file_index.keep_newest.
        numbers = [journal.latest[full] for journal in self._journals.values() if full in journal.latest]
        return [max(numbers, key=file_index.age_of_number)] if numbers else []

    def _records(self, numbers: list[int]) -> list[Entry]:
        """Return the current records with these ids."""
        for _ in range(READ_ATTEMPTS):
            try:
                records = [self._record(number) for number in numbers]
                return [entry for entry in records if entry is not None and not entry.get("deletedAt")]
            except (LookupError, FileNotFoundError):  # the index is being rewritten
                if self.refresh() is not self:
                    break
        ids = set(map(str, numbers))
        return [entry for entry in reading.read_files(self._run) if entry["id"] in ids]

    def _record(self, number: int) -> Entry | None:
        """Return a file's line with its changes; None for a version that was replaced.

        Raises:
            LookupError: the journal was rewritten, and the line is elsewhere by now.
        """
        journals = list(self._journals.values())
        holders = [journal for journal in journals if number in journal.offsets]
        if not holders:
            return None
        entry = _line_at(holders[-1].path, holders[-1].offsets[number], number)
        if "filename" not in entry:
            raise LookupError(number)
        if self._newest(full_name(entry)) != [number]:
            return None
        latest: dict[str, str] = {}
        positions: dict[str, tuple[str, int]] = {}
        for journal in journals:
            for key, (when, offset) in journal.changes.get(number, {}).items():
                if key != "id" and latest.get(key, "") <= when:
                    latest[key], positions[key] = when, (journal.path, offset)
        changes = {position: _line_at(*position, number) for position in set(positions.values())}
        return entry | {key: changes[position][key] for key, position in positions.items()}

    def _read_new_lines(self) -> bool:
        """Return whether the journals hold all there is to know about the files, in the form of this client."""
        self._list_journals()
        for path in list(self._journals):
            self._read_journal(path)
        document = os.path.join(self._run, layout.FILES_METADATA)
        if os.path.join(self._run, layout.file_index()) in self._journals:
            is_ours = not legacy.is_published(document)
        else:
            is_ours = not os.path.exists(document)
        return is_ours and all(journal.is_plain for journal in self._journals.values())

    def _list_journals(self) -> None:
        folder = os.path.join(self._run, "files")
        try:
            state = file_state(folder)
        except (FileNotFoundError, NotADirectoryError):
            self._forget()
            return
        if state == self._folder_state:
            return
        if 0 <= time.monotonic() - self._listed_at < LIST_EVERY_S:
            paths = self._announced_journals()
        else:
            self._folder_state = state if time.time_ns() - state[3] > SETTLED_NS else None
            self._listed_at = time.monotonic()
            paths = shards(folder, "index")
        self._journals = {path: self._journals.get(path) or FileJournal(path) for path in paths}

    def _announced_journals(self) -> list[str]:
        try:
            names = os.listdir(os.path.join(self._run, layout.WRITERS))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        writers = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        first, *others = (os.path.join(self._run, layout.file_index(writer)) for writer in ("", *writers))
        paths = sorted({*self._journals, *filter(os.path.exists, others)} - {first})
        return [first, *paths] if os.path.exists(first) else paths

    def _forget(self) -> None:
        self._folder_state, self._listed_at, self._journals = None, -LIST_EVERY_S, {}

    def _read_journal(self, path: str) -> None:
        journal = self._journals[path]
        try:
            file = open_file(path)
        except FileNotFoundError:
            self._folder_state = None
            del self._journals[path]
            return
        except UnsafeFileError as error:
            warn_refused(error)
            del self._journals[path]
            return
        with file:  # opened each time: that is when a network file system looks for what others wrote
            if not journal.position.is_current(file.fileno()):
                if not journal.position.is_in(file):
                    journal = self._journals[path] = FileJournal(path)
                try:
                    journal.read_on(file)
                except UnsafeFileError as error:
                    warn_refused(error)


@dataclass(slots=True)
class FileJournal:
    """The part of one journal of files that was read. A journal only grows; a rewritten one gets a new object."""

    path: str
    position: Position = field(default_factory=Position)
    clock: str = ""  # the latest time of a change so far
    is_plain: bool = True  # whether every line has the form that this client writes
    latest: dict[str, int] = field(default_factory=dict)  # path of a file -> its id
    offsets: dict[int, int] = field(default_factory=dict)  # id -> offset of its line
    changes: dict[int, dict[str, tuple[str, int]]] = field(default_factory=dict)
    """By id and key: time and line offset of the last change of that key."""
    first: dict[str, str] = field(default_factory=dict)  # bare name -> a path that has it
    others: dict[str, dict[str, None]] = field(default_factory=dict)  # bare name -> the other paths

    def read_on(self, file: BinaryIO) -> None:
        """Read the whole lines that were added."""
        for start, block in self.position.read(file):
            offset = start
            for line, value in zip(block.split(b"\n"), file_index.values_of(block), strict=True):
                if file_index.is_entry(value):
                    self._take(value, offset)
                offset += len(line) + 1

    def paths_of(self, name: str) -> Iterator[str]:
        """Yield the paths with that bare name."""
        if name in self.first:
            yield self.first[name]
            yield from self.others.get(name, ())

    def _take(self, entry: Entry, offset: int) -> None:
        if not entry["id"].isdecimal():
            self.is_plain = False
        elif "filename" in entry and "path" in entry:
            self._take_file(entry, int(entry["id"]), offset)
        else:
            when = file_index.change_time(entry)
            if when:
                self.clock = when = max(self.clock, when)
            known = self.changes.setdefault(int(entry["id"]), {})
            known.update({key: (when, offset) for key in entry if key not in known or known[key][0] <= when})

    def _take_file(self, entry: Entry, number: int, offset: int) -> None:
        if not _is_usual(entry["path"], entry["filename"]):
            self.is_plain = False
            return
        full, name = full_name(entry), entry["filename"]
        before = self.latest.get(full, number)
        if before != number:  # within a journal the last line of a name counts
            self.offsets.pop(before, None)
            self.changes.pop(before, None)
        self.latest[full] = number
        self.offsets[number] = offset
        if self.first.setdefault(name, full) != full:
            self.others.setdefault(name, {})[full] = None


_lookups: weakref.WeakKeyDictionary[Source, IndexLookup] = weakref.WeakKeyDictionary()


def lookup_of(source: Source) -> IndexLookup:
    """Return the lookup that all folders of a run share; it lives as long as the experiment or reader."""
    lookup = _lookups.get(source)
    if lookup is None or not lookup.is_for(source.folder):
        lookup = _lookups[source] = IndexLookup(source.folder)
    return lookup


def _is_usual(path: object, filename: object) -> bool:
    """Whether a record names its file as this client does; otherwise two names may mean one file."""
    if not isinstance(path, str) or not isinstance(filename, str) or "/" in filename:
        return False
    return path == "/" or (path.startswith("/") and not path.startswith("//") and not path.endswith("/"))


def _line_at(path: str, offset: int, number: int) -> Entry:
    with open_file(path) as file:
        file.seek(offset)
        line = file.readline(LINE_BYTES).removesuffix(b"\n")
    entry = file_index.entry_of(line)
    if entry is None or entry["id"] != str(number):
        raise LookupError(f"{path!r} was rewritten while it was read")
    return entry
