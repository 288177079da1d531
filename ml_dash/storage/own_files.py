"""The files in a run's folder that belong to the run: not the runs below it, and no links."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ml_dash.storage import layout, scan
from ml_dash.storage.beneath import walk

DAMAGED = ".damaged-"
"""Part of the name that a repair gives to an original that it keeps."""


def nested_runs(folder: str) -> list[str]:
    """Return the absolute folders of the runs below a run, without the run itself."""
    return [nested for nested in scan.find_runs(folder) if nested != os.path.abspath(folder)]


def own_entries(folder: str) -> list[str]:
    """Return the sorted names in a run's folder, without the folders that hold other runs."""
    start = len(os.path.abspath(folder)) + 1
    others = {nested[start:].split(os.sep, 1)[0] for nested in nested_runs(folder)}
    return sorted(name for name in os.listdir(folder) if name not in others)


def own_files(folder: str) -> Iterator[str]:
    """Yield the run's files, relative to its folder and with slashes, sorted within each folder. Links are left out."""
    for name in own_entries(folder):
        path = os.path.join(folder, name)
        if os.path.islink(path):
            continue
        if os.path.isdir(path):
            yield from files_below(folder, name)
        elif os.path.isfile(path):
            yield name


def files_below(folder: str, part: str) -> Iterator[str]:
    """Yield the files of one folder of a run, in the same form as ``own_files``."""
    for current, files in walk(os.path.join(folder, part)):
        relative = os.path.relpath(current, folder).replace(os.sep, "/")
        for name in sorted(files):
            path = os.path.join(current, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield f"{relative}/{name}"


def is_lock(path: str) -> bool:
    """Whether a file only exists to be locked. A stored file with such a name does not."""
    name = path.rsplit("/", 1)[-1]
    may_be_stored = path.startswith("files/") and path.count("/") > 1
    return name.startswith(".") and name.endswith((".lock", ".manager.open")) and not may_be_stored


def is_temporary(path: str) -> bool:
    """Whether a file has the name of one that is being written. A stored file may have such a name as well."""
    name = path.rsplit("/", 1)[-1]
    is_unfinished = name.startswith(".") and (".tmp-" in name or name.endswith((".tmp", ".part")))
    return is_unfinished or path.startswith((f"{layout.SPILL}/", f"{layout.STAGING}/"))
