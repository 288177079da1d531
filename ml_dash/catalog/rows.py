"""The runs of a tree as rows of facts, each read when it is first asked for: listing reads experiment.json alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from ml_dash.catalog.filter import STATISTICS
from ml_dash.errors import InvalidNameError
from ml_dash.query.params import without_filled
from ml_dash.records.values import decode, flatten
from ml_dash.storage import metric_reading, reading, scan
from ml_dash.storage.beneath import open_file
from ml_dash.storage.documents import to_seconds
from ml_dash.storage.file_index import without_collector
from ml_dash.storage.liveness import is_live, open_seconds
from ml_dash.storage.names import check_metric

LAST_BYTES = 64 * 1024
"""End of a journal in which the last value of a metric is looked for: hundreds of points."""


class Row:
    """One run. It is what a condition asks (``catalog.matching.Facts``); a file that cannot be read gives no facts.

    Attributes:
        folder: absolute path of the run's directory.
        prefix: its path below the root, with slashes.
    """

    def __init__(self, folder: str, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self._last_values: dict[str, dict[str, Any]] = {}
        self._stats: dict[str, dict[str, Any]] = {}

    @cached_property
    def document(self) -> dict[str, Any]:
        """experiment.json; empty if it cannot be read."""
        document: dict[str, Any] = _if_readable(reading.read_experiment, self.folder)
        return document

    @property
    def status(self) -> str:
        """In lower case; empty where the run keeps none."""
        status = self.document.get("status")
        return status.lower() if isinstance(status, str) else ""

    @cached_property
    def is_live(self) -> bool:
        """Whether a process writes it now."""
        return self.status == "running" and is_live(self.document)

    @property
    def project(self) -> str | None:
        """As it was given, else the second segment of the prefix."""
        segments = self.prefix.split("/")
        return _text(self.document.get("project")) or (segments[1] if len(segments) > 1 else None)

    @property
    def host(self) -> str | None:
        """Name of the machine."""
        return _text(self.document.get("host"))

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return _texts(self.document.get("tags"))

    @property
    def bindrs(self) -> list[str]:
        """Its bindrs."""
        return _texts(self.document.get("bindrs"))

    @cached_property
    def created(self) -> float | None:
        """When the run was first opened, in seconds since 1970."""
        return to_seconds(self.document.get("created_at"))

    @property
    def started(self) -> float | None:
        """When it was last opened."""
        return to_seconds(self.document.get("started_at"))

    @property
    def ended(self) -> float | None:
        """When it ended."""
        return to_seconds(self.document.get("ended_at"))

    @cached_property
    def duration(self) -> float | None:
        """Seconds that it was open, all openings together."""
        return open_seconds(self.document, live=self.is_live)

    @cached_property
    def params(self) -> dict[str, Any]:
        """The parameters by dotted name."""
        return without_filled(_if_readable(reading.read_parameters, self.folder))

    def last(self, metric: str, field: str) -> Any:
        """The newest value of a metric's field, None if there is none near the end of its journals.

        Args:
            metric: the metric's name, empty for the unnamed one.
            field: the field's name, dotted where it is nested.
        """
        if metric not in self._last_values:
            self._last_values[metric] = _if_readable(_values_near_the_end, metric_journals(self.folder, metric))
        return self._last_values[metric].get(field)

    def has_metric(self, name: str) -> bool:
        """Whether it logged to a metric of this name."""
        try:
            return bool(name and metric_journals(self.folder, name))
        except OSError:
            return False

    def metric(self, name: str) -> Any:
        """The value of ``metric/field``, or of ``metric/field.min`` (``.max``, ``.mean``); None if there is none.

        The unnamed metric has only ``field``. A field that is itself called ``loss.min`` comes first.
        """
        metric, _, field = name.rpartition("/")
        value = self.last(metric, field)
        if value is not None:
            return value
        fields = self._field_stats(metric, is_needed=field.endswith(STATISTICS))
        if field in fields:  # logged long ago
            return fields[field]["last"]
        base, _, statistic = field.rpartition(".")
        return fields.get(base, {}).get(statistic) if field.endswith(STATISTICS) else None

    def _field_stats(self, metric: str, *, is_needed: bool) -> dict[str, Any]:
        """Statistics of each field. Empty where they are not needed and ``last`` has read the whole journals."""
        from ml_dash.query.metric_stats import field_stats  # imports the readers of columnar copies, not needed for ls

        journals = metric_journals(self.folder, metric)
        if not is_needed and all(os.path.getsize(path) <= LAST_BYTES for path in journals if os.path.exists(path)):
            return {}
        if metric not in self._stats:
            self._stats[metric] = _if_readable(field_stats, journals).get("fields", {})
        return self._stats[metric]

    def summary(self) -> dict[str, Any]:
        """Facts for ``ls --json``."""
        names = ("status", "status_reason", "created_at", "started_at", "ended_at", "host", "pid")
        return {
            "run": self.prefix,
            "folder": self.folder,
            "project": self.document.get("project"),
            "tags": self.tags,
            "live": self.is_live,
            "duration_s": self.duration,
            **{name: self.document.get(name) for name in names},
        }


def _if_readable(read: Callable[[Any], Any], source: Any) -> Any:
    """The result of ``read``; an empty dict if a file is damaged, so that the other runs are listed."""
    try:
        return read(source)
    except Exception:  # noqa: BLE001 - a file may hold anything; verify reports what is wrong
        return {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def find_rows(root: str, unreadable: list[scan.Unreadable] | None = None) -> Iterator[Row]:
    """Every run below a folder in the order of their prefixes; nothing of them is read yet.

    Args:
        root: its absolute path.
        unreadable: takes each folder that cannot be listed.
    """
    start = len(root.rstrip(os.sep)) + 1
    for folder in scan.find_runs(root, unreadable):
        # Cut off rather than made relative: that takes as long as reading the document does.
        yield Row(folder, folder[start:].replace(os.sep, "/") or os.path.basename(root))


def read_rows(root: str, unreadable: list[scan.Unreadable] | None = None) -> list[Row]:
    """The rows of ``find_rows`` with their documents, read without pauses of the garbage collector."""
    with without_collector():
        rows = list(find_rows(root, unreadable))
        for row in rows:
            row.document  # noqa: B018 - read now
        return rows


def metric_journals(run: str, metric: str) -> list[str]:
    """The journals of a metric; none if they cannot be listed, or no metric can have that name: it may be a person's text.

    Args:
        run: the run's directory.
        metric: the metric's name, empty for the unnamed one.
    """
    try:
        if metric:
            check_metric(metric)
        return metric_reading.metric_shards(run, metric or None)
    except (InvalidNameError, OSError):
        return []


def last_values(run: str, metric: str | None) -> dict[str, Any]:
    """The newest value of each field of a metric, if it is among the last points of its journals."""
    return _values_near_the_end(metric_reading.metric_shards(run, metric))


def _values_near_the_end(journals: list[str]) -> dict[str, Any]:
    points = [point for path in journals for point in _last_points(path)]
    values: dict[str, Any] = {}
    for point in sorted(points, key=metric_reading.point_time):  # stable: of one journal they keep their order
        values |= flatten(point["data"])
    return values


def _last_points(path: str) -> list[dict[str, Any]]:
    try:
        with open_file(path) as file:
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
