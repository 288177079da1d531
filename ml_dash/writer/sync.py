"""Sync files to the disk every few seconds, on a thread. Only a loss of power needs it."""

from __future__ import annotations

import threading
import time

from ml_dash.storage.disk import Disk
from ml_dash.storage.journal import Journals

MAX_SINGLE_FILES = 256
"""Stored files that are synced one by one; for more within one interval, a sync of the file system is cheaper."""


class Syncer:
    """Syncs the journals that were appended to and the files that were stored.

    Args:
        disk: the file operations.
        journals: the open journals.
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
        """Sync a stored file with the next round."""
        self._stored.append(path)

    def hurry(self) -> None:
        """Sync with the next ``step``."""
        self._next = 0.0

    def step(self) -> None:
        """Start a sync if the interval is over and none is running.

        Raises:
            OSError: the previous sync failed.
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
            except RuntimeError:  # no thread can be started
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
        """Wait for a sync that is running. Idempotent."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _take(self) -> list[str]:
        """The paths to sync. They are synced from the last one: stored files before the index that names them."""
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
