"""Find the runs in a tree of folders."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from ml_dash._printable import clean
from ml_dash.storage import layout, legacy

OWN_FOLDERS = frozenset(
    {"logs", "metrics", "tracks", "files", "frames", layout.QUARANTINE, layout.SPILL, layout.WRITERS}
)
"""Folders of a run itself. Any other folder in it may hold further runs: ``a/b`` and ``a/b/c`` can both be one."""

_DOCUMENTS = frozenset({layout.EXPERIMENT, layout.PARAMETERS})

NAMED_FOLDERS = 3
"""Folders that a message names; it counts the others."""


class Unreadable(NamedTuple):
    """A folder that cannot be listed, so that the runs in it are not known.

    Attributes:
        folder: its absolute path.
        reason: the system's error text.
    """

    folder: str
    reason: str


def find_runs(root: str, unreadable: list[Unreadable] | None = None) -> Iterator[str]:
    """Yield the absolute folders of all runs below ``root``, itself included, in the order of their names.

    Links are not followed, because a link to a parent would never end.

    Args:
        root: the top of the tree.
        unreadable: each folder that cannot be listed is left out and appended here.
    """
    waiting = [os.path.abspath(root)]
    while waiting:
        folder = waiting.pop()
        try:
            names, is_run = _folders_in(folder)
        except (FileNotFoundError, NotADirectoryError):  # removed after its name was read
            continue
        except OSError as error:
            if unreadable is not None:
                unreadable.append(Unreadable(folder, error.strerror or str(error)))
            continue
        if is_run:
            yield folder
            names = [name for name in names if name not in OWN_FOLDERS]
        waiting.extend(os.path.join(folder, name) for name in sorted(names, reverse=True))


def is_run(folder: str) -> bool:
    """Whether a folder is a run's."""
    if os.path.isfile(os.path.join(folder, layout.EXPERIMENT)):
        return True
    try:
        return _folders_in(folder)[1]
    except OSError:
        return False


def is_headless(folder: str, files: Container[str], folders: Container[str]) -> bool:
    """Whether a folder without experiment.json is a run's: it has parameters, or a metric with points.

    Args:
        folder: its absolute path.
        files: the names of its files.
        folders: the names of the folders in it.
    """
    return layout.PARAMETERS in files or ("metrics" in folders and _has_points(os.path.join(folder, "metrics")))


def prefix_of(folder: str, root: str) -> str:
    """Return a run's path below the root, with slashes; the folder's own name if it is the root."""
    relative = os.path.relpath(folder, root)
    return os.path.basename(folder) if relative == os.curdir else relative.replace(os.sep, "/")


def left_out(unreadable: Sequence[Unreadable], root: str) -> str:
    """Return a message on folders that were left out: ``2 folders cannot be read, ...: a/b (Permission denied), ...``."""
    count = len(unreadable)
    named = [f"{clean(prefix_of(folder, root))} ({reason})" for folder, reason in unreadable[:NAMED_FOLDERS]]
    more = f" and {count - NAMED_FOLDERS:,} more" if count > NAMED_FOLDERS else ""
    what = (
        "1 folder cannot be read, and what is in it"
        if count == 1
        else f"{count:,} folders cannot be read, and what is in them"
    )
    return f"{what} is left out: {', '.join(named)}{more}"


def _folders_in(folder: str) -> tuple[list[str], bool]:
    names: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in _DOCUMENTS:
                files.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
    return names, layout.EXPERIMENT in files or is_headless(folder, files, names)


def _has_points(metrics: str) -> bool:
    """Whether the folder ``metrics`` of a run has a metric's folder, or a flat metric, that is not empty."""
    with contextlib.suppress(OSError), os.scandir(metrics) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder or entry.name.endswith(legacy.JOURNAL):
                with contextlib.suppress(OSError):
                    if os.path.getsize(os.path.join(entry.path, "data.jsonl") if is_folder else entry.path) > 0:
                        return True
    return False
