"""Read tracks: their rows from the journals of all writers and the folders of older clients, and their metadata."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from ml_dash.errors import InvalidNameError
from ml_dash.records.mocap import mocap_document
from ml_dash.records.values import encode
from ml_dash.storage import layout, legacy
from ml_dash.storage.beneath import walk
from ml_dash.storage.documents import read_document
from ml_dash.storage.journal import read_lines, read_objects, shards
from ml_dash.storage.names import check_topic

TRACK_FORMATS = ("json", "jsonl", "parquet", "mocap")


def read_track(
    run: str, topic: str, start: float | None, end: float | None, columns: Sequence[str] | None, format: str
) -> Any:
    """Return rows by time in one of ``TRACK_FORMATS``; see ``TrackReader.read``."""
    rows = [projected(row, columns) for row in merged_rows(run, topic, start, end)]
    if format == "jsonl":
        return b"".join(encode(row, f"track {topic!r}") + b"\n" for row in rows)
    if format == "parquet":
        return _parquet(rows)
    if format == "mocap":
        return mocap_document(topic, rows, track_metadata(run, topic))
    return {"entries": rows, "count": len(rows)}


def merged_rows(run: str, topic: str, start: float | None = None, end: float | None = None) -> list[dict[str, Any]]:
    """Return a track's rows with a time from ``start`` to ``end``, both inclusive, sorted by time.

    Rows with the same timestamp are merged in the order of their calls, the first writer's before the others'.
    """
    from ml_dash.storage import range_reading  # not loaded by a training process that only logs

    low, high = -math.inf if start is None else start, math.inf if end is None else end
    rows: dict[float, dict[str, Any]] = {}
    for path in track_shards(run, topic):
        for row in range_reading.rows_between(path, start, end):
            timestamp = _row_time(row)
            if timestamp is None or not low <= timestamp <= high:
                continue
            row["timestamp"] = timestamp
            rows.setdefault(timestamp, {"timestamp": timestamp}).update(row)
    return [rows[timestamp] for timestamp in sorted(rows)]


def list_tracks(run: str) -> list[str]:
    """Return the sorted topics of a run. A folder of an older client has the topic that its metadata.json names."""
    root = os.path.join(run, "tracks")
    folders = (folder for folder, files in walk(root) if folder != root and layout.has_data(files))
    return sorted({_topic_of(os.path.relpath(folder, root), folder) for folder in folders})


def track_stats(run: str, topic: str) -> dict[str, Any]:
    """Return a track's metadata, with the number of rows, the columns and the times of all writers' journals now."""
    parts = [_shard_stats(path) for path in track_shards(run, topic)]
    firsts = [part["firstTimestamp"] for part in parts if part["firstTimestamp"] is not None]
    lasts = [part["lastTimestamp"] for part in parts if part["lastTimestamp"] is not None]
    return (track_metadata(run, topic) or {}) | {
        "topic": topic,
        "columns": sorted({name for part in parts for name in part["columns"]}),
        "totalEntries": sum(part["totalEntries"] for part in parts),
        "firstTimestamp": min(firsts, default=None),
        "lastTimestamp": max(lasts, default=None),
    }


def track_metadata(run: str, topic: str) -> dict[str, Any] | None:
    """Return the metadata.json of a track; None if there is no such track."""
    folders = dict.fromkeys(os.path.dirname(path) for path in track_shards(run, topic))
    document: dict[str, Any] = {}
    for folder in folders:
        document |= read_document(os.path.join(folder, layout.METADATA)) or {}
    return document if folders else None


def track_shards(run: str, topic: str) -> list[str]:
    """Return the journals of a topic: in the folder of older clients (an underscore for each slash), and in its own.

    Several topics may share a folder of an older client, whose metadata.json names at most the first of them. So a
    journal that an older client began belongs to each of them; otherwise the folder ``a_b`` is the topic ``a_b`` alone.
    """
    folder = os.path.join(run, layout.track_folder(topic))
    old = os.path.join(run, layout.old_track_folder(topic))
    before = shards(old, "data") if old != folder else []
    if before and not legacy.is_published(before[0]):
        document = read_document(os.path.join(old, layout.METADATA)) or {}
        before = before if document.get("topic") == topic else []
    return [*before, *shards(folder, "data")]


def _topic_of(name: str, folder: str) -> str:
    """Return the topic of a folder below ``tracks``: its path, or the topic that an older client made it from."""
    topic = (read_document(os.path.join(folder, layout.METADATA)) or {}).get("topic")
    if not isinstance(topic, str) or layout.old_track_folder(topic) != f"tracks/{name}":
        return name
    try:
        check_topic(topic)
    except InvalidNameError:  # older clients allowed it, and no reader accepts it
        return name
    return topic


def _shard_stats(path: str) -> dict[str, Any]:
    """Return the numbers of metadata.json if they are up to date, otherwise those of the journal itself."""
    folder, name = os.path.split(path)
    document = (read_document(os.path.join(folder, layout.METADATA)) or {}) if name == "data.jsonl" else {}
    if _has_stats(document) and document["totalEntries"] == sum(1 for _ in read_lines(path)):
        return document
    columns: set[str] = set()
    total, first, last = 0, math.inf, -math.inf
    for row in read_objects(path):
        timestamp = _row_time(row)
        if timestamp is not None:
            total += 1
            columns.update(row)
            first, last = min(first, timestamp), max(last, timestamp)
    columns.discard("timestamp")
    ends = (first, last) if total else (None, None)
    return {"columns": columns, "totalEntries": total, "firstTimestamp": ends[0], "lastTimestamp": ends[1]}


def _has_stats(document: dict[str, Any]) -> bool:
    numbers = [document.get(key) for key in ("totalEntries", "firstTimestamp", "lastTimestamp")]
    columns = document.get("columns")
    return (
        all(isinstance(number, (int, float)) for number in numbers)
        and isinstance(columns, list)
        and all(isinstance(column, str) for column in columns)
    )


def _row_time(row: dict[str, Any]) -> float | None:
    """Return the time of a row; None if it has none that can be sorted."""
    timestamp = row.get("timestamp")
    if not isinstance(timestamp, (int, float)) or isinstance(timestamp, bool):
        return None
    try:
        seconds = float(timestamp) + 0.0  # turns minus zero into zero
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ml_dash.storage.columns import rows_to_table

    sink = pa.BufferOutputStream()
    pq.write_table(rows_to_table(rows, first="timestamp"), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def projected(row: dict[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
    """Return a row with only these fields and its timestamp; with all fields for None."""
    if columns is None:
        return row
    return {"timestamp": row["timestamp"], **{name: row[name] for name in columns if name in row}}
