"""A writer whose disk fails on purpose: a plan says at which file operation, with which error, and until when.

`ml_dash.ipc.launch.WRITER_ENTRY` names this module in tests. Operations are those of `Disk`, the steps inside
them (to put a file in place it is created, appended to, closed and renamed), and every other access to the run's folder,
which Python's audit events show.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import ml_dash.writer.main
from ml_dash.storage.disk import Disk
from ml_dash.writer import records

PLAN_VARIABLE = "ML_DASH_TEST_DISK_FAULT"

LATE_HASH_BYTES = 2_000
"""Files above this size are hashed at the end of the run, instead of those above 8 MiB."""

_PATH_EVENTS = frozenset(
    ("open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.truncate")
)


@dataclass(frozen=True)
class Plan:
    """Which operations fail, and how.

    Attributes:
        first: number of the first operation that fails, from 1; 0 for none.
        error: its errno.
        root: only what lies in this folder counts.
        reached: path of a file that gets one byte for each operation that fails.
        while_exists: every operation from the first one on fails for as long as this file exists; empty: only one fails.
        late: whether the error comes after the operation was done, as a network file system may tell it.
    """

    first: int
    error: int
    root: str
    reached: str
    while_exists: str = ""
    late: bool = False

    def to_environment(self) -> dict[str, str]:
        """Return the environment variable from which the writer reads the plan."""
        return {PLAN_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Plan:
        """Return the plan of this process."""
        return cls(**json.loads(os.environ[PLAN_VARIABLE]))


class Faults:
    """Counts operations and decides which of them fail."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._count = 0
        self._thread = threading.local()

    @property
    def late(self) -> bool:
        """Whether the operation is done before it fails."""
        return self._plan.late

    def next_fails(self) -> bool:
        """Count one operation and return whether it fails."""
        plan = self._plan
        with self._lock:
            self._count += 1
            count = self._count
        fails = count >= plan.first > 0 if plan.while_exists else count == plan.first
        if fails and plan.while_exists:
            fails = Path(plan.while_exists).exists()
        if fails:
            with self.unobserved():
                fd = os.open(plan.reached, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
                os.write(fd, b".")
                os.close(fd)
        return fails

    def error(self, path: object) -> OSError:
        """Return the error to raise."""
        name = path if isinstance(path, str) else None
        return OSError(self._plan.error, os.strerror(self._plan.error), name)

    @contextlib.contextmanager
    def unobserved(self):
        """Within this block, `audit` does not count the operations of this thread."""
        depth = getattr(self._thread, "depth", 0)
        self._thread.depth = depth + 1
        try:
            yield
        finally:
            self._thread.depth = depth

    def audit(self, event: str, arguments: tuple) -> None:
        """Audit hook: count the accesses to the run's folder that are no operation of `Disk`."""
        if event not in _PATH_EVENTS or getattr(self._thread, "depth", 0):
            return
        path = arguments[0] if arguments else None
        if isinstance(path, str) and path.startswith(self._plan.root) and self.next_fails():
            raise self.error(path)


class FaultyDisk(Disk):
    """The real disk with faults."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def hold(self, folder: str) -> None:
        """No operation: it opens nothing yet."""
        super().hold(folder)

    def release(self) -> None:
        """No operation: it only closes."""
        super().release()

    def append(self, fd: int, data: bytes) -> None:
        """Write half of the bytes before an early error, and all of them before a late one."""
        if not self._faults.next_fails():
            super().append(fd, data)
            return
        rest = bytes(data) if self._faults.late else bytes(data)[: len(data) // 2]
        super().append(fd, rest)
        raise self._faults.error(None)

    def close(self, fd: int) -> None:
        """Close the descriptor, also where an error is raised."""
        super().close(fd)
        if self._faults.next_fails():
            raise self._faults.error(None)


def _with_faults(name: str):
    plain = getattr(Disk, name)

    @functools.wraps(plain)
    def operation(self, *arguments, **options):
        fails = self._faults.next_fails()
        if fails and not self._faults.late:
            raise self._faults.error(arguments[0])
        with self._faults.unobserved():
            result = plain(self, *arguments, **options)
        if fails:
            if name == "open_append":
                os.close(result)
            raise self._faults.error(arguments[0])
        return result

    return operation


for _name in vars(Disk):
    if not _name.startswith("_") and _name not in vars(FaultyDisk):
        setattr(FaultyDisk, _name, _with_faults(_name))


def _faulty_disk() -> FaultyDisk:
    records.HASH_NOW_BYTES = LATE_HASH_BYTES
    faults = Faults(Plan.from_environment())
    if not isinstance(threading.current_thread(), threading._MainThread):
        return FaultyDisk(faults)  # an audit hook cannot be removed from the tests' own process
    sys.addaudithook(faults.audit)
    return FaultyDisk(faults)


def main(boot):
    """Run the writer process."""
    ml_dash.writer.main.main(boot, _faulty_disk())


def run_on_thread(assignment, slab):
    """Run the writer on a thread of the training process, without the audit events."""
    ml_dash.writer.main.run_on_thread(assignment, slab, _faulty_disk())
