"""Read metrics: their points from the journals of all writers, and their metadata."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from typing import Any

from ml_dash.records.values import revive
from ml_dash.storage import layout, legacy
from ml_dash.storage.beneath import walk
from ml_dash.storage.documents import read_document
from ml_dash.storage.journal import read_batches, read_lines, read_objects, shards


def read_metric(run: str, name: str | None, start: int, limit: int | None) -> dict[str, Any]:
    """Return points by position; see ``MetricReader.read``."""
    # One more point than asked for says whether there are more; the points after it are not read.
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
    """Yield points of a metric by position. Those of several writers are sorted by time, in memory."""
    paths = metric_shards(run, name)
    if len(paths) > 1:
        points = [legacy.as_point(line, None) for path in paths for line in read_objects(path) if "data" in line]
        points.sort(key=point_time)
        for index, point in itertools.islice(enumerate(points), start, stop):
            yield point | {"index": index}
        return
    for path in paths:
        yield from _points_of_one(path, start, stop)


def _points_of_one(path: str, start: int, stop: int | None) -> Iterator[dict[str, Any]]:
    from ml_dash.storage import range_reading  # not loaded by a training process that only logs

    position = covered = 0
    coverage = range_reading.coverage_of(path) if start or stop is None else None
    for group in coverage.groups if coverage is not None else ():
        if position + group.rows > start and (stop is None or position < stop):
            yield from range_reading.points_of(
                path, group, max(0, start - position), None if stop is None else stop - position
            )
        position += group.rows
        covered = group.end
    tail = (point for batch in read_batches(path, covered) for point in batch if "data" in point)
    last = None if stop is None else max(0, stop - position)
    first = max(0, start - position)
    for index, point in enumerate(itertools.islice(tail, first, last), position + first):
        yield revive(point if "index" in point else legacy.as_point(point, index))


def metric_shards(run: str, name: str | None) -> list[str]:
    """Return the absolute paths of a metric's journals: a flat one, the first writer's, the others'."""
    flat = legacy.flat_journal(run, name)
    journals = shards(os.path.join(run, layout.metric_folder(name)), "data")
    return journals if flat is None else [flat, *journals]


def metric_document(run: str, name: str | None) -> dict[str, Any]:
    """Return a metric's metadata.json with its name; keys that it lacks come from the descriptions of other writers."""
    folder = os.path.join(run, layout.metric_folder(name))
    document = read_document(os.path.join(folder, layout.METADATA)) or {}
    try:
        descriptions = sorted(filter(layout.is_metric_description, os.listdir(folder)))
    except OSError:
        descriptions = []
    for description in descriptions:
        other = read_document(os.path.join(folder, description)) or {}
        document |= {key: value for key, value in other.items() if not document.get(key)}
    return document | {"name": name}


def metric_names(run: str) -> list[str | None]:
    """Return the names of a run's metrics; None is the unnamed one."""
    root = os.path.join(run, "metrics")
    names: set[str] = set()
    for folder, files in walk(root):
        if folder != root and layout.has_data(files):
            names.add(os.path.relpath(folder, root))
        names.update(legacy.flat_names(root, folder, files))
    return [name if name != layout.UNNAMED_METRIC else None for name in sorted(names)]


def list_metrics(run: str) -> list[dict[str, Any]]:
    """Return the metadata of every metric of a run, by name, with the number of its points."""
    documents = []
    for name in metric_names(run):
        count = sum(1 for path in metric_shards(run, name) for _ in read_lines(path))
        documents.append(metric_document(run, name) | {"totalDataPoints": count})
    return documents


def point_time(point: dict[str, Any]) -> float:
    """Return a point's ``_ts``, or 0 if it has none that is a number."""
    data = point["data"]
    when = data.get("_ts") if isinstance(data, dict) else None
    try:
        return when if isinstance(when, (int, float)) and math.isfinite(when) else 0.0
    except OverflowError:  # an integer beyond the largest float
        return 0.0
