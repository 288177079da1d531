"""Plan the removal of a run, and remove it. Links are removed, never what they lead to."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from dataclasses import dataclass
from typing import Any

from ml_dash.errors import InvalidValueError, MissingFileError
from ml_dash.storage import layout, liveness, reading, scan
from ml_dash.storage.own_files import nested_runs, own_entries

TRIES = 20
"""Attempts at a folder in which new files appear: a writer that ends adds at most one copy for each metric."""


@dataclass(frozen=True, slots=True)
class Removal:
    """One run that is to be removed.

    Attributes:
        folder: absolute path of its directory.
        prefix: its path below the root.
        status: its status, None if it has none.
        live: the process that writes it now, as text; empty if there is none.
        files: number of its files.
        size: bytes of these files.
        kept: the runs below it, which stay, or are removed too if ``recursive``.
        recursive: whether the runs below it are removed too.
    """

    folder: str
    prefix: str
    status: str | None
    live: str
    files: int
    size: int
    kept: list[str]
    recursive: bool

    def as_json(self) -> dict[str, Any]:
        """For a program to read."""
        return {
            "run": self.prefix,
            "folder": self.folder,
            "status": self.status,
            "live": bool(self.live),
            "files": self.files,
            "bytes": self.size,
            "runs_below": self.kept,
            "recursive": self.recursive,
        }


def plan_removal(folder: str, prefix: str, root: str, *, recursive: bool) -> Removal:
    """What removing a run would remove.

    Args:
        folder: absolute path of the run's directory.
        prefix: its path below the root.
        root: absolute path of the folder of all runs.
        recursive: whether to remove the runs below it too.

    Raises:
        MissingFileError: the folder is no run's.
        InvalidValueError: the folder, or one between it and the root, is a link.
    """
    if not scan.is_run(folder):
        raise MissingFileError(f"{folder!r} is no run, and is not removed")
    link = _first_link(folder, root)
    if link is not None:
        raise InvalidValueError(f"{link!r} is a link: name the run where it really lies, or remove the link yourself")
    below = nested_runs(folder)
    names = os.listdir(folder) if recursive else own_entries(folder)
    files, size = _measure([os.path.join(folder, name) for name in names])
    live = liveness.writer_of(folder)
    if recursive and not live:
        writers = ((nested, liveness.writer_of(nested)) for nested in below)
        live = next((f"{scan.prefix_of(run, folder)}: {writer}" for run, writer in writers if writer), "")
    status = reading.read_experiment(folder).get("status")
    kept = [f"{prefix}/{scan.prefix_of(run, folder)}" for run in below]
    return Removal(folder, prefix, status, live, files, size, kept, recursive)


def remove(removal: Removal, root: str) -> None:
    """Remove a run, and then the empty folders above it, up to the root.

    ``experiment.json`` is removed last: after an interruption the folder is still a run that can be removed.

    Raises:
        OSError: something cannot be removed; the rest stays.
    """
    folder = removal.folder
    names = os.listdir(folder) if removal.recursive else own_entries(folder)
    for name in sorted(names, key=lambda name: (name == layout.EXPERIMENT, name)):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            _remove_tree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    _remove_empty(folder, root)


def _remove_tree(path: str) -> None:
    """Remove a folder. The writer of a run that has just ended may still put a columnar copy into it."""
    for _ in range(TRIES):
        try:
            shutil.rmtree(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise
        if not os.path.lexists(path):
            return
    shutil.rmtree(path)


def _remove_empty(folder: str, root: str) -> None:
    while folder.startswith(root.rstrip(os.sep) + os.sep):
        try:
            os.rmdir(folder)
        except OSError:
            return
        folder = os.path.dirname(folder)
    if folder != root:  # a run outside the root
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _first_link(folder: str, root: str) -> str | None:
    path = folder
    while path.startswith(root.rstrip(os.sep) + os.sep):
        if os.path.islink(path):
            return path
        path = os.path.dirname(path)
    return folder if os.path.islink(folder) else None


def _measure(paths: list[str]) -> tuple[int, int]:
    """The number of files, links included, and their bytes."""
    files = size = 0
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            with os.scandir(path) as entries:
                count, more = _measure([entry.path for entry in entries])
            files, size = files + count, size + more
        else:
            with contextlib.suppress(FileNotFoundError):
                files, size = files + 1, size + os.lstat(path).st_size
    return files, size
