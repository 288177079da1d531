"""Files of a run: saving them, and changing what was saved."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Never, Unpack

import numpy as np

from ml_dash.errors import InvalidTypeError, InvalidValueError, StorageError
from ml_dash.ipc import spill_file
from ml_dash.ipc.frame_format import FrameFormat, check_image
from ml_dash.media.frames import FORMAT_OF_SUFFIX, image_format_of
from ml_dash.query import download
from ml_dash.query.file_about import ABOUT, About, check_about, check_keywords
from ml_dash.query.files import FileRef, FolderReader, Record, Records
from ml_dash.records.record import Kind
from ml_dash.records.values import revive, to_plain
from ml_dash.snowflake import file_id
from ml_dash.storage import layout
from ml_dash.storage.beneath import open_file
from ml_dash.storage.disk import ChangedError, copy_file
from ml_dash.storage.documents import timestamp, to_json
from ml_dash.storage.names import check_file_path, kind_of
from ml_dash.streams import file_formats
from ml_dash.streams.base import Owner, RunStream, Stream

LONGEST_PLAIN_NAME = 200
"""Characters of an image's name that need no check against the limits of the file system."""

_FILE = int(Kind.FILE)
_IMAGE = int(Kind.IMAGE)
_CHANGE = int(Kind.FILE_CHANGE)
_perf = time.perf_counter_ns
_NO_NAME: Any = None
_CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png"}


class Folder(Stream, FolderReader):
    """A folder of a run's files. Get it as ``exp.files("models")``; it may be kept and used from any thread.

    Every saving call takes a snapshot: it stores the value as it is at the call, and never touches the user's own file
    or array. Each takes the keywords ``description``, ``tags``, ``bindrs`` and ``metadata``, and returns the
    file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``, which is ``queued``; ``dropped`` for a
    frame that found no room under the policy ``drop``; or ``refused`` if the disk takes no more, which
    ``exp.health()`` counts.

    Every saving call raises ``InvalidNameError`` if ``to`` cannot be a path on disk, ``InvalidTypeError`` if a keyword
    is not known or a detail has the wrong type, and ``ExperimentError`` if the experiment is not open.

    Calls that read see every file that this process saved before. They see a file of another process of the same run
    once its writer has written it, some milliseconds later.
    """

    _instead: ClassVar[dict[str, str]] = {
        "read_json": "json.loads(exp.files.read_text(path))",
        "log": "save(content, to=...)",
        "write": "save(content, to=...)",
    }

    def __init__(self, owner: Owner, folder: str | None = None, **options: Any) -> None:
        super().__init__(owner, folder, **options)
        self._owner = owner
        self._path = f"/{self._folder}"
        self._frame_format: FrameFormat | None = None

    def __repr__(self) -> str:
        return f"<files {self._folder!r} of {self._owner.prefix!r}>"

    def save(self, content: object = None, *, to: str | None = None, **about: Unpack[About]) -> Record:
        """Save a value by its type and the ending of its name.

        A path is copied, and bytes are stored as they are. For other values the ending decides: ``.pt`` and ``.pth``
        use torch, ``.pkl`` and ``.pickle`` pickle, ``.npy`` and ``.npz`` numpy, ``.mp4``, ``.webm`` and ``.gif`` a
        video encoder. With another ending the type decides: a matplotlib figure is drawn, a dict, list or tuple
        becomes JSON, an array, tensor or Pillow image becomes an image.

        Args:
            content: the value; default the path that ``exp.files(folder, file_path=...)`` was given.
            to: its name in the run, which may begin with folders; a path keeps its own name by default.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            InvalidValueError: ``to`` is missing, or its ending does not fit the value.
            MissingFileError: a path names no file. Text is saved by ``save_text``.
            InvalidTypeError: such a value cannot be saved.
        """
        check_keywords(self.save, about)
        if content is None:
            content = self._file_path
        if isinstance(content, (str, os.PathLike)):
            return self.upload(content, to=to, **about)
        if content is None:
            raise InvalidTypeError("save: None is no path, bytes, dict, list or array; pass what is to be saved")
        if to is None:
            raise InvalidValueError(f"save: to= is missing; {kind_of(content)} has no name of its own")
        return self._method_for(content, to)(content, to=to, **about)

    def _method_for(self, content: object, to: str) -> Callable[..., Record]:
        if isinstance(content, (bytes, bytearray, memoryview)):
            return self.save_blob
        suffix = os.path.splitext(check_file_path(to)[-1])[1].lower()
        by_suffix: dict[str, Callable[..., Record]] = {
            **dict.fromkeys((".pt", ".pth"), self.save_torch),
            **dict.fromkeys((".pkl", ".pickle"), self.save_pkl),
            **dict.fromkeys((".npy", ".npz"), self._save_numpy),
            **dict.fromkeys((".mp4", ".webm", ".gif"), self.save_video),
        }
        if suffix in by_suffix:
            return by_suffix[suffix]
        if file_formats.is_figure(content):
            return self.save_fig
        if isinstance(content, (Mapping, list, tuple)):
            return self.save_json
        name = type(content).__name__
        if not (
            isinstance(content, np.ndarray) or hasattr(content, "__array__") or hasattr(content, "__array_interface__")
        ):
            raise InvalidTypeError(f"save: a {name} is no path, bytes, dict, list or array; use save_pkl or convert it")
        if suffix not in FORMAT_OF_SUFFIX:
            images = ", ".join(FORMAT_OF_SUFFIX)
            raise InvalidValueError(f"save: a {name} to a name in {suffix!r}: use {images} (an image), .npy or .npz")
        return self.save_image

    def upload(self, fpath: str | os.PathLike[str], *, to: str | None = None, **about: Unpack[About]) -> Record:
        """Store a copy of a file with its modification time and permissions.

        The copy shares the file's blocks where the file system can do that; else the system copies them, and never
        through this process's memory. A file that another process changes meanwhile is copied again, and refused if it
        changes each time.

        Args:
            fpath: the file, of 0 bytes to 100 GB.
            to: its name in the run, which may begin with folders; default its own name.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            MissingFileError: there is no such file.
            InvalidValueError: it is a folder or a device, or larger than 100 GB.
            StorageError: it kept changing.
        """
        started = _perf()
        check_keywords(self.upload, about)
        path = file_formats.checked_source(fpath)
        entry = self._entry(to if to is not None else os.path.basename(path), about)
        return self._store(entry, lambda staged: copy_file(path, staged), started)

    def save_blob(self, content: bytes | bytearray | memoryview, *, to: str, **about: Unpack[About]) -> Record:
        """Save bytes.

        Args:
            content: the bytes.
            to: the file's name; it may begin with folders.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            InvalidTypeError: ``content`` is not bytes.
        """
        started = _perf()
        check_keywords(self.save_blob, about)
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise InvalidTypeError(f"save_blob: {type(content).__name__} is not bytes; use save, save_text or save_pkl")
        entry = self._entry(to, about)
        return self._publish(entry, to_json(entry), bytes(content), started)

    def save_text(self, text: str, *, to: str, **about: Unpack[About]) -> Record:
        """Save text as UTF-8.

        Args:
            text: the text. Lone surrogates, as in names of files that are no UTF-8, are kept.
            to: the file's name; it may begin with folders.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            InvalidTypeError: ``text`` is not a str.
        """
        check_keywords(self.save_text, about)
        if not isinstance(text, str):
            raise InvalidTypeError(f"save_text: {type(text).__name__} is not str; call str() on it or use save_blob")
        return self.save_blob(text.encode("utf-8", "surrogatepass"), to=to, **about)

    def save_json(self, content: object, *, to: str, **about: Unpack[About]) -> Record:
        """Save a value as indented JSON.

        Args:
            content: any value that ``exp.params`` takes; NaN and infinities become the texts ``NaN`` and ``Infinity``.
            to: the file's name; it may begin with folders.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key.
        """
        check_keywords(self.save_json, about)
        return self.save_blob(file_formats.json_bytes(content, to), to=to, **about)

    def save_pkl(self, content: object, *, to: str, **about: Unpack[About]) -> Record:
        """Save a value with pickle.

        Args:
            content: any value that can be pickled.
            to: the file's name; it may begin with folders.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            InvalidTypeError: the value cannot be pickled.
        """
        check_keywords(self.save_pkl, about)
        return self.save_blob(file_formats.pickle_bytes(content, to), to=to, **about)

    def _save_numpy(self, content: object, *, to: str, **about: Unpack[About]) -> Record:
        return self.save_blob(file_formats.numpy_bytes(content, to), to=to, **about)

    def save_torch(self, content: object, *, to: str, **about: Unpack[About]) -> Record:
        """Save a value with ``torch.save``, straight into a file.

        Args:
            content: a model, a state dict, a tensor, or any other value that torch can save.
            to: the file's name; it may begin with folders.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            MissingExtraError: torch is not installed.
            InvalidTypeError: torch cannot save the value.
        """
        started = _perf()
        check_keywords(self.save_torch, about)
        torch = file_formats.import_optional("torch", "save_torch", "pip install torch")
        return self._store(
            self._entry(to, about), lambda staged: file_formats.write_torch(torch, content, staged, to), started
        )

    def save_fig(self, fig: Any = None, *, to: str, close: bool = True, **options: Any) -> Record:
        """Draw a matplotlib figure into a file, within this call.

        Args:
            fig: the figure, or another object with a method ``savefig``; default pyplot's current figure.
            to: the file's name; its ending is the format: ``.png``, ``.pdf``, ``.svg`` or another that matplotlib has.
            close: whether to close the figure afterwards, so that the figures of a loop do not fill the memory.
            **options: ``description``, ``tags``, ``bindrs`` and ``metadata`` as for ``save``; all others are passed to
                ``savefig``, such as ``dpi=150`` and ``bbox_inches="tight"``.

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            MissingExtraError: matplotlib is not installed.
            InvalidTypeError: ``fig`` is no figure.
            InvalidValueError: there is no current figure, or matplotlib cannot draw it; then it stays open.
        """
        check_file_path(to)
        self._owner.channel.require_open()  # before the drawing, which takes longest
        figure = file_formats.checked_figure(fig)
        about: Any = {name: options.pop(name) for name in ABOUT if name in options}
        record = self.save_blob(file_formats.figure_bytes(figure, to, options), to=to, **about)
        if close and "matplotlib.pyplot" in sys.modules:  # without pyplot only the caller holds the figure
            sys.modules["matplotlib.pyplot"].close(getattr(figure, "figure", figure))
        return record

    def save_image(
        self, image: object, *misplaced: Never, to: str = _NO_NAME, quality: int = 95, **about: Unpack[About]
    ) -> Record:
        """Save a frame as JPEG or PNG. The call copies the pixels; the writer process converts and encodes them.

        Args:
            image: an array of shape HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA) with any strides; a torch tensor or a
                Pillow image. uint8 is stored unchanged. uint16 is stored unchanged in PNG; JPEG takes the upper 8 bits.
                bool becomes 0 and 255. Floats in [0, 1] are multiplied by 255, and other integers in [0, 255] are
                stored unchanged. Values of another range are stretched from their minimum and maximum to 0 and 255; if
                all are equal, they are clipped to [0, 255]. NaN becomes 0.
            *misplaced: not accepted; it makes ``save_image(image, "a.png")`` an error that names ``to=``.
            to: the file's name, ending in ``.jpg``, ``.jpeg`` or ``.png``; it may begin with folders.
            quality: of JPEG, 1 to 100.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            InvalidValueError: the shape, the ending or the quality is wrong.
            InvalidTypeError: ``image`` is no array of numbers, or ``to`` is missing.
        """
        started = _perf()
        when = time.time()
        if misplaced or to is _NO_NAME:
            name = misplaced[0] if misplaced and isinstance(misplaced[0], (str, os.PathLike)) else "name.png"
            raise InvalidTypeError(f"save_image: the name is given by keyword: write to={os.fspath(name)!r}")
        image_format = FORMAT_OF_SUFFIX.get(to[-4:]) if type(to) is str else None
        # Each frame has a new name, so no cache helps: most names pass these few tests and skip the patterns.
        if image_format is not None and to[:-4].isidentifier() and to.isascii() and len(to) <= LONGEST_PLAIN_NAME:
            folder, filename = self._path, to
        else:
            folder, filename = self._split(to)
            image_format = image_format_of(filename)
        frame_format, pixels = self._frame_format, image
        if frame_format is None or not frame_format.matches(image, image_format, quality):
            pixels, frame_format = check_image(image, image_format, quality)
            self._frame_format = frame_format
        record = {
            "id": file_id(when),
            "path": folder,
            "filename": filename,
            "contentType": _CONTENT_TYPES[image_format],
        }
        entry = record
        if about or self._options:
            check_keywords(self.save_image, about)
            entry = {**record, **self._details(about)}
        published = self._owner.channel.publish_frame(_IMAGE, to_json(entry), b"{", pixels, frame_format, when, started)
        record["status"] = "queued" if published else "dropped"
        return record

    def save_video(
        self, frames: object, *, to: str, fps: float = 20, quality: int | None = None, **about: Unpack[About]
    ) -> Record:
        """Save frames as a video that a browser plays. The calling thread encodes it; then the video is safe.

        To encode later, append the frames to a stream with ``exp.frames(topic).append(frame)`` and call
        ``exp.frames(topic).export("clip.mp4")`` when there is time.

        Args:
            frames: an array of shape TxHxW or TxHxWxC, a list, or an iterator of images as ``save_image`` takes them,
                all of one size. They are taken one at a time. Floats outside [0, 1] are stretched over the range of all
                frames, or, from an iterator, over the range of the first one.
            to: the file's name, ending in ``.mp4`` (H.264), ``.webm`` (VP9) or ``.gif``; it may begin with folders. In
                MP4 and WebM an odd side gets its last row or column twice.
            fps: frames per second, above 1/600 and at most 1000 (50 for a GIF).
            quality: of MP4 and WebM, 1 to 100; default 75.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict).

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            InvalidValueError: there are no frames, they differ in size, or the ending, ``fps`` or ``quality`` is wrong.
            InvalidTypeError: a frame is no array of numbers.
            MissingExtraError: PyAV is not installed.
            Exception: any error of the iterator. Nothing is stored then.
        """
        from ml_dash.media.video import check_fps, check_video_name, check_video_quality

        check_keywords(self.save_video, about)
        kind = check_video_name(to)
        rate, level = check_fps(fps, kind), check_video_quality(quality)
        entry = self._entry(to, about)
        staged, path = self._staged_path(entry)
        problem = file_formats.write_video(self._owner.folder, path, frames, kind, rate, level)
        if problem is not None:
            return self._refuse(entry, f"the video {to!r}", problem)
        # Encoding is the user's own work and takes any time: only the hand-over counts as a cost of the tracker.
        return self._publish_staged(entry, staged, path, _perf())

    def delete(self, pattern: FileRef = None) -> Record | Records:
        """Delete a file, or every file that a glob matches.

        Its name is free at once. Its content stays on disk until another file is saved under that name.

        Args:
            pattern: a file, see ``record``; or a glob, see ``list``. Here a text with ``*``, ``?`` or ``[`` is always a
                glob, which also matches the file of exactly that name; to delete only that file, pass its record.

        Returns:
            ``id`` and ``deletedAt`` of the file; for a glob, a list of them.

        Raises:
            MissingFileError: there is no such file, or none matches.
            ExperimentError: the experiment is not open.
        """
        self._owner.channel.require_open()
        entries, one = self._select(pattern, exact_first=False)
        deleted = [self._change(entry["id"], "deletedAt", {}) for entry in entries]
        return deleted[0] if one else deleted

    def update(self, path: FileRef = None, **about: Unpack[About]) -> Record:
        """Change the details of a file. Details that are not given stay as they are.

        Args:
            path: a file; see ``record``.
            **about: ``description`` (text), ``tags`` and ``bindrs`` (lists of text) and ``metadata`` (a dict). Each replaces the value that
                the file has; an empty list removes all tags or bindrs.

        Returns:
            The file's record with the new details.

        Raises:
            MissingFileError: there is no such file.
            InvalidValueError: no detail was given.
            InvalidTypeError: a keyword is not known, or a detail cannot be stored.
            ExperimentError: the experiment is not open.
        """
        self._owner.channel.require_open()
        check_keywords(self.update, about)
        changes = self._details(about)
        if not changes:
            raise InvalidValueError(f"update: nothing to change was given; pass {', '.join(ABOUT)} or some of them")
        entry = self.record(path)
        change = self._change(entry["id"], "updatedAt", changes)
        return entry | {name: revive(value) for name, value in changes.items()} | {"updatedAt": change["updatedAt"]}

    def duplicate(self, source: FileRef, to: str) -> Record:
        """Save a stored file under a second name, with its description, tags, metadata and bindrs.

        Args:
            source: a file; see ``record``.
            to: the name of the copy, in this folder; it may begin with folders.

        Returns:
            The file's record: ``id``, ``path``, ``filename``, ``contentType`` and ``status``; see ``Folder``.

        Raises:
            MissingFileError: there is no such file.
            InvalidNameError: ``to`` cannot be a path on disk.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        self._owner.channel.require_open()
        check_file_path(to)
        if source is None:
            raise InvalidTypeError("duplicate: no source was given; pass a path, an id or a record")

        def copy(entry: Record) -> Record:
            about = {name: entry.get(name) for name in ABOUT if name not in self._options}
            blob = download.blob_path(self._owner.folder, entry)
            open_file(blob).close()  # raises the error that _with_blob retries: a later save has replaced the file
            return self._store(
                self._entry(to, about), lambda staged: copy_file(blob, staged, within_umask=True), started
            )

        return self._with_blob(self.record(source), copy)

    def _details(self, about: Mapping[str, object]) -> dict[str, Any]:
        """The details that were given in the call, and for the rest the folder's options, as they are stored."""
        given = {name: value for name, value in about.items() if value is not None}
        check_about(given)
        plain: dict[str, Any] = to_plain(self._options | given, "a file's record")
        return plain

    def _entry(self, to: str, about: Mapping[str, object]) -> Record:
        folder, filename = self._split(to)
        import mimetypes  # reads the system's tables when it is loaded

        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        record = {"id": file_id(), "path": folder, "filename": filename, "contentType": content_type}
        return {**record, **self._details(about)}

    def _split(self, to: object) -> tuple[str, str]:
        """The record's ``path`` (with a leading slash) and ``filename``."""
        segments = check_file_path(to)
        if len(segments) == 1:
            return self._path, segments[0]
        *folders, filename = segments
        return "/" + "/".join([self._folder, *folders] if self._folder else folders), filename

    def _publish(self, entry: Record, key: bytes, data: bytes, started: int) -> Record:
        published = self._owner.channel.publish(_FILE, key, data, time.time(), started)
        return {**entry, "status": "queued" if published else "refused"}

    def _store(self, entry: Record, write: Callable[[str], object], started: int) -> Record:
        """Let ``write`` fill a file beside the run, and publish that the writer can move it to its place."""
        staged, path = self._staged_path(entry)
        try:
            spill_file.make_file(self._owner.folder, path)
            write(path)
        except BaseException as error:
            file_formats.remove_file(path)
            if isinstance(error, ChangedError):
                raise StorageError(
                    error.errno, f"{error.strerror}; save it when nobody writes it", error.filename
                ) from None
            if not isinstance(error, OSError) or isinstance(error, StorageError):
                raise
            return self._refuse(entry, repr(entry["filename"]), error)
        return self._publish_staged(entry, staged, path, started)

    def _staged_path(self, entry: Record) -> tuple[str, str]:
        """The path of a file that the writer will move, relative to the run and absolute."""
        self._owner.channel.require_open()  # first: it gives a forked child its own writer id
        staged = f"{layout.STAGING}/{spill_file.prefix(self._owner.writer_id)}{entry['id']}"
        return staged, os.path.join(self._owner.folder, staged)

    def _publish_staged(self, entry: Record, staged: str, path: str, started: int) -> Record:
        try:
            record = self._publish(entry, to_json({**entry, "staged": staged}), b"", started)
        except Exception:  # after a KeyboardInterrupt the record may be published; the writer removes unknown files
            file_formats.remove_file(path)
            raise
        if record["status"] != "queued":
            file_formats.remove_file(path)
        return record

    def _refuse(self, entry: Record, what: str, error: OSError) -> Record:
        # Without the id that is part of the staged file's name: a text that repeats is shown once.
        reason = str(error).replace(entry["id"], "...")
        self._owner.channel.refuse(f"{what} was not saved: {reason}")
        return {**entry, "status": "refused"}

    def _change(self, file_id: str, when: str, about: Mapping[str, Any]) -> Record:
        now = time.time()
        change = {"id": file_id, **about, when: timestamp(now)}
        published = self._owner.channel.publish(_CHANGE, b"", to_json(change), now, _perf())
        return change if published else {**change, when: None}


class Files(RunStream, Folder):
    """Every file of a run. ``exp.files(folder)`` is one folder of it; without one it is the root."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._folders: dict[str, Folder] = {}

    def __call__(self, folder: str | None = None, **options: Any) -> Folder:
        """Return a folder of the run's files. Nothing is made on disk.

        Args:
            folder: its path, such as ``models`` or ``eval/frames``; None for the root. ``prefix=`` is another name.
            **options: ``description``, ``tags``, ``bindrs`` and ``metadata``, the defaults of every file that is saved
                through it, of which ``tags`` and ``bindrs`` also filter ``list``; ``file_id``, the default file of its
                calls; ``dest_path``, the default of ``download(to=)``; ``file_path``, the default of ``save(content)``.

        Raises:
            InvalidNameError: the path cannot be a path on disk.
            InvalidTypeError: an option is not known; the text names the closest one.
        """
        if options or not isinstance(folder, str):
            return self if folder is None and not options else Folder(self._owner, folder, **options)
        known = self._folders.get(folder)
        if known is None:
            check_file_path(folder)
            known = self._folders[folder] = Folder(self._owner, folder)
        return known
