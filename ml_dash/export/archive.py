"""A run's folder as a zip archive. The same run gives the same archive."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator

from ml_dash.query.run import RunReader
from ml_dash.storage import layout, reading
from ml_dash.storage.journal import whole_length
from ml_dash.storage.own_files import is_lock, is_temporary, own_files

BLOCK = 1 << 20
"""Bytes of a file that are in memory at once."""

_PICTURES = ".png .jpg .jpeg .gif .webp .mp4 .webm .mkv .mov .mp3 .ogg"
_ARCHIVES = ".tar .parquet .zip .gz .bz2 .xz .zst .7z .npz .whl .pt .pth .safetensors .keras"
PACKED = frozenset(f"{_PICTURES} {_ARCHIVES}".split())
"""Endings of files that are compressed already, or hold the noise of trained weights: packing them takes time only."""

_FIRST_YEAR = (1980, 1, 1, 0, 0, 0)


def write_zip(run: RunReader, place: str, advance: Callable[[int], None]) -> int:
    """Write the archive; the number of files in it.

    They lie in it below the run's prefix, so that it can be unpacked into a folder of runs. Locks, half-written files
    and what is on its way into the run are left out, and so are runs below it and links.
    """
    top = _top(run)
    count = 0
    with zipfile.ZipFile(place, "w", allowZip64=True) as archive:
        # The lengths of journals come first: whatever they name is there when it is copied.
        for path, length in _chosen(run.folder):
            _add(archive, os.path.join(run.folder, path), f"{top}/{path}", length, advance)
            count += 1
    return count


def _chosen(folder: str) -> list[tuple[str, int | None]]:
    """The files in the archive, sorted, and how much of each one is copied; None for all of it."""
    stored: set[str] | None = None
    chosen: list[tuple[str, int | None]] = []
    for path in own_files(folder):
        if is_lock(path):
            continue
        if is_temporary(path):
            if path.startswith("files/") and not path.startswith(f"{layout.STAGING}/"):
                stored = _stored(folder) if stored is None else stored
            if path not in (stored or ()):
                continue
        chosen.append((path, _length(os.path.join(folder, path)) if _is_journal(path) else None))
    return sorted(chosen)


def _is_journal(path: str) -> bool:
    """Whether a file grows while the run goes on; of stored files only the index does."""
    return path.endswith(".jsonl") and (not path.startswith("files/") or path.count("/") == 1)


def _length(path: str) -> int:
    size = os.path.getsize(path)
    return whole_length(path, size) if size else 0


def _stored(folder: str) -> set[str]:
    return {layout.blob(e["path"], e["id"], e["filename"]) for e in reading.read_files(folder)}


def _top(run: RunReader) -> str:
    parts = [part for part in run.prefix.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or os.path.basename(run.folder)


def _add(archive: zipfile.ZipFile, source: str, name: str, length: int | None, advance: Callable[[int], None]) -> None:
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed by the with statement below
    except FileNotFoundError:  # of a live run: replaced since it was listed
        return
    with file:
        about = os.fstat(file.fileno())
        info = zipfile.ZipInfo(name, max(_FIRST_YEAR, time.gmtime(about.st_mtime)[:6]))
        info.external_attr = (about.st_mode & 0xFFFF) << 16
        is_packed = os.path.splitext(name)[1].lower() in PACKED
        info.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
        info.file_size = about.st_size if length is None else length  # so that zip64 is used where it is needed
        with archive.open(info, "w", force_zip64=info.file_size > zipfile.ZIP64_LIMIT // 2) as target:
            for block in _blocks(file.read, info.file_size):
                target.write(block)
                advance(len(block))


def _blocks(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    while length > 0:
        block = read(min(BLOCK, length))
        if not block:
            return
        length -= len(block)
        yield block
