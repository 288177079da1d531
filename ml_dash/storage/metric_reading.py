"""The points of metrics, from every writer's journal."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from typing import Any

from ml_dash.records.values import revive
from ml_dash.storage import layout, legacy
from ml_dash.storage.documents import read_document
from ml_dash.storage.journal import read_batches, read_lines, read_objects, shards


def read_metric(run: str, name: str | None, start: int, limit: int | None) -> dict[str, Any]:
    """Points by position; see ``MetricReader.read``."""
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
    for place, point in enumerate(itertools.islice(tail, first, last), position + first):
        yield revive(point if "index" in point else legacy.as_point(point, place))


def metric_shards(run: str, name: str | None) -> list[str]:
    """Absolute paths of a metric's journals, the first writer's before the others', a flat one before all."""
    flat = legacy.flat_journal(run, name)
    journals = shards(os.path.join(run, layout.metric_folder(name)), "data")
    return journals if flat is None else [flat, *journals]


def metric_document(run: str, name: str | None) -> dict[str, Any]:
    """A metric's metadata.json, or only its name; and what other writers were told where that says nothing."""
    folder = os.path.join(run, layout.metric_folder(name))
    found = read_document(os.path.join(folder, layout.METADATA)) or {}
    for told in _told(folder):
        found |= {key: value for key, value in told.items() if not found.get(key)}
    return found | {"name": name}


def _told(folder: str) -> Iterator[dict[str, Any]]:
    try:
        names = sorted(filter(layout.is_about, os.listdir(folder)))
    except OSError:
        names = []
    for name in names:
        yield read_document(os.path.join(folder, name)) or {}


def metric_names(run: str) -> list[str | None]:
    """The names of a run's metrics; None is the unnamed one."""
    root = os.path.join(run, "metrics")
    names: set[str] = set()
    for folder, _, files in os.walk(root):
        if folder != root and layout.has_data(files):
            names.add(os.path.relpath(folder, root))
        names.update(legacy.flat_names(root, folder, files))
    return [name if name != layout.UNNAMED_METRIC else None for name in sorted(names)]


def list_metrics(run: str) -> list[dict[str, Any]]:
    """Every metric of a run with its metadata, by name, the points counted."""
    return [metric_document(run, name) | {"totalDataPoints": _count_lines(run, name)} for name in metric_names(run)]


def _count_lines(run: str, name: str | None) -> int:
    return sum(1 for path in metric_shards(run, name) for _ in read_lines(path))


def _merged_points(paths: list[str]) -> list[dict[str, Any]]:
    points = [legacy.as_point(point, None) for path in paths for point in read_objects(path) if "data" in point]
    points.sort(key=point_time)
    return [point | {"index": index} for index, point in enumerate(points)]


def point_time(point: dict[str, Any]) -> float:
    """A point's ``_ts``, or 0 if it has none that is a number."""
    data = point["data"]
    when = data.get("_ts") if isinstance(data, dict) else None
    return when if isinstance(when, (int, float)) and math.isfinite(when) else 0.0
