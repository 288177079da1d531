from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ml_dash.records.values import decode, encode, encode_slowly, flatten, to_plain, unflatten

LOOK_ALIKES = st.builds(
    lambda slashes, word, rest: "\\" * slashes + word + rest,
    st.integers(0, 3),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "nan", "-NaN", "null"]),
    st.sampled_from(["", "", "", " ", "\n", '"', "x"]),
)
TEXTS = st.one_of(st.text(st.characters()), st.text(st.characters(exclude_categories=())), LOOK_ALIKES)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**80), 2**80), st.floats(), TEXTS
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)
FIELDS = st.dictionaries(TEXTS, VALUES, max_size=5)


def same(one, other):
    """Equal, of the same types, not-a-number equal to itself, and both zeros told apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def no_constant(token):
    raise AssertionError(f"{token} is not JSON")


@given(FIELDS)
def test_every_json_value_comes_back_as_it_was(fields):
    assert same(fields, decode(encode(fields, "a test")))


@given(FIELDS)
def test_the_slow_path_gives_the_same_value(fields):
    assert same(fields, decode(encode_slowly(fields, "a test")))


@given(FIELDS)
def test_a_line_is_strict_json_without_a_newline(fields):
    line = encode(fields, "a test")

    assert b"\n" not in line
    assert isinstance(json.loads(line, parse_constant=no_constant), dict)


@given(FIELDS)
def test_plain_values_are_what_the_line_says(fields):
    """Documents are rewritten from plain values: both ways must agree on every backslash."""
    assert same(to_plain(fields, "a test"), json.loads(encode_slowly(fields, "a test")))


@given(
    npst.arrays(
        st.one_of(npst.floating_dtypes(sizes=(16, 32, 64)), npst.integer_dtypes()), npst.array_shapes(max_side=4)
    )
)
def test_arrays_come_back_with_every_element(array):
    result = np.asarray(decode(encode({"v": array}, "a test"))["v"], array.dtype)
    np.testing.assert_array_equal(array, result)


NAMES = st.text("ab.", min_size=1, max_size=6)


@given(st.dictionaries(NAMES, st.integers() | st.lists(st.integers(), max_size=2), max_size=8))
def test_flat_parameters_survive_nesting(flat):
    assert flat == flatten(unflatten(flat))


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("abc", min_size=1), inner), max_leaves=10))
def test_nested_parameters_survive_flattening(nested):
    if isinstance(nested, dict):
        assert nested == unflatten(flatten(nested))
