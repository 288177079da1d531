"""Files of a run: saving them, and changing what was saved."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.query import download
from ml_dash.query.files import ABOUT, Record, Records, Which
from ml_dash.records.record import Kind
from ml_dash.records.values import revive
from ml_dash.storage.disk import copy_file
from ml_dash.storage.documents import timestamp, to_json
from ml_dash.storage.names import check_file_path
from ml_dash.streams.attribute_errors import OfRun
from ml_dash.streams.kinds import KindSaver
from ml_dash.streams.owner import Owner

_CHANGE = int(Kind.FILE_CHANGE)
_perf = time.perf_counter_ns


class Folder(KindSaver):
    """A folder of a run's files. Get it as ``exp.files("models")``; it may be kept and used from any thread.

    Every saving call takes a snapshot: what is stored is what was there at the call, and the user's own file or array
    is never touched. Each returns the file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``
    (``queued``; ``dropped`` for a frame that found no room under the policy ``drop``; ``refused`` for what could not
    be kept because the disk refuses, which ``exp.health()`` counts).

    Calls that read see what was saved before them, also a moment before. What another process of the same run has
    saved is seen once its writer has written it, some milliseconds later.
    """

    def __repr__(self) -> str:
        return f"<files {self._folder!r} of {self._owner.prefix!r}>"

    def delete(self, pattern: Which = None) -> Record | Records:
        """Delete a file, or every file that a glob matches. Its name is free then, and its content stays on disk.

        The content goes when another file is saved under the same name.

        Args:
            pattern: which file; see ``record``. Or a glob; see ``list``. A text with ``*``, ``?`` or ``[`` always is
                one here, and also means the file that is named just so; to delete only that, pass its record.

        Returns:
            ``id`` and ``deletedAt`` of the file; for a glob, a list of them.

        Raises:
            MissingFileError: there is no such file, or none matches.
            ExperimentError: the experiment is not open.
        """
        self._owner.channel.require_open()
        found, one = self._select(pattern, exact_first=False)
        deleted = [self._change(entry["id"], "deletedAt", {}) for entry in found]
        return deleted[0] if one else deleted

    def update(
        self,
        path: Which = None,
        *,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        bindrs: Sequence[str] | None = None,
    ) -> Record:
        """Change what is said of a file. What is not given stays as it is.

        Args:
            path: which file; see ``record``.
            description: what it is.
            tags: words to find it by, in place of those it has; an empty list removes them.
            metadata: more about it, in place of what it has.
            bindrs: resources or teams that it belongs to, in place of those it has.

        Returns:
            The file's record, as it is then.

        Raises:
            MissingFileError: there is no such file.
            InvalidValueError: nothing to change was given.
            InvalidTypeError: a value cannot be stored.
            ExperimentError: the experiment is not open.
        """
        self._owner.channel.require_open()
        about = self._about(description, tags, metadata, bindrs)
        if not about:
            raise InvalidValueError(f"update: nothing to change was given; pass {', '.join(ABOUT)} or some of them")
        entry = self.record(path)
        change = self._change(entry["id"], "updatedAt", about)
        return entry | {name: revive(value) for name, value in about.items()} | {"updatedAt": change["updatedAt"]}

    def duplicate(self, source: Which, to: str) -> Record:
        """Save a stored file once more, under another name. It keeps its description, tags, metadata and bindrs.

        Args:
            source: which file; see ``record``.
            to: the name of the copy, in this folder; it may begin with folders.

        Raises:
            MissingFileError: there is no such file.
            InvalidNameError: ``to`` cannot be a place on disk.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        self._owner.channel.require_open()
        check_file_path(to)
        if source is None:
            raise InvalidTypeError("duplicate: no source was given; pass a path, an id or a record")
        return self._with_blob(self.record(source), lambda entry: self._duplicated(entry, to, started))

    def _duplicated(self, entry: Record, to: str, started: int) -> Record:
        kept = {name: entry.get(name) for name in ABOUT if name not in self._options}
        copy = self._entry(to, **kept)
        blob = download.blob_path(self._owner.folder, entry)
        open(blob, "rb").close()  # raises what _with_blob waits for: a later save has replaced it
        return self._store(copy, lambda staged: copy_file(blob, staged), started)

    def _change(self, file_id: str, when: str, about: Mapping[str, Any]) -> Record:
        now = time.time()
        change = {"id": file_id, **about, when: timestamp(now)}
        published = self._owner.channel.publish(_CHANGE, b"", to_json(change), now, _perf())
        return change if published else {**change, when: None}


class Files(OfRun, Folder):
    """Every file of a run. ``exp.files(folder)`` is one folder of it; without one it is the root."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._folders: dict[str, Folder] = {}

    def __call__(self, folder: str | None = None, **options: Any) -> Folder:
        """A folder of the run's files.

        Args:
            folder: its path, such as ``models`` or ``eval/frames``; None for the root. ``prefix=`` is another name.
            **options: ``description``, ``tags``, ``bindrs`` and ``metadata`` for what is saved through it, of which
                ``tags`` and ``bindrs`` also filter what it lists; ``file_id``, the file that its calls are about;
                ``dest_path``, where ``download`` puts it; ``file_path``, what ``save`` saves.

        Raises:
            InvalidNameError: the path cannot be a place on disk.
            InvalidTypeError: an option is not known; the text names the closest one.
        """
        if options or not isinstance(folder, str):
            return self if folder is None and not options else Folder(self._owner, folder, **options)
        found = self._folders.get(folder)
        if found is None:
            check_file_path(folder)
            found = self._folders[folder] = Folder(self._owner, folder)
        return found
