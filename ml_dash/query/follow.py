"""What is added to a run's journals, as it is added."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash.records.values import decode, revive
from ml_dash.storage import layout, lines, metric_reading
from ml_dash.storage.journal import whole_length

BLOCK_BYTES = 64 * 1024
"""How much of a journal's end is read at a time, until there are as many lines as were asked for."""

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
        self._places: dict[str, int] = {}

    def last(self, count: int) -> list[Item]:
        """The last lines of the log, and the last points of all metrics together, ``count`` of each at most."""
        found: list[Item] = []
        for stream in ("log", "metric"):
            items: list[Item] = []
            for kind, metric, path in self._journals():
                if kind == stream:
                    lines, self._places[path] = last_lines(path, count)
                    items += _items(kind, metric, lines)
            items.sort(key=lambda item: item.when)
            found += items[-count:] if count else []
        return sorted(found, key=lambda item: item.when)

    def added(self) -> list[Item]:
        """What was written since the last look, in the order of time. Journals that appeared are read from their start."""
        found: list[Item] = []
        for stream, metric, path in self._journals():
            lines, self._places[path] = _lines_from(path, self._places.get(path, 0))
            found += _items(stream, metric, lines)
        return sorted(found, key=lambda item: item.when)

    def _journals(self) -> Iterator[tuple[str, str | None, str]]:
        if self._logs:
            for path in lines.shards(os.path.join(self._run, "logs"), "logs"):
                yield "log", None, path
        if self._metrics:
            for name in metric_reading.metric_names(self._run):
                for path in lines.shards(os.path.join(self._run, layout.metric_folder(name)), "data"):
                    yield "metric", name, path


def last_lines(path: str, count: int) -> tuple[list[bytes], int]:
    """The last whole lines of a journal, and where the next one begins."""
    try:
        with open(path, "rb") as file:
            end = whole_length(path, os.fstat(file.fileno()).st_size)
            start, data = end, b""
            while start > 0 and data.count(b"\n") <= count:
                size = min(BLOCK_BYTES, start)
                start -= size
                file.seek(start)
                data = file.read(size) + data
    except FileNotFoundError:
        return [], 0
    lines = data.split(b"\n")[:-1]
    return lines[-count:] if count else [], end


def _lines_from(path: str, start: int) -> tuple[list[bytes], int]:
    """The whole lines from a place on, and where the next one begins."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < start:  # cut back: what follows was never finished, or is not of this run any more
                return [], size
            if size == start:
                return [], start
            file.seek(start)
            data = b""
            while b"\n" not in data and (block := file.read(READ_BYTES)):
                data += block
    except FileNotFoundError:
        return [], start
    end = data.rfind(b"\n") + 1
    return data[:end].split(b"\n")[:-1], start + end


def _items(stream: str, metric: str | None, lines: list[bytes]) -> list[Item]:
    found = []
    for line in lines:
        try:
            body = decode(line)
        except ValueError:
            continue
        if isinstance(body, dict) and (stream == "log" or "data" in body):
            body = revive(body)
            found.append(Item(_when(stream, body), stream, metric, body))
    return found


def _when(stream: str, body: dict[str, Any]) -> float:
    if stream == "metric":
        return metric_reading.point_time(body)
    from ml_dash.storage.documents import parse_timestamp

    try:
        return parse_timestamp(body["timestamp"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return 0.0
