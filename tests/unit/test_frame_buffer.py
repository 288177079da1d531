from __future__ import annotations

import itertools
import mmap
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_dash.ipc import slab as slabs
from ml_dash.ipc.control import FRAMES_OFFSET, Control, Word
from ml_dash.ipc.frame_buffer import CHUNK, FrameBuffer
from ml_dash.ipc.ring import WriterLink
from ml_dash.records.record import ALIGNMENT
from tests.support import at_each_call_inside, wait_until

MIB = 1 << 20


class LimitedSlab:
    """Memory of a machine that runs out of it after `limit` bytes of frames."""

    def __init__(self, size, limit):
        self.memory = mmap.mmap(-1, FRAMES_OFFSET + size)
        self.limit = FRAMES_OFFSET + limit
        self.reserved = []

    def reserve(self, offset, length):
        self.reserved.append((offset, length))
        return offset + length <= self.limit

    def populate(self, offset, length):
        slabs.populate_pages(self.memory, offset, length)


class Rig:
    """A frame ring with the counters of its record ring set by hand."""

    def __init__(self, size=16 * MIB, *, limit=None, drop=True, patient=False):
        self.slab = LimitedSlab(size, size if limit is None else limit)
        self.control = Control(self.slab.memory)
        self.bells = 0
        self.waits = 0
        self.patient = patient
        self.ring = FrameBuffer(WriterLink(self.slab, self.control, self.ring_bell, self.may_wait), size, drop=drop)
        self.published = 0

    def may_wait(self):
        self.waits += 1
        return self.patient

    def ring_bell(self):
        self.bells += 1

    def take(self, nbytes):
        """A slot whose frame is published; None if there is no room."""
        slot = self.ring.take(nbytes)
        if slot is not None:
            self.published += ALIGNMENT
            slot.free_at = self.published
        return slot

    def apply(self, records):
        """The writer has written out that many more records."""
        self.control.words[Word.TAIL] += records * ALIGNMENT


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.ring.close()


def test_slots_are_aligned_and_adjacent(rig):
    first, second = rig.take(100), rig.take(ALIGNMENT)

    assert FRAMES_OFFSET == first.offset
    assert FRAMES_OFFSET + 2 * ALIGNMENT == second.offset
    assert 3 * ALIGNMENT == rig.ring.waiting


def test_a_writer_that_keeps_up_keeps_using_the_same_memory(rig):
    """What was just read is still in the caches."""
    offsets = set()
    for _ in range(10):
        offsets.add(rig.take(MIB).offset)
        rig.apply(1)

    assert {FRAMES_OFFSET} == offsets
    assert 0 == rig.ring.waiting


PIECE = MIB // 8


def with_free_slots():
    """A ring all of whose memory lies free in eight pieces."""
    rig = Rig(MIB)
    for slot in [rig.ring.take(PIECE) for _ in range(8)]:
        rig.ring.abandon(slot)
    return rig


def test_a_signal_handler_inside_a_take_never_gets_the_same_memory():
    """What it takes is made of pieces that the interrupted call may be about to take."""
    rigs, nested = [], []

    def take_twice():
        rigs.append(with_free_slots())
        nested.clear()
        taken = [rigs[-1].ring.take(PIECE), rigs[-1].ring.take(PIECE)]
        rigs[-1].ring.close()
        return [slot for slot in [*taken, *nested] if slot is not None]

    def handler():
        if rigs:
            nested.append(rigs[-1].ring.take(MIB // 2))

    count = 0
    for slots in at_each_call_inside(take_twice, handler):
        spans = sorted((slot.offset, slot.offset + slot.size) for slot in slots)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        count += len(slots) == 3
    assert count > 10


class HandlerError(BaseException):
    """What a signal handler raises, as that of Ctrl-C does."""


def test_a_signal_handler_that_raises_inside_a_take_leaves_nothing_behind():
    """A slot that nobody ends would keep all later ones from being released."""
    interrupted = []

    def raise_there():
        raise HandlerError

    def take_and_give_back():
        rig, slot = with_free_slots(), None
        try:
            slot = rig.ring.take(PIECE)
        except HandlerError:
            interrupted.append(True)
        if slot is not None:
            rig.ring.abandon(slot)
        waiting = rig.ring.waiting
        rig.ring.close()
        return waiting

    def only_in_take():
        frame = sys._getframe()
        while frame is not None and frame.f_code is not FrameBuffer.take.__code__:
            frame = frame.f_back
        if frame is not None and frame.f_back.f_code is take_and_give_back.__code__:
            raise_there()

    for waiting in at_each_call_inside(take_and_give_back, only_in_take):
        assert 0 == waiting
    assert len(interrupted) > 5


def test_a_frame_of_more_than_half_the_ring_does_not_fit(rig):
    assert rig.ring.fits(8 * MIB)
    assert not rig.ring.fits(8 * MIB + 1)


def test_the_policy_drop_gives_nothing_and_does_not_wait(rig):
    assert 4 == sum(rig.take(4 * MIB) is not None for _ in range(9))
    assert 0 == rig.waits
    assert rig.bells > 0


def test_the_policy_block_waits_until_the_writer_moves():
    rig = Rig(drop=False, patient=True)
    for _ in range(4):
        rig.take(4 * MIB)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(rig.take(4 * MIB)))
    thread.start()
    wait_until(lambda: rig.waits > 3, message="it waits")
    before = list(taken)
    rig.apply(1)
    thread.join()
    rig.ring.close()

    assert [] == before
    assert [FRAMES_OFFSET] == [slot.offset for slot in taken]


def test_the_policy_block_gives_up_when_it_may_not_wait():
    rig = Rig(drop=False)
    for _ in range(4):
        rig.take(4 * MIB)

    assert rig.take(4 * MIB) is None
    assert 1 == rig.waits


def test_an_abandoned_slot_is_free_at_once(rig):
    rig.ring.abandon(rig.ring.take(MIB))

    assert 0 == rig.ring.waiting
    assert FRAMES_OFFSET == rig.take(MIB).offset


def test_a_slot_that_is_not_published_yet_is_never_given_again(rig):
    slow = rig.ring.take(8 * MIB)
    rig.apply(1000)

    assert rig.take(4 * MIB).offset > slow.offset
    assert rig.take(8 * MIB) is None


def test_memory_is_reserved_before_it_is_given(rig):
    assert rig.ring.fits(1)
    for _ in range(4):
        slot = rig.take(4 * MIB)
        reserved = max(offset + length for offset, length in rig.slab.reserved)

        assert slot.offset + 4 * MIB <= reserved


def test_a_small_machine_makes_a_small_ring():
    rig = Rig(64 * MIB, limit=2 * CHUNK)
    assert rig.ring.fits(MIB)
    wait_until(lambda: rig.ring.size == 2 * CHUNK, message="the ring has found its end")
    taken = [rig.take(4 * MIB) for _ in range(9)]
    rig.ring.close()

    assert [0, 4, 8, 12] == [(slot.offset - FRAMES_OFFSET) // MIB for slot in taken if slot]
    assert not rig.ring.fits(CHUNK + 1)


def test_a_frame_that_no_longer_fits_a_small_machine_does_not_wait():
    rig = Rig(64 * MIB, limit=CHUNK, drop=False, patient=True)
    assert rig.take(20 * MIB) is None
    assert not rig.ring.fits(20 * MIB)
    rig.ring.close()


def test_a_machine_without_any_memory_takes_no_frame():
    rig = Rig(64 * MIB, limit=0)

    assert not rig.ring.fits(1)
    rig.ring.close()


def test_a_take_inside_a_take_gets_a_slot_of_its_own():
    """A signal handler that saves a frame runs wherever a call of C code has returned."""
    for n in itertools.count():
        rig = Rig()
        rig.ring.fits(1)
        outer_first = rig.take(1000)
        inner, left = [], [n]

        def profile(frame, event, arg, rig=rig, inner=inner, left=left):
            if event not in ("call", "c_return") or arg is sys.setprofile:
                return
            left[0] -= 1
            if left[0] == -1:
                sys.setprofile(None)
                inner.append(rig.ring.take(500))

        sys.setprofile(profile)
        try:
            outer = rig.ring.take(2000)
        finally:
            sys.setprofile(None)
        rig.ring.close()
        if not inner:
            break
        spans = sorted((slot.offset, slot.offset + slot.size) for slot in (outer_first, outer, inner[0]))

        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert n > 5


def test_threads_never_share_a_slot():
    rig = Rig()
    slots = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(rig.ring.take(1000) for _ in range(200)))
        for mine in slots
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.ring.close()
    spans = sorted((slot.offset, slot.offset + slot.size) for mine in slots for slot in mine)

    assert 1600 == len(spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 2 * MIB)),
        st.tuples(st.just("abandon"), st.integers(1, 2 * MIB)),
        st.tuples(st.just("apply"), st.integers(1, 6)),
    ),
    max_size=60,
)


@settings(max_examples=100)
@given(STEPS, st.sampled_from([4 * MIB, 5 * MIB + 4096, 3 * MIB]))
def test_slots_of_frames_that_wait_never_overlap(steps, size):
    """Whatever is taken, given back and written out in whatever order."""
    rig = Rig(size)
    try:
        live = []
        for step, amount in steps:
            if step == "apply":
                records = min(amount, len(live))
                rig.apply(records)
                del live[:records]
                continue
            slot = rig.ring.take(amount)
            if slot is None:
                assert live or amount > size // 2
                continue
            start, end = slot.offset, slot.offset + slot.size
            assert FRAMES_OFFSET <= start < end <= FRAMES_OFFSET + size
            assert amount <= slot.size < amount + ALIGNMENT
            assert all(end <= other_start or other_end <= start for other_start, other_end in live)
            if step == "abandon":
                rig.ring.abandon(slot)
            else:
                rig.published += ALIGNMENT
                slot.free_at = rig.published
                live.append((start, end))
        assert bool(live) == bool(rig.ring.waiting)
    finally:
        rig.ring.close()
