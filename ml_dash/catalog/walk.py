"""Walk a tree of runs: the folder of each run, and a signature of the files that describe it.

While the signature of a run is the same, its files are the same. A run has no signature while one of its files is so
new that a further change might not show in the file's times.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from ml_dash._file_systems import file_system_of
from ml_dash.storage import layout, legacy, scan
from ml_dash.storage.scan import OWN_FOLDERS

MANAGED_DEPTH = 2
"""Where ``config.toml`` makes a folder a run of the ML manager: ``project/run``."""

YOUNG_NS = 2_000_000_000
"""Age below which a file or folder is read again by the next walk: the coarsest clock of a file system has steps of two
seconds, and two changes within one step look the same."""

STEADY_FILE_SYSTEMS = frozenset(
    {"apfs", "bcachefs", "beegfs", "btrfs", "ceph", "ext2", "ext3", "ext4", "f2fs", "gpfs", "lustre", "nfs", "nfs4"}
    | {"overlay", "tmpfs", "xfs", "zfs"}
)
"""File systems on which the time of a folder changes with every name that comes or goes, so that a folder with the same
times need not be listed again. Folders elsewhere, such as on mounted object stores, are listed each time."""

_OF_MANAGED = frozenset({layout.CONFIG_TOML, layout.METRICS_TOML, layout.EXPERIMENT})
_OF_EXPERIMENT = frozenset({layout.EXPERIMENT, layout.PARAMETERS, layout.ENVIRONMENT})
_DESCRIBING = _OF_MANAGED | _OF_EXPERIMENT
_OF_METRICS = (".jsonl", layout.COPY_SUFFIX)
_METRICS_FOLDER = "metrics"

Listing = list[str | list[str]]
"""A folder's key (empty if it must be listed again), the names of its folders, and of its describing files."""


class ListedRun(NamedTuple):
    """A run in the tree.

    Attributes:
        path: its folder relative to the root, with slashes; empty for the root itself.
        is_managed: whether it has a ``config.toml`` where the ML manager puts it.
        files: its documents, the journals of its metrics and their copies, relative to its folder.
        signature: the times, size and inode of each file; empty if the run must be read again next time.
    """

    path: str
    is_managed: bool
    files: list[str]
    signature: str


class Walk:
    """One walk over a tree.

    Args:
        root: absolute path of the tree.
        known: the listings of an earlier walk, by path.

    Attributes:
        listings: the listing of every visited folder, for the next walk.
        unreadable: path and reason of each folder that could not be listed.
    """

    def __init__(self, root: str, known: dict[str, Listing]) -> None:
        self.listings: dict[str, Listing] = {}
        self.unreadable: list[tuple[str, str]] = []
        self._root = root.rstrip(os.sep)
        self._known = known
        self._young_from = time.time_ns() - YOUNG_NS
        self._device = _steady_device(root)

    def runs(self) -> list[ListedRun]:
        """Every run, in the order of ``scan.find_runs``. Links to folders are not followed."""
        runs = []
        waiting = [""]
        while waiting:
            path = waiting.pop()
            listing = self._listing(path)
            if listing is None:
                continue
            _, folders, files = listing
            depth = path.count("/") + 1 if path else 0
            is_managed = depth == MANAGED_DEPTH and layout.CONFIG_TOML in files
            if is_managed or layout.EXPERIMENT in files or scan.is_headless(self._folder(path), files, folders):
                runs.append(self._run(path, is_managed, _METRICS_FOLDER in folders, files))
                folders = [name for name in folders if name not in OWN_FOLDERS]
            waiting.extend(f"{path}/{name}" if path else name for name in reversed(folders))
        return runs

    def _run(self, path: str, is_managed: bool, has_metrics: bool, names: str | list[str]) -> ListedRun:
        describing = _OF_MANAGED if is_managed else _OF_EXPERIMENT
        files = [name for name in names if name in describing]
        if has_metrics:
            files += self._journals(path)
        folder = f"{self._root}/{path}/" if path else f"{self._root}/"
        parts, is_certain = [], True
        for name in files:
            try:
                status = os.stat(folder + name, follow_symlinks=False)
            except OSError:  # gone: reading it gives the reason
                is_certain = False
                continue
            modified, changed = status.st_mtime_ns, status.st_ctime_ns
            is_certain = is_certain and max(modified, changed) < self._young_from
            parts.append(f"{name} {modified} {changed} {status.st_size} {status.st_ino}")
        return ListedRun(path, is_managed, files, "\n".join(parts) if is_certain else "")

    def _journals(self, path: str) -> list[str]:
        start = len(path) + 1 if path else 0
        journals = []
        waiting = [f"{path}/{_METRICS_FOLDER}" if path else _METRICS_FOLDER]
        while waiting:
            folder = waiting.pop()
            listing = self._listing(folder)
            if listing is not None:
                _, folders, files = listing
                journals += [f"{folder[start:]}/{name}" for name in files if name not in _DESCRIBING]
                waiting.extend(f"{folder}/{name}" for name in reversed(folders))
        return journals

    def _folder(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root or os.sep

    def _listing(self, path: str) -> Listing | None:
        folder = self._folder(path)
        try:
            status = os.stat(folder)
            key = f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
            if status.st_dev != self._device or max(status.st_mtime_ns, status.st_ctime_ns) >= self._young_from:
                key = ""
            listing = self._known.get(path)
            if listing is None or not key or listing[0] != key:
                listing = [key, *_names_in(folder)]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.unreadable.append((path, f"the folder cannot be read: {error.strerror}"))
            return None
        self.listings[path] = listing
        return listing


def _names_in(path: str) -> tuple[list[str], list[str]]:
    """The names of the folders in a folder, and of its files that describe a run; both sorted."""
    folders, files = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name in _DESCRIBING or (name.startswith("data.") and name.endswith(_OF_METRICS)):
                files.append(name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif name.endswith(legacy.JOURNAL):
                files.append(name)
    return sorted(folders), sorted(files)


def _steady_device(path: str) -> int | None:
    """The device number of ``path``; None unless it lies on one of ``STEADY_FILE_SYSTEMS``."""
    try:
        return os.stat(path).st_dev if file_system_of(path) in STEADY_FILE_SYSTEMS else None
    except OSError:
        return None
