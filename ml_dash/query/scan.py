"""Where the runs of a tree lie."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ml_dash.storage import layout

OWN_FOLDERS = frozenset(
    {"logs", "metrics", "tracks", "files", "frames", layout.QUARANTINE, layout.SPILL, layout.WRITERS}
)
"""What a run keeps in its folder. Any other folder in it may hold further runs: ``a/b`` and ``a/b/c`` can both be one."""


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
    return os.path.isfile(os.path.join(folder, layout.EXPERIMENT))


def prefix_of(folder: str, root: str) -> str:
    """A run's place below the root, with slashes; the folder's own name if it is the root."""
    relative = os.path.relpath(folder, root)
    return os.path.basename(folder) if relative == os.curdir else relative.replace(os.sep, "/")


def _folders_in(folder: str) -> tuple[list[str], bool]:
    names: list[str] = []
    found = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == layout.EXPERIMENT:
                    found = True
                elif entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
    except OSError:
        return [], False
    return names, found
