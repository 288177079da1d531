"""Check stored files: each one of the index is there, as large as it was, and with the same SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

from ml_dash.errors import StorageError
from ml_dash.query.download import blob_path
from ml_dash.storage import file_index, layout, reading
from ml_dash.storage.documents import read_raw_document
from ml_dash.storage.lines import shards
from ml_dash.storage.names import INDEX_FILES
from ml_dash.storage.own_files import DAMAGED, files_below, is_temporary
from ml_dash.verify.documents import look_at
from ml_dash.verify.findings import ERROR, HASH, NOTE, SET_ASIDE, WARNING, Finding, Fix
from ml_dash.verify.journals import Advance

BLOCK = 1 << 20
"""Bytes of a stored file that are in memory at once."""

NAMED = 3
"""Files that a finding names; of the others it tells the number."""

Checksums = dict[tuple[str, int, int], str]
"""SHA-256 by path, size and time of the last change: a check that is repeated reads no file twice."""


def check_files(run: str, *, live: bool, known: Checksums, advance: Advance) -> Iterator[Finding]:
    """What is wrong with the stored files of a run.

    Args:
        run: absolute path of the run's directory.
        live: whether it is being written.
        known: checksums that were computed before; new ones are added.
        advance: told how much was read.
    """
    yield from _check_document(run, live=live)
    unhashed = 0
    for entry in reading.read_files(run):
        try:
            path = blob_path(run, entry)
        except StorageError:
            yield Finding(
                NOTE, "files", f"the entry of {entry['filename']!r} leads out of the run, and is not looked at"
            )
            continue
        problem = _problem_of(path, entry, known, advance)
        if problem and not (live and _was_replaced(run, entry)):
            yield Finding(ERROR, os.path.relpath(path, run).replace(os.sep, "/"), problem)
        unhashed += not problem and entry.get("checksum") is None
    if unhashed and not live:
        yield from _check_unhashed(run, unhashed)
    if not live:
        yield from _check_orphans(run)


def _check_document(run: str, *, live: bool) -> Iterator[Finding]:
    look = look_at(os.path.join(run, layout.FILES_METADATA))
    if look.refusal:
        yield Finding(ERROR, layout.FILES_METADATA, look.refusal)
        return
    if live or not look.is_there:
        return
    listed = (look.document or {}).get("files")
    if isinstance(listed, list) and all(map(file_index.is_entry, listed)):
        return
    if os.path.exists(os.path.join(run, layout.file_index())):
        advice, severity = "makes it anew from the index", WARNING
    else:
        advice, severity = "gives it another name", ERROR
    yield Finding(severity, layout.FILES_METADATA, "is no list of files", advice, Fix(SET_ASIDE, layout.FILES_METADATA))


def _problem_of(path: str, entry: dict[str, Any], known: Checksums, advance: Advance) -> str:
    try:
        about = os.stat(path)
    except OSError:
        return "is missing"
    wanted = entry.get("sizeBytes")
    if wanted is not None and type(wanted) is not int:
        return f"is listed with a size that is no number: {wanted!r:.80}"
    if wanted is not None and about.st_size != wanted:
        return f"has {about.st_size:,} bytes where {wanted:,} were saved"
    if entry.get("checksum") is None:
        return ""
    key = (path, about.st_size, about.st_mtime_ns)
    try:
        if key not in known:
            known[key] = _checksum(path, advance)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if known[key] == entry["checksum"] else "is not what was saved: its SHA-256 is another"


def _checksum(path: str, advance: Advance) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _was_replaced(run: str, entry: dict[str, Any]) -> bool:
    """Whether a file that was just missing was replaced by a later save meanwhile."""
    return all(newer["id"] != entry["id"] for newer in reading.read_files(run))


def _check_unhashed(run: str, count: int) -> Iterator[Finding]:
    for path in shards(os.path.join(run, "files"), "index"):
        place = os.path.relpath(path, run).replace(os.sep, "/")
        changed = {e["id"] for e in file_index.read_entries(path) if "filename" not in e and e.get("checksum")}
        late = [
            e
            for e in file_index.read_entries(path)
            if e.get("checksum", "") is None and e["id"] not in changed and os.path.isfile(_place_of(run, e))
        ]
        if late:
            problem = f"{_files(len(late))} stored without a checksum, since the run was not closed"
            yield Finding(WARNING, place, problem, "adds the checksums of what is there", Fix(HASH, place))
            count -= len(late)
    if count > 0:
        yield Finding(NOTE, layout.FILES_METADATA, f"{_files(count)} listed without a checksum, and not compared")


def _check_orphans(run: str) -> Iterator[Finding]:
    root = os.path.join(run, "files")
    entries = [entry for path in shards(root, "index") for entry in file_index.read_entries(path)]
    listed = (read_raw_document(os.path.join(run, layout.FILES_METADATA)) or {}).get("files")
    entries += [entry for entry in listed if file_index.is_entry(entry)] if isinstance(listed, list) else []
    known = {layout.blob(e["path"], e["id"], e["filename"]) for e in entries if "filename" in e and "path" in e}
    current = {layout.blob(e["path"], e["id"], e["filename"]) for e in reading.read_files(run)}
    deleted = {e["id"] for e in entries if e.get("deletedAt")}
    strangers, old = [], 0
    for path in files_below(run, "files"):
        if path in current or _is_of_index(path) or is_temporary(path):
            continue
        if path not in known:
            strangers.append(path)
        elif path.split("/")[-2] not in deleted:
            old += 1
    if strangers:
        more = f" and {len(strangers) - NAMED:,} more" if len(strangers) > NAMED else ""
        names = ", ".join(path.removeprefix("files/") for path in strangers[:NAMED])
        yield Finding(WARNING, "files", f"{_files(len(strangers))} in no index: {names}{more}")
    if old:
        yield Finding(NOTE, "files", f"{_files(old)} left of earlier saves of the same name")


def _is_of_index(path: str) -> bool:
    name = path.removeprefix("files/")
    if "/" in name:
        return False
    return name in INDEX_FILES or layout.is_shard(name, "index") or DAMAGED in name


def _place_of(run: str, entry: dict[str, Any]) -> str:
    return os.path.join(run, layout.blob(entry["path"], entry["id"], entry["filename"]))


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count:,} files are"
