"""Files of a run: images, text, JSON, bytes, and copies of the user's own files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ml_dash._json import json
from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingFileError
from ml_dash.media.frames import FORMAT_OF_SUFFIX, check_frame, check_quality, check_suffix
from ml_dash.records.record import Kind
from ml_dash.records.values import to_plain
from ml_dash.snowflake import file_id
from ml_dash.storage import layout, reading
from ml_dash.storage.disk import copy_file
from ml_dash.storage.documents import to_json
from ml_dash.storage.names import check_file_path, unknown_keyword
from ml_dash.streams.owner import Owner
from ml_dash.streams.pixels import publish_frame

_FILE = int(Kind.FILE)
_IMAGE = int(Kind.IMAGE)
_perf = time.perf_counter_ns
_OPTIONS = ("description", "tags", "bindrs", "metadata")
_CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png"}


class Folder:
    """A folder of a run's files. Get it as ``exp.files("models")``; it may be kept and used from any thread.

    Every saving call takes a snapshot: what is stored is what was there at the call, and the user's own file or array
    is never touched. Each returns the file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``
    (``queued``; ``dropped`` for a frame that found no room under the policy ``drop``).
    """

    def __init__(self, owner: Owner, folder: str | None, **options: Any) -> None:
        unknown = next((name for name in options if name not in _OPTIONS), None)
        if unknown is not None:
            raise unknown_keyword(unknown, _OPTIONS, "exp.files()")
        self._owner = owner
        self._folder = "/".join(check_file_path(folder)) if folder is not None else ""
        self._path = f"/{self._folder}"
        self._options = {name: value for name, value in options.items() if value is not None}

    def save_image(
        self,
        image: object,
        *,
        to: str,
        quality: int = 95,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Save a frame as JPEG or PNG. The call copies the pixels; the writer process converts and encodes.

        Args:
            image: an array of shape HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA) with any strides: uint8 as it is; uint16
                (16 bits in PNG); bool; float in [0, 1]; any other range is stretched from its minimum to its maximum,
                with NaN as black. Torch tensors and Pillow images are taken too.
            to: the file's name, ending in ``.jpg``, ``.jpeg`` or ``.png``; it may begin with folders.
            quality: of JPEG, 1 to 100.
            description: what it is.
            tags: words to find it by.
            metadata: more about it.

        Raises:
            InvalidValueError: the shape, suffix or quality is wrong.
            InvalidTypeError: it is no array, or has a dtype that is no number.
            InvalidNameError: ``to`` cannot be a place on disk.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        when = time.time()
        folder, filename = self._split(to)
        # A dictionary for the usual endings: a name is new with each frame, and this is the path of every one.
        suffix = FORMAT_OF_SUFFIX.get(filename[filename.rfind(".") :]) or check_suffix(filename)
        if type(quality) is not int or quality != 95:  # 95.0 equals 95
            quality = check_quality(quality)
        pixels, spec = check_frame(image, suffix=suffix)
        record = {"id": file_id(), "path": folder, "filename": filename, "contentType": _CONTENT_TYPES[suffix]}
        entry = record
        if self._options or description is not None or tags is not None or metadata is not None:
            entry = {**record, **self._about(description, tags, metadata)}
        key = to_json(entry)
        published = publish_frame(self._owner, _IMAGE, key, {}, pixels, spec, suffix, quality, when, started)
        record["status"] = "queued" if published else "dropped"
        return record

    def save(
        self,
        content: object,
        *,
        to: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Save by type: a path is copied, bytes are stored, a dict or list becomes JSON, an array an image.

        Args:
            content: what to save.
            to: its name in the run; a path keeps its own name if it is missing.
            description: what it is.
            tags: words to find it by.
            metadata: more about it.

        Raises:
            InvalidValueError: ``to`` is missing.
            MissingFileError: a path names no file.
            InvalidTypeError: there is no way to save such a value.
        """
        about: dict[str, Any] = {"description": description, "tags": tags, "metadata": metadata}
        if isinstance(content, (str, os.PathLike)):
            return self.upload(content, to=to, **about)
        if to is None:
            raise InvalidValueError(f"save: to= is missing; a {type(content).__name__} has no name of its own")
        if isinstance(content, (bytes, bytearray, memoryview)):
            return self.save_blob(content, to=to, **about)
        if isinstance(content, (Mapping, list, tuple)):
            return self.save_json(content, to=to, **about)
        if isinstance(content, np.ndarray) or hasattr(content, "__array__") or hasattr(content, "__array_interface__"):
            return self.save_image(content, to=to, **about)
        raise InvalidTypeError(
            f"save: a {type(content).__name__} is no path, bytes, dict, list or array; use save_pkl or convert it"
        )

    def upload(
        self,
        fpath: str | os.PathLike[str],
        *,
        to: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Store a copy of a file as it is now. The bytes never pass through this process where the system can copy.

        Raises:
            MissingFileError: there is no such file.
            InvalidValueError: it is a folder.
            InvalidNameError: ``to`` cannot be a place on disk.
        """
        started = _perf()
        if not isinstance(fpath, (str, os.PathLike)):
            raise InvalidTypeError(
                f"upload: {fpath!r:.80} is a {type(fpath).__name__}, not a path; use save_blob for bytes"
            )
        path = os.fsdecode(fpath)
        if not os.path.isfile(path):
            if os.path.isdir(path):
                raise InvalidValueError(f"{path!r} is a folder; save its files one by one, or an archive of it")
            raise MissingFileError(f"there is no file {path!r} (looked from {os.getcwd()!r})")
        entry = self._entry(to if to is not None else os.path.basename(path), description, tags, metadata)
        staged = f"{layout.STAGING}/{self._owner.tag or 'main'}-{entry['id']}"
        if not self._stage(path, os.path.join(self._owner.folder, staged)):
            return {**entry, "status": "refused"}
        key = to_json({**entry, "staged": staged})
        return self._publish(entry, key, b"", started)

    def save_text(self, text: str, *, to: str, **about: Any) -> dict[str, Any]:
        """Save text as UTF-8. ``about`` is ``description``, ``tags``, ``metadata``, as for ``save``."""
        if not isinstance(text, str):
            raise InvalidTypeError(f"save_text: {type(text).__name__} is not str; call str() on it or use save_blob")
        return self.save_blob(text.encode("utf-8", "surrogatepass"), to=to, **about)

    def save_json(self, content: object, *, to: str, **about: Any) -> dict[str, Any]:
        """Save a value as indented JSON. Whatever ``exp.params`` takes is taken; not-a-number is the text ``NaN``.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key.
        """
        # The file is the user's own: their text stays as it is, also where it reads like not-a-number.
        text = json.dumps(to_plain(content, f"save_json to {to!r}", escape=False), indent=2, ensure_ascii=False)
        return self.save_blob(text.encode("utf-8", "surrogatepass"), to=to, **about)

    def save_pkl(self, content: object, *, to: str, **about: Any) -> dict[str, Any]:
        """Save any value with pickle.

        Raises:
            InvalidTypeError: the value cannot be pickled.
        """
        import pickle

        try:
            data = pickle.dumps(content)
        except Exception as error:  # pickling runs code of the value's own class, which may raise anything
            raise InvalidTypeError(
                f"save_pkl to {to!r}: a {type(content).__name__} cannot be pickled: {error}; save its parts"
            ) from error
        return self.save_blob(data, to=to, **about)

    def save_blob(
        self,
        content: bytes | bytearray | memoryview,
        *,
        to: str,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Save bytes.

        Raises:
            InvalidTypeError: it is not bytes.
            InvalidNameError: ``to`` cannot be a place on disk.
        """
        started = _perf()
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise InvalidTypeError(f"save_blob: {type(content).__name__} is not bytes; use save, save_text or save_pkl")
        entry = self._entry(to, description, tags, metadata)
        return self._publish(entry, to_json(entry), bytes(content), started)

    def list(self, pattern: str | None = None) -> list[dict[str, Any]]:
        """The records of the files in this folder and below it, those just saved included.

        Args:
            pattern: a glob such as ``*.png``, compared with the file's name and with its path below this folder.
        """
        self._owner.flush()
        found = [entry for entry in reading.read_files(self._owner.folder) if self._holds(entry["path"])]
        return [entry for entry in found if pattern is None or self._matches(entry, pattern)]

    def _publish(self, entry: dict[str, Any], key: bytes, data: bytes, started: int) -> dict[str, Any]:
        published = self._owner.channel.publish(_FILE, key, data, time.time(), started)
        return {**entry, "status": "queued" if published else "refused"}

    def _stage(self, source: str, staged: str) -> bool:
        channel = self._owner.channel
        channel.require_open()
        try:
            os.makedirs(os.path.dirname(staged), exist_ok=True)
            copy_file(source, staged)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(staged)
            channel.refuse(f"{source!r} was not saved: {error}")
            return False
        return True

    def _entry(
        self,
        to: str,
        description: str | None,
        tags: Sequence[str] | None,
        metadata: Mapping[str, object] | None,
    ) -> dict[str, Any]:
        folder, filename = self._split(to)
        import mimetypes  # reads the system's tables when it is loaded

        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        record = {"id": file_id(), "path": folder, "filename": filename, "contentType": content_type}
        return {**record, **self._about(description, tags, metadata)}

    def _about(
        self, description: str | None, tags: Sequence[str] | None, metadata: Mapping[str, object] | None
    ) -> dict[str, Any]:
        for name, texts in (("tags", tags), ("bindrs", self._options.get("bindrs"))):
            if texts is not None and (isinstance(texts, str) or not isinstance(texts, Sequence)):
                raise InvalidTypeError(f"{name}={texts!r:.80} must be a list of strings")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidTypeError(f"metadata={metadata!r:.80} must be a dict; pass names and values")
        given = {"description": description, "tags": tags, "metadata": metadata}
        about = self._options | {name: value for name, value in given.items() if value is not None}
        plain: dict[str, Any] = to_plain(about, "a file's record")
        return plain

    def _split(self, to: object) -> tuple[str, str]:
        """The record's ``path`` (with a leading slash) and ``filename``."""
        segments = check_file_path(to)
        if len(segments) == 1:
            return self._path, segments[0]
        *folders, filename = segments
        return "/" + "/".join([self._folder, *folders] if self._folder else folders), filename

    def _holds(self, path: str) -> bool:
        folder = path.strip("/")
        return not self._folder or folder == self._folder or folder.startswith(f"{self._folder}/")

    def _matches(self, entry: dict[str, Any], pattern: str) -> bool:
        full = f"{entry['path'].strip('/')}/{entry['filename']}".lstrip("/")
        below = full[len(self._folder) :].lstrip("/")
        import fnmatch

        return any(fnmatch.fnmatchcase(text, pattern) for text in (entry["filename"], below, full))


class Files(Folder):
    """Every file of a run. ``exp.files(folder)`` is one folder of it; without one it is the root."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner, None)
        self._folders: dict[str, Folder] = {}

    def __call__(self, folder: str | None = None, **options: Any) -> Folder:
        """A folder of the run's files.

        Args:
            folder: its path, such as ``models`` or ``eval/frames``; None for the root.
            **options: ``description``, ``tags``, ``bindrs`` and ``metadata`` for what is saved through it.

        Raises:
            InvalidNameError: the path cannot be a place on disk.
            InvalidTypeError: an option is not known; the text names the closest one.
        """
        if folder is None and not options:
            return self
        if options or not isinstance(folder, str):
            return Folder(self._owner, folder, **options)
        found = self._folders.get(folder)
        if found is None:
            check_file_path(folder)
            found = self._folders[folder] = Folder(self._owner, folder)
        return found
