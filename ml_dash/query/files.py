"""Read a run's files: list them, read their contents, and copy them out of the run."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingFileError, StorageError
from ml_dash.query import download
from ml_dash.query.file_about import ABOUT, check_about
from ml_dash.query.reader import Source
from ml_dash.storage import reading
from ml_dash.storage.file_index import full_name, is_below
from ml_dash.storage.names import check_file_path, closest, unknown_keyword

if TYPE_CHECKING:
    from ml_dash.query.file_lookup import FileLookup

Record = dict[str, Any]
Records = list[Record]
Paths = list[str]
FileRef = str | Mapping[str, Any] | None
"""Reference to a file: its path below the folder, its bare name, its id, or its record; None for the folder's own path
or the option ``file_id``."""

OPTIONS = (*ABOUT, "prefix", "file_id", "dest_path", "file_path")
READ_ATTEMPTS = 10
"""Attempts to read a file that later saves replace at the same time: another process may save it a thousand times a
second, and a lookup takes a tenth of a millisecond."""

CLOSE_NAMES = 1000
"""Files that are compared with a wrong name, to name the closest one: about 10 ms."""

_MAGIC = re.compile(r"[*?\[]")
_T = TypeVar("_T")


class FolderReader:
    """A folder of a run's files, and everything below it.

    Args:
        source: the run.
        folder: path of the folder, such as ``models``; None for the root.
        **options: ``prefix`` (another name of ``folder``), ``description``, ``tags``, ``bindrs`` and ``metadata`` (of
            the files that are saved; ``tags`` and ``bindrs`` also filter ``list``), ``file_id`` (the file of calls that
            name none), ``dest_path`` (default target of ``download``), ``file_path`` (default source of ``save``).
    """

    def __init__(self, source: Source, folder: str | None = None, **options: Any) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        unknown = next((name for name in options if name not in OPTIONS), None)
        if unknown is not None:
            raise unknown_keyword(unknown, OPTIONS, "exp.files()")
        check_about(given)
        prefix = given.pop("prefix", None)
        folders = {"/".join(check_file_path(path)) for path in (folder, prefix) if path is not None}
        if len(folders) > 1:
            raise InvalidValueError(f"the folder {folder!r} has another prefix; they are the same: give one")
        self._source = source
        self._folder = folders.pop() if folders else ""
        self._file_id = str(given.pop("file_id", ""))
        self._dest_path = given.pop("dest_path", None)
        self._file_path = given.pop("file_path", None)
        self._options = given

    def list(
        self, pattern: str | None = None, *, tags: Sequence[str] | None = None, bindrs: Sequence[str] | None = None
    ) -> Records:
        """Return the records of the files in this folder and below it, including files that were just saved.

        Args:
            pattern: a glob such as ``*.png``, matched against the file's name, its path below this folder, and its
                whole path. ``*`` also matches slashes, ``**/`` any number of folders or none; case counts. The name of
                a folder matches every file in it.
            tags: only files with at least one of these tags; default the option ``tags``.
            bindrs: only files with at least one of these bindrs; default the option ``bindrs``.

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
        matches = self._filtered(self._below(), pattern, self._options | given)
        if pattern and not matches and not _MAGIC.search(pattern):
            return self._filtered(self._below(), f"{pattern.rstrip('/')}/*", self._options | given)
        return matches

    def record(self, path: FileRef = None) -> Record:
        """Return the record of one file; see ``list`` for its keys.

        Args:
            path: the file's path below this folder, its bare name if only one file below the folder has that name, its
                id, or a record of it. A record of an earlier save stands for the present file of that path and name.
                Default: the file with this folder's own path (``exp.files("models/best.pt")``), or of the option
                ``file_id``.

        Raises:
            MissingFileError: there is no such file.
            InvalidValueError: several files have that name, or none was named.
        """
        matches = self._find(path)
        if len(matches) == 1:
            return matches[0]
        if matches:
            paths = ", ".join(full_name(entry) for entry in matches[:5])
            raise InvalidValueError(f"{len(matches)} files are named {path!r}: {paths}; give the path of one")
        raise self._missing(path)

    def exists(self, path: FileRef = None) -> bool:
        """Whether there is such a file; see ``record`` for how to name it.

        Returns:
            True if the run has it, and it was not deleted.

        Raises:
            InvalidNameError: the path cannot exist on a disk.
            StorageError: the run's directory cannot be read.
        """
        return bool(self._find(path))

    def read_bytes(self, path: FileRef = None) -> bytes:
        """Read a file's content.

        Args:
            path: the file; see ``record``.

        Returns:
            The content.

        Raises:
            MissingFileError: there is no such file.
            StorageError: the content is not what was saved.
        """
        return self._with_blob(self.record(path), lambda entry: download.read_blob(self._source.folder, entry))

    def read_text(self, path: FileRef = None, *, encoding: str = "utf-8") -> str:
        """Read a file's content as text.

        Args:
            path: the file; see ``record``.
            encoding: the encoding of the file.

        Returns:
            The content, decoded.

        Raises:
            MissingFileError: there is no such file.
            StorageError: the content is not what was saved.
            UnicodeDecodeError: the content is no text in that encoding.
        """
        content = self.read_bytes(path)
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:  # save_text stores lone surrogates, which a path that is no UTF-8 contains
            return content.decode(encoding, "surrogatepass")

    def download(self, pattern: FileRef = None, *, to: download.LocalPath | None = None) -> str | Paths:
        """Copy a file, or every file that a glob matches, out of the run. Existing files are replaced, as by cp.

        A copy appears under its name when it is complete and its checksum is right. Of several files, one that cannot be
        read does not keep the others from being copied. A glob replaces no existing file whose path has a name that
        begins with a dot, unless the pattern has one too. A large file of a run that is still
        open has no checksum yet; then only its size is compared.

        Args:
            pattern: the file, see ``record``; or a glob, see ``list``.
            to: for one file: its new path, or a folder that exists or ends in a slash. For a glob: a folder; the part
                of the pattern without magic characters is left out of the paths in it. Default the option
                ``dest_path``, else the current folder.

        Returns:
            The absolute path of the copy; for a glob, a list of all paths.

        Raises:
            MissingFileError: there is no such file, or none matches.
            InvalidTypeError: ``to`` is no path.
            StorageError: the content is not what was saved, or the copy cannot be written. Of a glob, all other files
                are copied first.

        Warns:
            UserWarning: a file of a glob was left out, since its record leads out of the run, or for its hidden name. If
                all records lead out of the run, StorageError is raised.
        """
        target = download.check_local_path(to if to is not None else self._dest_path or "")
        matches, is_one = self._select(pattern)
        if is_one:
            return self._fetch(matches[0], download.target_path(matches[0]["filename"], target))
        return self._fetch_all(matches, str(pattern), target)

    def _fetch_all(self, matches: Records, pattern: str, folder: str) -> Paths:
        paths: Paths = []
        failed: list[StorageError] = []
        left_out: list[StorageError] = []
        for entry in matches:
            below = self._below_fixed(entry, pattern)
            try:
                target = download.target_below(below, folder)
                if download.is_hidden(below) and not download.is_hidden(pattern) and os.path.lexists(target):
                    _warn(f"{target!r} is there and hidden, and is not replaced; name it")
                    continue
                paths.append(self._fetch(entry, target))
            except download.BadRecordError as error:
                left_out.append(error)
            except download.NotWrittenError:
                raise
            except StorageError as error:
                failed.append(error)
        if failed:
            failed[0].add_note(f"{len(failed):,} of {len(matches):,} files were not copied, the others were")
            raise failed[0]
        if left_out and len(left_out) == len(matches):
            raise left_out[0]
        for refused in left_out:
            _warn(f"a file is left out: {refused.strerror}")
        return paths

    def _below(self) -> Records:
        self._source.flush()
        entries = reading.read_files(self._source.folder)
        return [entry for entry in entries if is_below(entry, self._folder)] if self._folder else entries

    def _lookup(self) -> FileLookup:
        from ml_dash.query.file_lookup import lookup_of  # not loaded by a training process that only logs

        self._source.flush()
        return lookup_of(self._source).refresh()

    def _filtered(self, entries: Records, pattern: str | None, options: Mapping[str, Any]) -> Records:
        for name in ("tags", "bindrs"):
            if name in options:
                words = set(options[name])
                entries = [entry for entry in entries if not words.isdisjoint(entry.get(name) or ())]
        if pattern is None:
            return entries
        match = _compiled_glob(pattern).fullmatch
        cut = len(self._folder) + 1 if self._folder else 0
        bare = "/" not in pattern  # else no bare name fits that its path would not
        return [
            entry
            for entry in entries
            if (bare and match(entry["filename"])) or match(full := full_name(entry)) or (cut and match(full[cut:]))
        ]

    def _find(self, ref: FileRef) -> Records:
        """Return the files that a call may mean: none, one, or several with one bare name."""
        if isinstance(ref, Mapping):
            lookup, name = self._lookup(), _record_name(ref)
            return lookup.by_id(ref.get("id")) or (lookup.by_path(name) if name is not None else [])
        if ref is None:
            if self._file_id:
                return self._lookup().by_id(self._file_id)
            if not self._folder:
                raise InvalidValueError("no file was named; pass its path, or get it as exp.files('models/best.pt')")
            lookup = self._lookup()
            return lookup.by_path(self._folder) or lookup.by_name(self._folder, "")
        # The path of a record begins with a slash, and names the file as well.
        path = check_file_path(ref.lstrip("/") if isinstance(ref, str) else ref)  # type: ignore[redundant-expr]  # a call may pass anything
        lookup = self._lookup()
        matches = lookup.by_path("/".join([self._folder, *path] if self._folder else path))
        if not matches and len(path) == 1:
            matches = lookup.by_name(path[0], self._folder)
        return matches or (lookup.by_id(ref) if ref.isdecimal() else [])

    def _select(self, ref: FileRef, *, exact_first: bool = True) -> tuple[Records, bool]:
        """Return the files that a call is about, and whether it named one file rather than a pattern.

        Args:
            ref: a file or a pattern.
            exact_first: take a file whose name reads like the pattern as the only match.
        """
        if not isinstance(ref, str) or not _MAGIC.search(ref):
            return [self.record(ref)], True
        below, pattern = self._below(), ref.lstrip("/")
        exact = [entry for entry in below if self._relative(entry) == pattern]
        if exact and exact_first:
            return exact, True
        matches = self._filtered(below, pattern, self._options)
        matches += [entry for entry in exact if entry not in matches]
        if not matches:
            raise self._missing(ref)
        return matches, False

    def _relative(self, entry: Record) -> str:
        return full_name(entry)[len(self._folder) + 1 if self._folder else 0 :]

    def _below_fixed(self, entry: Record, pattern: str) -> str:
        """Return the path of a file below the leading folders of a pattern that have no magic."""
        folders = pattern.lstrip("/").split("/")[:-1]
        magic = next((index for index, folder in enumerate(folders) if _MAGIC.search(folder)), len(folders))
        fixed = "".join(f"{folder}/" for folder in folders[:magic])
        paths = (self._relative(entry), full_name(entry))
        return next((path[len(fixed) :] for path in paths if path.startswith(fixed)), paths[0])

    def _fetch(self, entry: Record, target: str) -> str:
        return self._with_blob(entry, lambda newest: download.fetch(self._source.folder, newest, target))

    def _with_blob(self, entry: Record, use: Callable[[Record], _T]) -> _T:
        """Call ``use`` with a stored file, or with the later one where a later save has replaced it meanwhile."""
        for _ in range(READ_ATTEMPTS):
            try:
                return use(entry)
            except FileNotFoundError:
                later = [newer for newer in self._lookup().by_path(full_name(entry)) if newer["id"] != entry["id"]]
                if not later:
                    raise
                entry = later[0]
        return use(entry)

    def _missing(self, ref: FileRef) -> MissingFileError:
        if isinstance(ref, Mapping):
            name = _record_name(ref)
            named = f"{name!r:.200}, nor one " if name else ""
            return MissingFileError(f"the run has no file {named}with the id {ref.get('id')!r:.80}; it may be deleted")
        text = ref if ref is not None else self._file_id or self._folder
        cut = len(self._folder) + 1 if self._folder else 0
        names = self._lookup().paths_below(self._folder, CLOSE_NAMES)
        near = closest(text, [name[cut:] for name in names])
        where = f"the folder {self._folder!r}" if self._folder and ref is not None else "the run"
        return MissingFileError(f"{where} has no file {text!r:.200}" + (f"; did you mean {near!r}?" if near else ""))


class FilesReader(FolderReader):
    """The files of a run. Call it with a folder to get that folder; the object itself is the root."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)

    def __call__(self, folder: str | None = None, **options: Any) -> FolderReader:
        """Return a folder of the run's files; see ``FolderReader`` for the options."""
        return FolderReader(self._source, folder, **options)


def _warn(text: str) -> None:
    with contextlib.suppress(Warning):  # where warnings are errors, a neighbour's record must not end the download
        warnings.warn(text, stacklevel=4)


def _record_name(record: Mapping[str, Any]) -> str | None:
    path, filename = record.get("path"), record.get("filename")
    if not isinstance(path, str) or not isinstance(filename, str):
        return None
    return full_name({"path": path, "filename": filename})


def _compiled_glob(pattern: str) -> re.Pattern[str]:
    """Compile a glob for ``fullmatch``: ``*`` also stands for slashes, ``**/`` for any number of folders; case counts."""
    import fnmatch

    # translate() marks the end of the text, which stands in the middle when parts are joined.
    parts = [fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z") for part in pattern.split("**/")]
    return re.compile("(?:.*/)?".join(parts), re.DOTALL)
