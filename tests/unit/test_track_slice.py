"""TrackSlice: rows held in memory, and the row that belongs to a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingEntryError, StorageError
from ml_dash.query.track_slice import TrackSlice
from tests.support import shown

TIMES = [1.0, 2.0, 4.0]


class Tensor:
    """What the package uses of a torch tensor on another device."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert a cuda tensor to numpy")


def rows(times):
    return [{"timestamp": time, "n": number} for number, time in enumerate(times)]


def made(times=TIMES, start=None, end=None):
    return TrackSlice("robot/pose", start, end, rows(times))


class TestSequence:
    def test_it_is_gone_through_as_often_as_needed(self):
        window = made()

        assert [rows(TIMES)] * 2 == [list(window), list(window)]

    def test_positions_count_from_both_ends(self):
        window = made()

        assert (3, 0, 2) == (len(window), window[0]["n"], window[-1]["n"])
        assert rows(TIMES)[1:] == window[1:]
        assert rows(TIMES)[::-1] == window[::-1] == list(reversed(window))
        assert 1 == window[np.int64(1)]["n"]

    def test_a_position_beyond_the_end_is_an_index_error(self):
        with pytest.raises(IndexError, match="position 3 of a track slice with 3 entries"):
            made()[3]

    @pytest.mark.parametrize("index", [0.5, "q", None])
    def test_what_is_no_position_is_refused(self, index):
        with pytest.raises(InvalidTypeError, match="find_by_time"):
            made()[index]

    def test_an_empty_one_is_false(self):
        assert not made([])
        assert [] == list(made([]))

    def test_its_repr_has_the_topic_and_the_limits(self):
        assert "TrackSlice(topic='robot/pose', start=0.5, end=None, entries=3)" == repr(made(start=0.5))

    def test_timestamps_are_floats_that_nobody_can_change(self):
        times = made().timestamps

        assert (np.float64, TIMES) == (times.dtype, times.tolist())
        assert (0,) == made([]).timestamps.shape
        with pytest.raises(ValueError, match="read-only"):
            times[0] = 9.0


class TestFindByTime:
    @pytest.mark.parametrize(
        ("time", "floor", "nearest"),
        [
            (1.0, 0, 0), (1.5, 0, 0), (1.6, 0, 1), (2, 1, 1), (3.0, 1, 1), (3.1, 1, 2), (4.0, 2, 2), (99, 2, 2),
            (np.float32(2.5), 1, 1), (np.array(2.0), 1, 1), ("2.5", 1, 1), (math.inf, 2, 2),
        ],
        ids=shown,
    )  # fmt: skip
    def test_it_is_the_last_row_before_or_at_the_time_or_the_closest(self, time, floor, nearest):
        assert floor == made().find_by_time(time)["n"]
        assert nearest == made().find_by_time(time, nearest=True)["n"]

    def test_before_the_first_row_only_the_closest_exists(self):
        assert 0 == made().find_by_time(-5, nearest=True)["n"]
        assert 0 == made().find_by_time(-math.inf, nearest=True)["n"]
        with pytest.raises(MissingEntryError, match=r"^No entry found with timestamp <= 0\.5 in track 'robot/pose'"):
            made().find_by_time(0.5)

    @pytest.mark.parametrize(
        "times",
        [[1, 3.5], (1, 3.5), np.array([1, 3.5]), np.array([1, 3.5], np.float32)],
        ids=lambda v: type(v).__name__,
    )
    def test_several_times_give_a_list(self, times):
        assert [0, 1] == [row["n"] for row in made().find_by_time(times)]

    def test_a_list_of_one_stays_a_list_and_an_empty_one_is_empty(self):
        assert rows(TIMES)[:1] == made().find_by_time([1.0])
        assert [] == made().find_by_time([])
        assert [] == made([]).find_by_time(())

    def test_one_time_without_a_row_fails_the_whole_list(self):
        with pytest.raises(MissingEntryError, match=r"<= 0\.25"):
            made().find_by_time([2.0, 0.25, 0.125])

    @pytest.mark.parametrize("nearest", [False, True])
    def test_an_empty_slice_has_no_row(self, nearest):
        with pytest.raises(MissingEntryError, match="No entries in track slice"):
            made([]).find_by_time(1.0, nearest=nearest)

    @pytest.mark.parametrize("error", [KeyError, StorageError, LookupError, OSError])
    def test_code_written_for_either_error_catches_it(self, error):
        with pytest.raises(error) as caught:
            made([]).findByTime(1.0)
        assert str(caught.value).startswith("No entries")  # a plain KeyError would show its text in quotes

    def test_the_published_spelling_and_its_argument_are_taken(self):
        assert 1 == made().findByTime(3.0, 10)["n"] == made().findByTime(3.0, neighborhood_size=1)["n"]

    @pytest.mark.parametrize(
        "time",
        [
            None, "soon", math.nan, [1.0, None], [1.0, math.nan], [[1.0]], [1, [2]], {1.0}, object(), 1j, 10**400,
            np.datetime64("2026-03-01"), np.array([1j]), Tensor(),
        ],
        ids=lambda value: repr(value)[:20],
    )  # fmt: skip
    def test_what_is_no_time_is_refused(self, time):
        with pytest.raises(InvalidValueError, match="is no time"):
            made().find_by_time(time)

    def test_distances_beyond_the_largest_float_are_compared_all_the_same(self):
        window = made([-1.7e308, 1.6e308])

        assert 1 == window.find_by_time(1.7e308, nearest=True)["n"]
        assert 0 == window.find_by_time(-1.8e308 + 2e307, nearest=True)["n"]


@given(
    st.lists(st.integers(-50, 50).map(lambda n: n / 4), unique=True, min_size=1, max_size=12).map(sorted),
    st.lists(st.integers(-60, 60).map(lambda n: n / 8), max_size=8),
)
def test_it_finds_what_going_through_all_rows_finds(times, wanted):
    window = made(times)
    inside = [time for time in wanted if time >= times[0]]

    floors = [max(time for time in times if time <= want) for want in inside]
    closest = [min(times, key=lambda time: (abs(time - want), time)) for want in wanted]

    assert floors == [row["timestamp"] for row in window.find_by_time(inside)]
    assert closest == [row["timestamp"] for row in window.find_by_time(wanted, nearest=True)]
