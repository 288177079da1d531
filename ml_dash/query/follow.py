"""Follow the log and the metrics of a run: read the newest entries, and then those that are added.

A terminal and a page show the same entries; ``Entry.as_json`` is their JSON.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash.records.values import decode
from ml_dash.storage import layout, metric_reading
from ml_dash.storage.beneath import UnsafeFileError, open_file, warn_refused
from ml_dash.storage.documents import to_seconds
from ml_dash.storage.follow import Position
from ml_dash.storage.journal import last_lines, shards

READ_BYTES = 8 << 20
"""Bytes of one journal that one call reads at most, unless one line is longer: a fast run writes them within seconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A log line or a metric point.

    Attributes:
        time: seconds since 1970; 0.0 for an entry without a time.
        stream: ``log`` or ``metric``.
        metric: the metric's name; None for the unnamed metric and for log lines.
        body: the object that the line holds: ``sequenceNumber``, ``timestamp``, ``level``, ``message`` and perhaps
            ``metadata``, or ``index``, ``data`` and ``createdAt``.
    """

    time: float
    stream: str
    metric: str | None
    body: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return ``stream``, for a point also ``metric``, and the keys of the body."""
        if self.stream == "log":
            return {"stream": "log", **self.body}
        return {"stream": "metric", "metric": self.metric, **self.body}


class Follower:
    """Reads the log and the metrics of one run as they grow. A line is read once it is whole.

    Args:
        run: absolute path of the run's directory.
        logs: whether to read the log.
        metrics: whether to read the metrics.
    """

    def __init__(self, run: str, *, logs: bool, metrics: bool) -> None:
        self._run = run
        self._logs = logs
        self._metrics = metrics
        self._positions: dict[str, Position] = {}

    def last(self, count: int) -> list[Entry]:
        """Read the last ``count`` log lines and the last ``count`` points of all metrics together, sorted by time."""
        entries: list[Entry] = []
        for stream in ("log", "metric"):
            newest: list[Entry] = []
            for kind, metric, path in self._journals():
                if kind == stream:
                    lines, end = last_lines(path, count)
                    self._positions[path] = Position(end)
                    newest += _parse(kind, metric, lines)
            newest.sort(key=lambda entry: entry.time)
            entries += newest[-count:] if count else []
        return sorted(entries, key=lambda entry: entry.time)

    def added(self) -> list[Entry]:
        """Read the entries that were added since the last call, sorted by time. New journals are read from the start."""
        entries: list[Entry] = []
        for stream, metric, path in self._journals():
            position = self._positions.setdefault(path, Position())
            entries += _parse(stream, metric, _added_lines(path, position))
        return sorted(entries, key=lambda entry: entry.time)

    def _journals(self) -> Iterator[tuple[str, str | None, str]]:
        if self._logs:
            for path in shards(os.path.join(self._run, "logs"), "logs"):
                yield "log", None, path
        if self._metrics:
            for name in metric_reading.metric_names(self._run):
                for path in shards(os.path.join(self._run, layout.metric_folder(name)), "data"):
                    yield "metric", name, path


def _added_lines(path: str, position: Position) -> list[bytes]:
    """Read the whole lines that were added to a journal, ``READ_BYTES`` of them at most, and move the position."""
    added: list[bytes] = []
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size < position.offset:  # cut back: the lines after it were never committed, or the file was replaced
                position.offset, position.tail = size, b""
            for _, block in position.read(file, READ_BYTES, once=True):
                added = block.split(b"\n")
    except FileNotFoundError:
        pass  # removed meanwhile
    except UnsafeFileError as error:
        warn_refused(error)
    return added


def _parse(stream: str, metric: str | None, lines: list[bytes]) -> list[Entry]:
    """Parse lines; those that hold no entry are left out."""
    entries = []
    for line in lines:
        try:
            body = decode(line)
        except ValueError:
            continue
        if isinstance(body, dict) and (stream == "log" or "data" in body):
            time = metric_reading.point_time(body) if stream == "metric" else to_seconds(body.get("timestamp")) or 0.0
            entries.append(Entry(time, stream, metric, body))
    return entries
