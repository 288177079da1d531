"""Read and copy stored files, and compare them with the size and checksum in their records."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Mapping
from typing import Any

from ml_dash.errors import InvalidTypeError, MissingFileError, StorageError
from ml_dash.storage import layout
from ml_dash.storage.atomic import replacing_path
from ml_dash.storage.beneath import UnsafeFileError, open_file
from ml_dash.storage.disk import copy_file

LocalPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""Types of a path on this machine."""


class BadRecordError(StorageError):
    """The record of a file names a place that no client stores to."""


class NotWrittenError(StorageError):
    """The copy cannot be written."""


def check_local_path(path: object) -> str:
    """Return a path that the user gave, as text.

    Raises:
        InvalidTypeError: it is no path.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise InvalidTypeError(f"download: to={path!r:.80} is no path; pass the name of a file or a folder")
    return os.fsdecode(path)


def blob_path(run: str, entry: Mapping[str, Any]) -> str:
    """Return the path of a stored file.

    Args:
        run: absolute path of the run's directory.
        entry: the file's record.

    Raises:
        StorageError: the record leads out of the run's files; this client never writes such a record.
    """
    path = layout.blob(entry["path"], entry["id"], entry["filename"])
    if not path.startswith("files/") or "\0" in path:
        raise BadRecordError(errno.EINVAL, f"the record of {entry['filename']!r} leads out of the run: {path!r}")
    return os.path.join(run, path)


def read_blob(run: str, entry: Mapping[str, Any]) -> bytes:
    """Read a stored file.

    Raises:
        MissingFileError: the file is gone.
        StorageError: its content is not what was saved.
    """
    path = blob_path(run, entry)
    try:
        with open_file(path) as file:
            _compare_size(entry, path, os.fstat(file.fileno()).st_size)
            content = file.read()
    except StorageError:
        raise
    except OSError as error:
        raise _translated(error, path) from None
    except (MemoryError, OverflowError):
        raise StorageError(errno.ENOMEM, "it does not fit into memory; download it", path) from None
    _compare(entry, path, len(content), lambda: _sha256(io.BytesIO(content)))
    return content


def fetch(run: str, entry: Mapping[str, Any], target: str) -> str:
    """Copy a stored file to ``target``, where it appears complete and checked, or not at all; return ``target``.

    Raises:
        MissingFileError: the file is gone.
        StorageError: its content is not what was saved, or the copy cannot be written.
    """
    source = blob_path(run, entry)
    if not os.path.isfile(source):
        raise _translated(FileNotFoundError(), source)
    try:
        open_file(source).close()
        _compare_size(entry, source, os.path.getsize(source))
    except StorageError:
        raise
    except OSError as error:
        raise _translated(error, source) from None
    try:
        _make_folder(os.path.dirname(target))
        with replacing_path(target) as temporary:
            size = copy_file(source, temporary, within_umask=True)
            _compare(entry, source, size, lambda: _checksum(temporary))
    except StorageError:
        raise
    except OSError as error:
        is_of_source = isinstance(error, UnsafeFileError) or not os.path.isfile(source)
        raise _translated(error, source) if is_of_source else _not_written(error, target) from error
    return target


def target_path(filename: str, to: str) -> str:
    """Return the absolute path for the copy of one file: ``to``, or if that is a folder, the file's name in it.

    Raises:
        StorageError: ``to`` is relative, and the current folder was removed.
    """
    if not to or to.endswith(os.sep) or os.path.isdir(to):
        to = os.path.join(to, os.path.basename(filename))
    return _absolute(to)


def target_below(path: str, to: str) -> str:
    """Return the absolute path for the copy of one of several files in the folder ``to``.

    Raises:
        StorageError: the file's record leads out of the folder; or ``to`` is relative, and the current folder was
            removed.
    """
    folder = _absolute(to)
    target = os.path.normpath(os.path.join(folder, path))
    if os.path.commonpath([folder, target]) != folder or target == folder:
        raise BadRecordError(errno.EINVAL, f"the record of {path!r} leads out of {folder!r}")
    return target


def is_hidden(path: str) -> bool:
    """Whether a name in a path begins with a dot, as those of settings do."""
    return any(name.startswith(".") for name in path.split("/"))


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise StorageError(
            errno.ENOENT, f"the current folder was removed, so that {path!r} is nowhere; pass to= as an absolute path"
        ) from None


def _compare(entry: Mapping[str, Any], path: str, size: int, checksum: Callable[[], str]) -> None:
    """Compare size and checksum with those of the record, as far as it has them; raise StorageError if they differ."""
    _compare_size(entry, path, size)
    name, saved_checksum = entry["filename"], entry.get("checksum")
    if saved_checksum is not None and (actual := checksum()) != saved_checksum:
        raise StorageError(errno.EIO, f"{name!r} has the checksum {actual}, not {saved_checksum}; it was changed", path)


def _compare_size(entry: Mapping[str, Any], path: str, size: int) -> None:
    name, saved_size = entry["filename"], entry.get("sizeBytes")
    if saved_size is not None and size != saved_size:
        raise StorageError(errno.EIO, f"{name!r} has {size} bytes where {saved_size} were saved; it was changed", path)


def _checksum(path: str) -> str:
    with open_file(path) as file:
        return _sha256(file)


def _sha256(file: io.BufferedReader | io.BytesIO) -> str:
    import hashlib  # loads OpenSSL: 4 ms for every run that reads no file

    return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise NotWrittenError(error.errno, f"the folder cannot be made: {error.strerror}; check to=", path) from error


def _not_written(error: OSError, path: str) -> NotWrittenError:
    return NotWrittenError(error.errno, f"it cannot be written there: {error.strerror or error}; check to=", path)


def _translated(error: OSError, path: str) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return MissingFileError(errno.ENOENT, "the stored file is gone", path)
    return StorageError(error.errno, error.strerror or str(error), path)
