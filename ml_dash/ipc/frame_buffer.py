"""Shared memory for the pixels of frames that wait for the writer.

The training process alone keeps the books: a frame's record carries the offset of its pixels, and once the writer has
moved the record ring's tail past that record, the slot is free again. So there is one commit for records and frames,
and a process that dies leaves nothing marked.

Memory that was used last is used first: a copy into memory that the caches still hold takes a third of the time of one
into memory that they do not, and a writer that keeps up needs two or three slots.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
import time
from collections import defaultdict, deque
from typing import Any

import numpy as np

from ml_dash.ipc.control import ASLEEP, FRAMES_OFFSET, Word
from ml_dash.ipc.frame_format import FrameFormat
from ml_dash.ipc.ring import WriterLink
from ml_dash.records.record import ALIGNMENT

CHUNK = 8 * 1024 * 1024
"""Memory is reserved in pieces of this size: the first within the first frame's call (about 1 ms), the rest beside it."""

PATIENT_FRAMES = 2
"""Frames that may wait for a writer that is asleep before the doorbell rings. The bell is a system call that wakes a
process and takes half as long as the copy of a frame; a writer that is asleep looks by itself within ``IDLE_POLL_S``."""

IN_USE = 1 << 63
"""``free_at`` of a slot whose frame is not published yet."""

FREE = -1
"""``free_at`` of a slot that is on a free list, or about to be."""

_FIRST_NAP_S = 0.0002
_LONGEST_NAP_S = 0.002
_HEAD = int(Word.HEAD)
_TAIL = int(Word.TAIL)
_SLEEPING = int(Word.SLEEPING)
_WAITING = int(Word.WAITING)


class Slot:
    """Room for one frame. Who took it sets ``free_at`` once the frame is published, or calls ``FrameBuffer.abandon``.

    Attributes:
        offset: where it begins in the shared memory.
        size: its bytes.
        free_at: the position of the record ring's tail from which on it is free.
        prepared: the format of its last frame; for that format, the target of the copy and the end of the record's data.
    """

    __slots__ = ("free_at", "offset", "prepared", "size")

    def __init__(self, start: int, size: int) -> None:
        self.offset = FRAMES_OFFSET + start
        self.size = size
        self.free_at = IN_USE
        self.prepared: tuple[FrameFormat, Any, bytes] | None = None

    def prepare(
        self, frame_format: FrameFormat, pixels: np.ndarray[Any, Any], memory: mmap.mmap
    ) -> tuple[FrameFormat, Any, bytes]:
        """Set and return ``prepared`` for frames like ``pixels``."""
        target = frame_format.target(pixels, memory, self.offset)
        self.prepared = frame_format, target, frame_format.record_head + b'"offset":%d}}' % self.offset
        return self.prepared


_NO_SLOTS: list[Slot] = []
"""The free slots of a size that no frame has had; always empty."""


class FrameBuffer:
    """Hands out slots. Any thread may call it, and so may a signal handler that interrupts a call.

    Args:
        link: reaches the writer. Its bell rings when a frame has to wait, when several wait for a writer that is asleep,
            and for every quarter of the buffer.
        size: bytes wanted. The attribute ``size`` becomes smaller if the machine turns out to have less.
        drop: what ``take`` does when there is no room: True returns None (policy ``drop``), False waits (``block``).
    """

    def __init__(self, link: WriterLink, size: int, *, drop: bool) -> None:
        self.size = size
        self._slab = link.slab
        self._words = link.control.words
        self._may_wait = link.may_wait
        self._ring_bell = link.ring_bell
        self._drop = drop
        self._lock = threading.RLock()
        self._used: deque[Slot] = deque()
        self._free: defaultdict[int, list[Slot]] = defaultdict(list)
        self._frontier = 0
        self._ready = 0
        self._since_bell = 0
        self._grower: threading.Thread | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Bytes in use by frames that are not on disk yet."""
        with self._lock:
            self._release()
            return sum(slot.size for slot in list(self._used))

    def fits(self, nbytes: int) -> bool:
        """Whether the buffer is large enough for a frame of ``nbytes``. The first call reserves the first chunk."""
        if self._grower is None:
            self._start()
        return nbytes <= self.size // 2

    def take(self, nbytes: int) -> Slot | None:
        """Return a slot for ``nbytes``, or None if the frame does not fit (see ``fits``) or is to be dropped."""
        need = (nbytes + ALIGNMENT - 1) & -ALIGNMENT
        used, free, words = self._used, self._free, self._words
        old = slot = None
        try:
            with self._lock:  # as in _try_take, for what nearly every frame gets, without another call
                applied = words[_TAIL]
                try:
                    while used:
                        old = used.popleft()
                        if old.free_at > applied:
                            used.appendleft(old)
                            break
                        old.free_at = FREE
                        free[old.size].append(old)
                    slot = free.get(need, _NO_SLOTS).pop()
                    slot.free_at = IN_USE
                    used.append(slot)
                except IndexError:  # there is none; or a signal handler has taken the last one
                    slot = None
                if free is not self._free:
                    self._put_back(free)
            if slot is None:
                slot = self._take_new(nbytes, need)
                if slot is None:
                    return None
            self._since_bell += need
            if (words[_SLEEPING] == ASLEEP and len(used) > PATIENT_FRAMES) or self._since_bell > self.size // 4:
                self._since_bell = 0
                self._ring_bell()
        except BaseException:  # a signal handler raised, as that of Ctrl-C does
            self._recover(old, slot)
            raise
        return slot

    def _take_new(self, nbytes: int, need: int) -> Slot | None:
        """Take a slot where no free one has just that size; wait for the writer unless frames are dropped."""
        if (self._grower is None or nbytes > self.size // 2) and not self.fits(nbytes):
            return None
        slot = self._try_take(need)
        if slot is not None:
            return slot
        self._ring_bell()
        if self._drop:
            return self._try_take(need)
        self._words[_WAITING] = 1
        try:
            nap = _FIRST_NAP_S
            while self.fits(nbytes) and self._may_wait():
                time.sleep(nap)
                nap = min(nap * 2, _LONGEST_NAP_S)
                slot = self._try_take(need)
                if slot is not None:
                    return slot
            return self._try_take(need)
        finally:
            self._words[_WAITING] = 0

    def abandon(self, slot: Slot) -> None:
        """Give a slot back without a frame. It is free once everything published so far is written.

        The caller may have published a record for it before it was interrupted.
        """
        with contextlib.suppress(ValueError):  # the memory is unmapped, and no slot is taken any more
            slot.free_at = self._words[_HEAD]

    def _recover(self, old: Slot | None, slot: Slot | None) -> None:
        """Put slots back that an exception in the middle of ``take`` left on no list; they are released later.

        Args:
            old: the used slot that was looked at last. If it was about to be free, it may be on a free list already.
            slot: the slot that was to be returned.
        """
        with self._lock:
            if slot is not None:
                self.abandon(slot)
            for lost in (old, slot):
                if lost is not None and lost.free_at != FREE and lost not in self._used:
                    self._used.appendleft(lost)

    def close(self) -> None:
        """End the thread that reserves memory, and release all views. Idempotent."""
        self._closing = True
        self.release_views()
        if self._grower is not None and self._grower.is_alive():
            self._grower.join(5.0)

    def release_views(self) -> None:
        """Drop the arrays over the memory, so that it can be unmapped."""
        for slot in [*self._used, *(slot for slots in list(self._free.values()) for slot in slots)]:
            slot.prepared = None

    # A signal handler may run between any two calls below, and take a slot itself. So each slot is first removed from its
    # list, by one call that cannot be interrupted, and put back if it is not used.

    def _try_take(self, need: int) -> Slot | None:
        """Take the free slot of that size that was used last; else memory never used; else joined free memory."""
        slot = None
        try:
            with self._lock:
                self._release()
                try:
                    slot = self._free.get(need, _NO_SLOTS).pop()
                except IndexError:
                    start = self._advance(need)
                    if start is None:
                        start = self._join(need)
                    slot = None if start is None else Slot(start, need)
                if slot is not None:
                    slot.free_at = IN_USE
                    self._used.append(slot)
        except BaseException:  # as in take; also while the lock is released
            self._recover(None, slot)
            raise
        return slot

    def _release(self) -> None:
        """Move the slots whose frames are written from the used ones to the free ones."""
        applied, used, free = self._words[_TAIL], self._used, self._free
        old = None
        try:
            while used:
                old = used.popleft()
                if old.free_at > applied:
                    used.appendleft(old)
                    break
                old.free_at = FREE
                free[old.size].append(old)
        except IndexError:  # a signal handler has released the last one
            pass
        except BaseException:  # as in take
            self._recover(old, None)
            raise
        if free is not self._free:
            self._put_back(free)

    def _put_back(self, left: dict[int, list[Slot]]) -> None:
        """Move slots out of lists that are no longer ``self._free``: a signal handler joined free memory meanwhile."""
        while left is not self._free:
            now = self._free
            for slot in _take_all(left):
                now[slot.size].append(slot)
            left = now

    def _advance(self, need: int) -> int | None:
        """Return the start of ``need`` bytes that no slot had before, or None if the buffer is used up."""
        while True:
            start = self._frontier
            end = start + need
            if end > self.size:
                return None
            if end > self._ready and not self._grow(end):
                continue  # the buffer has just become smaller
            if self._frontier == start:
                self._frontier = end
                return start

    def _join(self, need: int) -> int | None:
        """Join neighbouring free slots, for frames of changing sizes. Return the start of ``need`` bytes, or None."""
        free, self._free = self._free, defaultdict(list)
        first_fit = None
        for start, end in _joined(_take_all(free)):
            taken = need if first_fit is None and end - start >= need else 0
            first_fit = start if taken else first_fit
            if end - start > taken:
                self._free[end - start - taken].append(Slot(start + taken, end - start - taken))
        return first_fit

    def _start(self) -> None:
        with self._lock:
            if self._grower is not None:
                return
            self._grow(CHUNK)
            self._grower = threading.Thread(target=self._reserve_the_rest, name="ml_dash-reserve", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be started: memory is reserved when it is needed
                self._grower.start()

    def _reserve_the_rest(self) -> None:
        self._slab.populate(FRAMES_OFFSET, self._ready)
        while not self._closing and self._ready < self.size:
            before = self._ready
            self._grow(before + CHUNK)
            self._slab.populate(FRAMES_OFFSET + before, self._ready - before)

    def _grow(self, wanted: int) -> bool:
        """Reserve at least the first ``wanted`` bytes. False if the machine has no more: the buffer then ends there."""
        with self._lock:
            while self._ready < min(wanted, self.size):
                length = min(CHUNK, self.size - self._ready)
                if not self._slab.reserve(FRAMES_OFFSET + self._ready, length):
                    self.size = self._ready
                    return False
                self._ready += length
            return True


def _take_all(free: dict[int, list[Slot]]) -> list[Slot]:
    """All slots of the lists, which are left empty: a call that is being interrupted may have one of the lists in hand."""
    slots = []
    for same_size in list(free.values()):
        with contextlib.suppress(IndexError):  # a signal handler has taken the last one
            while same_size:
                slots.append(same_size.pop())
    return slots


def _joined(free: list[Slot]) -> list[tuple[int, int]]:
    """The start and end of each range of free memory, in order; neighbouring slots make one range."""
    ranges: list[tuple[int, int]] = []
    for start, size in sorted((slot.offset - FRAMES_OFFSET, slot.size) for slot in free):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], start + size)
        else:
            ranges.append((start, start + size))
    return ranges
