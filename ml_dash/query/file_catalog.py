"""Which files a run has, found by path, name or id without reading the whole index at each call.

What is kept in memory for each name is its path, its id and where its line begins: some 300 bytes, a quarter of the
record itself, and no more for a name that is saved again and again. A file that was changed takes some 400 bytes more,
however often it was. The lines are read again when a record is asked for. A look at a journal that has grown reads what
was added; one that was cut or rewritten is read anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from itertools import islice

from ml_dash.query.file_journal import FileJournal, State, state_of
from ml_dash.query.file_lookup import Entry, Listed, Lookup, full_name
from ml_dash.query.source import Source
from ml_dash.storage import file_index, layout, legacy, lines, reading

SETTLED_NS = 1_000_000_000
"""How old a folder's last change must be for a list of it to count as complete: some file systems keep time in coarse
steps, and two changes within one look the same."""

LIST_EVERY_S = 1.0
"""How often the folder of files is listed while it changes: with 20,000 files in it, that takes 5 ms. In between, the
journals are those of the writers that have announced themselves, which every writer does before it writes."""

READ_ATTEMPTS = 3
"""How often a look is begun again when an index is rewritten just while it is read; then the whole is read once."""


class Catalog:
    """The files of one run, as they lie on disk and change. May be used from several threads.

    Args:
        run: absolute path of the run's directory.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._is_busy = False
        self._folder_state: State | None = None
        self._listed_at = -LIST_EVERY_S
        self._journals: dict[str, FileJournal] = {}

    def is_for(self, run: str) -> bool:
        """Whether it is the catalog of that run and of this process: in a forked child the lock may be held."""
        return self._run == run and self._process == os.getpid()

    def look(self) -> Lookup:
        """Look at the disk; what is found there can be asked for then.

        Raises:
            OSError: the index cannot be read.
        """
        with self._lock:
            if self._is_busy:  # a signal handler that came in the midst of another look
                return Listed(reading.read_files(self._run))
            self._is_busy = True
            try:
                is_plain = self._refresh()
            except BaseException:
                self._forget()  # whichever was being read is half known
                raise
            finally:
                self._is_busy = False
            return self if is_plain else Listed(reading.read_files(self._run))

    def by_id(self, file_id: object) -> list[Entry]:
        """See ``Lookup``."""
        if not isinstance(file_id, str) or not file_id.isdecimal():
            return []
        with self._lock:
            return [entry for entry in self._records([int(file_id)]) if entry["id"] == file_id]

    def by_path(self, full: str) -> list[Entry]:
        """See ``Lookup``."""
        with self._lock:
            return self._records(self._newest(full))

    def by_name(self, name: str, folder: str) -> list[Entry]:
        """See ``Lookup``."""
        inside = f"{folder}/" if folder else ""
        with self._lock:
            paths = dict.fromkeys(path for journal in self._journals.values() for path in journal.paths_of(name))
            return self._records([number for path in paths if path.startswith(inside) for number in self._newest(path)])

    def names_below(self, folder: str, limit: int) -> list[str]:
        """See ``Lookup``."""
        inside = f"{folder}/" if folder else ""
        with self._lock:
            paths = (path for journal in self._journals.values() for path in journal.latest if path.startswith(inside))
            kept = (path for path in paths if not all(map(self._is_deleted, self._newest(path))))
            return list(dict.fromkeys(islice(kept, limit)))

    def _newest(self, full: str) -> list[int]:
        # Among several journals the greatest id counts, as in file_index.keep_newest.
        found = [journal.latest[full] for journal in self._journals.values() if full in journal.latest]
        return [max(found, key=file_index.age_of_number)] if found else []

    def _is_deleted(self, number: int) -> bool:
        return any("deletedAt" in journal.changes.get(number, ()) for journal in self._journals.values())

    def _records(self, numbers: list[int]) -> list[Entry]:
        """The records with those ids, as far as they count."""
        for _ in range(READ_ATTEMPTS):
            try:
                found = [self._record(number) for number in numbers]
                return [entry for entry in found if entry is not None and not entry.get("deletedAt")]
            except (LookupError, FileNotFoundError):  # the index is being rewritten
                look = self.look()
                if look is not self:
                    break
        wanted = set(map(str, numbers))
        return [entry for entry in reading.read_files(self._run) if entry["id"] in wanted]

    def _record(self, number: int) -> Entry | None:
        """A file's line with its changes; None if it does not count. ``LookupError``: the lines lie elsewhere by now."""
        journals = list(self._journals.values())
        holders = [journal for journal in journals if number in journal.places]
        if not holders:
            return None
        entry = _line_at(holders[-1].path, holders[-1].places[number], number)
        if "filename" not in entry:
            raise LookupError(number)
        if self._newest(full_name(entry)) != [number]:
            return None
        places = self._changed_keys(journals, number)
        changes = {place: _line_at(*place, number) for place in set(places.values())}
        return entry | {key: changes[place][key] for key, place in places.items()}

    @staticmethod
    def _changed_keys(journals: list[FileJournal], number: int) -> dict[str, tuple[str, int]]:
        latest: dict[str, str] = {}
        places: dict[str, tuple[str, int]] = {}
        for journal in journals:
            for key, (when, start) in journal.changes.get(number, {}).items():
                if key != "id" and latest.get(key, "") <= when:
                    latest[key], places[key] = when, (journal.path, start)
        return places

    def _refresh(self) -> bool:
        """Read what was added; whether all there is to know of the files stands in indexes of ours."""
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
            state = state_of(os.stat(folder))
        except (FileNotFoundError, NotADirectoryError):
            self._forget()
            return
        if state == self._folder_state:
            return
        if 0 <= time.monotonic() - self._listed_at < LIST_EVERY_S:
            paths = self._announced()
        else:
            self._folder_state = state if time.time_ns() - state[3] > SETTLED_NS else None
            self._listed_at = time.monotonic()
            paths = lines.shards(folder, "index")
        self._journals = {path: self._journals.get(path) or FileJournal(path) for path in paths}

    def _announced(self) -> list[str]:
        try:
            names = os.listdir(os.path.join(self._run, layout.WRITERS))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        tags = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        first, *others = (os.path.join(self._run, layout.file_index(tag)) for tag in ("", *tags))
        found = sorted({*self._journals, *filter(os.path.exists, others)} - {first})
        return [first, *found] if os.path.exists(first) else found

    def _forget(self) -> None:
        self._folder_state, self._listed_at, self._journals = None, -LIST_EVERY_S, {}

    def _read_journal(self, path: str) -> None:
        known = self._journals[path]
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by the with statement below
        except FileNotFoundError:
            self._folder_state = None
            del self._journals[path]
            return
        with file:  # opened each time: that is when a network file system looks for what others wrote
            state = state_of(os.fstat(file.fileno()))
            if state != known.state:
                if not known.is_continued_by(file, state):
                    known = self._journals[path] = FileJournal(path)
                known.read_on(file, state)


_catalogs: weakref.WeakKeyDictionary[Source, Catalog] = weakref.WeakKeyDictionary()


def catalog_of(source: Source) -> Catalog:
    """The catalog that all folders of a run share; it goes with the experiment or reader that it belongs to."""
    found = _catalogs.get(source)
    if found is None or not found.is_for(source.folder):
        found = _catalogs[source] = Catalog(source.folder)
    return found


def _line_at(path: str, start: int, number: int) -> Entry:
    with open(path, "rb") as file:
        file.seek(start)
        line = file.readline().removesuffix(b"\n")
    entry = file_index.entry_of(line)
    if entry is None or entry["id"] != str(number):
        raise LookupError(f"{path!r} was rewritten while it was read")
    return entry
