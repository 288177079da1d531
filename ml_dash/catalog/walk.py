"""Walk a tree of runs: where each one is, and the times of every file that describes it.

Whoever keeps what was read of a run keeps its signature with it. As long as the signature is the same, so are the
files. A file that changed a moment ago has none: it could change again without its times telling.
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
"""A file or folder that changed less than this before the walk is read again by the next one: the coarsest clock of a
file system has steps of two seconds, and two changes within one step look the same."""

STEADY_FILE_SYSTEMS = frozenset(
    {"apfs", "bcachefs", "beegfs", "btrfs", "ceph", "ext2", "ext3", "ext4", "f2fs", "gpfs", "lustre", "nfs", "nfs4"}
    | {"overlay", "tmpfs", "xfs", "zfs"}
)
"""Where the time of a folder changes with every name that comes or goes, so that a folder with the same times need not
be listed. Others, such as object stores that pass for a disk, are listed each time."""

_OF_MANAGED = frozenset({layout.CONFIG_TOML, layout.METRICS_TOML, layout.EXPERIMENT})
_OF_EXPERIMENT = frozenset({layout.EXPERIMENT, layout.PARAMETERS, layout.ENVIRONMENT})
_DESCRIBING = _OF_MANAGED | _OF_EXPERIMENT
_OF_METRICS = (".jsonl", layout.COPY_SUFFIX)
_METRICS_FOLDER = "metrics"

Listing = list[str | list[str]]
"""Of a folder: its key (empty if it cannot be trusted), its folders, its describing files."""


class Found(NamedTuple):
    """A run.

    Attributes:
        place: its folder below the root, with slashes; empty for the root itself.
        is_managed: whether it has a ``config.toml`` where the ML manager puts it.
        files: what describes it, relative to its folder: documents, the journals of metrics and their copies.
        signature: the times, size and number of each file; empty if it must be read again next time.
    """

    place: str
    is_managed: bool
    files: list[str]
    signature: str


class Walk:
    """One walk over a tree.

    Args:
        root: absolute path of the tree.
        known: the listings of an earlier walk.

    Attributes:
        listings: of every folder that was visited, for the next walk.
        unreadable: places that could not be listed, and why.
    """

    def __init__(self, root: str, known: dict[str, Listing]) -> None:
        self.listings: dict[str, Listing] = {}
        self.unreadable: list[tuple[str, str]] = []
        self._root = root.rstrip(os.sep)
        self._known = known
        self._young_from = time.time_ns() - YOUNG_NS
        self._device = _steady_device(root)

    def runs(self) -> list[Found]:
        """Every run, in the order of ``scan.find_runs``. Links to folders are not followed."""
        found = []
        waiting = [""]
        while waiting:
            place = waiting.pop()
            listing = self._listing(place)
            if listing is None:
                continue
            _, folders, files = listing
            depth = place.count("/") + 1 if place else 0
            is_managed = depth == MANAGED_DEPTH and layout.CONFIG_TOML in files
            if is_managed or layout.EXPERIMENT in files or scan.is_headless(self._folder(place), files, folders):
                found.append(self._found(place, is_managed, _METRICS_FOLDER in folders, files))
                folders = [name for name in folders if name not in OWN_FOLDERS]
            waiting.extend(f"{place}/{name}" if place else name for name in reversed(folders))
        return found

    def _found(self, place: str, is_managed: bool, has_metrics: bool, names: str | list[str]) -> Found:
        wanted = _OF_MANAGED if is_managed else _OF_EXPERIMENT
        files = [name for name in names if name in wanted]
        if has_metrics:
            files += self._journals(place)
        folder = f"{self._root}/{place}/" if place else f"{self._root}/"
        parts, is_certain = [], True
        for name in files:
            try:
                status = os.stat(folder + name)
            except OSError:  # gone, or a link to nothing: who reads it will say
                is_certain = False
                continue
            changed, altered = status.st_mtime_ns, status.st_ctime_ns
            is_certain = is_certain and changed < self._young_from and altered < self._young_from
            parts.append(f"{name} {changed} {altered} {status.st_size} {status.st_ino}")
        return Found(place, is_managed, files, "\n".join(parts) if is_certain else "")

    def _journals(self, place: str) -> list[str]:
        start = len(place) + 1 if place else 0
        found = []
        waiting = [f"{place}/{_METRICS_FOLDER}" if place else _METRICS_FOLDER]
        while waiting:
            folder = waiting.pop()
            listing = self._listing(folder)
            if listing is not None:
                _, folders, files = listing
                found += [f"{folder[start:]}/{name}" for name in files if name not in _DESCRIBING]
                waiting.extend(f"{folder}/{name}" for name in reversed(folders))
        return found

    def _folder(self, place: str) -> str:
        return f"{self._root}/{place}" if place else self._root or os.sep

    def _listing(self, place: str) -> Listing | None:
        path = self._folder(place)
        try:
            status = os.stat(path)
            key = f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
            if status.st_dev != self._device or max(status.st_mtime_ns, status.st_ctime_ns) >= self._young_from:
                key = ""
            listing = self._known.get(place)
            if listing is None or not key or listing[0] != key:
                listing = [key, *_names_in(path)]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.unreadable.append((place, f"the folder cannot be read: {error.strerror}"))
            return None
        self.listings[place] = listing
        return listing


def _names_in(path: str) -> tuple[list[str], list[str]]:
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
    """The number of the file system that holds ``path``; None unless it is one of ``STEADY_FILE_SYSTEMS``."""
    try:
        return os.stat(path).st_dev if file_system_of(path) in STEADY_FILE_SYSTEMS else None
    except OSError:
        return None
