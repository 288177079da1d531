"""The end of a run: late checksums, ``.files_metadata.json``, and the removal of files that are not needed any more."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

from ml_dash.ipc import spill_file
from ml_dash.records.values import parse
from ml_dash.storage import file_index, layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import to_json
from ml_dash.storage.journal import append_lines, read_lines
from ml_dash.storage.locks import document_lock
from ml_dash.writer.records import file_checksum


def hash_late(run: str, index_path: str, disk: Disk) -> None:
    """Add the checksums of the files that were too large to hash with their record."""
    path = os.path.join(run, index_path)
    missing = [entry for entry in _entries(path, disk) if entry.get("checksum", "") is None]
    known = {entry["id"] for entry in _entries(path, disk) if "filename" not in entry and entry.get("checksum")}
    lines = []
    for entry in missing:
        stored = layout.stored_file(entry)
        size = None if stored is None else disk.size(stored := os.path.join(run, stored))
        if (
            entry["id"] not in known and stored is not None and size is not None
        ):  # else a later save replaced it meanwhile
            change = {"id": entry["id"], "checksum": file_checksum(disk, stored), "sizeBytes": size}
            lines.append(to_json(change) + b"\n")
    if lines:
        append_lines(disk, path, b"".join(lines))


def remove_old_versions(run: str, index_path: str, disk: Disk) -> None:
    """Remove the stored files that a later save of the same name replaced, and that were not removed then."""
    path = os.path.join(run, index_path)
    newest = {_key(entry): entry["id"] for entry in _entries(path, disk) if "filename" in entry}
    for entry in _entries(path, disk):
        if "filename" in entry and newest[_key(entry)] != entry["id"]:
            old = layout.stored_file(entry)
            if old is not None:
                disk.remove_folder(os.path.dirname(os.path.join(run, old)))


def write_files_metadata(run: str, disk: Disk) -> None:
    """Write ``.files_metadata.json`` from every writer's index, for the published client and its ``upload``."""
    folder = os.path.join(run, "files")
    if disk.list_folder(folder) is None:
        return
    with document_lock(os.path.join(folder, ".files_metadata.lock")):
        # Listed under the lock, so that the document has all files of a writer that held it before.
        shards = sorted(name for name in disk.list_folder(folder) or () if layout.is_shard(name, "index"))
        newest: dict[bytes, int] = {}
        for shard in shards:
            entries = (entry for entry in _entries(os.path.join(folder, shard), disk) if _is_whole(entry))
            file_index.keep_newest(newest, {_key(entry): file_index.age(entry["id"]) for entry in entries})
        journals = (_entries(os.path.join(folder, shard), disk) for shard in shards)
        changes: dict[str, dict[str, Any]] = {}
        for entry in file_index.in_order([entry for entry in journal if not _is_whole(entry)] for journal in journals):
            changes.setdefault(entry["id"], {}).update(entry)
        disk.write_file(os.path.join(run, layout.FILES_METADATA), _document(folder, shards, newest, changes, disk))


def remove_leftovers(run: str, writer_id: str, disk: Disk) -> None:
    """Remove the files of records that a killed training process never published."""
    for folder in (layout.SPILL, layout.STAGING):
        path = os.path.join(run, folder)
        for name in disk.list_folder(path) or ():
            if name.startswith(spill_file.prefix(writer_id)):
                disk.remove(os.path.join(path, name))
        disk.remove_empty_folder(path)


def _entries(path: str, disk: Disk) -> Iterator[dict[str, Any]]:
    for line in read_lines(path, opener=disk.open_read):
        try:
            entry = parse(line)
        except ValueError:
            continue
        if file_index.is_entry(entry):
            yield entry


def _key(entry: dict[str, Any]) -> bytes:
    # 16 bytes per file instead of its name: a run may have millions.
    return hashlib.blake2b(f"{entry['path']}\0{entry['filename']}".encode(), digest_size=16).digest()


def _is_whole(entry: dict[str, Any]) -> bool:
    """Whether it is the entry of a file, and not a later change of one."""
    return "filename" in entry and "path" in entry


def _document(
    folder: str, shards: list[str], newest: dict[bytes, int], changes: dict[str, dict[str, Any]], disk: Disk
) -> Iterator[bytes]:
    """Yield the pieces of ``.files_metadata.json``.

    Args:
        folder: absolute path of the run's ``files``.
        shards: names of the indices in it.
        newest: age of the newest version by the key of its name.
        changes: later changes by file id.
        disk: reads the indices.
    """
    separator = b'{"files":['
    for shard in shards:
        for entry in _entries(os.path.join(folder, shard), disk):
            # Files that other writers saved since ``newest`` was read are added at the end of those writers.
            if _is_whole(entry) and newest.get(_key(entry)) == file_index.age(entry["id"]):
                yield separator + to_json(entry | changes.get(entry["id"], {}))
                separator = b",\n"
    yield b"]}" if separator == b",\n" else b'{"files":[]}'
