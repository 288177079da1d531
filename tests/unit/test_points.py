"""The points of managed runs: what needs no encoder is stored as an encoder would have it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash.managed.points import from_point, is_flat, to_point
from ml_dash.managed.toml_values import decode, encode
from ml_dash.manager.validation import checked_metrics

NAMES = st.text(st.sampled_from("ab._\\ é\ud800/-0"), max_size=4) | st.sampled_from(["_ts", "__ml_dash__", "loss"])
NUMBERS = (
    st.booleans() | st.floats(allow_nan=False) | st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), 2**64])
)


@given(st.dictionaries(NAMES, NUMBERS, max_size=5))
def test_flat_metrics_are_what_the_encoder_makes_of_them(metrics):
    if not is_flat(metrics):
        return
    encoded = encode(metrics, "metrics", for_json=True)

    assert metrics == encoded == to_point(metrics) == from_point(to_point(metrics))
    assert metrics == checked_metrics(metrics) == {key: decode(value) for key, value in encode(metrics, "m").items()}
    assert [type(value) for value in metrics.values()] == [type(value) for value in to_point(metrics).values()]


@pytest.mark.parametrize(
    "metrics", [{"loss": 0.5, "step": 3, "done": True}, {"eval/f1": math.nan}, {"": -math.inf}, {"n": 2**63 - 1}, {}]
)
def test_numbers_by_plain_names_are_flat(metrics):
    assert is_flat(metrics)


@pytest.mark.parametrize(
    "metrics", [{"a.b": 1}, {"a\\b": 1}, {"_ts": 1}, {"é": 1}, {1: 1}, {"a": "b"}, {"a": {}}, {"a": None}, {"a": 2**63}]
)
def test_everything_else_is_not(metrics):
    assert not is_flat(metrics)
