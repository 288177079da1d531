"""What is only found in trees of the published client: flat metrics, folded tracks, a list of files without an index.

That client writes JSON with a space after each colon, and this one never does: so a file's first bytes tell who began
it, whatever became of the documents beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ml_dash._json import json
from ml_dash.records.values import is_published as is_published_text
from ml_dash.records.values import parse
from ml_dash.storage import file_index, layout
from ml_dash.storage.documents import to_seconds

HEAD_BYTES = 256
"""Read of a file to see who began it: the first key, however long, ends before."""

JOURNAL = ".jsonl"


def is_published(path: str) -> bool:
    """Whether the published client wrote a JSON document, or the first line of a journal."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return is_published_text(head)


def flat_journal(run: str, name: str | None) -> str | None:
    """The absolute path of a metric's ``metrics/<name>.jsonl``, which has no folder; None if there is none."""
    path = os.path.join(run, layout.metric_folder(name) + JOURNAL)
    return path if os.path.isfile(path) else None


def flat_names(folder: str, below: str, files: list[str]) -> Iterator[str]:
    """The names of the metrics that lie flat in a folder.

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
    """A line of a flat metric as a point; a line that is one already is given back.

    Args:
        line: ``timestamp`` (ISO text) and ``data``; data that is no dict becomes the field ``value``.
        position: its place among the points, which is its index.
    """
    if "index" in line or "timestamp" not in line:
        return line
    data, when = line["data"], line["timestamp"]
    fields = dict(data) if isinstance(data, dict) else {"value": data}
    is_number = isinstance(when, (int, float)) and not isinstance(when, bool)
    seconds = float(when) if is_number else to_seconds(when)
    if seconds is not None:
        fields.setdefault("_ts", seconds)
    return {"index": position, "data": fields, "createdAt": when}


def listed_files(content: bytes) -> list[dict[str, Any]]:
    """The records of ``.files_metadata.json``, deleted ones too; none if it is broken."""
    is_theirs = is_published_text(content[:HEAD_BYTES])
    try:
        listed = (json.loads if is_theirs else parse)(content)["files"]
    except (ValueError, KeyError, TypeError):
        return []
    known = listed if isinstance(listed, list) else []
    entries = [entry | {"path": entry.get("path") or "/"} for entry in known if _is_record(entry)]
    return [file_index.escape_values(entry) for entry in entries] if is_theirs else entries


def news(listed: list[dict[str, Any]], known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the published client did to a run that has an index: files it saved, and changes of files that are known.

    Args:
        listed: its list.
        known: the files of the index by id.
    """
    found = []
    for entry in listed:
        before = known.get(entry["id"])
        if before is None:
            found.append(entry)
        elif file_index.moment(entry) > file_index.moment(before):
            found.append({key: value for key, value in entry.items() if key not in ("path", "filename")})
    return found


def _is_record(entry: object) -> bool:
    return isinstance(entry, dict) and file_index.is_entry(entry) and isinstance(entry.get("filename"), str)
