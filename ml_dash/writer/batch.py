"""One batch: what a group of records becomes on disk, gathered before any journal is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ml_dash._json import orjson
from ml_dash.ipc.control import UNDO_SIZE

UNDO_PER_FILE = 32
"""Bytes that the undo log needs for a file besides its path."""


@dataclass(slots=True)
class Batch:
    """Lines by journal, and what goes with them.

    Attributes:
        lines: journal path to the bytes to append.
        numbers: journal path to the next free number of its lines, valid once the batch is committed.
        parameters: flat parameters to merge.
        after: called once the batch is committed: removing what is superseded, counting.
        starts: journal path to the length that it must have now, where a line says where others begin.
        sources: journal path to the places, among what is pending, of the records that gave its lines.
        current: the place of the record that is being added.
        frames: images and frames in it.
        end: position after the last record.
        records: sequence number after the last record.
    """

    lines: dict[str, list[bytes]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
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
        """Append ``line`` (with its newline) to the journal ``path``."""
        lines = self.lines.get(path)
        if lines is None:
            self.lines[path] = [line]
            self.sources[path] = {self.current}
            self._undo_size += UNDO_PER_FILE + len(orjson.dumps(path))
        else:
            lines.append(line)
            self.sources[path].add(self.current)

    @property
    def full(self) -> bool:
        """Whether its undo log has no room for one more file."""
        return self._undo_size > UNDO_SIZE - 4096


def encode_undo(lengths: dict[str, int]) -> bytes:
    """The undo log: each journal of a batch with its length before."""
    return orjson.dumps(list(lengths.items()))


def decode_undo(undo_log: bytes) -> dict[str, int]:
    """The inverse of ``encode_undo``."""
    return dict(orjson.loads(undo_log))
