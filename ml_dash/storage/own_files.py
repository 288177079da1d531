"""What lies in a run's folder and belongs to the run: not the runs below it, and nothing behind a link."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ml_dash.storage import layout, scan

DAMAGED = ".damaged-"
"""Part of the name of an original that a repair kept."""


def nested_runs(folder: str) -> list[str]:
    """The absolute folders of the runs below a run, itself not among them."""
    return [found for found in scan.find_runs(folder) if found != os.path.abspath(folder)]


def own_entries(folder: str) -> list[str]:
    """The names in a run's folder that are its own, sorted: every one that is no folder with another run in it."""
    start = len(os.path.abspath(folder)) + 1
    others = {nested[start:].split(os.sep, 1)[0] for nested in nested_runs(folder)}
    return sorted(name for name in os.listdir(folder) if name not in others)


def own_files(folder: str) -> Iterator[str]:
    """The run's files, relative to its folder and with slashes, sorted within each folder. Links are passed over."""
    for name in own_entries(folder):
        path = os.path.join(folder, name)
        if os.path.islink(path):
            continue
        if os.path.isdir(path):
            yield from files_below(folder, name)
        elif os.path.isfile(path):
            yield name


def files_below(folder: str, part: str) -> Iterator[str]:
    """The files of one folder of a run, in the same form."""
    for place, names, files in os.walk(os.path.join(folder, part)):
        names[:] = sorted(name for name in names if not os.path.islink(os.path.join(place, name)))
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        for name in sorted(files):
            path = os.path.join(place, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield f"{relative}/{name}"


def is_lock(path: str) -> bool:
    """Whether a file only exists to be locked; a stored file of such a name is none."""
    name = path.rsplit("/", 1)[-1]
    return name.startswith(".") and name.endswith((".lock", ".manager.open")) and not _may_be_stored(path)


def is_temporary(path: str) -> bool:
    """Whether a file has the name of one that is being written. A stored file may have such a name too."""
    name = path.rsplit("/", 1)[-1]
    begun = name.startswith(".") and (".tmp-" in name or name.endswith((".tmp", ".part")))
    return begun or path.startswith((f"{layout.SPILL}/", f"{layout.STAGING}/"))


def _may_be_stored(path: str) -> bool:
    return path.startswith("files/") and path.count("/") > 1
