"""State that the writer keeps for each journal: the next number, and the counts in its metadata.json."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ml_dash.records.values import decode
from ml_dash.storage import layout, legacy
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, timestamp, write_document
from ml_dash.storage.journal import last_line, read_lines

LOG_SEQUENCE = "logs/.log_sequence"
"""File in which the published client keeps the number of its next log line."""

METRIC_ABOUT = ("description", "tags", "metadata")
"""Keys of metadata.json that the user sets."""

MOST_DIGITS = 16
"""A number with this many digits is taken for damage: no run logs that many lines."""


@dataclass(slots=True, eq=False)
class LogState:
    """The run's log.

    Attributes:
        journal: path below the run's folder.
        next_index: sequence number of the next line.
    """

    journal: str
    next_index: int

    def advance(self, next_index: int) -> None:
        """Lines with the numbers below ``next_index`` were committed."""
        self.next_index = next_index


@dataclass(slots=True, eq=False)
class MetricState:
    """A metric.

    Attributes:
        journal: path below the run's folder.
        folder: the journal's folder.
        name: None for the metric without a name.
        total: points in the journal.
        next_index: index of the next point. Larger than ``total`` if points were lost, or numbered by another client.
        document: the content of metadata.json but for the counts.
    """

    journal: str
    folder: str
    name: str | None
    total: int = 0
    next_index: int = 0
    document: dict[str, Any] = field(default_factory=dict)

    def advance(self, next_index: int) -> None:
        """Points with the indices below ``next_index`` were committed."""
        self.total += next_index - self.next_index
        self.next_index = next_index

    def metadata(self, now: float) -> dict[str, Any]:
        """The content of metadata.json."""
        return self.document | {
            "totalDataPoints": self.total,
            "nextIndex": self.next_index,
            "updatedAt": timestamp(now),
        }


@dataclass(slots=True, eq=False)
class TrackState:
    """A track.

    Attributes:
        journal: path below the run's folder.
        folder: the journal's folder.
        topic: the track's name.
        total: rows in the journal.
        first: the least timestamp; None without rows.
        last: the greatest timestamp; None without rows.
        columns: names of all fields that rows had.
        document: the content of metadata.json but for the counts.
    """

    journal: str
    folder: str
    topic: str
    total: int = 0
    first: float | None = None
    last: float | None = None
    columns: set[str] = field(default_factory=set)
    document: dict[str, Any] = field(default_factory=dict)

    def count(self, when: float, fields: dict[str, Any]) -> None:
        """Count one more row."""
        self.total += 1
        self.columns.update(fields)
        self.first = when if self.first is None else min(self.first, when)
        self.last = when if self.last is None else max(self.last, when)

    def metadata(self, now: float) -> dict[str, Any]:  # noqa: ARG002 - one signature for every stream
        """The content of metadata.json."""
        return self.document | {
            "columns": sorted(self.columns),
            "totalEntries": self.total,
            "firstTimestamp": self.first,
            "lastTimestamp": self.last,
        }


def load_metric(disk: Disk, run: str, writer_id: str, name: str | None) -> MetricState:
    """Load a metric's state, so that no index is used that was used before.

    The published client lost count and used some twice, so the number of lines is a lower bound as well.
    """
    folder = layout.metric_folder(name)
    journal = layout.data(folder, writer_id)
    stored = load_document(disk, os.path.join(run, folder, layout.METADATA)) or {}
    if writer_id:  # a killed writer with this id may have written a description
        stored |= load_document(disk, os.path.join(run, layout.metric_description(name, writer_id))) or {}
    total, next_index = _count_and_next(disk, os.path.join(run, journal), "index")
    if not writer_id:
        flat = count_lines(disk, os.path.join(run, folder + legacy.JOURNAL))
        next_index = max(next_index, _whole_number(stored.get("nextIndex")), flat)
    document = {
        "metricId": f"local-metric-{name}",
        "name": name,
        "description": None,
        "tags": [],
        "metadata": None,
        "totalDataPoints": total,
        "nextIndex": next_index,
    } | stored
    return MetricState(journal, folder, name, total, next_index, document)


def load_track(disk: Disk, run: str, writer_id: str, topic: str, *, recount: bool = False) -> TrackState:
    """Load a track's state: the counts of its metadata.json if they fit its journal, else (or to ``recount``) counted."""
    folder = layout.track_folder(topic)
    journal = layout.data(folder, writer_id)
    path = os.path.join(run, journal)
    stored = load_document(disk, os.path.join(run, folder, layout.METADATA)) or {}
    document = {"trackId": f"local-track-{topic.replace('/', '_')}", "topic": topic} | stored
    state = TrackState(journal, folder, topic, document=document)
    lines = count_lines(disk, path)
    columns = stored.get("columns")
    if not recount and lines == _whole_number(stored.get("totalEntries")) and isinstance(columns, list):
        state.total, state.columns = lines, set(columns)
        state.first, state.last = stored.get("firstTimestamp"), stored.get("lastTimestamp")
    else:
        count_rows(state, path, disk)
    return state


def load_log(disk: Disk, run: str, writer_id: str) -> LogState:
    """Load the log's state, so that no sequence number is used that was used before."""
    journal = layout.logs(writer_id)
    next_index = _count_and_next(disk, os.path.join(run, journal), "sequenceNumber")[1]
    if not writer_id:
        digits = (disk.read_file(os.path.join(run, LOG_SEQUENCE)) or b"").strip()
        if digits.isdigit() and len(digits) < MOST_DIGITS:
            next_index = max(next_index, int(digits))
    return LogState(journal, next_index)


def names_below(disk: Disk, run: str, root: str) -> Iterator[str]:
    """Yield the names of the streams below ``root`` that have a journal of the run's first writer, such as ``a`` and ``a/b``."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder != root and disk.size(os.path.join(run, layout.data(folder))) is not None:
            yield folder[len(root) + 1 :]
        names = disk.list_folder(os.path.join(run, folder)) or ()
        waiting.extend(f"{folder}/{name}" for name in names if os.path.isdir(os.path.join(run, folder, name)))


def save_metadata(disk: Disk, run: str, state: MetricState | TrackState, now: float) -> None:
    """Write a stream's metadata.json."""
    state.document.setdefault("createdAt", timestamp(now))
    write_document(disk, os.path.join(run, state.folder, layout.METADATA), state.metadata(now))


def save_about(disk: Disk, run: str, state: MetricState, writer_id: str) -> None:
    """Write the description of a metric for a writer that is not the first: metadata.json belongs to the first."""
    about = {name: state.document[name] for name in METRIC_ABOUT}
    write_document(disk, os.path.join(run, layout.metric_description(state.name, writer_id)), about)


def count_lines(disk: Disk, path: str) -> int:
    """The number of whole lines in a file; 0 if it is missing."""
    return sum(block.count(b"\n") for block in disk.read_blocks(path))


def count_rows(state: TrackState, path: str, disk: Disk) -> None:
    """Count the rows of a journal into the state of its track; lines that cannot be read are passed over."""
    for line in read_lines(path, opener=disk.open_read):
        try:
            row = decode(line)
            state.count(float(row.pop("timestamp")), row)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _count_and_next(disk: Disk, path: str, key: str) -> tuple[int, int]:
    """The number of lines in a journal, and the number of the next one; ``key`` is the name of a line's number."""
    total = count_lines(disk, path)
    line = last_line(path, disk.open_read) if total else None
    if line is None:
        return total, 0
    try:
        return total, max(_whole_number(decode(line)[key]) + 1, total)
    except (ValueError, KeyError, TypeError):
        return total, total


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
