"""Shared memory from ``multiprocessing.shared_memory.SharedMemory``, whose name is removed at once.

``slab`` uses it where ``os.O_TMPFILE`` is missing, that is on systems other than Linux, such as macOS. On Linux a file
without a name in /dev/shm is the same memory, without the 15 ms that the import takes and without Python's resource
tracker. It stays since it is the only shared memory that those systems offer to Python; the tests run it on Linux.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker, shared_memory

from ml_dash import _fork


def create(size: int) -> int:
    """Return the descriptor of ``size`` bytes of shared memory without a name.

    Raises:
        OSError: the system has no shared memory.
    """
    with _untracked():
        shared = shared_memory.SharedMemory(create=True, size=size)
        try:
            return os.dup(shared._fd)  # type: ignore[attr-defined]  # the class gives the descriptor no public name  # noqa: SLF001 - the class has no public name for its descriptor
        finally:
            shared.close()
            shared.unlink()


class _Patch:
    """The lock of ``_untracked``, and the end of its effect in a child that was forked inside it."""

    lock = threading.Lock()

    @classmethod
    def renew(cls) -> None:
        cls.lock = threading.Lock()
        shared_memory = sys.modules.get("multiprocessing.shared_memory")
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        if shared_memory is not None and tracker is not None:
            shared_memory.resource_tracker = tracker  # type: ignore[attr-defined]  # the module's own import


_fork.call_in_child(_Patch.renew)


@contextlib.contextmanager
def _untracked() -> Iterator[None]:
    """Keep the blocks of this thread out of Python's resource tracker, which would start a process for them.

    A block is unlinked within the same call, so that it needs no tracking. Other threads are not affected.
    """

    class ForOthers:
        """Passes on the blocks of other threads."""

        def __init__(self, owner: int) -> None:
            self._owner = owner

        def register(self, name: str, kind: str) -> None:
            if threading.get_ident() != self._owner:
                resource_tracker.register(name, kind)

        def unregister(self, name: str, kind: str) -> None:
            if threading.get_ident() != self._owner:
                resource_tracker.unregister(name, kind)

    with _Patch.lock:
        kept = shared_memory.resource_tracker  # type: ignore[attr-defined]  # the module's own import
        shared_memory.resource_tracker = ForOthers(threading.get_ident())  # type: ignore[attr-defined]  # see above
        try:
            yield
        finally:
            shared_memory.resource_tracker = kept  # type: ignore[attr-defined]  # see above
