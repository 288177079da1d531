"""The processes, threads, descriptors and shared memory that a test leaves behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")

# How `multiprocessing.shared_memory` names a block. Other programs of the machine have theirs in the same folder.
PYTHONS_NAME = "psm_"

# Every process that a test starts, directly or not, inherits this variable, also one whose parent has died.
SESSION_VARIABLE = "ML_DASH_TEST_SESSION"

# A writer that was told to finish may take this long on a busy machine before it counts as left behind.
GRACE_SECONDS = 30.0

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Holdings:
    """Processes, threads, descriptors and shared memory that exist at one time.

    Threads, descriptors and shared memory map an identity to the text that names it in a failure. Of processes only the
    numbers are kept, of all that the machine runs: reading to whom each belongs takes 10 ms, and few are new in a test.
    """

    pids: frozenset[int]
    threads: dict[int, str]
    descriptors: dict[tuple[int, str], str]
    shared_memory: dict[str, str]

    @classmethod
    def now(cls) -> Holdings:
        """Return what this process and its descendants hold now."""
        return cls(frozenset(psutil.pids()), _threads(), _descriptors(), _shared_memory())

    def beyond(self, earlier: tuple[Holdings, ...]) -> list[str]:
        """Return the names of what is held here and was not held at any of the `earlier` times, sorted by kind."""
        names = _descendants(self.pids.difference(*(one.pids for one in earlier)))
        for kind in ("threads", "descriptors", "shared_memory"):
            known = {key for one in earlier for key in getattr(one, kind)}
            names += [name for key, name in getattr(self, kind).items() if key not in known]
        return names


def leaked_since(*earlier: Holdings, grace: float = GRACE_SECONDS) -> list[str]:
    """Return the names of what is held now and was not held at any of the `earlier` times.

    Args:
        earlier: at least one time.
        grace: seconds that it is given to go.
    """
    leaked = Holdings.now().beyond(earlier)
    deadline = time.monotonic() + grace
    while leaked and time.monotonic() < deadline:
        # An object that is only kept by a reference cycle is not a leak: the collector closes what it holds.
        gc.collect()
        time.sleep(POLL_SECONDS)
        leaked = Holdings.now().beyond(earlier)
    return leaked


def _descendants(pids: frozenset[int]) -> list[str]:
    """Return the names of those processes that this one started, directly or not."""
    names = []
    for pid in sorted(pids):
        try:
            process = psutil.Process(pid)
            if _is_descendant(process):
                names.append(f"process {pid}: {_command(process)}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return names


def _is_descendant(process: psutil.Process) -> bool:
    if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
        return False
    return _inherits_session(process.pid) or process.ppid() == os.getpid()


def _inherits_session(pid: int) -> bool:
    """Whether the environment of a process has our mark; its parent may have ended."""
    mark = f"{SESSION_VARIABLE}={os.environ.get(SESSION_VARIABLE, '')}".encode()
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())[:200] or process.name()


def _threads() -> dict[int, str]:
    kinds = {True: "daemon thread", False: "thread"}
    return {id(thread): f"{kinds[thread.daemon]} {thread.name}" for thread in threading.enumerate()}


def _descriptors() -> dict[tuple[int, str], str]:
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # the descriptor with which the folder itself was listed
        found[int(link.name), target] = f"descriptor {link.name}: {target}"
    return found


def _shared_memory() -> dict[str, str]:
    if not SHARED_MEMORY.is_dir():
        return {}
    names = [entry.name for entry in SHARED_MEMORY.iterdir()]
    return {name: f"shared memory {SHARED_MEMORY / name}" for name in names if name.startswith(PYTHONS_NAME)}
