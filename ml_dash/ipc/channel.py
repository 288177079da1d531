"""The training process's side of a run: publish records and frames, flush, close, report health."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from ml_dash._json import json, orjson
from ml_dash._progress import ProgressLine
from ml_dash.errors import ExperimentError
from ml_dash.ipc import slab as slabs
from ml_dash.ipc import spill_file
from ml_dash.ipc.control import ENDING_SIZE, Control, State, Word
from ml_dash.ipc.frame_buffer import FrameBuffer
from ml_dash.ipc.frame_format import FrameFormat
from ml_dash.ipc.launch import Assignment
from ml_dash.ipc.ring import CLOSED, FULL, Producer, WriterLink
from ml_dash.ipc.supervisor import Supervisor
from ml_dash.media.frames import copy_into, copy_to
from ml_dash.records.record import SPILLED, Kind
from ml_dash.settings import BufferConfig
from ml_dash.snowflake import file_id
from ml_dash.storage import layout

_FIRST_NAP_S = 0.0002
_LONGEST_NAP_S = 0.005


class Channel:
    """An experiment's connection to its writer. Every method may be called from any thread.

    Attributes:
        writer_id: empty for the run's first writer, else part of the names of its files.
        publish: publishes a record; see ``Producer.push``.
        add_cost: counts the time of a call that published nothing; see ``Producer.add_cost``.

    Args:
        run: absolute path of the run's directory, which exists.
        writer_id: see above.
        config: sizes, policies and deadlines.
        lock_fd: descriptor of the run's locked file, or -1.
        warn: called with a line of text for the user, which is to be shown once.
    """

    def __init__(
        self, run: str, writer_id: str, config: BufferConfig, lock_fd: int, warn: Callable[[str], None]
    ) -> None:
        self.writer_id = writer_id
        self._run = run
        self._config = config
        self._warn = warn
        self._opened_ns = time.perf_counter_ns()
        frame_bytes = config.frame_buffer_mb * 1024 * 1024
        try:
            self._slab = slabs.create(frame_bytes)
        except slabs.NoSharedMemoryError:
            self._slab = slabs.private(frame_bytes)
        self._memory = self._slab.memory
        self._control = Control(self._slab.memory)
        self._words = self._control.words
        assignment = Assignment.of(run, writer_id, config)
        self._supervisor = Supervisor(assignment, self._slab, self._control, lock_fd, self._report)
        link = WriterLink(self._slab, self._control, self._supervisor.ring_bell, self._may_wait)
        self._producer = Producer(link, self._on_overflow)
        self._frames = FrameBuffer(link, frame_bytes, drop=config.frame_policy == "drop")
        # An attribute and not a method: this is the path of every call, and one call less is a tenth of it.
        self.publish = self._producer.push
        self.add_cost = self._producer.add_cost
        self._stall_timeout = config.stall_timeout
        self._stalled_tail = -1
        self._stalled_since = self._refusing_since = 0.0
        self._seen_errors = 0
        self._spills = itertools.count()
        self._closed = threading.Lock()

    def start(self) -> None:
        """Start the writer, and return at once."""
        self._supervisor.start()

    def publish_frame(
        self,
        kind: int,
        key: bytes,
        about: bytes,
        pixels: Any,
        frame_format: FrameFormat,
        when: float,
        started_ns: int,
    ) -> bool:
        """Copy a frame's pixels into shared memory and publish its record. False if the frame was dropped (counted).

        Args:
            kind: ``IMAGE`` or ``FRAME``.
            key: the record's key.
            about: the start of the record's data: a JSON object up to where a member can be added.
            pixels: an array that matches ``frame_format``.
            frame_format: its format.
            when: seconds since 1970.
            started_ns: ``perf_counter_ns`` when the user's call began.
        """
        frames = self._frames
        slot = None
        try:
            slot = frames.take(frame_format.spec.nbytes)
            if slot is None:
                if not frames.fits(frame_format.spec.nbytes):
                    return self._publish_frame_by_file(kind, key, about, pixels, frame_format, when, started_ns)
                self._count_dropped_frame(started_ns)
                return False
            prepared = slot.prepared
            if prepared is None or prepared[0] is not frame_format:
                prepared = slot.prepare(frame_format, pixels, self._memory)
            _, target, record_end = prepared
            if frame_format.is_byte_copy:
                self._memory[target] = pixels
            else:
                copy_to(pixels, target)
            end = slot.free_at = self.publish(kind, key, about + record_end, when, started_ns)
        except BaseException as error:
            if slot is not None:
                frames.abandon(slot)
            if isinstance(error, ValueError):  # another thread has closed the run meanwhile, and the memory is unmapped
                self.require_open()
            raise
        return bool(end)

    def _count_dropped_frame(self, started_ns: int) -> None:
        self._words[Word.DROPPED] += 1
        if self._config.frame_policy == "block":
            self._warn("the writer makes no progress and the frame buffer is full: frames are dropped and counted")
        self.add_cost(started_ns)

    def _publish_frame_by_file(
        self,
        kind: int,
        key: bytes,
        about: bytes,
        pixels: Any,
        frame_format: FrameFormat,
        when: float,
        started_ns: int,
    ) -> bool:
        """Publish a frame that is larger than the frame buffer takes through a file beside the run."""
        name = f"{layout.SPILL}/{spill_file.prefix(self.writer_id)}{file_id()}.raw"
        path = os.path.join(self._run, name)
        nbytes = frame_format.spec.nbytes
        try:
            spill_file.make_file(self._run, path)
            # Not into a mapping of the file: a full disk would kill the process with SIGBUS instead of raising.
            with mmap.mmap(-1, nbytes) as memory, open(path, "wb") as file:
                copy_into(pixels, memory, 0)
                file.write(memory)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(path)
            self.refuse(f"a frame of {nbytes} bytes was given up: {error}")
            return False
        data = about + frame_format.record_head + b'"raw":' + orjson.dumps(name) + b"}}"
        return bool(self.publish(kind, key, data, when, started_ns))

    def require_open(self) -> None:
        """Raise ``ExperimentError`` if the experiment was closed."""
        if self.closed:
            raise ExperimentError("the experiment was closed; open it again to log to it or read from it")

    def refuse(self, text: str) -> None:
        """Count a record that is given up, and warn with the text."""
        self._words[Word.TRAINER_REFUSED] += 1
        self._warn(text)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything published so far is written to files. False if that did not happen in time.

        Args:
            timeout: seconds. None waits until the writer makes no progress for ``stall_timeout`` seconds
                (``fault_timeout`` while the disk refuses to write).
        """
        target = self._words[Word.HEAD]
        return self._wait(lambda: self._words[Word.TAIL] >= target, timeout)

    def end(self, status: str, reason: str | None) -> bool:
        """Publish the end of the run, wait for the writer to finish, and release everything. Idempotent.

        Returns:
            Whether everything is written. If not, the writer process goes on by itself.
        """
        if not self._closed.acquire(blocking=False):
            return True
        self._supervisor.expect_end()
        data = json.dumps({"status": status, "status_reason": reason}).encode(
            "ascii"
        )  # json also takes text that is not valid UTF-8
        if not self._producer.push_last(Kind.CLOSE, data, time.time()):
            self._words[Word.TRAINER_REFUSED] -= 1  # it was no record of the user's, and is sent in another way
            self._control.set_ending(data if len(data) <= ENDING_SIZE else orjson.dumps({"status": status}))
        self._stall_timeout, self._stalled_tail = self._config.close_timeout, -1
        interrupted = False
        try:
            with ProgressLine(self._describe_waiting) as progress:
                drained = self._wait(lambda: self._words[Word.STATE] == State.FINISHED, None, progress)
        except KeyboardInterrupt:  # the user does not wait any longer; the writer goes on
            drained, interrupted = False, True
        self._close(drained)
        if interrupted:
            raise KeyboardInterrupt
        return drained

    def _close(self, drained: bool) -> None:
        waiting = self._control.waiting + self._frames.waiting
        self._frames.close()
        self._producer.close()
        if not drained:
            error = self._control.error()
            self._warn(
                f"{waiting / 1e6:.1f} MB are not on disk yet; the writer goes on after this process"
                + (f". Last error: {error}" if error else "")
            )
        self._report()
        self._last_health = self.health()
        ended = self._supervisor.end(drained=drained)
        if ended or not self._supervisor.on_thread:
            self._words = memoryview(bytearray(4096)).cast("Q")
            self._control.close()
        self._slab.close()

    def disarm(self) -> None:
        """In a forked child: release what belongs to the parent, without effect on the parent."""
        self._supervisor.disarm()
        self._producer.disarm()
        self._frames.release_views()
        self._control.close()
        self._slab.disarm()
        self._closed = threading.Lock()
        self._closed.acquire()

    @property
    def closed(self) -> bool:
        """Whether ``end`` was called."""
        return self._closed.locked()

    def health(self) -> dict[str, object]:
        """Counters of both sides; see ``Experiment.health``."""
        if self.closed and hasattr(self, "_last_health"):
            return self._last_health
        words = self._words
        elapsed = max(1, time.perf_counter_ns() - self._opened_ns)
        return {
            "published": self._producer.published,
            "applied": words[Word.APPLIED],
            "bytes_waiting": self._control.waiting + self._frames.waiting,
            "frames_written": words[Word.FRAMES_WRITTEN],
            "frames_dropped": words[Word.DROPPED],
            "records_refused": words[Word.REFUSED] + words[Word.TRAINER_REFUSED],
            "errors": words[Word.ERRORS],
            "last_error": self._control.error(),
            "writer_pid": words[Word.WRITER_PID],
            "writer_restarts": self._supervisor.restarts,
            "writer_memory": words[Word.MEMORY],
            "writer_on_thread": self._supervisor.on_thread,
            "shared_memory": self._slab.kind,
            "frame_buffer_bytes": self._frames.size,
            "calls": self._producer.published,
            "cost_seconds": self._producer.cost_ns / 1e9,
            "cost_share": self._producer.cost_ns / elapsed,
        }

    def _on_overflow(self, why: str, kind: int, key: bytes, data: bytes, when: float, started_ns: int) -> int:
        """Handle a record that cannot go through the ring. Returns its position, or 0 if it was given up."""
        if why == CLOSED:
            raise ExperimentError("the experiment was closed; open it again to log to it or read from it")
        if why == FULL:
            self.refuse(
                "the writer makes no progress and its buffer is full: records are being given up and counted "
                f"(see exp.health()); last error: {self._control.error() or 'none'}"
            )
            return 0
        return self._publish_by_file(kind, key, data, when, started_ns)

    def _publish_by_file(self, kind: int, key: bytes, data: bytes, when: float, started_ns: int) -> int:
        name = f"{layout.SPILL}/{spill_file.prefix(self.writer_id)}{os.getpid()}-{time.time_ns()}-{next(self._spills)}"
        path = os.path.join(self._run, name)
        try:
            spill_file.make_file(self._run, path)
            with open(path, "wb") as file:
                file.write(key)
                file.write(data)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(path)
            self.refuse(f"a record of {len(data)} bytes was given up: {error}")
            return 0
        note = len(key).to_bytes(8, "little") + os.fsencode(name)
        return self._producer.push(kind, b"", note, when, started_ns, SPILLED)

    def _may_wait(self) -> bool:
        """Whether to wait for the writer: while it makes progress, and for a while after its last progress."""
        tail = self._words[Word.TAIL]
        now = time.monotonic()
        if tail != self._stalled_tail:
            self._stalled_tail = tail
            self._stalled_since = self._refusing_since = now
        if not self._words[Word.FAULT]:
            self._refusing_since = now
        return (
            now - self._stalled_since < self._stall_timeout and now - self._refusing_since < self._config.fault_timeout
        )

    def _wait(self, done: Callable[[], bool], timeout: float | None, progress: ProgressLine | None = None) -> bool:
        if done():
            return True
        self._supervisor.ring_bell()
        began, nap = time.monotonic(), _FIRST_NAP_S
        while not done():
            if not self._may_wait() or (timeout is not None and time.monotonic() - began >= timeout):
                return done()
            if progress is not None:
                progress.update()
            time.sleep(nap)
            nap = min(nap * 2, _LONGEST_NAP_S)
            if nap == _LONGEST_NAP_S:
                self._supervisor.ring_bell()
        self._stalled_tail = -1  # the tail of an idle run does not move either: the next wait counts from its own start
        return True

    def _describe_waiting(self) -> str:
        return f"ml_dash: writing, {(self._control.waiting + self._frames.waiting) / 1e6:.1f} MB to go"

    def _report(self) -> None:
        errors = self._words[Word.ERRORS]
        if errors > self._seen_errors:
            self._seen_errors = errors
            self._warn(f"{self._control.error()} (training goes on; see exp.health())")
