"""Check stored files: each file of the index exists, and has the size and the SHA-256 that were recorded."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any

from ml_dash.errors import StorageError
from ml_dash.query.download import blob_path
from ml_dash.storage import file_index, layout, reading
from ml_dash.storage.beneath import open_file
from ml_dash.storage.documents import read_raw_document
from ml_dash.storage.journal import shards
from ml_dash.storage.names import INDEX_FILES
from ml_dash.storage.own_files import DAMAGED, files_below, is_temporary
from ml_dash.verify.documents import inspect_document, relative
from ml_dash.verify.findings import ERROR, HASH, NOTE, SET_ASIDE, WARNING, Finding, Fix
from ml_dash.verify.journals import Advance

BLOCK = 1 << 20
"""Bytes of a stored file that are in memory at once."""

NAMED = 3
"""Files that a finding names before it only counts them."""

Checksums = dict[tuple[str, int, int], str]
"""SHA-256 by path, size and time of the last change: a check that is repeated reads no file twice."""


def check_files(run: str, *, live: bool, known: Checksums, advance: Advance) -> Iterator[Finding]:
    """Check the stored files of a run.

    Args:
        run: absolute path of the run's directory.
        live: whether it is being written.
        known: checksums that were computed before; new ones are added.
        advance: called with the number of bytes that were read.
    """
    yield from _check_list(run, live=live)
    without_checksum = 0
    for entry in reading.read_files(run):
        try:
            path = blob_path(run, entry)
        except StorageError:
            problem = f"the entry of {entry['filename']!r} leads out of the run, and is not looked at"
            yield Finding(NOTE, "files", problem)
            continue
        problem = _problem_of(path, entry, known, advance)
        if problem and not (live and _was_replaced(run, entry)):
            yield Finding(ERROR, relative(path, run), problem)
        without_checksum += not problem and entry.get("checksum") is None
    if not live:
        if without_checksum:
            yield from _check_missing_checksums(run, without_checksum)
        yield from _check_unlisted_files(run)


def _check_list(run: str, *, live: bool) -> Iterator[Finding]:
    """Check ``.files_metadata.json``, which the writer makes from the index when a run ends."""
    path = layout.FILES_METADATA
    state = inspect_document(os.path.join(run, path))
    if state.refusal:
        yield Finding(ERROR, path, state.refusal)
        return
    if live or not state.exists:
        return
    listed = (state.document or {}).get("files")
    if isinstance(listed, list) and all(map(file_index.is_entry, listed)):
        return
    if os.path.exists(os.path.join(run, layout.file_index())):
        advice, severity = "makes it anew from the index", WARNING
    else:
        advice, severity = "gives it another name", ERROR
    yield Finding(severity, path, "is no list of files", advice, Fix(SET_ASIDE, path))


def _problem_of(path: str, entry: dict[str, Any], known: Checksums, advance: Advance) -> str:
    try:
        status = os.lstat(path)
    except OSError:
        return "is missing"
    if not stat.S_ISREG(status.st_mode):
        return "cannot be read: it is no regular file"
    size = entry.get("sizeBytes")
    if size is not None and type(size) is not int:
        return f"is listed with a size that is no number: {size!r:.80}"
    if size is not None and status.st_size != size:
        return f"has {status.st_size:,} bytes where {size:,} were saved"
    if entry.get("checksum") is None:
        return ""
    key = (path, status.st_size, status.st_mtime_ns)
    try:
        if key not in known:
            known[key] = _checksum(path, advance)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if known[key] == entry["checksum"] else "is not what was saved: its SHA-256 is another"


def _checksum(path: str, advance: Advance) -> str:
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _was_replaced(run: str, entry: dict[str, Any]) -> bool:
    """Whether a later save has replaced a file since the index was read."""
    return all(newer["id"] != entry["id"] for newer in reading.read_files(run))


def _check_missing_checksums(run: str, count: int) -> Iterator[Finding]:
    """Tell apart files whose checksum the writer would have added at the end, and files of other clients."""
    for path in shards(os.path.join(run, "files"), "index"):
        entries = file_index.read_entries(path)
        hashed = {entry["id"] for entry in entries if "filename" not in entry and entry.get("checksum")}
        late = [
            entry
            for entry in entries
            if entry.get("checksum", "") is None
            and entry["id"] not in hashed
            and os.path.isfile(os.path.join(run, _blob(entry)))
        ]
        if late:
            place = relative(path, run)
            problem = f"{_files_are(len(late))} stored without a checksum, since the run was not closed"
            yield Finding(WARNING, place, problem, "adds the checksums of what is there", Fix(HASH, place))
            count -= len(late)
    if count > 0:
        yield Finding(NOTE, layout.FILES_METADATA, f"{_files_are(count)} listed without a checksum, and not compared")


def _check_unlisted_files(run: str) -> Iterator[Finding]:
    """Find files that no index names, and versions that a later save of the same name has left."""
    current = set(map(_blob, reading.read_files(run)))
    indexed, deleted = _indexed_blobs(run)
    unknown, old = [], 0
    for path in files_below(run, "files"):
        if path in current or _is_index_file(path) or is_temporary(path):
            continue
        if path not in indexed:
            unknown.append(path)
        elif indexed[path] not in deleted:
            old += 1
    if unknown:
        more = f" and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
        names = ", ".join(path.removeprefix("files/") for path in unknown[:NAMED])
        yield Finding(WARNING, "files", f"{_files_are(len(unknown))} in no index: {names}{more}")
    if old:
        yield Finding(NOTE, "files", f"{_files_are(old)} left of earlier saves of the same name")


def _indexed_blobs(run: str) -> tuple[dict[str, str], set[str]]:
    """Return the id of every version of every file by its path, and the ids of deleted ones."""
    entries = [entry for path in shards(os.path.join(run, "files"), "index") for entry in file_index.read_entries(path)]
    listed = (read_raw_document(os.path.join(run, layout.FILES_METADATA)) or {}).get("files")
    entries += filter(file_index.is_entry, listed) if isinstance(listed, list) else []
    ids = {_blob(entry): entry["id"] for entry in entries if "filename" in entry and "path" in entry}
    return ids, {entry["id"] for entry in entries if entry.get("deletedAt")}


def _is_index_file(path: str) -> bool:
    name = path.removeprefix("files/")
    return "/" not in name and (name in INDEX_FILES or layout.is_shard(name, "index") or DAMAGED in name)


def _blob(entry: dict[str, Any]) -> str:
    return layout.blob(entry["path"], entry["id"], entry["filename"])


def _files_are(count: int) -> str:
    return "1 file is" if count == 1 else f"{count:,} files are"
