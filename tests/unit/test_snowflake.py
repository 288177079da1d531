from __future__ import annotations

import os
import random
import threading
import time

import pytest

from ml_dash import snowflake
from ml_dash.snowflake import EPOCH_MS, file_id, generate_snowflake_id

MS_PER_MINUTE = 60_000


def now_ms():
    return time.time_ns() // 1_000_000


def parts_of_run_id(number):
    return EPOCH_MS + (number >> 22), number >> 12 & 1023, number & 4095


def make_in_threads(make, count, threads=4):
    made = [[] for _ in range(threads)]
    workers = [threading.Thread(target=lambda out=out: out.extend(make() for _ in range(count))) for out in made]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return made


def made_in_child(make, count):
    """Return what `make` gives in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, " ".join(str(make()) for _ in range(count)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return text.split()


def test_a_run_id_holds_time_worker_and_sequence():
    milliseconds, worker, _ = parts_of_run_id(generate_snowflake_id())

    assert MS_PER_MINUTE > abs(milliseconds - now_ms())
    assert os.getpid() & 1023 == worker


def test_a_run_id_has_18_digits_and_fits_a_signed_64_bit_number():
    assert 18 == len(str(generate_snowflake_id()))
    assert 2**63 > generate_snowflake_id()


def test_a_file_id_is_26_digits_that_hold_the_time():
    text = file_id()

    assert 26 == len(text)
    assert text.isdecimal()
    assert MS_PER_MINUTE > abs((int(text[:16]) >> 12) - now_ms())


def test_a_file_id_has_26_digits_where_the_clock_stands_in_1970():
    ids = snowflake._FileIds()

    made = [ids.next(1.0), ids.next(1.0), ids.next(1e9)]

    assert made == sorted(set(made))
    assert [26] * 3 == [len(text) for text in made]


def test_processes_that_ask_at_the_same_moments_have_ids_of_their_own():
    made = [[ids.next(now) for now in (1.7e9, 1.7e9, 1.8e9)] for ids in (snowflake._FileIds() for _ in range(500))]

    assert 1500 == len({text for texts in made for text in texts})


def test_processes_with_the_same_number_have_run_ids_of_their_own(monkeypatch):
    monkeypatch.setattr(snowflake.time, "time_ns", lambda: 1_800_000_000_000_000_000)

    made = {snowflake._RunIds().next() for _ in range(100)}

    assert 50 < len(made)


@pytest.mark.parametrize("make", [generate_snowflake_id, lambda: int(file_id())], ids=["run", "file"])
def test_ids_grow_and_never_repeat_in_several_threads(make):
    made = make_in_threads(make, 20_000)

    assert 80_000 == len(set().union(*made))
    assert all(ids == sorted(ids) for ids in made)


@pytest.mark.parametrize("make", [snowflake._RunIds, snowflake._FileIds])
def test_ids_grow_over_the_end_of_the_counter_and_while_the_clock_stands_in_the_past(make):
    """Started a day ahead, as after the clock was set back: 10 000 ids take more than two milliseconds' worth."""
    ahead = now_ms() - (EPOCH_MS if make is snowflake._RunIds else 0) + 24 * 60 * MS_PER_MINUTE
    ids = make(last=ahead << 12)

    made = [int(ids.next()) for _ in range(10_000)]

    assert made == sorted(set(made))


def test_a_clock_before_2024_gives_positive_ids(monkeypatch):
    monkeypatch.setattr(snowflake.time, "time_ns", lambda: 0)
    ids = snowflake._RunIds()

    assert 0 < ids.next() < ids.next()


def test_a_forked_child_has_a_worker_number_of_its_own():
    generate_snowflake_id()
    (text,) = made_in_child(generate_snowflake_id, 1)

    assert parts_of_run_id(generate_snowflake_id())[1] != parts_of_run_id(int(text))[1]


def test_a_forked_child_does_not_repeat_its_parents_file_ids():
    before = file_id()
    child = made_in_child(file_id, 100)
    parent = [file_id() for _ in range(100)]

    assert not set(child) & set(parent)
    assert int(before) < int(child[0])


def test_a_child_forked_while_an_id_is_being_made_does_not_hang():
    with snowflake._Ids.files._lock, snowflake._Ids.runs._lock:
        child = made_in_child(lambda: (file_id(), generate_snowflake_id())[0], 1)

    assert 26 == len(child[0])


def test_the_users_random_seed_neither_repeats_ids_nor_is_disturbed():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    first = snowflake._FileIds()
    second = snowflake._FileIds()

    assert expected == random.random()
    assert first.next()[16:] != second.next()[16:]
