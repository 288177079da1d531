"""What does not go through the ring goes to the writer in a file beside the run: its name, and how it is made."""

from __future__ import annotations

import contextlib
import os

_ATTEMPTS = 30
"""How often a file is tried to be made: beside many writers that end, each time may fail again."""


def prefix(writer_id: str) -> str:
    """How the names of a writer's own files begin, and those of no other writer.

    A writer id begins with a host name, which may be ``main`` or end in numbers as ids do, but never has an ``@``.
    """
    return f"{writer_id or 'main'}@"


def make_file(path: str) -> None:
    """Make an empty file and its folder, for somebody who then writes to it.

    A writer that ends removes the folder if it is empty, also just before the file is made: then both are made anew.
    """
    for _ in range(_ATTEMPTS - 1):
        # The second one is how makedirs says that a folder went away while it looked.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            _make(path)
            return
    _make(path)


def _make(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
