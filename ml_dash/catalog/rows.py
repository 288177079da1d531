"""The runs that ``ls`` lists: read from their experiment.json alone, so that ten thousand take less than a second."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ml_dash.records.values import decode, flatten
from ml_dash.storage import metric_reading, reading, scan
from ml_dash.storage.documents import to_seconds
from ml_dash.storage.file_index import without_collector
from ml_dash.storage.liveness import is_live, open_seconds

LAST_BYTES = 64 * 1024
"""End of a journal in which the last value of a metric is looked for: hundreds of points."""

_MOMENTS = ("created_at", "started_at", "ended_at")


class Row:
    """One run.

    Attributes:
        folder: absolute path of the run's directory.
        prefix: its place below the root.
        document: its experiment.json, empty if that cannot be read.
    """

    __slots__ = ("__dict__", "document", "folder", "prefix")

    def __init__(self, folder: str, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self.document = _as_far_as_readable(reading.read_experiment, folder)

    @property
    def status(self) -> str:
        """In lower case; empty where the run keeps none."""
        found = self.document.get("status")
        return found.lower() if isinstance(found, str) else ""

    @cached_property
    def is_live(self) -> bool:
        """Whether somebody writes it now."""
        if self.status != "running":
            return False
        return is_live(self.document)

    @cached_property
    def created(self) -> float | None:
        """When the run was first opened, in seconds since 1970."""
        return to_seconds(self.document.get("created_at"))

    @property
    def tags(self) -> list[str]:
        """Words to find it by."""
        found = self.document.get("tags")
        return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []

    @cached_property
    def duration(self) -> float | None:
        """Seconds that it was open, all openings together."""
        return open_seconds(self.document, live=self.is_live)

    @cached_property
    def params(self) -> dict[str, Any]:
        """The parameters by dotted name."""
        return _as_far_as_readable(reading.read_parameters, self.folder)

    def last(self, metric: str, field: str) -> Any:
        """The newest value of a metric, None if there is none near its end."""
        return _as_far_as_readable(lambda folder: last_values(folder, metric or None), self.folder).get(field)

    def summary(self) -> dict[str, Any]:
        """What ``ls --json`` says of a run."""
        names = ("status", "status_reason", *_MOMENTS, "host", "pid")
        return {
            "run": self.prefix,
            "folder": self.folder,
            "project": self.document.get("project"),
            "tags": self.tags,
            "live": self.is_live,
            "duration_s": self.duration,
            **{name: self.document.get(name) for name in names},
        }


def _as_far_as_readable(read: Callable[[str], dict[str, Any]], folder: str) -> dict[str, Any]:
    """What is read of a run; nothing where a file cannot be read or holds what nobody has thought of."""
    try:
        return read(folder)
    except Exception:  # noqa: BLE001 - the other runs are listed all the same, and verify says what is wrong
        return {}


def read_rows(root: str, unreadable: list[scan.Unreadable] | None = None) -> list[Row]:
    """Every run below a folder, in the order of their prefixes.

    Args:
        root: its absolute path.
        unreadable: takes each folder that cannot be listed.
    """
    start = len(root.rstrip(os.sep)) + 1
    with without_collector():
        # Cut off rather than made relative: that takes as long as reading the document does.
        return [
            Row(folder, folder[start:].replace(os.sep, "/") or os.path.basename(root))
            for folder in scan.find_runs(root, unreadable)
        ]


def last_values(run: str, metric: str | None) -> dict[str, Any]:
    """The newest value of each field of a metric, as far as it stands in the last points of its journals."""
    points = [point for path in metric_reading.metric_shards(run, metric) for point in _last_points(path)]
    found: dict[str, Any] = {}
    for point in sorted(
        points, key=metric_reading.point_time
    ):  # of one journal they keep their order where times are equal
        found |= flatten(point["data"])
    return found


def _last_points(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return []
    points = []
    for line in lines:
        try:
            point = decode(line)
        except ValueError:  # the first line may be a part of one
            continue
        if isinstance(point, dict) and isinstance(point.get("data"), dict):
            points.append(point)
    return points
