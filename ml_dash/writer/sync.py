"""Bring journals to the disk every few seconds, beside the loop: only a loss of power needs it."""

from __future__ import annotations

import threading
import time

from ml_dash.storage.disk import Disk
from ml_dash.storage.journal import Journals

MAX_SINGLE_FILES = 256
"""Stored files synced one by one; more than these within one interval are cheaper with one sync of the file system."""


class Syncer:
    """Syncs what was appended to and what was stored, on a thread of its own.

    Args:
        disk: the file operations.
        journals: says what was appended to.
        interval: seconds between two syncs.
    """

    def __init__(self, disk: Disk, journals: Journals, interval: float) -> None:
        self._disk = disk
        self._journals = journals
        self._interval = interval
        self._next = time.monotonic() + interval
        self._thread: threading.Thread | None = None
        self._failed: OSError | None = None
        self._unsynced: list[str] = []
        self._stored: list[str] = []

    def add(self, path: str) -> None:
        """A file was put in place; it is synced with the next round."""
        self._stored.append(path)

    def hurry(self) -> None:
        """Sync with the next step."""
        self._next = 0.0

    def step(self) -> None:
        """Start a sync if it is time.

        Raises:
            OSError: the sync before this one failed.
        """
        if time.monotonic() < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._raise_failure()
        self._next = time.monotonic() + self._interval
        paths = self._take()
        if paths:
            thread = threading.Thread(target=self._sync, args=(paths,), name="ml_dash-sync", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads are to be had
                self._sync(paths)
            else:
                self._thread = thread

    def finish(self) -> None:
        """Sync everything now, on this thread.

        Raises:
            OSError: the disk refused.
        """
        self.close()
        self._raise_failure()
        self._sync(self._take())
        self._raise_failure()

    def close(self) -> None:
        """Wait for a sync that is under way. Idempotent."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _take(self) -> list[str]:
        """What is to be synced: stored files before the index that names them."""
        stored, self._stored = self._stored, []
        return [*self._journals.take_dirty(), *stored]

    def _raise_failure(self) -> None:
        failure, self._failed = self._failed, None
        if failure is not None:
            self._stored += self._unsynced
            raise failure

    def _sync(self, paths: list[str]) -> None:
        self._unsynced = list(paths)
        try:
            if len(paths) > MAX_SINGLE_FILES and self._disk.sync_file_system(paths[0]):
                self._unsynced.clear()
            while self._unsynced:
                self._disk.sync_path(self._unsynced[-1])
                self._unsynced.pop()
        except OSError as error:
            self._failed = error
