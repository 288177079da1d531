"""Copies of stored files, checked against what the index says of them."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Mapping
from typing import Any

from ml_dash.errors import InvalidTypeError, MissingFileError, StorageError
from ml_dash.storage import layout
from ml_dash.storage.atomic import replacing_path
from ml_dash.storage.disk import copy_file

Place = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""What a path on this machine may be given as."""


def checked_place(place: object) -> str:
    """A place that the user named, as text.

    Raises:
        InvalidTypeError: it is no path.
    """
    if not isinstance(place, (str, bytes, os.PathLike)):
        raise InvalidTypeError(f"download: to={place!r:.80} is no path; pass the name of a file or a folder")
    return os.fsdecode(place)


def blob_path(run: str, entry: Mapping[str, Any]) -> str:
    """Where a stored file lies.

    Raises:
        StorageError: its record leads out of the run's files; this client never writes such a record.
    """
    place = layout.blob(entry["path"], entry["id"], entry["filename"])
    if not place.startswith("files/"):
        raise StorageError(errno.EINVAL, f"the record of {entry['filename']!r} leads out of the run: {place!r}")
    return os.path.join(run, place)


def read_blob(run: str, entry: Mapping[str, Any]) -> bytes:
    """A stored file's bytes.

    Raises:
        MissingFileError: it is gone.
        StorageError: it is not what was saved.
    """
    path = blob_path(run, entry)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise _translated(error, path) from None
    _compare(entry, path, len(content), lambda: _sha256(io.BytesIO(content)))
    return content


def fetch(run: str, entry: Mapping[str, Any], target: str) -> str:
    """Copy a stored file to ``target``, where it appears complete and checked, or not at all. Returns ``target``.

    Raises:
        MissingFileError: it is gone.
        StorageError: it is not what was saved, or cannot be written there.
    """
    source = blob_path(run, entry)
    if not os.path.isfile(source):
        raise _translated(FileNotFoundError(), source)
    try:
        _make_folder(os.path.dirname(target))
        with replacing_path(target) as temporary:
            size = copy_file(source, temporary)
            _compare(entry, source, size, lambda: _checksum(temporary))
    except StorageError:
        raise
    except OSError as error:
        gone = isinstance(error, FileNotFoundError) and not os.path.isfile(source)
        raise _translated(error, source) if gone else _not_written(error, target) from error
    return target


def target_of(filename: str, place: str) -> str:
    """The absolute path that one file is copied to: a folder keeps the file's name.

    Raises:
        StorageError: the place is relative, and the current folder was removed.
    """
    name = os.path.basename(filename)
    if not place or place.endswith(os.sep) or os.path.isdir(place):
        place = os.path.join(place, name)
    return _absolute(place)


def target_below(path: str, place: str) -> str:
    """The absolute path of one of several files in a folder.

    Raises:
        StorageError: the file's record leads out of the folder; or the place is relative, and the current folder was
            removed.
    """
    folder = _absolute(place)
    target = os.path.normpath(os.path.join(folder, path))
    if os.path.commonpath([folder, target]) != folder or target == folder:
        raise StorageError(errno.EINVAL, f"the record of {path!r} leads out of {folder!r}")
    return target


def _absolute(place: str) -> str:
    try:
        return os.path.abspath(place)
    except FileNotFoundError:
        raise StorageError(
            errno.ENOENT, f"the current folder was removed, so that {place!r} is nowhere; pass to= as an absolute path"
        ) from None


def _compare(entry: Mapping[str, Any], path: str, size: int, checksum: Callable[[], str]) -> None:
    """Raise unless size and checksum are those of the record; one that has none is not compared."""
    wanted, name = entry.get("sizeBytes"), entry["filename"]
    if wanted is not None and size != wanted:
        raise StorageError(errno.EIO, f"{name!r} has {size} bytes where {wanted} were saved; it was changed", path)
    wanted = entry.get("checksum")
    if wanted is not None and (found := checksum()) != wanted:
        raise StorageError(errno.EIO, f"{name!r} has the checksum {found}, not {wanted}; it was changed", path)


def _checksum(path: str) -> str:
    with open(path, "rb") as file:
        return _sha256(file)


def _sha256(file: io.BufferedReader | io.BytesIO) -> str:
    import hashlib  # loads OpenSSL: 4 ms for every run that reads no file

    return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"the folder cannot be made: {error.strerror}; check to=", path) from error


def _not_written(error: OSError, path: str) -> StorageError:
    return StorageError(error.errno, f"it cannot be written there: {error.strerror or error}; check to=", path)


def _translated(error: OSError, path: str) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return MissingFileError(errno.ENOENT, "the stored file is gone", path)
    return StorageError(error.errno, error.strerror or str(error), path)
