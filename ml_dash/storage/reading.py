"""Reading a run's directory: whole lines only, every writer's files, whatever state they were left in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ml_dash.errors import InvalidValueError
from ml_dash.records.values import decode, flatten, revive, to_plain
from ml_dash.storage import layout
from ml_dash.storage.documents import parameters_in, read_document, read_raw_document
from ml_dash.storage.journal import read_lines

TRACK_FORMATS = ("json", "jsonl")


def read_objects(path: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a journal; a line that is none is passed over."""
    for line in read_lines(path):
        try:
            value = decode(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def shards(folder: str, stem: str) -> list[str]:
    """Absolute paths of a journal's files, the first writer's before the others'."""
    try:
        names = sorted(name for name in os.listdir(folder) if layout.is_shard(name, stem))
    except (FileNotFoundError, NotADirectoryError):
        return []
    names.sort(key=lambda name: name != f"{stem}.jsonl")
    return [os.path.join(folder, name) for name in names]


def read_experiment(run: str) -> dict[str, Any]:
    """experiment.json, or an empty dict."""
    found = read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {}
    # Only these hold values; a tag or a reason that reads "NaN" is text.
    return found | {"metadata": revive(found["metadata"])} if "metadata" in found else found


def read_parameters(run: str) -> dict[str, Any]:
    """Flat parameters; also reads a document without ``data``, and nested ones, as older clients wrote them."""
    document = read_document(os.path.join(run, layout.PARAMETERS)) or {}
    return flatten(parameters_in(document))


def read_logs(run: str) -> list[dict[str, Any]]:
    """Every log line, by time if several writers wrote."""
    paths = shards(os.path.join(run, "logs"), "logs")
    lines = [line for path in paths for line in read_objects(path)]
    if len(paths) > 1:
        lines.sort(key=lambda line: str(line.get("timestamp")))
    return lines


def read_metric(run: str, name: str | None, start: int, limit: int | None) -> dict[str, Any]:
    """Points by position; see ``Metric.read``."""
    if start < 0 or (limit is not None and limit < 0):
        raise InvalidValueError(f"start_index={start}, limit={limit}: both must be 0 or more")
    paths = shards(os.path.join(run, layout.metric_folder(name)), "data")
    points = _merged_points(paths) if len(paths) > 1 else [p for path in paths for p in read_objects(path)]
    points = [point for point in points if "data" in point]
    window = points[start:] if limit is None else points[start : start + limit]
    return {
        "data": window,
        "startIndex": start,
        "endIndex": start + len(window) - 1,
        "total": len(window),
        "hasMore": start + len(window) < len(points),
    }


def metric_stats(run: str, name: str | None) -> dict[str, Any]:
    """A metric's metadata with the points counted now."""
    folder = os.path.join(run, layout.metric_folder(name))
    found = read_document(os.path.join(folder, layout.METADATA)) or {"name": name}
    total = sum(1 for path in shards(folder, "data") for _ in read_lines(path))
    return found | {"name": name, "totalDataPoints": total}


def list_metrics(run: str) -> list[dict[str, Any]]:
    """Every metric of a run with its metadata, by name."""
    root = os.path.join(run, "metrics")
    names = [os.path.relpath(folder, root) for folder, _, files in os.walk(root) if _has_data(files)]
    return [metric_stats(run, name if name != layout.UNNAMED_METRIC else None) for name in sorted(names)]


def read_track(
    run: str, topic: str, start: float | None, end: float | None, columns: list[str] | None, format: str
) -> Any:
    """Rows by time; see ``Track.read``."""
    if format not in TRACK_FORMATS:
        raise InvalidValueError(f"format={format!r} is not known; use one of {', '.join(TRACK_FORMATS)}")
    rows = [_projected(row, columns) for row in merged_rows(run, topic) if _within(row["timestamp"], start, end)]
    if format == "json":
        return {"entries": rows, "count": len(rows)}
    from ml_dash.records.values import encode

    return b"".join(encode(row, f"track {topic!r}") + b"\n" for row in rows)


def merged_rows(run: str, topic: str) -> list[dict[str, Any]]:
    """A track's rows sorted by time, those of one timestamp merged in the order of their calls."""
    rows: dict[float, dict[str, Any]] = {}
    for path in _track_shards(run, topic):
        for row in read_objects(path):
            timestamp = row.get("timestamp")
            if isinstance(timestamp, (int, float)) and not isinstance(timestamp, bool):
                rows.setdefault(float(timestamp), {"timestamp": float(timestamp)}).update(row)
    return [rows[timestamp] for timestamp in sorted(rows)]


def read_files(run: str) -> list[dict[str, Any]]:
    """The newest version of every stored file that was not deleted, in the order of saving."""
    folder = os.path.join(run, "files")
    entries: dict[str, dict[str, Any]] = {}
    paths = shards(folder, "index")
    old = read_document(os.path.join(folder, ".files_metadata.json")) if not paths else None
    listed = old.get("files", []) if old else (entry for path in paths for entry in read_objects(path))
    for entry in listed:
        if isinstance(entry, dict) and "id" in entry:
            if isinstance(entry.get("filename"), float):  # a file that is named NaN
                entry["filename"] = to_plain(entry["filename"], "a file's name")
            entries[entry["id"]] = entries.get(entry["id"], {}) | entry
    complete = [entry for entry in entries.values() if "filename" in entry and "path" in entry]
    newest = {(entry["path"], entry["filename"]): entry["id"] for entry in complete}
    return [e for e in complete if newest[(e["path"], e["filename"])] == e["id"] and not e.get("deletedAt")]


def read_frames(run: str, topic: str) -> list[dict[str, Any]]:
    """The index of a frame stream in the order of its numbers."""
    paths = shards(os.path.join(run, layout.frames_folder(topic)), "data")
    return sorted((line for path in paths for line in read_objects(path)), key=lambda line: line.get("seq", 0))


def frame_bytes(run: str, topic: str, frame: dict[str, Any]) -> bytes:
    """The encoded bytes of one frame: a single read."""
    path = os.path.join(run, layout.frames_folder(topic), frame["shard"])
    with open(path, "rb") as file:
        return os.pread(file.fileno(), frame["size"], frame["offset"])


def _merged_points(paths: list[str]) -> list[dict[str, Any]]:
    points = [point for path in paths for point in read_objects(path) if "data" in point]
    points.sort(key=lambda point: point["data"].get("_ts", 0.0))
    return [point | {"index": index} for index, point in enumerate(points)]


def _track_shards(run: str, topic: str) -> list[str]:
    """The journals of a topic: where older clients put it (an underscore for each slash), and where we do."""
    folder, old = (os.path.join(run, place(topic)) for place in (layout.track_folder, layout.old_track_folder))
    if old == folder:
        return shards(folder, "data")
    about = read_document(os.path.join(old, layout.METADATA)) or {}
    return [*(shards(old, "data") if about.get("topic") == topic else []), *shards(folder, "data")]


def _has_data(files: list[str]) -> bool:
    return any(layout.is_shard(name, "data") for name in files)


def _within(timestamp: float, start: float | None, end: float | None) -> bool:
    return (start is None or timestamp >= start) and (end is None or timestamp <= end)


def _projected(row: dict[str, Any], columns: list[str] | None) -> dict[str, Any]:
    if columns is None:
        return row
    return {"timestamp": row["timestamp"], **{name: row[name] for name in columns if name in row}}
