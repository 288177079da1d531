"""The index of a tree on disk: the rows of its runs, kept outside of the tree. It can be deleted at any time.

One file for each tree, replaced as a whole: a checksum, then an Arrow stream with the columns of one type. Its metadata
hold two JSON documents: ``about`` the runs and folders, and ``others``, the columns of several types.

The folder of the cache may lie where others write, for example below ``/tmp``: an index is read, written and cleaned up
only in folders that are the user's own, that nobody else may enter, and that are reached without following a link.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import os
import secrets
import stat
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash._json import json, orjson
from ml_dash._version import __version__
from ml_dash.catalog.row_columns import RowColumns
from ml_dash.catalog.walk import Listing
from ml_dash.storage.beneath import open_descriptor
from ml_dash.storage.documents import to_json

CACHE_VARIABLE = "ML_DASH_CACHE_DIR"

FORM = 2
"""Changes with the form of the file and with the meaning of a row; a file of another form or release is not read."""

ORPHAN_S = 3600.0
"""Seconds after which a temporary file is one of a killed process: writing takes well below a second."""

_NAME = "index"
_TEMPORARY = ".index.tmp-"
_PRIVATE = 0o700
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHECKSUM_BYTES = 4
_ABOUT, _OTHERS = b"about", b"others"


@dataclass(slots=True)
class Saved:
    """The index of a tree.

    Attributes:
        listings: of its folders; see ``walk.Walk``.
        paths: the path of each run below the root, in order.
        managed: for each run whether the ML manager made it.
        signatures: for each run that of its files; empty if it must be read again.
        rows: one for each run.
        problems: path, signature and reason of each run that could not be read.
    """

    listings: dict[str, Listing]
    paths: list[str]
    managed: list[bool]
    signatures: list[str]
    rows: RowColumns
    problems: list[tuple[str, str, str]]


def cache_folder() -> str:
    """Where indexes are: ``ML_DASH_CACHE_DIR``, else ``ml_dash`` below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return os.path.abspath(os.path.expanduser(given))
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ml_dash")


def folder_of(root: str) -> str:
    """The folder of the index of one tree."""
    digest = hashlib.blake2b(os.fsencode(root), digest_size=16).hexdigest()
    return os.path.join(cache_folder(), "index", digest)


def load(root: str) -> Saved | None:
    """The index of a tree; None if there is none that can be used."""
    import pyarrow as pa

    try:
        with _private_folder(folder_of(root)) as folder:
            fd = open_descriptor(_NAME, os.O_RDONLY, dir_fd=folder)
        with os.fdopen(fd, "rb") as file:
            _check_owner(fd)
            checksum, content = file.read(_CHECKSUM_BYTES), file.read()
        if checksum != _checksum(content):
            return None
        table = pa.ipc.open_stream(content).read_all()
        about, others = table.schema.metadata[_ABOUT], table.schema.metadata[_OTHERS]
        document = _parsed(about)
        if [document["root"], document["version"]] != [root, [__version__, FORM]]:
            return None
        return _restored(document, table, json.loads(others))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, pa.ArrowException):
        return None


def save(root: str, saved: Saved) -> None:
    """Replace the index of a tree. Does nothing where it cannot be written: every call works without it."""
    import pyarrow as pa

    # The last three are for values that Arrow or JSON refuses.
    with (
        contextlib.suppress(OSError, ValueError, TypeError, pa.ArrowException),
        _private_folder(folder_of(root), make=True) as folder,
    ):
        _remove_orphans(folder)
        content = _content(root, saved)
        _replace(folder, [_checksum(content), content])


def _content(root: str, saved: Saved) -> Any:
    import pyarrow as pa

    typed = {name: values for name, values in saved.rows.columns.items() if not isinstance(values, list)}
    others = {name: values for name, values in saved.rows.columns.items() if isinstance(values, list)}
    about = {
        "version": [__version__, FORM],
        "root": root,
        "listings": saved.listings,
        "paths": saved.paths,
        "managed": saved.managed,
        "signatures": saved.signatures,
        "problems": saved.problems,
        "shapes": saved.rows.shapes,
        "shape_of": saved.rows.shape_of,
        "typed": list(typed),  # as names of Arrow's columns they would have to be UTF-8
    }
    table = pa.Table.from_arrays(list(typed.values()), names=[str(number) for number in range(len(typed))])
    # json.dumps for values: orjson knows neither NaN nor integers beyond 64 bits.
    metadata = {_ABOUT: to_json(about), _OTHERS: json.dumps(_without_times(others)).encode()}
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _parsed(about: bytes) -> Any:
    try:
        return orjson.loads(about)
    except ValueError:  # a name that is no UTF-8
        return json.loads(about)


def _checksum(content: Any) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")


def _restored(document: dict[str, Any], table: Any, others: dict[str, Any]) -> Saved:
    columns: dict[str, Any] = {name: table[number].combine_chunks() for number, name in enumerate(document["typed"])}
    columns |= {name: _with_times(column) for name, column in others.items()}
    shapes = [tuple(shape) for shape in document["shapes"]]
    return Saved(
        listings=document["listings"],
        paths=document["paths"],
        managed=document["managed"],
        signatures=document["signatures"],
        rows=RowColumns(shapes, document["shape_of"], columns),
        problems=[(path, signature, reason) for path, signature, reason in document["problems"]],
    )


def _without_times(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Columns as JSON holds them: datetimes are apart, with their rows."""
    found = {}
    for name, values in columns.items():
        times = [[row, value.isoformat()] for row, value in enumerate(values) if type(value) is datetime.datetime]
        plain = [None if type(value) is datetime.datetime else value for value in values] if times else values
        found[name] = {"values": plain, "times": times}
    return found


def _with_times(column: dict[str, Any]) -> list[Any]:
    values: list[Any] = column["values"]
    for row, text in column["times"]:
        values[row] = datetime.datetime.fromisoformat(text)
    return values


@contextlib.contextmanager
def _private_folder(path: str, *, make: bool = False) -> Iterator[int]:
    """Yield the open folder of the index of one tree.

    Args:
        path: the result of ``folder_of``.
        make: whether to make the folder, and those above it, if they are missing.

    Raises:
        OSError: the folder of the cache, or one below it, is missing or not the user's own; a name below it is a link; or
            its path has a link that another user made.
    """
    *above, index, digest = path.split(os.sep)
    cache = os.sep.join(above) or os.sep
    if make:
        os.makedirs(cache, mode=_PRIVATE, exist_ok=True)
    _check_links(cache)
    with contextlib.ExitStack() as opened:
        fd = os.open(cache, _FOLDER & ~os.O_NOFOLLOW)  # ~/.cache may be a link of the user's own
        opened.callback(os.close, fd)
        _check_owner(fd)
        for name in (index, digest):
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, _PRIVATE, dir_fd=fd)
            fd = os.open(name, _FOLDER, dir_fd=fd)
            opened.callback(os.close, fd)
            _check_owner(fd)
            if make and stat.S_IMODE(os.fstat(fd).st_mode) != _PRIVATE:
                os.fchmod(fd, _PRIVATE)  # parameters may be private
        yield fd


def _check_links(path: str) -> None:
    """Refuse a path with a link that neither the user nor the administrator has made."""
    while path != os.path.dirname(path):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it is a link of another user", path)
        path = os.path.dirname(path)


def _check_owner(fd: int) -> None:
    if os.fstat(fd).st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user")


def _replace(folder: int, parts: list[Any]) -> None:
    """Replace the index in an open folder, at once."""
    temporary = f"{_TEMPORARY}{secrets.token_hex(8)}"
    fd = open_descriptor(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, _NAME, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _remove_orphans(folder: int) -> None:
    """Remove what killed processes left behind: old files with the name of a temporary one, and nothing else."""
    for name in os.listdir(folder):
        if name.startswith(_TEMPORARY):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > ORPHAN_S:
                os.unlink(name, dir_fd=folder)
