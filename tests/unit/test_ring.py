from __future__ import annotations

import signal
import threading
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_dash.ipc import slab as slabs
from ml_dash.ipc.control import RECORDS_OFFSET, RECORDS_SIZE, Control, Word
from ml_dash.ipc.ring import (
    BELL_BACKLOG,
    BELL_BYTES,
    CLOSED,
    FULL,
    MAX_PAYLOAD,
    TOO_LARGE,
    Consumer,
    Producer,
    WriterLink,
)
from ml_dash.records.record import ALIGNMENT, Kind, entry_size
from tests.support import at_each_call_inside, wait_until

EVERYTHING = 1 << 30


class Ring:
    """Both ends of a ring in this process, and what the producer said to the outside."""

    def __init__(self, *, patient=False):
        self.slab = slabs.private(0)
        self.control = Control(self.slab.memory)
        self.bells = 0
        self.ways_out = []
        self.waits = 0
        self.producer = Producer(WriterLink(self.slab, self.control, self.ring_bell, self.may_wait), self.on_overflow)
        self.consumer = Consumer(memoryview(self.slab.memory), self.control)
        self.patient = patient

    def ring_bell(self):
        self.bells += 1

    def may_wait(self):
        self.waits += 1
        return self.patient

    def on_overflow(self, why, kind, key, data, when, started_ns):
        self.ways_out.append((why, kind, key, data))
        return 0

    def push(self, data, key=b"k"):
        return self.producer.push(Kind.LOG, key, data, 1.5)

    def read(self, limit=EVERYTHING):
        return list(self.consumer.read(limit))

    def take(self, limit=EVERYTHING):
        """Read records and free their room."""
        records = self.read(limit)
        if records:
            self.consumer.free(records[-1].end, records[-1].sequence + 1)
        return records

    def fill(self, size=MAX_PAYLOAD // 2):
        """Push until there is no room; the number of records that went in."""
        return sum(1 for _ in iter(lambda: self.push(bytes(size)), 0))


@pytest.fixture
def ring():
    return Ring()


class TestPush:
    def test_a_record_comes_out_as_it_went_in(self, ring):
        end = ring.producer.push(Kind.TRACK, b"robot/pose", b'{"q":1}', 12.25)
        (record,) = ring.read()

        assert (0, end, 0, 12.25, Kind.TRACK, b"robot/pose", b'{"q":1}', 0) == record
        assert 0 == end % ALIGNMENT

    def test_an_empty_payload_is_a_record(self, ring):
        ring.push(b"", key=b"")

        assert [(b"", b"")] == [(record.key, record.data) for record in ring.read()]

    def test_sequence_numbers_have_no_gap(self, ring):
        for number in range(100):
            ring.push(b"%d" % number)

        assert list(range(100)) == [record.sequence for record in ring.read()]

    def test_a_payload_of_the_largest_size_fits_and_one_byte_more_goes_to_the_overflow_handler(self, ring):
        largest = bytes(MAX_PAYLOAD - 1)

        assert 0 < ring.push(largest)
        assert 0 == ring.push(largest + b"x")
        assert [TOO_LARGE] == [why for why, *_ in ring.ways_out]
        assert [largest] == [record.data for record in ring.read()]

    def test_a_full_ring_gives_the_record_up_when_nobody_may_wait(self, ring):
        count = ring.fill()

        assert 0 < count * MAX_PAYLOAD // 2 <= RECORDS_SIZE
        assert [FULL] == [why for why, *_ in ring.ways_out]
        assert count == len(ring.read())

    def test_a_full_ring_waits_for_the_consumer(self):
        ring = Ring(patient=True)
        room = RECORDS_SIZE // entry_size(MAX_PAYLOAD - ALIGNMENT)
        ends = []
        data = bytes(MAX_PAYLOAD - ALIGNMENT - 1)
        thread = threading.Thread(target=lambda: ends.extend(ring.push(data) for _ in range(room + 1)))
        thread.start()
        wait_until(lambda: ring.waits > 3, message="the producer waits")
        waited_with = len(ends)
        ring.take(1)
        thread.join()

        assert room == waited_with
        assert room + 1 == len(ends)
        assert ring.bells > 0

    def test_the_doorbell_rings_once_per_its_bytes_for_a_writer_that_is_behind(self, ring):
        data, pushed = bytes(1000), 0
        while pushed < BELL_BACKLOG - BELL_BYTES:
            pushed = ring.push(data)
        before = ring.bells
        while pushed < BELL_BACKLOG + 3 * BELL_BYTES:
            pushed = ring.push(data)

        assert 0 == before
        assert 3 <= ring.bells <= 4

    def test_the_doorbell_is_quiet_for_a_writer_that_keeps_up(self, ring):
        for _ in range(2 * RECORDS_SIZE // 1000):
            ring.push(bytes(900))
            ring.take(1)

        assert 0 == ring.bells

    def test_after_close_a_push_goes_to_the_overflow_handler(self, ring):
        ring.push(b"before")
        ring.producer.close()
        ring.producer.close()

        assert 0 == ring.push(b"after")
        assert [(CLOSED, Kind.LOG, b"k", b"after")] == ring.ways_out

    def test_the_time_of_calls_is_added_up(self, ring):
        ring.producer.push(Kind.LOG, b"", b"x", 0.0, 1)
        first = ring.producer.cost_ns
        ring.producer.add_cost(1)

        assert 0 < first < ring.producer.cost_ns


class TestRead:
    def test_nothing_was_published(self, ring):
        assert [] == ring.read()

    def test_the_limit_counts_records_and_the_rest_follows(self, ring):
        for number in range(5):
            ring.push(b"%d" % number)

        assert [b"0", b"1"] == [record.data for record in ring.read(2)]
        assert [b"2", b"3", b"4"] == [record.data for record in ring.read(9)]

    def test_a_second_consumer_starts_where_the_first_one_freed(self, ring):
        for data in (b"a", b"b", b"c"):
            ring.push(data)
        ring.take(1)
        ring.read()
        successor = Consumer(memoryview(ring.slab.memory), ring.control)

        assert [b"b", b"c"] == [record.data for record in successor.read(9)]

    def test_bytes_of_an_earlier_lap_are_never_taken_for_a_record(self, ring):
        ring.fill()
        ring.take()
        ring.control.words[Word.HEAD] += ALIGNMENT  # as if the head were seen before the entry

        assert [] == ring.read()

    @pytest.mark.parametrize("damaged", [0, 20, 26, 30, 34, 40], ids=["position", "time", "size", "sum", "key", "data"])
    def test_an_entry_that_was_damaged_is_passed_over(self, ring, damaged):
        """A stray write of the user's own C code must not end the run."""
        ring.push(b"first" * 20)
        ring.push(b"second")
        ring.slab.memory[RECORDS_OFFSET + damaged] ^= 0xFF
        before = ring.read()
        skipped = ring.consumer.skip_damaged() if not before else 0

        if damaged == 20:  # the checksum covers what the user gave, not the time of the call
            assert 2 == len(before)
        else:
            assert [] == before
            assert entry_size(101) == skipped
            assert [b"second"] == [record.data for record in ring.read()]


class TestHandlers:
    """A signal handler or a finalizer that logs runs in the middle of a push."""

    def test_a_push_inside_a_push_loses_and_damages_nothing(self, ring):
        inner, outer = (b"inner" * 30, b"outer" * 10)
        for _ in at_each_call_inside(lambda: ring.push(outer), lambda: ring.push(inner)):
            records = ring.take()

            assert sorted([inner, outer]) == sorted(record.data for record in records)
            assert [0, 1] == [record.sequence - records[0].sequence for record in records]

    @pytest.mark.parametrize("inner", [b"i" * 10, b"i" * 3000], ids=["fits before the end", "wraps as well"])
    def test_a_push_inside_a_push_that_wraps_around(self, inner):
        outer = b"o" * 2000
        ring = Ring()
        gap = 1024  # bytes left before the end of the ring: enough for the small one only

        def almost_to_the_end():
            ring.take()
            while (left := RECORDS_SIZE - ring.control.words[Word.HEAD] % RECORDS_SIZE) != gap:
                ring.push(bytes(min(MAX_PAYLOAD // 2, left - gap if left > gap else left) - 40 - 1))
                ring.take()

        places = 0
        almost_to_the_end()
        for _ in at_each_call_inside(lambda: ring.push(outer), lambda: ring.push(inner)):
            assert sorted([inner, outer]) == sorted(record.data for record in ring.take())
            places += 1
            almost_to_the_end()

        assert places > 3

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a signal from a timer")
    def test_real_signals_that_log(self):
        ring = Ring(patient=True)
        sent = {b"main": 0, b"handler": 0}
        seen = deque()
        done = threading.Event()

        def handler(number, frame):
            ring.push(b"%d" % sent[b"handler"] * 9, key=b"handler")
            sent[b"handler"] += 1

        def consume():
            while not done.is_set() or ring.control.words[Word.TAIL] < ring.control.words[Word.HEAD]:
                seen.extend(ring.take(100))

        before = signal.signal(signal.SIGALRM, handler)
        reader = threading.Thread(target=consume)
        reader.start()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
            while sent[b"handler"] < 300:
                ring.push(b"%d" % sent[b"main"] * 9, key=b"main")
                sent[b"main"] += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            done.set()
            reader.join()

        main = [record.data for record in seen if record.key == b"main"]
        # A handler may interrupt itself between its push and its count, so that numbers repeat: how many is exact.
        assert [b"%d" % n * 9 for n in range(sent[b"main"])] == main
        assert len(main) + sent[b"handler"] == len(seen)
        assert list(range(len(seen))) == [record.sequence for record in seen]


def test_many_threads_keep_each_ones_order():
    ring = Ring(patient=True)
    seen = []
    threads = [
        threading.Thread(target=lambda key=b"%d" % t: [ring.push(b"%d" % n, key=key) for n in range(2000)])
        for t in range(8)
    ]
    for thread in threads:
        thread.start()
    while len(seen) < 16_000:
        seen.extend(ring.take(500))
    for thread in threads:
        thread.join()

    for t in range(8):
        assert [b"%d" % n for n in range(2000)] == [record.data for record in seen if record.key == b"%d" % t]


SIZES = st.one_of(st.integers(0, 200), st.integers(0, MAX_PAYLOAD), st.just(MAX_PAYLOAD - 2))
STEPS = st.one_of(
    st.tuples(st.just("push"), SIZES),
    st.tuples(st.just("read"), st.integers(1, 20)),
    st.tuples(st.just("free"), st.integers(1, 20)),
)


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=80), st.integers(0, RECORDS_SIZE // ALIGNMENT - 1))
def test_the_ring_behaves_like_a_list(steps, first_lap):
    """Pushes, reads and commits in any order, around the end of the memory any number of times."""
    ring = Ring()
    ring.control.words[Word.HEAD] = ring.control.words[Word.TAIL] = first_lap * ALIGNMENT
    ring.consumer = Consumer(memoryview(ring.slab.memory), ring.control)
    unread, unfreed, number = deque(), deque(), 0
    for step, amount in steps:
        if step == "push":
            data = b"%d;" % number + bytes(max(0, amount - 8))
            if ring.push(data):
                unread.append(data)
                number += 1
        elif step == "read":
            records = ring.read(amount)
            assert [unread.popleft() for _ in range(min(amount, len(unread)))] == [record.data for record in records]
            unfreed.extend(records)
        elif unfreed:
            record = [unfreed.popleft() for _ in range(min(amount, len(unfreed)))][-1]
            ring.consumer.free(record.end, record.sequence + 1)

    assert list(unread) == [record.data for record in ring.read()]
    assert all(why == FULL for why, *_ in ring.ways_out)
