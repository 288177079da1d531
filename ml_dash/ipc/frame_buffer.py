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
from collections import defaultdict, deque
from collections.abc import Callable

from ml_dash.ipc.control import ASLEEP, FRAMES_OFFSET, Control, Word
from ml_dash.ipc.places import FREE, NEVER, Place, emptied, joined
from ml_dash.ipc.slab import Slab
from ml_dash.records.record import ALIGNMENT

CHUNK = 8 * 1024 * 1024
"""Memory is reserved in pieces of this size: the first within the first frame's call (about 1 ms), the rest beside it."""

PATIENT_FRAMES = 2
"""So many frames may wait for a writer that is asleep before one rings: a bell is a system call that wakes a process,
half as long as the copy of a frame, and a writer that is asleep looks by itself within ``IDLE_POLL_S``."""

_FIRST_NAP_S = 0.0002
_LONGEST_NAP_S = 0.002
_HEAD = int(Word.HEAD)
_TAIL = int(Word.TAIL)
_SLEEPING = int(Word.SLEEPING)
_WAITING = int(Word.WAITING)


_NONE: list[Place] = []
"""The free places of a size that no frame has had; always empty."""


class FrameBuffer:
    """Hands out places. Any thread may take one, and so may a signal handler inside a call of another one.

    Args:
        slab: the shared memory; frames lie behind ``FRAMES_OFFSET``.
        control: its control block.
        size: bytes asked for. ``size`` afterwards says what the machine could give, as far as is known.
        drop: True gives None when there is no room (policy ``drop``), False waits (policy ``block``).
        may_wait: asked while there is no room; False gives the frame up. It is given the seconds waited so far.
        ring_bell: called when a frame has to wait, when several wait for a writer that is asleep, and for every quarter
            of the buffer.
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
        self._free: defaultdict[int, list[Place]] = defaultdict(list)
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
        need = (nbytes + ALIGNMENT - 1) & -ALIGNMENT
        used, free, words = self._used, self._free, self._words
        old = place = None
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
                    place = free.get(need, _NONE).pop()
                    place.free_at = NEVER
                    used.append(place)
                except IndexError:  # there is none; or a signal handler has taken the last one
                    place = None
                if free is not self._free:
                    self._put_back(free)
            if place is None:
                place = self._take_new(nbytes, need)
                if place is None:
                    return None
            self._since_bell += need
            if (words[_SLEEPING] == ASLEEP and len(used) > PATIENT_FRAMES) or self._since_bell > self.size // 4:
                self._since_bell = 0
                self._ring_bell()
        except BaseException:  # a signal handler raised, as that of Ctrl-C does
            self._recover(old, place)
            raise
        return place

    def _take_new(self, nbytes: int, need: int) -> Place | None:
        """There is no free place of just that size."""
        if (self._grower is None or nbytes > self.size // 2) and not self.fits(nbytes):
            return None
        return self._try_take(need) or self._insist(nbytes, need)

    def _insist(self, nbytes: int, need: int) -> Place | None:
        """There is no room: wake the writer, and wait for it unless frames are dropped."""
        self._ring_bell()
        if self._drop:
            return self._try_take(need)
        self._words[_WAITING] = 1
        try:
            return self._wait(nbytes, need)
        finally:
            self._words[_WAITING] = 0

    def _wait(self, nbytes: int, need: int) -> Place | None:
        began, nap = time.monotonic(), _FIRST_NAP_S
        while self.fits(nbytes) and self._may_wait(time.monotonic() - began):
            time.sleep(nap)
            nap = min(nap * 2, _LONGEST_NAP_S)
            place = self._try_take(need)
            if place is not None:
                return place
        return self._try_take(need)

    def abandon(self, place: Place) -> None:
        """The caller gives a place up. What it has published for it nevertheless, if anything, is written out first."""
        with contextlib.suppress(ValueError):  # the memory was let go, and nobody takes a place any more
            place.free_at = self._words[_HEAD]

    def _recover(self, old: Place | None, place: Place | None) -> None:
        """An exception came in the middle of taking: what was in hand goes on waiting, and is released like all others.

        Args:
            old: the place that was looked at last. One that was about to be free may be so, and is left alone.
            place: the place that was to be given to the caller.
        """
        with self._lock:
            if place is not None:
                self.abandon(place)
            for found in (old, place):
                if found is not None and found.free_at != FREE and found not in self._used:
                    self._used.appendleft(found)

    def close(self) -> None:
        """End the reserving thread, and let go of what is kept. Idempotent."""
        self._closing = True
        self.forget_kept()
        if self._grower is not None and self._grower.is_alive():
            self._grower.join(5.0)

    def forget_kept(self) -> None:
        """Let go of what looks at the memory, so that it can be unmapped."""
        for place in [*self._used, *(place for places in list(self._free.values()) for place in places)]:
            place.kept = None

    # A signal handler may come in between any two calls below, and take a place itself. So what is looked at is first
    # taken out, by one call that nothing can divide, and put back if it is not wanted.

    def _try_take(self, need: int) -> Place | None:
        """A place of just that size, the one that was used last; else memory never used; else what can be joined."""
        place = None
        try:
            with self._lock:
                self._release()
                place = self._take_any(need)
                if place is not None:
                    place.free_at = NEVER
                    self._used.append(place)
        except BaseException:  # as in take; also when the lock is let go
            self._recover(None, place)
            raise
        return place

    def _take_any(self, need: int) -> Place | None:
        try:
            return self._free.get(need, _NONE).pop()
        except IndexError:
            start = self._advance(need)
            if start is None:
                start = self._join(need)
            return None if start is None else Place(start, need)

    def _release(self) -> None:
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

    def _put_back(self, left: dict[int, list[Place]]) -> None:
        """Save what was put into lists that a signal handler, which joined what was free, has replaced meanwhile."""
        while left is not self._free:
            now = self._free
            for place in emptied(left):
                now[place.size].append(place)
            left = now

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
        free, self._free = self._free, defaultdict(list)
        found = None
        for start, end in joined(emptied(free)):
            taken = need if found is None and end - start >= need else 0
            found = start if taken else found
            if end - start > taken:
                self._free[end - start - taken].append(Place(start + taken, end - start - taken))
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
