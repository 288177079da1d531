"""Reading a run's files: which ones there are, what they hold, and copies of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingFileError
from ml_dash.query import download, file_lookup, globs
from ml_dash.query.file_about import check_about
from ml_dash.query.file_lookup import Lookup, is_below
from ml_dash.query.source import Source
from ml_dash.storage import reading
from ml_dash.storage.names import check_file_path, closest, unknown_keyword

Record = dict[str, Any]
Records = list[Record]
Paths = list[str]
Which = str | Mapping[str, Any] | None
"""How a file is named in a call: its path below the folder, its name, its id, or its record; None for the folder's own
path or the option ``file_id``."""

ABOUT = ("description", "tags", "bindrs", "metadata")
OPTIONS = (*ABOUT, "prefix", "file_id", "dest_path", "file_path")
READ_ATTEMPTS = 10
"""How often a file is looked for again when it was replaced by a later save just while it was read: another process
may save it a thousand times a second, and a look takes a tenth of a millisecond."""

CLOSE_NAMES = 1000
"""Files that are compared with a name that is not there, to tell the closest: it takes some 10 ms."""

full_name = file_lookup.full_name
_T = TypeVar("_T")


class FolderReader:
    """A folder of a run's files, and everything below it.

    Args:
        source: the run.
        folder: its path, such as ``models``; None for the root.
        **options: ``prefix`` (another name of ``folder``), ``description``, ``tags``, ``bindrs`` and ``metadata`` (for
            what is saved; ``tags`` and ``bindrs`` also filter ``list``), ``file_id`` (the file that a call is about),
            ``dest_path`` (where ``download`` puts it), ``file_path`` (what ``save`` saves).
    """

    def __init__(self, source: Source, folder: str | None = None, **options: Any) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        unknown = next((name for name in options if name not in OPTIONS), None)
        if unknown is not None:
            raise unknown_keyword(unknown, OPTIONS, "exp.files()")
        check_about(given)
        places = {
            "/".join(check_file_path(place)) for place in (folder, given.pop("prefix", None)) if place is not None
        }
        if len(places) > 1:
            raise InvalidValueError(f"the folder {folder!r} has another prefix; they are the same: give one")
        self._source = source
        self._folder = places.pop() if places else ""
        self._file_id = str(given.pop("file_id", ""))
        self._dest_path = given.pop("dest_path", None)
        self._file_path = given.pop("file_path", None)
        self._options = given

    def list(
        self, pattern: str | None = None, *, tags: Sequence[str] | None = None, bindrs: Sequence[str] | None = None
    ) -> Records:
        """The records of the files in this folder and below it, those just saved included.

        Args:
            pattern: a glob such as ``*.png``, compared with the file's name, its path below this folder, and its whole
                path. ``*`` also stands for slashes, ``**/`` for any number of folders or none; case counts. The name of
                a folder stands for what is in it.
            tags: only files with at least one of these; default the option ``tags``.
            bindrs: the same for ``bindrs``.

        Returns:
            The records in the order of saving: ``id``, ``experimentId``, ``path``, ``filename``, ``description``,
            ``tags``, ``bindrs``, ``contentType``, ``sizeBytes``, ``checksum``, ``metadata``, ``uploadedAt``,
            ``updatedAt`` and ``deletedAt``.

        Raises:
            InvalidTypeError: an argument is no string, or no list of strings.
        """
        if pattern is not None and not isinstance(pattern, str):
            raise InvalidTypeError(f"list: {pattern!r:.80} is no pattern; pass text such as '*.png'")
        given = {name: words for name, words in (("tags", tags), ("bindrs", bindrs)) if words is not None}
        check_about(given)
        found = self._filtered(self._below(), pattern, self._options | given)
        if pattern and not found and not any(letter in pattern for letter in "*?["):
            return self._filtered(self._below(), f"{pattern.rstrip('/')}/*", self._options | given)
        return found

    def record(self, path: Which = None) -> Record:
        """The record of one file; see ``list`` for its keys.

        Args:
            path: its path below this folder, its bare name if only one file below the folder has it, its id, or any
                record of it: one of an earlier save gives the file that has its path and name by then. Without one, the file is this folder's own path (``exp.files("models/best.pt")``) or
                the option ``file_id``.

        Raises:
            MissingFileError: there is no such file.
            InvalidValueError: several files have that name, or none was named.
        """
        found = self._find(path)
        if len(found) == 1:
            return found[0]
        if found:
            paths = ", ".join(full_name(entry) for entry in found[:5])
            raise InvalidValueError(f"{len(found)} files are named {path!r}: {paths}; give the path of one")
        raise self._missing(path)

    def exists(self, path: Which = None) -> bool:
        """Whether there is such a file; see ``record`` for how to name one.

        Raises:
            InvalidNameError: the path cannot be a place on disk.
            StorageError: the run's directory cannot be read.
        """
        return bool(self._find(path))

    def read_bytes(self, path: Which = None) -> bytes:
        """A file's content.

        Args:
            path: which file; see ``record``.

        Raises:
            MissingFileError: there is no such file.
            StorageError: it is not what was saved.
        """
        return self._with_blob(self.record(path), lambda entry: download.read_blob(self._source.folder, entry))

    def read_text(self, path: Which = None, *, encoding: str = "utf-8") -> str:
        """A file's content as text.

        Args:
            path: which file; see ``record``.
            encoding: of the file.

        Raises:
            MissingFileError: there is no such file.
            StorageError: it is not what was saved.
            UnicodeDecodeError: it is no text in that encoding.
        """
        content = self.read_bytes(path)
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:  # save_text takes lone surrogates, as a path that is no UTF-8 has them
            return content.decode(encoding, "surrogatepass")

    def download(self, pattern: Which = None, *, to: download.Place | None = None) -> str | Paths:
        """Copy a file, or every file that a glob matches, out of the run. A file that is there is replaced, as by cp.

        The copy appears under its name when it is complete and its checksum is right. A large file of a run that is
        still open has no checksum yet; then only its size is compared.

        Args:
            pattern: which file, see ``record``; or a glob, see ``list``.
            to: of one file: its new path, or a folder that exists or ends in a slash. Of a glob: a folder, in which
                the files lie as they do below the part of the pattern that has no ``*``. Default the option
                ``dest_path``, else the current folder.

        Returns:
            The absolute path of the copy; for a glob, all of them.

        Raises:
            MissingFileError: there is no such file, or none matches.
            InvalidTypeError: ``to`` is no path.
            StorageError: the copy is not what was saved (it is removed), or cannot be written.
        """
        place = download.checked_place(to if to is not None else self._dest_path or "")
        found, one = self._select(pattern)
        if one:
            return self._fetch(found[0], download.target_of(found[0]["filename"], place))
        targets = [download.target_below(self._below_fixed(entry, str(pattern)), place) for entry in found]
        return [self._fetch(entry, target) for entry, target in zip(found, targets, strict=True)]

    def _entries(self) -> Records:
        self._source.flush()
        return reading.read_files(self._source.folder)

    def _below(self) -> Records:
        entries = self._entries()
        return [entry for entry in entries if is_below(entry, self._folder)] if self._folder else entries

    def _look(self) -> Lookup:
        from ml_dash.query.file_catalog import catalog_of  # not loaded by a training process that only logs

        self._source.flush()
        return catalog_of(self._source).look()

    def _filtered(self, entries: Records, pattern: str | None, wanted: Mapping[str, Any]) -> Records:
        for name in ("tags", "bindrs"):
            if name in wanted:
                words = set(wanted[name])
                entries = [entry for entry in entries if not words.isdisjoint(entry.get(name) or ())]
        return entries if pattern is None else self._matching(entries, pattern)

    def _matching(self, entries: Records, pattern: str) -> Records:
        match = globs.compiled(pattern).fullmatch
        cut = len(self._folder) + 1 if self._folder else 0
        bare = "/" not in pattern  # else no bare name fits that its path would not
        return [
            entry
            for entry in entries
            if (bare and match(entry["filename"])) or match(full := full_name(entry)) or (cut and match(full[cut:]))
        ]

    def _find(self, which: Which) -> Records:
        """The files that a call may mean: none, one, or several of one bare name."""
        if isinstance(which, Mapping):
            look = self._look()
            return look.by_id(which.get("id")) or _of_record(look, which)
        if which is None:
            return self._own()
        path = check_file_path(_without_slash(which))
        look = self._look()
        found = look.by_path("/".join([self._folder, *path] if self._folder else path))
        if not found and len(path) == 1:
            found = look.by_name(path[0], self._folder)
        return found or (look.by_id(which) if which.isdecimal() else [])

    def _own(self) -> Records:
        """The file that this object itself stands for."""
        if self._file_id:
            return self._look().by_id(self._file_id)
        if not self._folder:
            raise InvalidValueError("no file was named; pass its path, or get it as exp.files('models/best.pt')")
        look = self._look()
        return look.by_path(self._folder) or look.by_name(self._folder, "")

    def _select(self, which: Which, *, exact_first: bool = True) -> tuple[Records, bool]:
        """The files that a call is about, and whether it named one of them rather than a pattern.

        Args:
            which: a file or a pattern.
            exact_first: whether a file that is named as the pattern reads is the only one meant.
        """
        if not isinstance(which, str) or not globs.has_magic(which):
            return [self.record(which)], True
        below, pattern = self._below(), which.lstrip("/")
        exact = [entry for entry in below if self._relative(entry) == pattern]
        if exact and exact_first:
            return exact, True
        matching = self._filtered(below, pattern, self._options)
        found = matching + [entry for entry in exact if entry not in matching]
        if not found:
            raise self._missing(which)
        return found, False

    def _relative(self, entry: Record) -> str:
        return full_name(entry)[len(self._folder) + 1 if self._folder else 0 :]

    def _below_fixed(self, entry: Record, pattern: str) -> str:
        """The path of a file below the part of a pattern that has no magic."""
        fixed = globs.fixed_part(pattern.lstrip("/"))
        paths = (self._relative(entry), full_name(entry))
        return next((path[len(fixed) :] for path in paths if path.startswith(fixed)), paths[0])

    def _fetch(self, entry: Record, target: str) -> str:
        return self._with_blob(entry, lambda newest: download.fetch(self._source.folder, newest, target))

    def _with_blob(self, entry: Record, use: Callable[[Record], _T]) -> _T:
        """Do something with a stored file; where a later save has replaced it meanwhile, with the later one."""
        for _ in range(READ_ATTEMPTS):
            try:
                return use(entry)
            except FileNotFoundError:
                later = [found for found in self._look().by_path(full_name(entry)) if found["id"] != entry["id"]]
                if not later:
                    raise
                entry = later[0]
        return use(entry)

    def _missing(self, which: Which) -> MissingFileError:
        if isinstance(which, Mapping):
            named = f"{_record_name(which)!r:.200}, nor one " if _record_name(which) else ""
            return MissingFileError(
                f"the run has no file {named}with the id {which.get('id')!r:.80}; it may be deleted"
            )
        text = which if which is not None else self._file_id or self._folder
        cut = len(self._folder) + 1 if self._folder else 0
        names = self._look().names_below(self._folder, CLOSE_NAMES)
        near = closest(text, [name[cut:] for name in names])
        where = f"the folder {self._folder!r}" if self._folder and which is not None else "the run"
        return MissingFileError(f"{where} has no file {text!r:.200}" + (f"; did you mean {near!r}?" if near else ""))


class FilesReader(FolderReader):
    """Every file of a run. ``files(folder)`` is one folder of it; without one it is the root."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)

    def __call__(self, folder: str | None = None, **options: Any) -> FolderReader:
        """A folder of the run's files; see ``FolderReader`` for the options."""
        return FolderReader(self._source, folder, **options)


def _without_slash(path: object) -> object:
    # The path of a record begins with a slash, and what a record says is a way to name a file.
    return path.lstrip("/") if isinstance(path, str) else path


def _record_name(record: Mapping[str, Any]) -> str | None:
    path, filename = record.get("path"), record.get("filename")
    return full_name(record) if isinstance(path, str) and isinstance(filename, str) else None


def _of_record(look: Lookup, record: Mapping[str, Any]) -> Records:
    """The file that has the path and name of a record by now."""
    name = _record_name(record)
    return look.by_path(name) if name is not None else []
