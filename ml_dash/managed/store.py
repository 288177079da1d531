"""The files of a managed run: ``config.toml`` and ``metrics.toml``, and how its process ended.

A file is replaced as a whole, under a lock that all processes of the run share: also after a kill, a reader finds the
old file or the new one.

The folder may be another user's, or hold files of others: nothing in it is read or written through a link, and who only
reads a run writes nothing unless the run is their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ml_dash._json import orjson
from ml_dash.errors import StorageError
from ml_dash.managed.history import COVERS, History, covered_by
from ml_dash.managed.toml_values import TOML_BYTES, dumps, loads
from ml_dash.storage import layout, locks
from ml_dash.storage.beneath import read_below
from ml_dash.storage.disk import Disk
from ml_dash.storage.reading import read_experiment

LOCK = ".manager.lock"
OPEN = ".manager.open"
ASKING = ".manager.open.lock"

ORPHAN_S = 10.0
"""How long ``load`` waits for the writer of a killed process to finish. It has no frames to encode: milliseconds are
usual."""

ORPHAN_POLL_S = 0.01
"""Pause between two checks of that writer."""

ASKING_S = 2.0
"""How long a process that opens the run, or asks if it is open, waits for others that ask. Each takes microseconds."""

_ENDED_BADLY = ("FAILED", "CANCELLED")


class RunFiles:
    """The files of one run.

    Attributes:
        folder: absolute path of the run's directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._held = -1
        self._disk = self._new_disk()

    def _new_disk(self) -> Disk:
        disk = Disk(self.folder)
        disk.owner = "manager"  # names temporary files, so that the next process replaces those of a killed one
        return disk

    def is_own(self) -> bool:
        """Whether the run's folder and its ``metrics.toml`` are this user's, so that reading the run may renew it."""
        try:
            owners = {os.lstat(self.folder).st_uid, os.stat(self.folder).st_uid}
            with contextlib.suppress(FileNotFoundError):
                owners.add(os.lstat(os.path.join(self.folder, layout.METRICS_TOML)).st_uid)
        except OSError:
            return False
        return owners == {os.geteuid()}

    def read_config(self) -> dict[str, Any]:
        """All of config.toml.

        Raises:
            StorageError: it cannot be read, is empty, or is no TOML.
        """
        document, text = self._parsed(layout.CONFIG_TOML)
        if not text.strip():  # another program was killed while it wrote in place: the file always has tables
            path = os.path.join(self.folder, layout.CONFIG_TOML)
            raise StorageError(22, f"{layout.CONFIG_TOML} is empty; restore it, or move the run away", path)
        return document

    def write_config(self, document: Mapping[str, object]) -> None:
        """Replace config.toml, on the disk when this returns.

        Raises:
            StorageError: it cannot be written.
        """
        with self._locked():
            self._write(layout.CONFIG_TOML, dumps(document, "config"), sync=True)

    def open_history(self) -> tuple[History, bool]:
        """Every metric so far, and whether metrics.toml covers all journals.

        Raises:
            StorageError: a file cannot be read; or metrics.toml is no TOML, and there is no journal to make it from.
        """
        try:
            return self._open_history()
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            name = os.path.basename(error.filename or self.folder)
            raise StorageError(error.errno, f"{name} cannot be read: {error.strerror}", error.filename) from error

    def _open_history(self) -> tuple[History, bool]:
        try:
            saved, covered = self._read_metrics()
        except StorageError:
            history = History(self.folder, {}, {})
            if not history.sizes():
                raise
            history.read()
            return history, False
        history = History(self.folder, saved, covered)
        is_current = all(size <= covered.get(name, 0) for name, size in history.sizes().items())
        history.read()
        return history, is_current

    def save_metrics(self, history: History, own: str | None, *, sync: bool = False) -> None:
        """Replace metrics.toml by the newest values of all writers.

        Args:
            history: the run's values.
            own: the file name of this process's journal, or None if it has none.
            sync: whether to wait until the file is on the disk.

        Raises:
            StorageError: it cannot be written.
        """
        with self._locked():
            # The sizes of the journals before the values: the file may hold newer values than it says, never older ones.
            covered = history.read(own)
            header = COVERS + orjson.dumps(covered).decode()
            self._write(layout.METRICS_TOML, f"{header}\n{dumps(history.values(), 'metrics')}", sync=sync)

    def status(self) -> tuple[str | None, str | None]:
        """The status and its reason as the writer recorded them."""
        document = read_experiment(self.folder)
        return text_or_none(document.get("status")), text_or_none(document.get("status_reason"))

    def bad_end(self, status: str | None, pid: object) -> tuple[str, str | None] | None:
        """The failure or cancellation of a run that no process has open. Ask before this process opens it.

        Args:
            status: the status in config.toml, for a run whose writer recorded none.
            pid: the process that created the run, as in config.toml.

        Returns:
            The status and its reason; None if the run is open, or ended well.
        """
        document = read_experiment(self.folder)
        status = text_or_none(document.get("status")) or status
        if self.is_being_written() or self._is_open() or _is_live_elsewhere(document):
            return None
        if status == "RUNNING":  # the writer, which would have recorded the end, was killed as well
            return "FAILED", (
                f"the training process (pid {document.get('pid') or pid}) ended without closing the run: "
                "it was killed, and its writer with it"
            )
        return (status, text_or_none(document.get("status_reason"))) if status in _ENDED_BADLY else None

    def wait_for_orphan(self) -> None:
        """If the run's process was killed, wait until its writer is done. Only its owner waits: others could be held up."""
        if not self.is_own():
            return
        deadline = time.monotonic() + ORPHAN_S
        while self.is_being_written() and not self._is_open() and time.monotonic() < deadline:
            time.sleep(ORPHAN_POLL_S)

    def is_being_written(self) -> bool:
        """Whether a process has the run open, or the writer of a killed one still works."""
        return locks.is_locked(os.path.join(self.folder, layout.RUN_LOCK))

    def hold(self) -> None:
        """Mark the run as open in this process, until ``let_go`` or the end of the process. Several processes may."""
        with contextlib.suppress(ImportError, OSError):  # without locks no other process can see it
            import fcntl

            self._held = locks.open_lock(os.path.join(self.folder, OPEN))
            locks.take(self._held, fcntl.LOCK_SH, ASKING_S)  # refused while another process asks

    def let_go(self) -> None:
        """End ``hold``, and close the folder."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)
        self._disk.release()

    def after_fork_in_child(self) -> None:
        """Let go in a forked child. A thread of the parent may have been inside the disk's lock: it is not touched."""
        self._disk = self._new_disk()
        self.let_go()

    def release(self) -> None:
        """Close the descriptor of the folder, which the next write opens again."""
        self._disk.release()

    def _is_open(self) -> bool:
        path = os.path.join(self.folder, OPEN)
        if not os.path.lexists(path):
            return False
        if not self.is_own():  # nothing is made in the folder of another user
            return locks.is_locked(path, shared=True)
        with contextlib.ExitStack() as turn:
            # One process at a time: to ask takes the lock, and two that ask would take each other for one that holds it.
            with contextlib.suppress(ImportError, OSError):
                turn.enter_context(locks.holding(os.path.join(self.folder, ASKING), ASKING_S))
            return locks.is_locked(path, shared=True)

    def _read_metrics(self) -> tuple[dict[str, Any], dict[str, int]]:
        if not os.path.lexists(os.path.join(self.folder, layout.METRICS_TOML)):
            return {}, {}
        values, text = self._parsed(layout.METRICS_TOML)
        return values, covered_by(text)

    def _parsed(self, name: str) -> tuple[dict[str, Any], str]:
        path = os.path.join(self.folder, name)
        try:
            content = read_below(self.folder, name, TOML_BYTES)
            text = content.decode()
            return loads(text), text
        except OSError as error:
            raise StorageError(error.errno, f"{name} cannot be read: {error.strerror}", path) from error
        except ValueError as error:
            raise StorageError(22, f"{name} is damaged: {error}; restore it, or move the run away", path) from error

    def _write(self, name: str, text: str, *, sync: bool) -> None:
        path = os.path.join(self.folder, name)
        try:
            if os.path.isdir(path) and not os.path.islink(path):  # it may hold files, and so is not moved away
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            self._disk.write_file(name, [text.encode()], sync)
        except OSError as error:
            raise StorageError(error.errno, f"{name} cannot be written: {error.strerror}", path) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                has_lock = stack.enter_context(locks.document_lock(os.path.join(self.folder, LOCK)))
            except TimeoutError:
                reason = f"another process holds the run's lock for more than {locks.DOCUMENT_LOCK_S:g} s"
                raise StorageError(11, reason, LOCK) from None
            except OSError:  # no room for a lock: nearly always we are alone
                has_lock = False
            if not has_lock:
                self._disk.owner = ""
            yield


def text_or_none(value: object) -> str | None:
    """The value of a document if it is text: another program may have written anything."""
    return value if isinstance(value, str) else None


def _is_live_elsewhere(document: Mapping[str, Any]) -> bool:
    """Whether another machine wrote the run within the last minute: its locks may not be visible here."""
    import socket

    from ml_dash.storage.liveness import is_live

    return document.get("host") != socket.gethostname() and is_live(dict(document))
