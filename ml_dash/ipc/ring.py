"""The record ring: one producing process, one consuming process, no lock between them.

The producer copies an entry and then stores the new head; that store is the acknowledgement. The consumer reads
entries up to the head and stores the tail only after their lines and files were written. Nothing else is shared, so a
process that is killed leaves nothing locked and nothing half done.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zlib import adler32

from ml_dash.ipc.control import RECORDS_OFFSET, RECORDS_SIZE, Control, Word
from ml_dash.ipc.slab import Slab
from ml_dash.records.record import ALIGNMENT, HEADER, Kind, Record, check, entry_size

MAX_PAYLOAD = RECORDS_SIZE // 8
"""Largest payload that goes through the ring; a larger one goes through a spill file in the same order."""

BELL_BYTES = 256 * 1024
"""Published bytes between two checks whether the writer keeps up."""

BELL_BACKLOG = RECORDS_SIZE // 4
"""Waiting bytes from which the doorbell rings. The writer polls by itself, and ringing is a system call that releases the
interpreter lock, which a busy thread may then keep for milliseconds."""

_FIRST_NAP_S = 0.0002
_LONGEST_NAP_S = 0.002

_MASK = RECORDS_SIZE - 1
_HEAD = int(Word.HEAD)
_TAIL = int(Word.TAIL)
_HEADER_SIZE = HEADER.size
_PAD = int(Kind.PAD)
_CLOSED_TAIL = -(1 << 63)
"""Tail of a closed ring: it looks full, so that ``push`` needs no check for it."""
_pack = HEADER.pack
_perf = time.perf_counter_ns

FULL, CLOSED, TOO_LARGE = "full", "closed", "too large"
"""Reasons why a record cannot go through the ring."""

OverflowHandler = Callable[[str, int, bytes, bytes, float, int], int]
"""Takes the reason and the arguments of ``push``, and returns a position, or 0 for a record that is given up."""


@dataclass(frozen=True, slots=True)
class WriterLink:
    """The training process's means to reach its writer, which the record ring and the frame buffer share.

    Attributes:
        slab: the shared memory.
        control: its control block.
        ring_bell: wakes the writer.
        may_wait: called again and again while there is no room; False ends the wait.
    """

    slab: Slab
    control: Control
    ring_bell: Callable[[], None]
    may_wait: Callable[[], bool]


class NoRoomError(Exception):
    """The ring is closed, or stayed full for too long. Caught in this module."""


class Producer:
    """The training process's end of the ring. Any thread may push, and so may a signal handler that interrupts a push.

    Attributes:
        published: number of records published.
        cost_ns: nanoseconds that calls took in all.

    Args:
        link: reaches the writer. Its bell rings after each ``BELL_BYTES`` published bytes while more than
            ``BELL_BACKLOG`` wait; a record is given up when it may not wait any longer.
        on_overflow: handles a record that cannot go through the ring; ``push`` returns its result.
    """

    def __init__(self, link: WriterLink, on_overflow: OverflowHandler) -> None:
        self._memory = memoryview(link.slab.memory)[RECORDS_OFFSET : RECORDS_OFFSET + RECORDS_SIZE]
        self._words = link.control.words
        self._ring_bell = link.ring_bell
        self._may_wait = link.may_wait
        self._on_overflow = on_overflow
        # Re-entrant: a signal handler or a finalizer may log while this thread is inside push.
        self._lock = threading.RLock()
        self._closed = False
        self._tail = 0
        self._next_bell = BELL_BYTES
        self.cost_ns = 0
        self.published = 0

    def push(self, kind: int, key: bytes, data: bytes, when: float, started_ns: int = 0, flags: int = 0) -> int:
        """Publish one record and return the position after it. When this returns, the record is safe.

        Args:
            kind: a ``Kind``.
            key: name of the stream, such as a metric's.
            data: the content; more than ``MAX_PAYLOAD`` bytes with the key go to the overflow handler.
            when: seconds since 1970 of the call, or a track row's timestamp.
            started_ns: ``perf_counter_ns`` when the user's call began, for ``cost_ns``; 0 to count no cost.
            flags: ``SPILLED`` or 0.
        """
        payload = key + data
        size = len(payload)
        if size > MAX_PAYLOAD:
            return self._on_overflow(TOO_LARGE, kind, key, data, when, started_ns)
        need = (_HEADER_SIZE + size + ALIGNMENT - 1) & -ALIGNMENT
        words, memory = self._words, self._memory
        try:
            with self._lock:
                while True:
                    head = words[_HEAD]
                    offset = head & _MASK
                    start = head if offset + need <= RECORDS_SIZE else head + RECORDS_SIZE - offset
                    end = start + need
                    if end - self._tail > RECORDS_SIZE:
                        self._wait_for(end - RECORDS_SIZE)
                        continue
                    entry_offset = start & _MASK
                    sequence = self.published
                    checksum = adler32(payload, start & 0xFFFFFFFF)
                    entry = _pack(start, sequence, when, size, checksum, len(key), kind, flags) + payload
                    target = slice(entry_offset, entry_offset + _HEADER_SIZE + size)
                    pad = None
                    if start != head:  # no room before the end of the memory: a pad entry says to go on at its start
                        pad = slice(offset, offset + _HEADER_SIZE), _pack(head, 0, 0.0, 0, 0, 0, _PAD, 0)
                    # If a signal handler pushed inside this push, the head has moved: try again. From this comparison
                    # to the last store nothing is called or allocated, so that neither a handler nor a finalizer can
                    # run in between.
                    if words[_HEAD] == head:
                        if pad is not None:
                            memory[pad[0]] = pad[1]
                        memory[target] = entry
                        self.published = sequence + 1
                        words[_HEAD] = end
                        break
                self.cost_ns += _perf() - started_ns if started_ns else 0
        except NoRoomError:
            return self._on_overflow(CLOSED if self._closed else FULL, kind, key, data, when, 0)
        except ValueError:  # a signal handler inside this push has closed the run, and the memory is released
            if not self._closed:
                raise
            return self._on_overflow(CLOSED, kind, key, data, when, 0)
        if end >= self._next_bell:
            self._next_bell = end + BELL_BYTES
            with contextlib.suppress(ValueError):  # another thread has closed the run, and the memory is released
                if end - words[_TAIL] > BELL_BACKLOG:
                    self._ring_bell()
        return end

    def add_cost(self, started_ns: int) -> None:
        """Count the time since ``started_ns``, of a call that published nothing."""
        with self._lock:
            self.cost_ns += _perf() - started_ns

    def push_last(self, kind: int, data: bytes, when: float) -> int:
        """Publish the last record and close: no push of another thread comes after it, each goes to the overflow handler."""
        with self._lock:
            end = self.push(kind, b"", data, when)
            self._closed = True
            self._tail = _CLOSED_TAIL
        return end

    def close(self) -> None:
        """Release the memory; a later push goes to the overflow handler. Idempotent."""
        with self._lock:
            self._closed = True
            self._tail = _CLOSED_TAIL
            self._memory.release()

    def disarm(self) -> None:
        """In a forked child: release the memory. Not under the lock, which another thread may have held at the fork."""
        self._memory.release()

    def _wait_for(self, tail: int) -> None:
        """Wait until the writer has moved the tail to ``tail``.

        Raises:
            NoRoomError: the ring is closed, or ``may_wait`` ended the wait.
        """
        if self._closed:
            raise NoRoomError
        self._tail = self._words[_TAIL]
        if self._tail >= tail:
            return
        self._ring_bell()
        nap = _FIRST_NAP_S
        while (current := self._words[_TAIL]) < tail:
            if not self._may_wait():
                raise NoRoomError
            time.sleep(nap)
            nap = min(nap * 2, _LONGEST_NAP_S)
        self._tail = current


class Consumer:
    """The writer's end of the ring: reads published records in order, and moves the tail.

    Attributes:
        position: of the entry that is read next.
    """

    def __init__(self, memory: memoryview, control: Control) -> None:
        self._memory = memory[RECORDS_OFFSET : RECORDS_OFFSET + RECORDS_SIZE]
        self._words = control.words
        self.position = self._words[_TAIL]

    def read(self, limit: int) -> Iterator[Record]:
        """Yield at most ``limit`` published records. Their memory is not freed: see ``free``."""
        head = self._words[_HEAD]
        while self.position < head and limit > 0:
            record = self._read_one(head)
            if record is None:  # the new head was seen before the entry's bytes, which arrive in a moment
                return
            self.position = record.end
            if record.kind != _PAD:
                limit -= 1
                yield record

    def free(self, end: int, records: int) -> None:
        """Move the tail to ``end``, which commits all records before it; ``records`` is their number since the start."""
        self._words[_TAIL] = end
        self._words[Word.APPLIED] = records

    def skip_damaged(self) -> int:
        """Move to the next valid entry, after a foreign write into the memory. Return the number of bytes skipped."""
        head, start = self._words[_HEAD], self.position
        while self.position < head and self._read_one(head) is None:
            self.position += ALIGNMENT
        return self.position - start

    def close(self) -> None:
        """Release the memory. Idempotent."""
        with contextlib.suppress(ValueError):
            self._memory.release()

    def _read_one(self, head: int) -> Record | None:
        """The entry at ``position``, or None if it is not valid."""
        offset = self.position & _MASK
        position, sequence, when, size, checksum, key_size, kind, flags = HEADER.unpack_from(self._memory, offset)
        if position != self.position:
            return None
        if kind == _PAD:
            end = position + RECORDS_SIZE - offset
            return Record(position, end, 0, 0.0, _PAD, b"", b"", 0)
        end = position + entry_size(size)
        if end > head or key_size > size:
            return None
        payload = bytes(self._memory[offset + _HEADER_SIZE : offset + _HEADER_SIZE + size])
        if check(payload, position) != checksum:
            return None
        return Record(position, end, sequence, when, kind, payload[:key_size], payload[key_size:], flags)
