"""Reading a run's directory: whole lines only, every writer's files, whatever state they were left in."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from ml_dash.errors import InvalidNameError, InvalidValueError
from ml_dash.records.mocap import mocap_document
from ml_dash.records.values import decode, encode, flatten, is_published, parse, parse_values, revive
from ml_dash.storage import file_index, layout, legacy
from ml_dash.storage.documents import parameters_in, read_document, read_raw_document
from ml_dash.storage.journal import read_lines, read_lines_from
from ml_dash.storage.names import check_topic

TRACK_FORMATS = ("json", "jsonl", "parquet", "mocap")

BATCH_BYTES = 128 * 1024
"""Lines parsed at once: enough that the call costs nothing beside them, and that a page of points is read at once."""


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


def iter_logs(run: str) -> Iterator[dict[str, Any]]:
    """Every log line; by time if several writers wrote, each one's lines in its own order. One line is held at a time."""
    journals = [read_objects(path) for path in shards(os.path.join(run, "logs"), "logs")]
    if len(journals) == 1:
        return journals[0]
    import heapq

    # A full second has no fraction, and its Z would put it behind the times that have one.
    return heapq.merge(*journals, key=lambda line: str(line.get("timestamp")).rstrip("Z"))


def read_logs(run: str) -> list[dict[str, Any]]:
    """The same as a list."""
    return list(iter_logs(run))


def read_metric(run: str, name: str | None, start: int, limit: int | None) -> dict[str, Any]:
    """Points by position; see ``MetricReader.read``."""
    if start < 0 or (limit is not None and limit < 0):
        raise InvalidValueError(f"start_index={start}, limit={limit}: both must be 0 or more")
    # One more than asked for says whether there are more; what lies behind it is not read.
    window = list(metric_points(run, name, start, None if limit is None else start + limit + 1))
    more = limit is not None and len(window) > limit
    window = window[:limit]
    return {
        "data": window,
        "startIndex": start,
        "endIndex": start + len(window) - 1,
        "total": len(window),
        "hasMore": more,
    }


def metric_points(run: str, name: str | None, start: int = 0, stop: int | None = None) -> Iterator[dict[str, Any]]:
    """Points of a metric by position. Those of several writers are sorted by time, which takes all into memory."""
    paths = metric_shards(run, name)
    if len(paths) > 1:
        yield from _merged_points(paths)[start:stop]
        return
    for path in paths:
        yield from _points_of_one(path, start, stop)


def _points_of_one(path: str, start: int, stop: int | None) -> Iterator[dict[str, Any]]:
    from ml_dash.storage import windows  # not loaded by a training process that only logs

    position = covered = 0
    coverage = windows.coverage_of(path) if start or stop is None else None
    for group in coverage.groups if coverage is not None else ():
        if position + group.rows > start and (stop is None or position < stop):
            yield from windows.points_of(
                path, group, max(0, start - position), None if stop is None else stop - position
            )
        position += group.rows
        covered = group.end
    tail = (point for batch in read_batches(path, covered) for point in batch if "data" in point)
    last = None if stop is None else max(0, stop - position)
    first = max(0, start - position)
    for place, point in enumerate(itertools.islice(tail, first, last), position + first):
        yield revive(point if "index" in point else legacy.as_point(point, place))


def metric_shards(run: str, name: str | None) -> list[str]:
    """Absolute paths of a metric's journals, the first writer's before the others', a flat one before all."""
    flat = legacy.flat_journal(run, name)
    journals = shards(os.path.join(run, layout.metric_folder(name)), "data")
    return journals if flat is None else [flat, *journals]


def metric_document(run: str, name: str | None) -> dict[str, Any]:
    """A metric's metadata.json, or only its name."""
    found = read_document(os.path.join(run, layout.metric_folder(name), layout.METADATA)) or {}
    return found | {"name": name}


def metric_names(run: str) -> list[str | None]:
    """The names of a run's metrics; None is the unnamed one."""
    root = os.path.join(run, "metrics")
    names: set[str] = set()
    for folder, _, files in os.walk(root):
        if folder != root and _has_data(files):
            names.add(os.path.relpath(folder, root))
        names.update(legacy.flat_names(root, folder, files))
    return [name if name != layout.UNNAMED_METRIC else None for name in sorted(names)]


def list_metrics(run: str) -> list[dict[str, Any]]:
    """Every metric of a run with its metadata, by name, the points counted."""
    return [metric_document(run, name) | {"totalDataPoints": _count_lines(run, name)} for name in metric_names(run)]


def _count_lines(run: str, name: str | None) -> int:
    return sum(1 for path in metric_shards(run, name) for _ in read_lines(path))


def read_batches(path: str, start: int = 0) -> Iterator[list[dict[str, Any]]]:
    """The JSON objects of a journal as they stand (``revive`` makes floats of what was not finite), by the batch.

    Args:
        path: the journal.
        start: the byte at which the first line begins.
    """
    batch: list[bytes] = []
    size = 0
    for line in read_lines_from(path, start):
        batch.append(line)
        size += len(line)
        if size >= BATCH_BYTES:
            yield _parse_objects(batch)
            batch, size = [], 0
    if batch:
        yield _parse_objects(batch)


def _parse_objects(lines: list[bytes]) -> list[dict[str, Any]]:
    return [value for value in _parse_lines(lines) if isinstance(value, dict)]


def _parse_lines(lines: list[bytes]) -> list[Any]:
    """One call of the parser for many lines takes half of the time; a line that is broken makes it one each."""
    joined = b"[" + b",".join(lines) + b"]"
    if (b'NaN"' in joined or b'Infinity"' in joined) and any(map(is_published, lines)):
        return [_parse_line(line) for line in lines]
    try:
        values = parse(joined)
    except ValueError:
        values = None
    if isinstance(values, list) and len(values) == len(lines):
        return values
    return [_parse_line(line) for line in lines]


def _parse_line(line: bytes) -> Any:
    try:
        return parse_values(line)
    except ValueError:
        return None


def read_track(
    run: str, topic: str, start: float | None, end: float | None, columns: Sequence[str] | None, format: str
) -> Any:
    """Rows by time in one of ``TRACK_FORMATS``; see ``TrackReader.read``."""
    rows = [projected(row, columns) for row in merged_rows(run, topic, start, end)]
    if format == "jsonl":
        return b"".join(encode(row, f"track {topic!r}") + b"\n" for row in rows)
    if format == "parquet":
        return _parquet(rows)
    if format == "mocap":
        return mocap_document(topic, rows, track_metadata(run, topic))
    return {"entries": rows, "count": len(rows)}


def merged_rows(run: str, topic: str, start: float | None = None, end: float | None = None) -> list[dict[str, Any]]:
    """A track's rows from ``start`` to ``end``, both inclusive, sorted by time.

    Rows of one timestamp are merged in the order of their calls; those of the first writer count as earlier than those
    of the others.
    """
    from ml_dash.storage import windows  # not loaded by a training process that only logs

    rows: dict[float, dict[str, Any]] = {}
    for path in track_shards(run, topic):
        for row in windows.rows_between(path, start, end):
            timestamp = _row_time(row)
            if timestamp is None or not _within(timestamp, start, end):
                continue
            row["timestamp"] = timestamp
            rows.setdefault(timestamp, {"timestamp": timestamp}).update(row)
    return [rows[timestamp] for timestamp in sorted(rows)]


def list_tracks(run: str) -> list[str]:
    """The topics of a run, sorted. A folder of an older client counts under the topic that its metadata.json names."""
    root = os.path.join(run, "tracks")
    folders = (folder for folder, _, files in os.walk(root) if folder != root and _has_data(files))
    return sorted({_topic_of(os.path.relpath(folder, root), folder) for folder in folders})


def track_stats(run: str, topic: str) -> dict[str, Any]:
    """A track's metadata, its entries counted now: those of every writer, each appended one."""
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
    """What metadata.json says of a track; None if there is no such track."""
    folders = dict.fromkeys(os.path.dirname(path) for path in track_shards(run, topic))
    found: dict[str, Any] = {}
    for folder in folders:
        found |= read_document(os.path.join(folder, layout.METADATA)) or {}
    return found if folders else None


def read_files(run: str) -> list[dict[str, Any]]:
    """The newest version of every stored file that was not deleted, in the order of saving."""
    paths = shards(os.path.join(run, "files"), "index")
    with file_index.without_collector():
        journals = [file_index.read_entries(path) for path in paths]
        has_index = os.path.join(run, layout.file_index()) in paths
        listed = _listed_files(run, has_index=has_index)
        if listed and journals:
            known = {entry["id"]: entry for journal in journals for entry in journal}
            journals.insert(len(journals) if has_index else 0, legacy.news(listed, known))
        # The list alone is taken as it is: that client gave two files one id now and then.
        found = file_index.merge(journals) if journals else listed
        return [entry for entry in found if not entry.get("deletedAt")]


def read_frames(run: str, topic: str) -> list[dict[str, Any]]:
    """The index of a frame stream in the order of its numbers."""
    paths = shards(os.path.join(run, layout.frames_folder(topic)), "data")
    return sorted((line for path in paths for line in read_objects(path)), key=lambda line: line.get("seq", 0))


def frame_bytes(run: str, topic: str, frame: dict[str, Any]) -> bytes:
    """The encoded bytes of one frame: a single read."""
    path = os.path.join(run, layout.frames_folder(topic), frame["shard"])
    with open(path, "rb") as file:
        return os.pread(file.fileno(), frame["size"], frame["offset"])


def _listed_files(run: str, *, has_index: bool) -> list[dict[str, Any]]:
    """What ``.files_metadata.json`` lists, as far as it says anything that the index does not."""
    path = os.path.join(run, layout.FILES_METADATA)
    if has_index and not legacy.is_published(path):
        return []
    try:
        with open(path, "rb") as file:
            entries = legacy.listed_files(file.read())
    except OSError:
        return []
    for entry in entries:
        file_index.revive_values(entry)
    return entries


def _merged_points(paths: list[str]) -> list[dict[str, Any]]:
    points = [legacy.as_point(point, None) for path in paths for point in read_objects(path) if "data" in point]
    points.sort(key=point_time)
    return [point | {"index": index} for index, point in enumerate(points)]


def point_time(point: dict[str, Any]) -> float:
    """A point's ``_ts``, or 0 if it has none that is a number."""
    data = point["data"]
    when = data.get("_ts") if isinstance(data, dict) else None
    return when if isinstance(when, (int, float)) and math.isfinite(when) else 0.0


def track_shards(run: str, topic: str) -> list[str]:
    """The journals of a topic: where older clients put it (an underscore for each slash), and where we do.

    Several topics may share such a folder, and its metadata.json names the first of them at most; so what an older
    client began counts for each. Otherwise the folder ``a_b`` is the topic ``a_b`` alone.
    """
    folder, old = (os.path.join(run, place(topic)) for place in (layout.track_folder, layout.old_track_folder))
    before = shards(old, "data") if old != folder else []
    if before and not legacy.is_published(before[0]):
        about = read_document(os.path.join(old, layout.METADATA)) or {}
        before = before if about.get("topic") == topic else []
    return [*before, *shards(folder, "data")]


def _topic_of(name: str, folder: str) -> str:
    """The topic of a folder below ``tracks``: its path, or what an older client made it from."""
    topic = (read_document(os.path.join(folder, layout.METADATA)) or {}).get("topic")
    if not isinstance(topic, str) or layout.old_track_folder(topic) != f"tracks/{name}":
        return name
    try:
        check_topic(topic)
    except InvalidNameError:  # it was allowed once, and nobody could ask for it
        return name
    return topic


def _shard_stats(path: str) -> dict[str, Any]:
    """What metadata.json says of its journal if it is up to date, else the same counted."""
    folder, name = os.path.split(path)
    about = (read_document(os.path.join(folder, layout.METADATA)) or {}) if name == "data.jsonl" else {}
    if _counts_every_row(about) and about["totalEntries"] == sum(1 for _ in read_lines(path)):
        return about
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


def _counts_every_row(about: dict[str, Any]) -> bool:
    numbers = [about.get(key) for key in ("totalEntries", "firstTimestamp", "lastTimestamp")]
    columns = about.get("columns")
    return (
        all(isinstance(number, (int, float)) for number in numbers)
        and isinstance(columns, list)
        and all(isinstance(column, str) for column in columns)
    )


def _row_time(row: dict[str, Any]) -> float | None:
    """The time of a row, or None if it has none that can be sorted."""
    timestamp = row.get("timestamp")
    if not isinstance(timestamp, (int, float)) or isinstance(timestamp, bool):
        return None
    try:
        seconds = float(timestamp) + 0.0  # minus zero is zero
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


def _has_data(files: list[str]) -> bool:
    return any(layout.is_shard(name, "data") for name in files)


def _within(timestamp: float, start: float | None, end: float | None) -> bool:
    return (start is None or timestamp >= start) and (end is None or timestamp <= end)


def projected(row: dict[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
    """A row with only these fields and its timestamp; with all of them for None."""
    if columns is None:
        return row
    return {"timestamp": row["timestamp"], **{name: row[name] for name in columns if name in row}}
