"""What the writer remembers of each journal: its next number, and the counts that its metadata.json shows."""

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
"""Where the published client keeps the number of its next log line."""

METRIC_ABOUT = ("description", "tags", "metadata")
"""What a user says of a metric, as a whole."""

MOST_DIGITS = 16
"""A number of more is damage: nobody logs that many lines."""


@dataclass(slots=True)
class MetricState:
    """A metric's folder."""

    folder: str
    name: str | None
    total: int = 0
    next_index: int = 0
    document: dict[str, Any] = field(default_factory=dict)

    def metadata(self, now: float) -> dict[str, Any]:
        """The content of metadata.json, as the published client writes it."""
        return self.document | {
            "totalDataPoints": self.total,
            "nextIndex": self.next_index,
            "updatedAt": timestamp(now),
        }


@dataclass(slots=True)
class TrackState:
    """A track's folder."""

    folder: str
    topic: str
    total: int = 0
    first: float | None = None
    last: float | None = None
    columns: set[str] = field(default_factory=set)
    document: dict[str, Any] = field(default_factory=dict)

    def count(self, when: float, fields: dict[str, Any]) -> None:
        """Take one more row into account."""
        self.total += 1
        self.columns.update(fields)
        self.first = when if self.first is None else min(self.first, when)
        self.last = when if self.last is None else max(self.last, when)

    def metadata(self, now: float) -> dict[str, Any]:  # noqa: ARG002 - one signature for every stream
        """The content of metadata.json, as the published client writes it."""
        return self.document | {
            "columns": sorted(self.columns),
            "totalEntries": self.total,
            "firstTimestamp": self.first,
            "lastTimestamp": self.last,
        }


def load_metric(disk: Disk, run: str, writer_id: str, name: str | None) -> MetricState:
    """Continue a metric where its journal ends: no index is given that was given before.

    The published client gave some twice, after it had lost count; so the count of lines counts as well.
    """
    folder = layout.metric_folder(name)
    path = os.path.join(run, layout.data(folder, writer_id))
    found = load_document(disk, os.path.join(run, folder, layout.METADATA)) or {}
    if writer_id:  # what the writer before this one was told
        found |= load_document(disk, os.path.join(run, layout.about_metric(name, writer_id))) or {}
    total, following = _count_and_next(disk, path, "index")
    if not writer_id:
        flat = count_lines(disk, os.path.join(run, folder + legacy.JOURNAL))
        following = max(following, _whole_number(found.get("nextIndex")), flat)
    document = {
        "metricId": f"local-metric-{name}",
        "name": name,
        "description": None,
        "tags": [],
        "metadata": None,
        "totalDataPoints": total,
        "nextIndex": following,
    } | found
    return MetricState(folder, name, total, following, document)


def load_track(disk: Disk, run: str, writer_id: str, topic: str) -> TrackState:
    """Continue a track: the counts of its metadata.json if they fit its journal, else counted anew."""
    folder = layout.track_folder(topic)
    path = os.path.join(run, layout.data(folder, writer_id))
    found = load_document(disk, os.path.join(run, folder, layout.METADATA)) or {}
    document = {"trackId": f"local-track-{topic.replace('/', '_')}", "topic": topic} | found
    state = TrackState(folder, topic, document=document)
    lines = count_lines(disk, path)
    columns = found.get("columns")
    if lines == _whole_number(found.get("totalEntries")) and isinstance(columns, list):
        state.total, state.columns = lines, set(columns)
        state.first, state.last = found.get("firstTimestamp"), found.get("lastTimestamp")
    else:
        count_rows(state, path)
    return state


def next_log_number(disk: Disk, run: str, writer_id: str) -> int:
    """The sequence number of the next log line: none that was given before, also where numbering began anew."""
    following = _count_and_next(disk, os.path.join(run, layout.logs(writer_id)), "sequenceNumber")[1]
    return following if writer_id else max(following, _kept_number(disk, os.path.join(run, LOG_SEQUENCE)))


def names_below(disk: Disk, run: str, root: str) -> Iterator[str]:
    """The streams that have a journal of the run's first writer, by name: ``a`` and ``a/b`` below ``root``."""
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
    """Write what a writer that is not the first knows of a metric: metadata.json is another one's."""
    about = {name: state.document[name] for name in METRIC_ABOUT}
    write_document(disk, os.path.join(run, layout.about_metric(state.name, writer_id)), about)


def count_lines(disk: Disk, path: str) -> int:
    """Whole lines in a file; 0 if it is missing."""
    return sum(block.count(b"\n") for block in disk.read_blocks(path))


def count_rows(state: TrackState, path: str) -> None:
    """Count the rows of a journal into the state of its track; lines that cannot be read are passed over."""
    for line in read_lines(path):
        try:
            row = decode(line)
            state.count(float(row.pop("timestamp")), row)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _count_and_next(disk: Disk, path: str, key: str) -> tuple[int, int]:
    total = count_lines(disk, path)
    line = last_line(path) if total else None
    if line is None:
        return total, 0
    try:
        return total, max(_whole_number(decode(line)[key]) + 1, total)
    except (ValueError, KeyError, TypeError):
        return total, total


def _kept_number(disk: Disk, path: str) -> int:
    digits = (disk.read_file(path) or b"").strip()
    return int(digits) if digits.isdigit() and len(digits) < MOST_DIGITS else 0


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
