"""What a process holds at one moment, and what it holds that it did not hold before."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")

# What `multiprocessing.shared_memory` calls a block, and so the only name that one of ours can have. Other programs of the
# machine have theirs there too.
PYTHONS_NAME = "psm_"

# Every process that a test starts, directly or not, inherits this variable, also one whose parent has died.
SESSION_VARIABLE = "ML_DASH_TEST_SESSION"

# A writer that has just been told to finish may take this long on a busy machine before it counts as left behind.
GRACE_SECONDS = 30.0

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Holdings:
    """Processes, threads, descriptors and shared memory that exist at one moment.

    Each is a mapping from what identifies it to the text that names it in a failure.
    """

    processes: dict[tuple[int, float], str]
    threads: dict[int, str]
    descriptors: dict[tuple[int, str], str]
    shared_memory: dict[str, str]

    @classmethod
    def now(cls) -> Holdings:
        """What this process and its descendants hold now."""
        return cls(_processes(), _threads(), _descriptors(), _shared_memory())

    def beyond(self, before: Holdings) -> list[str]:
        """The names of what is held here and was not held `before`, sorted by kind."""
        pairs = [
            (self.processes, before.processes),
            (self.threads, before.threads),
            (self.descriptors, before.descriptors),
            (self.shared_memory, before.shared_memory),
        ]
        return [name for held, earlier in pairs for key, name in held.items() if key not in earlier]


def leaked_since(before: Holdings, grace: float = GRACE_SECONDS) -> list[str]:
    """The names of what is held now and was not held `before`, after giving it `grace` seconds to go."""
    leaked = Holdings.now().beyond(before)
    deadline = time.monotonic() + grace
    while leaked and time.monotonic() < deadline:
        # An object that is only kept by a reference cycle is not a leak: the collector closes what it holds.
        gc.collect()
        time.sleep(POLL_SECONDS)
        leaked = Holdings.now().beyond(before)
    return leaked


def _processes() -> dict[tuple[int, float], str]:
    found = {}
    for process in psutil.process_iter():
        try:
            if _is_descendant(process):
                found[process.pid, process.create_time()] = f"process {process.pid}: {_command(process)}"
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _is_descendant(process: psutil.Process) -> bool:
    if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
        return False
    return _inherits_session(process.pid) or process.ppid() == os.getpid()


def _inherits_session(pid: int) -> bool:
    """Whether a process was started with our mark; its parent may be gone since."""
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
