"""Files in the run's folder that carry records and frames which are too large for the ring to the writer."""

from __future__ import annotations

import os

from ml_dash.storage.beneath import HeldFolder, open_descriptor

_ATTEMPTS = 30
"""Attempts to make a file: while other writers of the run end, each attempt may fail."""


def prefix(writer_id: str) -> str:
    """Return the start of the names of a writer's files, which is the start of no other writer's.

    A writer id begins with a host name, which may be ``main`` or end in numbers as ids do, but never has an ``@``.
    """
    return f"{writer_id or 'main'}@"


def make_file(run: str, path: str) -> None:
    """Make an empty file below a run's folder, with the folders on its way; a link in the place of one is set aside.

    A writer that ends removes the folder while it is empty, perhaps just before the file is made: then it is tried again.

    Args:
        run: absolute path of the run's folder.
        path: absolute path of the file.

    Raises:
        OSError: it cannot be made.
    """
    folder = HeldFolder(run)
    try:
        for attempt in range(_ATTEMPTS):
            try:
                with folder.parent_of(path, make=True) as (parent, name):
                    os.close(open_descriptor(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=parent, shown=path))
                    return
            except (FileNotFoundError, FileExistsError):
                if attempt == _ATTEMPTS - 1:
                    raise
    finally:
        folder.close()
