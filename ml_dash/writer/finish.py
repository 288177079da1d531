"""The end of a run: what is only written once, and what is left over removed."""

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
from ml_dash.storage.journal import cut_unfinished_line, read_lines
from ml_dash.storage.locks import document_lock
from ml_dash.writer.records import file_checksum


def hash_late(run: str, index_path: str, disk: Disk) -> None:
    """Add the checksums of files that were too large to hash with their record."""
    path = os.path.join(run, index_path)
    missing = [entry for entry in _entries(path) if entry.get("checksum", "") is None]
    known = {entry["id"] for entry in _entries(path) if "filename" not in entry and entry.get("checksum")}
    data = b"".join(_late_checksum(run, entry, disk) for entry in missing if entry["id"] not in known)
    if data:
        cut_unfinished_line(disk, path)  # of an attempt that failed half way
        fd = disk.open_append(path)
        try:
            disk.append(fd, data)
        finally:
            disk.close(fd)


def remove_old_versions(run: str, index_path: str, disk: Disk) -> None:
    """Remove stored files that a later save of the same name replaced, as far as they were not removed then."""
    path = os.path.join(run, index_path)
    newest = {_key(entry): entry["id"] for entry in _entries(path) if "filename" in entry}
    for entry in _entries(path):
        if "filename" in entry and newest[_key(entry)] != entry["id"]:
            old = layout.blob(entry["path"], entry["id"], entry["filename"])
            disk.remove_folder(os.path.dirname(os.path.join(run, old)))


def write_files_metadata(run: str, disk: Disk) -> None:
    """Write ``.files_metadata.json`` from every writer's index, for the published client and its ``upload``."""
    folder = os.path.join(run, "files")
    if disk.list_folder(folder) is None:
        return
    with document_lock(os.path.join(folder, ".files_metadata.lock")):
        # Listed within: whoever has the lock after another one also sees what that one has written.
        shards = sorted(name for name in disk.list_folder(folder) or () if layout.is_shard(name, "index"))
        newest = _newest_versions(folder, shards)
        changes = _changes(folder, shards)
        disk.write_file(os.path.join(run, layout.FILES_METADATA), _document(folder, shards, newest, changes))


def remove_leftovers(run: str, writer_id: str, disk: Disk) -> None:
    """Remove what the training process had begun to hand over when it was killed."""
    for folder in (layout.SPILL, layout.STAGING):
        path = os.path.join(run, folder)
        for name in disk.list_folder(path) or ():
            if name.startswith(spill_file.prefix(writer_id)):
                disk.remove(os.path.join(path, name))
        disk.remove_empty_folder(path)


def _late_checksum(run: str, entry: dict[str, Any], disk: Disk) -> bytes:
    path = os.path.join(run, layout.blob(entry["path"], entry["id"], entry["filename"]))
    size = disk.size(path)
    if size is None:  # superseded meanwhile
        return b""
    return to_json({"id": entry["id"], "checksum": file_checksum(disk, path), "sizeBytes": size}) + b"\n"


def _entries(path: str) -> Iterator[dict[str, Any]]:
    for line in read_lines(path):
        try:
            entry = parse(line)
        except ValueError:
            continue
        if file_index.is_entry(entry):
            yield entry


def _key(entry: dict[str, Any]) -> bytes:
    # 16 bytes for each file instead of its name: a run may have millions.
    return hashlib.blake2b(f"{entry['path']}\0{entry['filename']}".encode(), digest_size=16).digest()


def _newest_versions(folder: str, shards: list[str]) -> dict[bytes, int]:
    newest: dict[bytes, int] = {}
    for shard in shards:
        entries = _entries(os.path.join(folder, shard))
        file_index.keep_newest(
            newest, {_key(entry): file_index.age(entry["id"]) for entry in entries if _is_whole(entry)}
        )
    return newest


def _changes(folder: str, shards: list[str]) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {}
    journals = (_entries(os.path.join(folder, shard)) for shard in shards)
    for entry in file_index.in_order([entry for entry in journal if not _is_whole(entry)] for journal in journals):
        changes.setdefault(entry["id"], {}).update(entry)
    return changes


def _is_whole(entry: dict[str, Any]) -> bool:
    """Whether it is the entry of a file, and not a change of one."""
    return "filename" in entry and "path" in entry


def _document(
    folder: str, shards: list[str], newest: dict[bytes, int], changes: dict[str, dict[str, Any]]
) -> Iterator[bytes]:
    separator = b'{"files":['
    for entry in _all(folder, shards):
        # Other writers go on: what they saved since the newest were found comes into the list with their own end.
        if _is_whole(entry) and newest.get(_key(entry)) == file_index.age(entry["id"]):
            yield separator + to_json(entry | changes.get(entry["id"], {}))
            separator = b",\n"
    yield b"]}" if separator == b",\n" else b'{"files":[]}'


def _all(folder: str, shards: list[str]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        yield from _entries(os.path.join(folder, shard))
