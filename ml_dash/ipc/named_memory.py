"""Shared memory by ``multiprocessing.shared_memory``, whose name is removed at once. For systems without /dev/shm."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker, shared_memory

from ml_dash import _fork


def create(size: int) -> int:
    """The descriptor of ``size`` bytes of shared memory, which has no name any more.

    Raises:
        OSError: the system has none.
    """
    with _untracked():
        shared = shared_memory.SharedMemory(create=True, size=size)
        try:
            return os.dup(shared._fd)  # type: ignore[attr-defined]  # the class gives the descriptor no public name
        finally:
            shared.close()
            shared.unlink()


class _Patch:
    """The lock of the exchange below, and the end of it in a child that was forked meanwhile."""

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
    """Keep this thread's blocks out of Python's resource tracker, which would start a process of its own for them.

    The block is unlinked within the same call, so there is nothing to track. Other threads are not affected.
    """

    class ForOthers:
        """Passes on what other threads register meanwhile."""

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
