"""Room for the pixels of frames that are on their way to the writer.

The training process alone keeps the books: a frame's record carries the offset of its pixels, and once the writer has
moved the record ring's tail past that record, the room is free again. So there is one commit for records and frames,
and a process that dies leaves nothing marked.

Memory that was used last is used first: a copy into memory that the caches still hold takes a third of the time of one
into memory that they do not, and a writer that keeps up needs two or three frames of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from ml_dash.ipc.control import ASLEEP, FRAMES_OFFSET, Control, Word
from ml_dash.ipc.slab import Slab
from ml_dash.records.record import ALIGNMENT

CHUNK = 8 * 1024 * 1024
"""Memory is reserved in pieces of this size: the first within the first frame's call (about 1 ms), the rest beside it."""

_FIRST_NAP_S = 0.0002
_LONGEST_NAP_S = 0.002
_NEVER = 1 << 63
_TAIL = int(Word.TAIL)
_SLEEPING = int(Word.SLEEPING)
_WAITING = int(Word.WAITING)


class Place:
    """Room for one frame. Exactly one of ``publish`` and ``abandon`` ends its use by the caller."""

    __slots__ = ("free_at", "offset", "size")

    def __init__(self, start: int, size: int) -> None:
        self.offset = FRAMES_OFFSET + start
        self.size = size
        self.free_at = _NEVER

    def publish(self, record_end: int) -> None:
        """The frame's record was published and ends at ``record_end``."""
        self.free_at = record_end

    def abandon(self) -> None:
        """No record was published; the room is free at once."""
        self.free_at = 0


class FrameBuffer:
    """Hands out places. Any thread may take one, and so may a signal handler inside a call of another one.

    Args:
        slab: the shared memory; frames lie behind ``FRAMES_OFFSET``.
        control: its control block.
        size: bytes asked for. ``size`` afterwards says what the machine could give, as far as is known.
        drop: True gives None when there is no room (policy ``drop``), False waits (policy ``block``).
        may_wait: asked while there is no room; False gives the frame up. It is given the seconds waited so far.
        ring_bell: called when a frame has to wait, when the writer is asleep, and for every quarter of the buffer.
    """

    def __init__(
        self,
        slab: Slab,
        control: Control,
        size: int,
        *,
        drop: bool,
        may_wait: Callable[[float], bool],
        ring_bell: Callable[[], None],
    ) -> None:
        self.size = size
        self._slab = slab
        self._words = control.words
        self._drop = drop
        self._may_wait = may_wait
        self._ring_bell = ring_bell
        self._lock = threading.RLock()
        self._used: deque[Place] = deque()
        self._free: dict[int, list[int]] = {}
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
            return sum(place.size for place in list(self._used))

    def fits(self, nbytes: int) -> bool:
        """Whether a frame of ``nbytes`` can ever go through; the first call reserves the first piece."""
        if self._grower is None:
            self._start()
        return nbytes <= self.size // 2

    def take(self, nbytes: int) -> Place | None:
        """A place for ``nbytes``, or None if the frame does not fit (see ``fits``) or is to be dropped."""
        if (self._grower is None or nbytes > self.size // 2) and not self.fits(nbytes):
            return None
        place = self._try_take(nbytes)
        if place is not None:
            return place
        self._ring_bell()
        if self._drop:
            return self._try_take(nbytes)
        self._words[_WAITING] = 1
        try:
            return self._wait(nbytes)
        finally:
            self._words[_WAITING] = 0

    def _wait(self, nbytes: int) -> Place | None:
        began, nap = time.monotonic(), _FIRST_NAP_S
        while self.fits(nbytes) and self._may_wait(time.monotonic() - began):
            time.sleep(nap)
            nap = min(nap * 2, _LONGEST_NAP_S)
            place = self._try_take(nbytes)
            if place is not None:
                return place
        return self._try_take(nbytes)

    def close(self) -> None:
        """End the reserving thread. Idempotent."""
        self._closing = True
        if self._grower is not None and self._grower.is_alive():
            self._grower.join(5.0)

    # A signal handler may come in between any two calls below, and take a place itself. So what is looked at is first
    # taken out, by one call that nothing can divide, and put back if it is not wanted.

    def _try_take(self, nbytes: int) -> Place | None:
        need = (nbytes + ALIGNMENT - 1) & -ALIGNMENT
        with self._lock:
            self._release()
            start = self._find(need)
            if start is None:
                return None
            place = Place(start, need)
            self._used.append(place)
        self._since_bell += need
        if self._words[_SLEEPING] == ASLEEP or self._since_bell > self.size // 4:
            self._since_bell = 0
            self._ring_bell()
        return place

    def _release(self) -> None:
        applied = self._words[_TAIL]
        while True:
            try:
                place = self._used.popleft()
            except IndexError:
                return
            if place.free_at > applied:
                self._used.appendleft(place)
                return
            self._give_back(place.offset - FRAMES_OFFSET, place.size)

    def _give_back(self, start: int, size: int) -> None:
        self._free.setdefault(size, []).append(start)

    def _find(self, need: int) -> int | None:
        """Where ``need`` bytes are free: a place of that size, else memory never used, else what can be joined."""
        same_size = self._free.get(need)
        if same_size:
            try:
                return same_size.pop()
            except IndexError:
                pass  # a signal handler has taken the last one
        start = self._advance(need)
        return start if start is not None else self._join(need)

    def _advance(self, need: int) -> int | None:
        while True:
            start = self._frontier
            end = start + need
            if end > self.size:
                return None
            if end > self._ready and not self._grow(end):
                continue  # the buffer has just shrunk to what the machine can give
            if self._frontier == start:
                self._frontier = end
                return start

    def _join(self, need: int) -> int | None:
        """Join free neighbours until ``need`` bytes are found: for frames of changing sizes."""
        free, self._free = self._free, {}
        found = None
        for start, end in _joined(free):
            taken = need if found is None and end - start >= need else 0
            found = start if taken else found
            if end - start > taken:
                self._give_back(start + taken, end - start - taken)
        return found

    def _start(self) -> None:
        with self._lock:
            if self._grower is not None:
                return
            self._grow(CHUNK)
            self._grower = threading.Thread(target=self._reserve_the_rest, name="ml_dash-reserve", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads are to be had: memory is reserved as it is needed
                self._grower.start()

    def _reserve_the_rest(self) -> None:
        self._slab.populate(FRAMES_OFFSET, self._ready)
        while not self._closing and self._ready < self.size:
            before = self._ready
            self._grow(before + CHUNK)
            self._slab.populate(FRAMES_OFFSET + before, self._ready - before)

    def _grow(self, wanted: int) -> bool:
        """Reserve up to ``wanted`` bytes at least. False if the machine has no more: the buffer ends where it is."""
        with self._lock:
            while self._ready < min(wanted, self.size):
                length = min(CHUNK, self.size - self._ready)
                if not self._slab.reserve(FRAMES_OFFSET + self._ready, length):
                    self.size = self._ready
                    return False
                self._ready += length
            return True


def _joined(free: dict[int, list[int]]) -> list[tuple[int, int]]:
    """Free places by their start, neighbours as one; each as where it starts and where it ends."""
    joined: list[tuple[int, int]] = []
    for start, size in sorted((start, size) for size, starts in free.items() for start in starts):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], start + size)
        else:
            joined.append((start, start + size))
    return joined
