"""Files in the run's folder that carry records and frames which are too large for the ring to the writer."""

from __future__ import annotations

import contextlib
import os

_ATTEMPTS = 30
"""Attempts to make a file: while other writers of the run end, each attempt may fail."""


def prefix(writer_id: str) -> str:
    """Return the start of the names of a writer's files, which is the start of no other writer's.

    A writer id begins with a host name, which may be ``main`` or end in numbers as ids do, but never has an ``@``.
    """
    return f"{writer_id or 'main'}@"


def make_file(path: str) -> None:
    """Make an empty file, and its folder if it is missing.

    A writer that ends removes the folder while it is empty, perhaps just before the file is made: then it is tried again.
    """
    for _ in range(_ATTEMPTS - 1):
        # makedirs raises FileExistsError if the folder is removed while it looks.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            _make(path)
            return
    _make(path)


def _make(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
