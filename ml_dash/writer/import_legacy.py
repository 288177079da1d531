"""Continue a run that the published client wrote to: its list of files becomes part of our index, once."""

from __future__ import annotations

import os
from typing import Any

from ml_dash.snowflake import file_id
from ml_dash.storage import file_index, layout, legacy
from ml_dash.storage.disk import Disk, copy_file
from ml_dash.storage.documents import to_json
from ml_dash.storage.journal import cut_unfinished_line


def import_files(run: str, disk: Disk) -> None:
    """Bring into ``files/index.jsonl`` what only ``.files_metadata.json`` says.

    Without it these files would vanish from the list, and from the document that is written at the end. What stands in
    any writer's index is known: a document of our own lists the files of all of them.
    """
    index, document = (os.path.join(run, name) for name in (layout.file_index(), layout.FILES_METADATA))
    is_fresh = disk.size(index) is None
    if not is_fresh and not legacy.is_published(document):
        return
    content = disk.read_file(document)
    listed = [entry for entry in legacy.listed_files(content or b"") if _is_in_its_place(entry)]
    news = legacy.new_entries(listed, _known(os.path.dirname(index), disk)) if listed else []
    if not is_fresh:
        _append(disk, index, news)
    elif news:
        disk.write_file(index, [to_json(entry) + b"\n" for entry in _with_own_ids(run, news, disk)])


def _known(folder: str, disk: Disk) -> dict[str, dict[str, Any]]:
    """Every version of every file that an index has, as later changes left it."""
    names = sorted(name for name in disk.list_folder(folder) or () if layout.is_shard(name, "index"))
    shards = [file_index.read_entries(os.path.join(folder, name)) for name in names]
    file_index.merge(shards)  # makes the changes in place
    return {entry["id"]: entry for shard in shards for entry in shard if "filename" in entry}


def _append(disk: Disk, index: str, entries: list[dict[str, Any]]) -> None:
    if not entries:
        return
    cut_unfinished_line(disk, index)
    fd = disk.open_append(index)
    try:
        disk.append(fd, b"".join(to_json(entry) + b"\n" for entry in entries))
    finally:
        disk.close(fd)


def _is_in_its_place(entry: dict[str, Any]) -> bool:
    """Whether the file lies in a folder of its own id: a version is removed with that folder, and no other may be."""
    if ".." in entry["filename"].split("/"):
        return False
    parts = layout.blob(entry["path"], entry["id"], entry["filename"]).split("/")
    return parts[0] == "files" and entry["id"] in parts[1:-1]


def _with_own_ids(run: str, listed: list[dict[str, Any]], disk: Disk) -> list[dict[str, Any]]:
    """That client gave two files of one millisecond the same id now and then; an index needs one for each."""
    taken: set[str] = set()
    found = []
    for entry in listed:
        is_free = entry["id"] not in taken or "filename" not in entry  # a change may have the id of another one
        with_own = entry if is_free else entry | {"id": _copied(run, entry, disk)}
        taken.add(with_own["id"])
        found.append(with_own)
    return found


def _copied(run: str, entry: dict[str, Any], disk: Disk) -> str:
    """A fresh id, with a file of its own: the list that names the old one stays true until it is written anew."""
    fresh = file_id()
    path, name = entry["path"], entry["filename"]
    source, target = (os.path.join(run, layout.blob(path, number, name)) for number in (entry["id"], fresh))
    if disk.size(source) is not None:  # it was not deleted by hand
        disk.make_folder(os.path.dirname(target))
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            copy_file(source, target)
    return fresh
