"""Import the file list of a run that the published client wrote to."""

from __future__ import annotations

import os
from typing import Any

from ml_dash.snowflake import file_id
from ml_dash.storage import file_index, layout, legacy
from ml_dash.storage.disk import Disk, copy_file
from ml_dash.storage.documents import to_json
from ml_dash.storage.journal import append_lines


def import_files(run: str, disk: Disk) -> None:
    """Add the files that only ``.files_metadata.json`` lists to ``files/index.jsonl``.

    Otherwise they would be missing from the list of files, and from the document that is written at the end. Entries of
    any writer's index are not added again: a document that this package wrote lists the files of all writers.
    """
    index, document = (os.path.join(run, name) for name in (layout.file_index(), layout.FILES_METADATA))
    has_index = disk.size(index) is not None
    if has_index and not legacy.is_published(document):
        return
    listed = [entry for entry in legacy.listed_files(disk.read_file(document) or b"") if _has_own_folder(entry)]
    if not listed:
        return
    new_entries = legacy.new_entries(listed, _indexed_files(os.path.dirname(index), disk))
    if not new_entries:
        return
    if has_index:
        append_lines(disk, index, b"".join(to_json(entry) + b"\n" for entry in new_entries))
    else:
        disk.write_file(index, [to_json(entry) + b"\n" for entry in _with_unique_ids(run, new_entries, disk)])


def _indexed_files(folder: str, disk: Disk) -> dict[str, dict[str, Any]]:
    """Every version of every file in any writer's index, by id, with later changes applied."""
    names = sorted(name for name in disk.list_folder(folder) or () if layout.is_shard(name, "index"))
    shards = [file_index.read_entries(os.path.join(folder, name)) for name in names]
    file_index.merge(shards)  # applies the changes to the entries
    return {entry["id"]: entry for shard in shards for entry in shard if "filename" in entry}


def _has_own_folder(entry: dict[str, Any]) -> bool:
    """Whether the file is in a folder named by its id: an old version is removed with its folder, and nothing else may be."""
    if ".." in entry["filename"].split("/"):
        return False
    parts = layout.blob(entry["path"], entry["id"], entry["filename"]).split("/")
    return parts[0] == "files" and entry["id"] in parts[1:-1]


def _with_unique_ids(run: str, entries: list[dict[str, Any]], disk: Disk) -> list[dict[str, Any]]:
    """The entries with unique ids: the published client sometimes gave two files of one millisecond the same one."""
    taken: set[str] = set()
    unique = []
    for entry in entries:
        if entry["id"] in taken and "filename" in entry:  # a change has the id of its file
            entry = entry | {"id": _copy_under_new_id(run, entry, disk)}  # noqa: PLW2901 - the caller's entry is not changed
        taken.add(entry["id"])
        unique.append(entry)
    return unique


def _copy_under_new_id(run: str, entry: dict[str, Any], disk: Disk) -> str:
    """Link or copy a stored file under a new id. The old file stays, since the published client's list names it."""
    new_id = file_id()
    path, name = entry["path"], entry["filename"]
    source, target = (os.path.join(run, layout.blob(path, number, name)) for number in (entry["id"], new_id))
    if disk.size(source) is not None:  # else it was deleted by hand
        disk.make_folder(os.path.dirname(target))
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            copy_file(source, target)
    return new_id
