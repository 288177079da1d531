"""When the columnar copies are made: for long journals while the run goes on, for every other one when it has ended.

A copy only makes reading faster, so nobody waits for it. During the run a process of its own makes it, since it takes
seconds of one processor and the memory of pyarrow; after the end the writer itself does, with the run already free for
whoever opens it next.
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
"""Rows after which a journal that is still written gets its copy renewed: what a reader parses in some seconds."""

COPY_LIMIT_S = 600.0
"""How long making copies may take; after that it is stopped, and tried again at the end of the run or of the next."""

OLD_TEMPORARY_S = 3600.0
"""Age from which a temporary file of a copy belongs to a process that was killed."""

ENTRY = "ml_dash.writer.columnar"


class Stream(NamedTuple):
    """A journal that may get a copy.

    Attributes:
        journal: its absolute path.
        is_track: whether its lines are rows of a track; else points of a metric.
        rows: how many it has.
    """

    journal: str
    is_track: bool
    rows: int


class ColumnarCopies:
    """Starts the process that renews copies, one at a time.

    Args:
        least_rows: rows from which a journal gets a copy; 0 is never.
        report: called with a text when one could not be made.
    """

    def __init__(self, least_rows: int, report: Callable[[str], None]) -> None:
        self._least_rows = least_rows
        self._report = report
        self._copied: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def step(self, streams: Iterable[Stream]) -> None:
        """Renew what has grown by ``ROWS_BETWEEN`` rows, unless that is being done."""
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
        """End the process; what it did not get to is done at the end of the run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def finish(self, streams: Iterable[Stream]) -> None:
        """Make or renew every copy, here."""
        if self._least_rows:
            make_copies([stream for stream in streams if stream.rows >= self._least_rows])

    def _busy(self) -> bool:
        if self._process is None:
            return False
        if self._process.poll() is None and time.monotonic() - self._started < COPY_LIMIT_S:
            return True
        if self._process.poll() != 0:
            self._report(f"the process that makes columnar copies ended with {self._process.poll()}")
        self.stop()
        return False


def make_copies(streams: Iterable[Stream]) -> bool:
    """Make the copies of some journals; False if one could not be made. The others are made all the same."""
    done = True
    for stream in streams:
        try:
            remove_old_temporaries(os.path.dirname(stream.journal))
            compaction.build(stream.journal, compaction.ROWS if stream.is_track else compaction.POINTS)
        except Exception:  # noqa: BLE001 - whatever is odd about one journal, the others get their copies
            done = False
    return done


def remove_old_temporaries(folder: str) -> None:
    """Remove what a process left behind that was killed while it wrote a copy."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith(".data") and name.endswith(".tmp") and path_of("") in name:
            with contextlib.suppress(OSError):
                if time.time() - os.stat(path).st_mtime > OLD_TEMPORARY_S:
                    os.unlink(path)


def main(boot: dict[str, list[tuple[str, bool, int]]]) -> None:
    """The process that makes copies during a run. Never returns."""
    os._exit(0 if make_copies(Stream(*stream) for stream in boot["streams"]) else 1)
