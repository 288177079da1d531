"""A batch: the lines and changes that a group of records becomes, gathered before any journal is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ml_dash._json import orjson
from ml_dash.ipc.control import UNDO_SIZE
from ml_dash.writer.journal_state import LogState, MetricState

UNDO_PER_FILE = 32
"""Bytes of the undo log for each file besides its path."""


@dataclass(slots=True)
class Batch:
    """Lines and changes of consecutive records.

    Attributes:
        lines: journal path to the lines to append.
        next_indices: state of a journal to the number of its next line, once the batch is committed.
        parameters: flat parameters to merge.
        after: functions to call once the batch is committed.
        starts: journal path to the length that the journal must have now, because a line holds offsets into it.
        sources: journal path to the indices, among the pending records, of those that gave its lines.
        current: index, among the pending records, of the record that is being added.
        frames: number of images and frames.
        end: position after the last record.
        records: sequence number after the last record.
    """

    lines: dict[str, list[bytes]] = field(default_factory=dict)
    next_indices: dict[LogState | MetricState, int] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    after: list[Callable[[], None]] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)
    sources: dict[str, set[int]] = field(default_factory=dict)
    current: int = 0
    frames: int = 0
    end: int = 0
    records: int = 0
    _undo_size: int = 2

    def add(self, path: str, line: bytes) -> None:
        """Add a line, with its newline, to the journal ``path``."""
        lines = self.lines.get(path)
        if lines is None:
            self.lines[path] = [line]
            self.sources[path] = {self.current}
            self._undo_size += UNDO_PER_FILE + len(orjson.dumps(path))
        else:
            lines.append(line)
            self.sources[path].add(self.current)

    def take_index(self, state: LogState | MetricState) -> int:
        """Return the number of the next line of a journal, and count it as used."""
        index = self.next_indices.get(state, state.next_index)
        self.next_indices[state] = index + 1
        return index

    @property
    def full(self) -> bool:
        """Whether the undo log has no room for another journal."""
        return self._undo_size > UNDO_SIZE - 4096


def encode_undo(lengths: dict[str, int]) -> bytes:
    """Encode an undo log: the length of each journal of a batch before it."""
    return orjson.dumps(list(lengths.items()))


def decode_undo(undo_log: bytes) -> dict[str, int]:
    """Decode an undo log: journal path to length."""
    return dict(orjson.loads(undo_log))
