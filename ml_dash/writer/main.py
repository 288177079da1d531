"""The writer: turns records and frames in shared memory into files, until the run is closed or its process is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ml_dash.ipc import slab as slabs
from ml_dash.ipc.control import ASLEEP, NAPPING, Control, State, Word
from ml_dash.ipc.launch import Assignment
from ml_dash.ipc.ring import Consumer
from ml_dash.ipc.slab import Slab
from ml_dash.provenance.secrets import mask_text
from ml_dash.records.values import parse
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.journal import Journals
from ml_dash.writer import finish
from ml_dash.writer.apply import Applier
from ml_dash.writer.columnar import COPY_LIMIT_S, ColumnarCopies, Stream
from ml_dash.writer.encode import EncoderPool
from ml_dash.writer.environment import BRIEF_S, LATE_S, EnvironmentRecorder
from ml_dash.writer.parent import ParentWatch
from ml_dash.writer.records import RecordWriter
from ml_dash.writer.status import RunStatus
from ml_dash.writer.sync import Syncer

POLL_S = 0.002
"""Seconds between two looks at the ring while records come. A machine that crashes as a whole may lose those records."""

IDLE_POLL_S = 0.05
"""The longest sleep when no records come; the doorbell ends it."""

HEARTBEAT_S = 10.0
"""Seconds between two updates of ``heartbeat_at`` in experiment.json."""

FIRST_RETRY_S = 0.05
LONGEST_RETRY_S = 2.0
"""Bounds of the pause before a refused file operation is tried again."""

ORPHAN_LIMIT_S = 600.0
"""Seconds that a writer whose training process is gone keeps trying a disk that refuses."""

NICENESS = 10
"""Of the writer process: it gets a tenth of a processor that training uses too, and all of an idle one."""

DAMAGE_LIMIT_S = 1.0
"""Seconds that an entry may look unfinished before it is skipped as damaged."""


class Writer:
    """A writer from its start to its end.

    Args:
        assignment: its settings.
        slab: the shared memory.
        connection: the socket to the training process; None if the writer is a thread of it.
        disk: the file operations.
    """

    def __init__(self, assignment: Assignment, slab: Slab, connection: socket.socket | None, disk: Disk) -> None:
        run, writer_id = assignment.run, assignment.writer_id
        self._assignment = assignment
        self._disk = disk
        disk.hold(run)
        disk.owner = writer_id or "main"
        self._control = Control(slab.memory)
        disk.report = self._control.set_error
        self._words = self._control.words
        self._memory = memoryview(slab.memory)
        self._consumer = Consumer(self._memory, self._control)
        self._replaces_another = bool(self._words[Word.WRITER_PID])
        self._own_process = connection is not None
        self._parent = ParentWatch(assignment.parent, connection)
        self._status = RunStatus(run, writer_id, disk, assignment.parent)
        self._journals = Journals(run, disk)
        self._syncer = Syncer(disk, self._journals, assignment.sync_interval)
        self._environment = EnvironmentRecorder(
            run, disk, assignment.parent, on_stored=self._syncer.add, may_run_git=self._own_process
        )
        if self._replaces_another and not writer_id:
            self._environment.resume()
        self._pool = EncoderPool(
            slab.memory,
            disk,
            count=assignment.encoders,
            burst=assignment.burst_encoders,
            on_done=self._parent.wake,
            training_waits=lambda: bool(self._words[Word.WAITING]),
        )
        self._records = RecordWriter(
            run, writer_id, disk, self._status, on_stored=self._syncer.add, on_opened=self._environment.opened
        )
        self._applier = Applier(
            run=run,
            consumer=self._consumer,
            control=self._control,
            disk=disk,
            journals=self._journals,
            records=self._records,
            pool=self._pool,
            suspicion=assignment.suspicion,
        )
        self._copies = ColumnarCopies(assignment.columnar_rows, self._control.set_error)
        self._next_beat = time.monotonic() + HEARTBEAT_S
        self._retry = FIRST_RETRY_S
        self._tail_at_fault = -1
        self._orphaned_at = 0.0
        self._stuck_since = 0.0

    def run(self) -> list[Stream]:
        """Work until the run is closed, or its process is gone and the ring is empty. Return the streams written to."""
        self._words[Word.WRITER_PID] = os.getpid()
        self._words[Word.STATE] = State.RUNNING
        nap = POLL_S
        try:
            while not self._is_over():
                busy = self._step()
                nap = POLL_S if busy else min(nap * 1.5, IDLE_POLL_S)
                if not busy:
                    self._sleep(nap)
            self._end()
            return self._records.streams()
        finally:
            self._close()

    def sync_soon(self) -> None:
        """Sync everything with the next step: another program asked this process to end."""
        self._syncer.hurry()

    def _is_over(self) -> bool:
        if self._applier.closing or (self._applier.idle and self._control.ending()):
            return True
        if not self._parent.gone:
            return False
        if not self._orphaned_at:
            self._orphaned_at = time.monotonic()
        return self._applier.idle or time.monotonic() - self._orphaned_at > ORPHAN_LIMIT_S

    def _step(self) -> bool:
        try:
            busy = self._applier.step()
            self._keep_up()
        except OSError as error:
            self._report(error)
            self._tail_at_fault = self._words[Word.TAIL]
            self._sleep(self._retry, fault=True)
            self._retry = min(self._retry * 2, LONGEST_RETRY_S)
            return True
        # The fault is over once something was committed; while a failed frame is encoded again, that is not known.
        if self._words[Word.TAIL] != self._tail_at_fault or not self._applier.encoding:
            self._words[Word.FAULT] = 0
            self._retry = FIRST_RETRY_S
        if not busy:
            self._skip_damage()
        return busy

    def _keep_up(self) -> None:
        self._syncer.step()
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_S
            self._words[Word.MEMORY] = resident_bytes()
            self._records.save_metadata(time.time())
            self._status.beat(time.time(), self._facts())
            self._copies.step(self._records.streams())

    def _report(self, error: OSError) -> None:
        self._words[Word.FAULT] = 1
        name = errno.errorcode.get(error.errno or 0, "OSError")
        where = f" ({error.filename})" if error.filename else ""
        self._control.set_error(f"the writer cannot write: {name}: {error.strerror or error}{where}; it tries again")

    def _skip_damage(self) -> None:
        """Go on at the next valid entry, if the present one stays invalid: another program wrote into the shared memory."""
        if self._applier.encoding or self._consumer.position >= self._words[Word.HEAD]:
            self._stuck_since = 0.0
        elif not self._stuck_since:
            self._stuck_since = time.monotonic()
        elif time.monotonic() - self._stuck_since > DAMAGE_LIMIT_S and self._applier.settled:
            skipped = self._consumer.skip_damaged()
            self._consumer.free(self._consumer.position, self._words[Word.APPLIED])
            self._words[Word.REFUSED] += 1
            self._control.set_error(f"{skipped} bytes of the record ring were damaged and skipped")

    def _sleep(self, seconds: float, fault: bool = False) -> None:
        # 0 in the pause after a fault, so that the doorbell is not rung: there would be an attempt for each ring.
        self._words[Word.SLEEPING] = 0 if fault else NAPPING if seconds < 2 * POLL_S else ASLEEP
        if fault or self._consumer.position >= self._words[Word.HEAD] or self._applier.encoding:
            self._parent.wait(seconds, is_wakeable=not fault)
        else:
            time.sleep(min(seconds, POLL_S))
            self._parent.forget_wakes()
        self._words[Word.SLEEPING] = 0

    def _end(self) -> None:
        """Complete the run's documents. A disk that refuses is tried again for ``ORPHAN_LIMIT_S``."""
        deadline = time.monotonic() + ORPHAN_LIMIT_S
        self._pool.close()
        for step in (self._finish_streams, self._finish_files, self._finish_status):
            while time.monotonic() < deadline and not self._is_done(step):
                time.sleep(self._retry)
                self._retry = min(self._retry * 2, LONGEST_RETRY_S)
            self._words[Word.FAULT] = 0
            self._retry = FIRST_RETRY_S
        self._environment.wait(BRIEF_S)
        self._applier.commit_close()
        self._words[Word.MEMORY] = resident_bytes()
        self._words[Word.STATE] = State.FINISHED
        # Everything is written; only a loss of power needs the sync, which takes seconds on a busy disk: nobody waits for it.
        with contextlib.suppress(OSError):
            self._syncer.finish()
        # A writer on a thread of the training process does not wait: that process waits for the thread.
        self._environment.finish(LATE_S if self._own_process else 0.0)

    def _is_done(self, step: Callable[[], None]) -> bool:
        """Run a step of the end. False if the disk refused; after any other error the next step is more important."""
        try:
            step()
        except OSError as error:
            self._report(error)
            return False
        except Exception as error:  # noqa: BLE001 - see above
            self._control.set_error(f"the end of the run is incomplete: {type(error).__name__}: {error}")
        return True

    def _finish_streams(self) -> None:
        self._records.tidy_up()
        if self._replaces_another:
            self._records.load_every_stream()
        self._records.save_metadata(time.time())

    def _finish_files(self) -> None:
        run, writer_id = self._assignment.run, self._assignment.writer_id
        finish.remove_leftovers(run, writer_id, self._disk)
        if self._records.old_versions_left or self._replaces_another:
            finish.remove_old_versions(run, layout.file_index(writer_id), self._disk)
        finish.hash_late(run, layout.file_index(writer_id), self._disk)
        finish.write_files_metadata(run, self._disk)

    def _finish_status(self) -> None:
        self._status.ending = self._status.ending or parse(self._control.ending() or b"null")
        self._status.end(time.time(), self._facts())
        self._syncer.add(self._status.path)

    def _facts(self) -> dict[str, Any]:
        """Facts about the tracker that experiment.json shows."""
        words = self._words
        return {
            "frames_written": words[Word.FRAMES_WRITTEN],
            "frames_dropped": words[Word.DROPPED],
            "records_refused": words[Word.REFUSED] + words[Word.TRAINER_REFUSED],
            "tracker_errors": words[Word.ERRORS],
            "writer_pid": os.getpid(),
        }

    def _close(self) -> None:
        self._copies.stop()
        self._pool.close()
        self._syncer.close()
        self._journals.close()
        self._disk.release()
        self._parent.close()
        self._consumer.close()
        self._memory.release()
        self._control.close()


def resident_bytes() -> int:
    """Bytes of memory of this process without shared memory; 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            _, resident, shared, *_ = (int(field) for field in file.read().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def main(boot: Mapping[str, Any], disk: Disk | None = None) -> None:
    """Run the writer process. Never returns."""
    assignment = Assignment(**{name: boot[name] for name in Assignment._fields})
    try:
        # Ctrl-C and a hang-up go to the whole terminal or job; the writer is to drain when the training process is gone.
        for name in ("SIGINT", "SIGHUP", "SIGPIPE"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        _lower_priority()
        _raise_descriptor_limit()
        slab = slabs.attach(boot["memory_fd"], boot["memory_size"])
        connection = socket.socket(fileno=boot["socket_fd"])
        writer = Writer(assignment, slab, connection, disk or Disk())
        signal.signal(signal.SIGTERM, lambda *_: writer.sync_soon())
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        streams = writer.run()
    except BaseException:  # noqa: BLE001 - another writer is started, and the traceback is in the run's folder
        _leave_traceback(assignment.run)
        os._exit(1)
    _make_copies(boot, assignment, streams)
    # Nothing is left to do, and the interpreter would take 30 ms to end, for which the training process waits.
    os._exit(0)


def _make_copies(boot: Mapping[str, Any], assignment: Assignment, streams: list[Stream]) -> None:
    """Make the columnar copies of a run that is complete and closed."""
    # From here on SIGTERM, or a copy that takes too long, may end the process: no data would be lost.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, COPY_LIMIT_S)
    with contextlib.suppress(Exception):  # the journals are complete, and readers can do without copies
        if boot["lock_fd"] >= 0:
            os.close(boot["lock_fd"])
        ColumnarCopies(assignment.columnar_rows, lambda _: None).finish(streams)


def run_on_thread(assignment: Assignment, slab: Slab, disk: Disk | None = None) -> None:
    """Run the writer on a thread of the training process."""
    try:
        Writer(assignment, slab, None, disk or Disk()).run()
    except Exception:  # noqa: BLE001 - the training process goes on, and the traceback is in the run's folder
        _leave_traceback(assignment.run)


def _lower_priority() -> None:
    """Let the training process go first where both want a processor."""
    with contextlib.suppress(OSError, AttributeError):  # the system has no such call, or does not permit it
        os.nice(NICENESS)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _raise_descriptor_limit() -> None:
    """Raise the limit of open files to the hard limit: the usual limit of a shell is far below it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _leave_traceback(run: str) -> None:
    """Write the present exception to the run's folder, since the writer has no terminal."""
    text = mask_text(traceback.format_exc())
    with contextlib.suppress(OSError):
        Disk(run).write_file(".writer-error.log", [f"{sys.version}\n{text}".encode("utf-8", "backslashreplace")])
