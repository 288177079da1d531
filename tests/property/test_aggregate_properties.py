"""Whatever the numbers are, an aggregation is what numpy makes of them without NaN."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash.records.aggregate import Moments, Series, summarize

# Larger ones overflow when squared, in numpy as here.
NUMBERS = st.floats(-1e100, 1e100) | st.integers(-1000, 1000).map(float)
WITH_NAN = st.lists(NUMBERS | st.just(math.nan), min_size=1, max_size=60).filter(lambda v: not all(map(math.isnan, v)))

REFERENCE = {
    "mean": np.mean,
    "std": lambda values: np.std(values, ddof=1) if len(values) > 1 else 0.0,
    "min": np.min,
    "max": np.max,
    "count": len,
    "median": np.median,
    "sum": np.sum,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "p50": lambda values: np.percentile(values, 50),
    "p90": lambda values: np.percentile(values, 90),
    "p95": lambda values: np.percentile(values, 95),
    "p99": lambda values: np.percentile(values, 99),
    "p12.5": lambda values: np.percentile(values, 12.5),
}


def kept(values):
    return np.array([value for value in values if not math.isnan(value)])


def allowed(values):
    """What rounding may differ by: numpy's own error is relative to the largest value, not to the result."""
    return 1e-9 * max(1e-300, float(np.abs(values).max()))


@pytest.mark.parametrize("name", REFERENCE)
@given(values=WITH_NAN)
def test_an_aggregation_is_numpys(name, values):
    series = Series()
    for value in values:
        series.add(value)
    present = kept(values)

    np.testing.assert_allclose(
        REFERENCE[name](present), summarize(series, [name])[name], rtol=1e-9, atol=allowed(present)
    )


@given(values=WITH_NAN, percents=st.lists(st.integers(0, 100), min_size=2, max_size=5))
def test_percentiles_grow_with_the_percent_and_stay_within_the_values(values, percents):
    series = Series()
    for value in values:
        series.add(value)
    names = [f"p{percent}" for percent in sorted(percents)]
    found = [summarize(series, names)[name] for name in names]
    low, high = kept(values).min(), kept(values).max()
    slack = allowed(kept(values))

    assert all(after >= before - slack for before, after in itertools.pairwise(found))
    assert all(low - slack <= value <= high + slack for value in found)


@given(values=WITH_NAN, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_moments_are_the_same_however_the_values_are_grouped(values, cuts):
    whole, parts, single = Moments(), Moments(), Moments()
    array = np.array(values)
    whole.fold(array)
    for part in np.split(array, sorted(cuts)):
        parts.fold(part)
    for value in values:
        single.add(value)
    slack = allowed(kept(values))

    for other in (parts, single):
        assert (whole.count, whole.nan_count, whole.first, whole.last, whole.low, whole.high) == (
            other.count, other.nan_count, other.first, other.last, other.low, other.high,
        )  # fmt: skip
        assert repr((whole.oldest, whole.newest)) == repr((other.oldest, other.newest))
        np.testing.assert_allclose([whole.mean, whole.std], [other.mean, other.std], rtol=1e-7, atol=slack)
