"""What a run's directory holds, read for a test without the readers that users call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ml_dash.storage import layout, parquet_copy, reading
from ml_dash.storage.parquet_copy import Coverage


def read_logs(run: str) -> list[dict[str, Any]]:
    """Return every log line."""
    return list(reading.iter_logs(run))


def frame_bytes(run: str, topic: str, frame: dict[str, Any]) -> bytes:
    """Return the encoded bytes of one frame."""
    with (Path(run) / layout.frames_folder(topic) / frame["shard"]).open("rb") as file:
        return os.pread(file.fileno(), frame["size"], frame["offset"])


def copy_coverage(journal: str) -> Coverage | None:
    """Return what the columnar copy of a journal covers; None without a copy that fits it."""
    with parquet_copy.opened(journal) as copy:
        return None if copy is None else copy.coverage


def copied_rows(journal: str) -> int:
    """Return how many rows are in the columnar copy of a journal; 0 without one."""
    coverage = copy_coverage(journal)
    return 0 if coverage is None else sum(group.rows for group in coverage.groups)
