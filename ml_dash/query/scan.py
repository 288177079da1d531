"""Where the runs of a tree lie."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator

from ml_dash.storage import layout, legacy

OWN_FOLDERS = frozenset(
    {"logs", "metrics", "tracks", "files", "frames", layout.QUARANTINE, layout.SPILL, layout.WRITERS}
)
"""What a run keeps in its folder. Any other folder in it may hold further runs: ``a/b`` and ``a/b/c`` can both be one."""


_DOCUMENTS = frozenset({layout.EXPERIMENT, layout.PARAMETERS})


def find_runs(root: str) -> Iterator[str]:
    """The absolute folders of all runs below ``root``, itself included, in the order of their names.

    Links are not followed: a tree that is linked into itself would never end. A folder that cannot be read is passed
    over.
    """
    waiting = [os.path.abspath(root)]
    while waiting:
        folder = waiting.pop()
        names, is_run = _folders_in(folder)
        if is_run:
            yield folder
            names = [name for name in names if name not in OWN_FOLDERS]
        waiting.extend(os.path.join(folder, name) for name in sorted(names, reverse=True))


def is_run(folder: str) -> bool:
    """Whether a folder is a run's."""
    return os.path.isfile(os.path.join(folder, layout.EXPERIMENT)) or _folders_in(folder)[1]


def is_headless(folder: str, files: Container[str], folders: Container[str]) -> bool:
    """Whether a folder is a run's although its experiment.json is gone: it has parameters, or a metric with points.

    Args:
        folder: its absolute path.
        files: the names of its files.
        folders: the names of the folders in it.
    """
    return layout.PARAMETERS in files or ("metrics" in folders and _has_points(os.path.join(folder, "metrics")))


def prefix_of(folder: str, root: str) -> str:
    """A run's place below the root, with slashes; the folder's own name if it is the root."""
    relative = os.path.relpath(folder, root)
    return os.path.basename(folder) if relative == os.curdir else relative.replace(os.sep, "/")


def _folders_in(folder: str) -> tuple[list[str], bool]:
    names: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in _DOCUMENTS:
                    files.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
    except OSError:
        return [], False
    return names, layout.EXPERIMENT in files or is_headless(folder, files, names)


def _has_points(metrics: str) -> bool:
    try:
        with os.scandir(metrics) as entries:
            return any(_is_written(entry) for entry in entries)
    except OSError:
        return False


def _is_written(entry: os.DirEntry[str]) -> bool:
    """Whether it is a metric's folder, or a flat metric, with something in it."""
    is_folder = entry.is_dir(follow_symlinks=False)
    if not is_folder and not entry.name.endswith(legacy.JOURNAL):
        return False
    try:
        return os.path.getsize(os.path.join(entry.path, "data.jsonl") if is_folder else entry.path) > 0
    except OSError:
        return False
