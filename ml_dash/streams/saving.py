"""What every way to save a file comes down to: an image, bytes, or a copy that lies ready beside the run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Never

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingFileError, StorageError
from ml_dash.ipc import spill_file
from ml_dash.media.frames import FORMAT_OF_SUFFIX, check_suffix
from ml_dash.query.file_about import check_about
from ml_dash.query.files import FolderReader, Record
from ml_dash.records.record import Kind
from ml_dash.records.values import to_plain
from ml_dash.snowflake import file_id
from ml_dash.storage import layout
from ml_dash.storage.disk import ChangedError, copy_file
from ml_dash.storage.documents import to_json
from ml_dash.storage.names import check_file_path
from ml_dash.streams.attribute_errors import Hinted
from ml_dash.streams.owner import Owner
from ml_dash.streams.pixels import FrameKind, kind_of, publish_frame

MAX_FILE_BYTES = 100_000_000_000
"""The largest file that is taken, 100 GB as in the published client: a larger one is mostly a mistake, and fills disks."""

LONGEST_PLAIN_NAME = 200
"""Characters of an image's name that need no look at the limits of the file system."""

_FILE = int(Kind.FILE)
_IMAGE = int(Kind.IMAGE)
_perf = time.perf_counter_ns
_NO_NAME: Any = None
_CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png"}


class FolderSaver(Hinted, FolderReader):
    """A folder that can be saved to; see ``Folder``, which is the whole of it."""

    _instead: ClassVar[dict[str, str]] = {
        "read_json": "json.loads(exp.files.read_text(path))",
        "log": "save(content, to=...)",
        "write": "save(content, to=...)",
    }

    def __init__(self, owner: Owner, folder: str | None = None, **options: Any) -> None:
        super().__init__(owner, folder, **options)
        self._owner = owner
        self._path = f"/{self._folder}"
        self._kind: FrameKind | None = None

    def save_image(
        self,
        image: object,
        *misplaced: Never,
        to: str = _NO_NAME,
        quality: int = 95,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        bindrs: Sequence[str] | None = None,
    ) -> Record:
        """Save a frame as JPEG or PNG. The call copies the pixels; the writer process converts and encodes.

        Args:
            image: an array of shape HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA) with any strides: uint8 as it is; uint16
                (16 bits in PNG); bool; float in [0, 1]; any other range is stretched from its minimum to its maximum,
                with NaN as black, and one value everywhere is that gray level, clipped to 0..255. Torch tensors and Pillow images are taken too.
            *misplaced: nothing; a name that is given without ``to=`` is refused.
            to: the file's name, ending in ``.jpg``, ``.jpeg`` or ``.png``; it may begin with folders.
            quality: of JPEG, 1 to 100.
            description: what it is.
            tags: words to find it by.
            metadata: more about it.
            bindrs: resources or teams that it belongs to.

        Raises:
            InvalidValueError: the shape, suffix or quality is wrong.
            InvalidTypeError: it is no array, or has a dtype that is no number; or ``to`` is missing.
            InvalidNameError: ``to`` cannot be a place on disk.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        when = time.time()
        if misplaced or to is _NO_NAME:
            raise _without_name("save_image", misplaced)
        suffix = FORMAT_OF_SUFFIX.get(to[-4:]) if type(to) is str else None
        # A name is new with each frame: what nearly all of them look like is seen without a search through patterns.
        if suffix is not None and to[:-4].isidentifier() and to.isascii() and len(to) <= LONGEST_PLAIN_NAME:
            folder, filename = self._path, to
        else:
            folder, filename = self._split(to)
            suffix = check_suffix(filename)
        kind, pixels = self._kind, image
        if kind is None or not kind.has(image, suffix, quality):
            pixels, kind = kind_of(image, suffix, quality)
            self._kind = kind
        record = {"id": file_id(when), "path": folder, "filename": filename, "contentType": _CONTENT_TYPES[suffix]}
        entry = record
        if self._options or not (description is None and tags is None and metadata is None and bindrs is None):
            entry = {**record, **self._about(description, tags, metadata, bindrs)}
        published = publish_frame(self._owner, _IMAGE, to_json(entry), b"{", pixels, kind, when, started)
        record["status"] = "queued" if published else "dropped"
        return record

    def upload(
        self,
        fpath: str | os.PathLike[str],
        *,
        to: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        bindrs: Sequence[str] | None = None,
    ) -> Record:
        """Store a copy of a file as it is now, with its time and permissions. The file itself is left alone.

        Where the file system can, the copy shares its blocks; else the system copies. The bytes never are in memory.
        A file that another process changes while it is copied is copied anew, and refused if that does not end.

        Args:
            fpath: the file; an empty one is taken too.
            to: its name in the run, which may begin with folders; default its own name.
            description: what it is.
            tags: words to find it by.
            metadata: more about it.
            bindrs: resources or teams that it belongs to.

        Raises:
            MissingFileError: there is no such file.
            InvalidValueError: it is a folder or a device, or larger than 100 GB.
            InvalidNameError: ``to`` cannot be a place on disk.
            StorageError: it kept changing.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        path = _checked_file(fpath)
        entry = self._entry(to if to is not None else os.path.basename(path), description, tags, metadata, bindrs)
        return self._store(entry, lambda staged: copy_file(path, staged), started)

    def save_blob(
        self,
        content: bytes | bytearray | memoryview,
        *,
        to: str,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        bindrs: Sequence[str] | None = None,
    ) -> Record:
        """Save bytes.

        Raises:
            InvalidTypeError: it is not bytes.
            InvalidNameError: ``to`` cannot be a place on disk.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise InvalidTypeError(f"save_blob: {type(content).__name__} is not bytes; use save, save_text or save_pkl")
        entry = self._entry(to, description, tags, metadata, bindrs)
        return self._publish(entry, to_json(entry), bytes(content), started)

    def _store(self, entry: Record, write: Callable[[str], object], started: int) -> Record:
        """Have ``write`` make a file beside the run, and publish that it is there to be put in place."""
        channel = self._owner.channel
        channel.require_open()  # a forked child has its own writer id from here on
        staged = f"{layout.STAGING}/{spill_file.prefix(self._owner.writer_id)}{entry['id']}"
        path = os.path.join(self._owner.folder, staged)
        try:
            spill_file.make_file(path)
            write(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(path)
            if isinstance(error, ChangedError):
                raise StorageError(
                    error.errno, f"{error.strerror}; save it when nobody writes it", error.filename
                ) from None
            if not isinstance(error, OSError) or isinstance(error, StorageError):
                raise
            channel.refuse(f"{entry['filename']!r} was not saved: {without_id(error, entry)}")
            return {**entry, "status": "refused"}
        return self._publish(entry, to_json({**entry, "staged": staged}), b"", started)

    def _publish(self, entry: Record, key: bytes, data: bytes, started: int) -> Record:
        published = self._owner.channel.publish(_FILE, key, data, time.time(), started)
        return {**entry, "status": "queued" if published else "refused"}

    def _entry(
        self,
        to: str,
        description: str | None,
        tags: Sequence[str] | None,
        metadata: Mapping[str, object] | None,
        bindrs: Sequence[str] | None = None,
    ) -> Record:
        folder, filename = self._split(to)
        import mimetypes  # reads the system's tables when it is loaded

        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        record = {"id": file_id(), "path": folder, "filename": filename, "contentType": content_type}
        return {**record, **self._about(description, tags, metadata, bindrs)}

    def _about(
        self,
        description: str | None,
        tags: Sequence[str] | None,
        metadata: Mapping[str, object] | None,
        bindrs: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """What was said of a file in a call, and for the rest by the folder's options, as it is stored."""
        given = {"description": description, "tags": tags, "metadata": metadata, "bindrs": bindrs}
        given = {name: value for name, value in given.items() if value is not None}
        check_about(given)
        plain: dict[str, Any] = to_plain(self._options | given, "a file's record")
        return plain

    def _split(self, to: object) -> tuple[str, str]:
        """The record's ``path`` (with a leading slash) and ``filename``."""
        segments = check_file_path(to)
        if len(segments) == 1:
            return self._path, segments[0]
        *folders, filename = segments
        return "/" + "/".join([self._folder, *folders] if self._folder else folders), filename


def _without_name(call: str, misplaced: tuple[object, ...]) -> InvalidTypeError:
    name = misplaced[0] if misplaced and isinstance(misplaced[0], (str, os.PathLike)) else "name.png"
    return InvalidTypeError(f"{call}: the name is given by keyword: write to={os.fspath(name)!r}")


def without_id(error: Exception, entry: Record) -> str:
    """What went wrong, without the id in the name of the staged file: a text that is the same again is shown once."""
    return str(error).replace(entry["id"], "...")


def _checked_file(fpath: object) -> str:
    if not isinstance(fpath, (str, os.PathLike)):
        raise InvalidTypeError(
            f"upload: {fpath!r:.80} is a {type(fpath).__name__}, not a path; use save_blob for bytes"
        )
    path = os.fsdecode(fpath)
    if not os.path.isfile(path):
        if os.path.isdir(path):
            raise InvalidValueError(f"{path!r} is a folder; save its files one by one, or an archive of it")
        if os.path.lexists(path) and os.path.exists(path):
            raise InvalidValueError(f"{path!r} is no regular file; read it and use save_blob")
        hint = "" if isinstance(fpath, os.PathLike) else "; to save the text itself, use save_text"
        raise MissingFileError(f"there is no file {path!r:.200} (looked from {_current_folder()}){hint}")
    size = os.path.getsize(path)
    if size > MAX_FILE_BYTES:
        raise InvalidValueError(f"{path!r} has {size} bytes; at most {MAX_FILE_BYTES} are taken, so save it in parts")
    return path


def _current_folder() -> str:
    try:
        return repr(os.getcwd())
    except OSError:
        return "the current folder, which was removed"
