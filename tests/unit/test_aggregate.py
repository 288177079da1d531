"""Many numbers to the few that describe them."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from ml_dash.records import aggregate
from ml_dash.records.aggregate import NAMES, Moments, Series, is_known, summarize


def series_of(*values):
    series = Series()
    for value in values:
        series.add(value)
    return series


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", 2.5), ("std", math.sqrt(5 / 3)), ("min", 1.0), ("max", 4.0), ("count", 4), ("median", 2.5),
        ("sum", 10.0), ("p0", 1.0), ("p50", 2.5), ("p90", 3.7), ("p95", 3.85), ("p99", 3.97), ("p99.9", 3.997),
        ("p100", 4.0), ("first", 3.0), ("last", 2.0),
    ],
)  # fmt: skip
def test_each_aggregation_of_a_few_numbers(name, expected):
    assert {name: pytest.approx(expected)} == summarize(series_of(3.0, 1.0, 4.0, 2.0), [name])


def test_nan_is_left_out_of_everything():
    summary = summarize(series_of(math.nan, 1.0, math.nan, 3.0, math.nan), NAMES)

    assert (2, 1.0, 3.0, 2.0, 2.0) == tuple(summary[name] for name in ("count", "first", "last", "mean", "p50"))


@pytest.mark.parametrize("values", [(), (math.nan,), (math.nan, math.nan)])
def test_without_a_number_there_is_no_summary(values):
    assert {} == summarize(series_of(*values), NAMES)


def test_a_single_number_has_no_deviation():
    assert {"std": 0.0, "median": 7.0, "p99": 7.0} == summarize(series_of(7.0), ["std", "median", "p99"])


def test_infinities_take_part():
    summary = summarize(series_of(1.0, math.inf, 2.0), ["mean", "sum", "min", "max", "count", "median", "std"])

    assert math.isnan(summary.pop("std"))
    assert {"mean": math.inf, "sum": math.inf, "min": 1.0, "max": math.inf, "count": 3, "median": 2.0} == summary


def test_infinities_of_both_signs_have_no_mean_but_a_median():
    summary = summarize(series_of(-math.inf, 5.0, math.inf), ["mean", "median"])

    assert (True, 5.0) == (math.isnan(summary["mean"]), summary["median"])


def test_what_comes_out_is_pythons_own():
    assert {float, int} == {type(value) for value in summarize(series_of(1.0, 2.0), NAMES).values()}


@pytest.mark.parametrize("name", [*NAMES, "p0", "p5", "p100", "p99.99", "p050"])
def test_known_names(name):
    assert is_known(name)


@pytest.mark.parametrize("name", ["p101", "p-1", "p", "p1e1", "p99.", "avg", "Mean", "", 50, None, ["mean"], "p٣"])
def test_unknown_names(name):
    assert not is_known(name)


class TestMoreValuesThanAreKept:
    @pytest.fixture(autouse=True)
    def _keep_few(self, monkeypatch):
        monkeypatch.setattr(aggregate, "MAX_VALUES", 500)

    def test_moments_stay_exact_and_percentiles_come_from_a_sample(self):
        values = np.random.default_rng(0).normal(3.0, 2.0, 20_000)
        series = series_of(*values.tolist())
        summary = summarize(series, NAMES)

        assert 500 == len(series.values)
        assert (20_000, values[0], values[-1], values.min(), values.max()) == tuple(
            summary[name] for name in ("count", "first", "last", "min", "max")
        )
        np.testing.assert_allclose(
            [values.mean(), values.std(ddof=1), values.sum()], [summary[name] for name in ("mean", "std", "sum")]
        )
        # Of 500 values the median's rank is off by 2.2 % (one standard deviation); four of them are 0.46 here.
        assert abs(summary["median"] - 3.0) < 0.5

    def test_the_sample_is_of_all_values_and_not_of_the_first(self):
        series = series_of(*range(10_000))

        # 5000, give or take 129: a uniform sample of 500. The first 500 would have 250.
        assert 4000 < np.mean(series.values) < 6000

    def test_the_first_that_is_not_kept_is_told(self):
        series = Series()

        assert [True] * 500 + [False] == [series.add(1.0) for _ in range(501)]

    def test_the_users_random_numbers_stay_as_they_are(self):
        state = random.getstate()
        series_of(*range(1000))

        assert state == random.getstate()

    def test_nan_is_counted_as_missing(self):
        series = series_of(*[1.0] * 500, *[math.nan] * 100)

        assert (500, 100) == (series.moments().count, series.moments().nan_count)


class TestMoments:
    def test_groups_give_what_all_of_them_give(self):
        values = np.random.default_rng(1).normal(1e6, 1.0, 10_000)
        moments = Moments()
        for part in np.array_split(values, 7):
            moments.fold(part)
        moments.add(0.0)
        everything = np.append(values, 0.0)

        np.testing.assert_allclose([everything.mean(), everything.std(ddof=1)], [moments.mean, moments.std])
        assert (10_001, values[0], 0.0, 0.0) == (moments.count, moments.first, moments.last, moments.low)

    def test_the_first_and_the_last_may_be_told_by_time(self):
        moments = Moments()
        moments.fold(np.array([1.0, 2.0, 3.0]), np.array([5.0, 9.0, 7.0]))
        moments.fold(np.array([4.0, math.nan, 6.0]), np.array([8.0, 10.0, 2.0]))
        moments.fold(np.array([7.0]), np.array([9.0]))

        assert 6.0 == moments.oldest
        assert math.isnan(moments.newest)

    def test_of_one_time_the_later_values_count(self):
        moments = Moments()
        moments.fold(np.array([1.0, 2.0]), np.array([9.0, 9.0]))
        moments.fold(np.array([7.0]), np.array([9.0]))

        assert (1.0, 7.0) == (moments.oldest, moments.newest)

    def test_infinities_count_but_leave_the_mean_alone(self):
        moments = Moments()
        moments.fold(np.array([1.0, math.inf, 3.0, -math.inf, math.nan]))

        assert (4, 1, 2.0, math.inf, -math.inf) == (
            moments.count, moments.nan_count, moments.mean, moments.high, moments.low,
        )  # fmt: skip

    def test_values_near_the_largest_float_warn_nobody(self):
        moments = Moments()
        moments.fold(np.array([1e308, 1e308, -1e308]))

        assert 3 == moments.count
