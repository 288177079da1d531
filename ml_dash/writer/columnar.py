"""Make the columnar copies of journals: of long ones while the run goes on, of the others after its end.

A copy only makes reading faster, so nothing waits for it. During the run a process of its own makes it, since it takes
seconds of one processor and the memory of pyarrow. After the end the writer makes it, when the run is already free for the
next writer.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ml_dash.ipc import launch
from ml_dash.storage import compaction
from ml_dash.storage.parquet_copy import path_of

ROWS_BETWEEN = 1_000_000
"""New rows after which the copy of a growing journal is renewed; a reader parses so many in some seconds."""

COPY_LIMIT_S = 600.0
"""Seconds that making copies may take; after that it is stopped, and tried again at the end of this run or the next."""

OLD_TEMPORARY_S = 3600.0
"""Age in seconds from which a temporary file is left over from a process that was killed."""

ENTRY = "ml_dash.writer.columnar"


class Stream(NamedTuple):
    """A journal that may get a columnar copy.

    Attributes:
        journal: its absolute path.
        is_track: whether its lines are rows of a track, else points of a metric.
        rows: number of its lines.
    """

    journal: str
    is_track: bool
    rows: int


class ColumnarCopies:
    """Makes columnar copies, in one process at a time.

    Args:
        least_rows: rows from which a journal gets a copy; 0 for none.
        report: called with a text when a copy could not be made.
    """

    def __init__(self, least_rows: int, report: Callable[[str], None]) -> None:
        self._least_rows = least_rows
        self._report = report
        self._copied: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def step(self, streams: Iterable[Stream]) -> None:
        """Start to renew the copies of journals that have grown by ``ROWS_BETWEEN`` rows, unless a process is running."""
        if not self._least_rows or self._busy():
            return
        due = [stream for stream in streams if stream.rows >= self._copied.get(stream.journal, 0) + ROWS_BETWEEN]
        if not due:
            return
        self._copied.update((stream.journal, stream.rows) for stream in due)
        try:
            self._process = launch.start_process(ENTRY, {"streams": [tuple(stream) for stream in due]})
            self._started = time.monotonic()
        except OSError as error:
            self._report(f"the columnar copies cannot be made now: {error}")

    def stop(self) -> None:
        """End the process. The copies that it did not make are made at the end of the run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def finish(self, streams: Iterable[Stream]) -> None:
        """Make or renew every copy, in this process."""
        if self._least_rows:
            make_copies([stream for stream in streams if stream.rows >= self._least_rows])

    def _busy(self) -> bool:
        """Whether the process is running. One that takes too long is stopped."""
        if self._process is None:
            return False
        if self._process.poll() is None and time.monotonic() - self._started < COPY_LIMIT_S:
            return True
        if self._process.poll() != 0:
            self._report(f"the process that makes columnar copies ended with {self._process.poll()}")
        self.stop()
        return False


def make_copies(streams: Iterable[Stream]) -> bool:
    """Make the copies of journals. False if one could not be made; the others are made."""
    all_made = True
    for stream in streams:
        try:
            remove_old_temporaries(os.path.dirname(stream.journal))
            compaction.build(stream.journal, compaction.ROWS if stream.is_track else compaction.POINTS)
        except Exception:  # noqa: BLE001 - whatever is wrong with one journal, the others get their copies
            all_made = False
    return all_made


def remove_old_temporaries(folder: str) -> None:
    """Remove the temporary files of processes that were killed while they wrote a copy."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith(".data") and name.endswith(".tmp") and path_of("") in name:
            with contextlib.suppress(OSError):
                if time.time() - os.stat(path).st_mtime > OLD_TEMPORARY_S:
                    os.unlink(path)


def main(boot: dict[str, list[tuple[str, bool, int]]]) -> None:
    """Run the process that makes copies during a run. Never returns."""
    os._exit(0 if make_copies(Stream(*stream) for stream in boot["streams"]) else 1)
