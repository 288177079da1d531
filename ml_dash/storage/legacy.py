"""Formats of the published client: flat metrics, and a list of files without an index.

That client writes JSON with a space after each colon, and this one never does. So the first bytes of a file tell which
one began it, without the documents beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ml_dash._json import json
from ml_dash.records.values import is_published as is_published_text
from ml_dash.records.values import parse
from ml_dash.storage import file_index, layout
from ml_dash.storage.beneath import open_file
from ml_dash.storage.documents import to_seconds

HEAD_BYTES = 256
"""Bytes that are read of a file to tell which client began it: its first key ends before."""

JOURNAL = ".jsonl"


def is_published(path: str) -> bool:
    """Whether the published client wrote a JSON document, or the first line of a journal."""
    try:
        with open_file(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return is_published_text(head)


def flat_journal(run: str, name: str | None) -> str | None:
    """Return the absolute path of a metric's ``metrics/<name>.jsonl``; None if there is none."""
    path = os.path.join(run, layout.metric_folder(name) + JOURNAL)
    return path if os.path.isfile(path) else None


def flat_names(folder: str, below: str, files: list[str]) -> Iterator[str]:
    """Yield the names of the metrics that are files in a folder, without a folder of their own.

    Args:
        folder: absolute path of the run's ``metrics``.
        below: absolute path of the folder, which may be the same.
        files: the names of its files.
    """
    for file in files:
        if file.endswith(JOURNAL) and not file.startswith(".") and (below == folder or not is_data(file)):
            yield os.path.relpath(os.path.join(below, file.removesuffix(JOURNAL)), folder)


def is_data(file: str) -> bool:
    """Whether a file's name is that of a journal in a metric's own folder."""
    return layout.is_shard(file, "data")


def as_point(line: dict[str, Any], position: int | None) -> dict[str, Any]:
    """Return a line of a flat metric as a point; a line that is a point is returned unchanged.

    Args:
        line: ``timestamp`` (ISO text) and ``data``; data that is no dict becomes the field ``value``.
        position: its position among the points, which becomes its index.
    """
    if "index" in line or "timestamp" not in line:
        return line
    data, when = line["data"], line["timestamp"]
    fields = dict(data) if isinstance(data, dict) else {"value": data}
    is_number = isinstance(when, (int, float)) and not isinstance(when, bool)
    try:
        seconds = float(when) if is_number else to_seconds(when)
    except OverflowError:  # an integer beyond the largest float
        seconds = None
    if seconds is not None:
        fields.setdefault("_ts", seconds)
    return {"index": position, "data": fields, "createdAt": when}


def listed_files(content: bytes) -> list[dict[str, Any]]:
    """Return the records in the content of ``.files_metadata.json``, with deleted ones; none if it is broken."""
    was_published = is_published_text(content[:HEAD_BYTES])
    try:
        listed = (json.loads if was_published else parse)(content)["files"]
    except (ValueError, KeyError, TypeError):
        return []
    entries = [
        entry | {"path": entry.get("path") or "/"}
        for entry in (listed if isinstance(listed, list) else ())
        if file_index.is_entry(entry) and isinstance(entry.get("filename"), str)
    ]
    return [file_index.escape_values(entry) for entry in entries] if was_published else entries


def new_entries(listed: list[dict[str, Any]], known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the files that the published client saved in a run with an index, and its changes of files in the index.

    Args:
        listed: its list of files.
        known: the files of the index by id.
    """
    new = []
    for entry in listed:
        before = known.get(entry["id"])
        if before is None:
            new.append(entry)
        elif file_index.change_time(entry) > file_index.change_time(before):
            new.append({key: value for key, value in entry.items() if key not in ("path", "filename")})
    return new
