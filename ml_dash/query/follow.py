"""What is added to a run's journals, as it is added."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash.records.values import decode
from ml_dash.storage import layout, metric_reading
from ml_dash.storage.documents import to_seconds
from ml_dash.storage.follow import Position
from ml_dash.storage.journal import last_lines, shards

READ_BYTES = 8 << 20
"""How much of one journal is taken in at one look, or a whole line: what a fast run writes within seconds."""


@dataclass(frozen=True, slots=True)
class Item:
    """A log line or a point.

    Attributes:
        when: seconds since 1970; 0 if it does not say.
        stream: ``log`` or ``metric``.
        metric: the metric's name, None for the unnamed one and for log lines.
        body: the line as it is on disk.
    """

    when: float
    stream: str
    metric: str | None
    body: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What ``tail --json`` prints of it."""
        if self.stream == "log":
            return {"stream": "log", **self.body}
        return {"stream": "metric", "metric": self.metric, **self.body}


class Follower:
    """The log and the metrics of one run, from a point near their end on.

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

    def last(self, count: int) -> list[Item]:
        """The last lines of the log, and the last points of all metrics together, ``count`` of each at most."""
        found: list[Item] = []
        for stream in ("log", "metric"):
            items: list[Item] = []
            for kind, metric, path in self._journals():
                if kind == stream:
                    last, end = last_lines(path, count)
                    self._positions[path] = Position(end)
                    items += _items(kind, metric, last)
            items.sort(key=lambda item: item.when)
            found += items[-count:] if count else []
        return sorted(found, key=lambda item: item.when)

    def added(self) -> list[Item]:
        """What was written since the last look, in the order of time. Journals that appeared are read from their start."""
        found: list[Item] = []
        for stream, metric, path in self._journals():
            position = self._positions.setdefault(path, Position())
            found += _items(stream, metric, _added_lines(path, position))
        return sorted(found, key=lambda item: item.when)

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
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < position.offset:  # cut back: what follows was never finished, or is not of this run any more
            position.offset, position.tail = size, b""
        for _, block in position.read(file, READ_BYTES, once=True):
            added = block.split(b"\n")
    return added


def _items(stream: str, metric: str | None, lines: list[bytes]) -> list[Item]:
    found = []
    for line in lines:
        try:
            body = decode(line)
        except ValueError:
            continue
        if isinstance(body, dict) and (stream == "log" or "data" in body):
            found.append(Item(_when(stream, body), stream, metric, body))
    return found


def _when(stream: str, body: dict[str, Any]) -> float:
    if stream == "metric":
        return metric_reading.point_time(body)
    return to_seconds(body.get("timestamp")) or 0.0
