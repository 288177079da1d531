"""Write a run's folder to a zip archive. The same run gives the same bytes."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from collections.abc import Callable

from ml_dash.export.names import safe_name
from ml_dash.query.run import RunReader
from ml_dash.storage import layout, reading
from ml_dash.storage.beneath import UnsafeFileError, open_file, warn_refused
from ml_dash.storage.journal import whole_length
from ml_dash.storage.own_files import is_lock, is_temporary, own_files

BLOCK = 1 << 20
"""Bytes of a file that are in memory at once."""

_PICTURES = ".png .jpg .jpeg .gif .webp .mp4 .webm .mkv .mov .mp3 .ogg"
_ARCHIVES = ".tar .parquet .zip .gz .bz2 .xz .zst .7z .npz .whl .pt .pth .safetensors .keras"
PACKED = frozenset(f"{_PICTURES} {_ARCHIVES}".split())
"""Endings of files that are stored as they are: they are compressed already, or hold trained weights, which are noise."""

_FIRST_TIME, _LAST_TIME = 315_532_800, 4_354_819_198
"""The years 1980 to 2107, which an archive has, in seconds since 1970."""

_RIGHTS = stat.S_IFREG | 0o755
"""A file's type and those of its permissions that an archive keeps: nobody else may write what is unpacked."""


def write_zip(run: RunReader, target: str, advance: Callable[[int], None]) -> int:
    """Write the archive, and return the number of files in it.

    Its names begin with the run's prefix, so that it can be unpacked into a folder of runs. Locks, half-written files,
    files that are not in the run's index yet, runs below this one, and links are left out. A backslash, a control
    character and a byte that is no UTF-8 are written as ``%5C``: to a program of Windows, a backslash is a separator.
    """
    parts = [part for part in run.prefix.split("/") if part not in ("", ".", "..")]
    top = "/".join(parts) or os.path.basename(run.folder)
    count = 0
    taken: set[str] = set()
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
        # The lengths of journals come first: every file that they name exists when it is copied.
        for path, length in _select_files(run.folder):
            name = safe_name(f"{top}/{path}")
            while name in taken:
                name += "_"
            taken.add(name)
            _add(archive, os.path.join(run.folder, path), name, length, advance)
            count += 1
    return count


def _select_files(folder: str) -> list[tuple[str, int | None]]:
    """Return the files for the archive, sorted, each with the number of bytes to copy; None for all of them."""
    stored: set[str] | None = None
    selected: list[tuple[str, int | None]] = []
    for path in own_files(folder):
        if is_lock(path):
            continue
        if is_temporary(path):
            # A stored file may have the name of a temporary one.
            if not path.startswith("files/") or path.startswith(f"{layout.STAGING}/"):
                continue
            if stored is None:
                stored = {layout.blob(e["path"], e["id"], e["filename"]) for e in reading.read_files(folder)}
            if path not in stored:
                continue
        length = None
        if _is_journal(path):
            size = os.path.getsize(os.path.join(folder, path))
            try:
                length = whole_length(os.path.join(folder, path), size) if size else 0
            except UnsafeFileError as error:
                warn_refused(error)
                continue
        selected.append((path, length))
    return sorted(selected)


def _is_journal(path: str) -> bool:
    """Whether a file grows while the run goes on; in the folder of stored files only the index does."""
    return path.endswith(".jsonl") and (not path.startswith("files/") or path.count("/") == 1)


def _add(archive: zipfile.ZipFile, source: str, name: str, length: int | None, advance: Callable[[int], None]) -> None:
    try:
        file = open_file(source)
    except (FileNotFoundError, UnsafeFileError):  # it was replaced since it was listed
        return
    with file:
        status = os.fstat(file.fileno())
        changed_at = min(max(status.st_mtime, _FIRST_TIME), _LAST_TIME)
        info = zipfile.ZipInfo(name, time.gmtime(changed_at)[:6])
        info.external_attr = (status.st_mode & _RIGHTS) << 16
        is_packed = os.path.splitext(name)[1].lower() in PACKED
        info.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
        info.file_size = left = status.st_size if length is None else length  # zip64 is used where it is needed
        with archive.open(info, "w", force_zip64=info.file_size > zipfile.ZIP64_LIMIT // 2) as target:
            while left > 0 and (block := file.read(min(BLOCK, left))):
                target.write(block)
                advance(len(block))
                left -= len(block)
