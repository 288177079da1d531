from __future__ import annotations

import math

import pyarrow as pa
import pytest

from ml_dash.records.values import decode
from ml_dash.storage.columns import JSON_MARK, kind_of, rows_to_table, wider


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([None, 1.0], pa.float64()),
        ([math.nan, math.inf], pa.float64()),
        ([True, None], pa.bool_()),
        (["a"], pa.string()),
        ([[1, 2], [0.5]], pa.list_(pa.float64())),
        ([[[1]], [[2], [3]]], pa.list_(pa.list_(pa.int64()))),
        ([None], pa.null()),
        ([1, "a"], None),
        ([1, True], None),
        ([0.5, True], None),
        ([2**70], None),
        ([2**60 + 1, 0.5], None),
        ([{"a": 1}], None),
        ([[{"a": 1}]], None),
        ([[1, "a"]], None),
        (["\ud800"], None),
    ],
)
def test_a_column_has_the_type_that_all_its_values_have(values, kind):
    assert kind == kind_of(values)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.int64(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.list_(pa.int64()), pa.list_(pa.float64()), pa.list_(pa.float64())),
        (pa.list_(pa.null()), pa.list_(pa.string()), pa.list_(pa.string())),
        (pa.int64(), pa.string(), None),
        (pa.bool_(), pa.int64(), None),
        (pa.list_(pa.int64()), pa.int64(), None),
        (None, pa.int64(), None),
    ],
)
def test_two_types_have_one_that_holds_the_values_of_both(one, other, both):
    assert both == wider(one, other)
    assert both == wider(other, one)


def test_what_is_missing_and_what_is_none_are_null():
    table = rows_to_table([{"a": 1}, {"b": None}, {"a": None, "b": "x"}])

    assert {"a": [1, None, None], "b": [None, None, "x"]} == table.to_pydict()


def test_what_has_no_type_is_json_text_that_reads_back():
    values = [{"x": [1, 2]}, "text", 3, math.nan, 2**70, None, "NaN"]
    table = rows_to_table([{"a": value} for value in values])

    assert JSON_MARK == table.schema.field("a").metadata
    texts = table["a"].to_pylist()
    assert texts[5] is None
    read = [decode(text) for text in texts if text is not None]
    assert [{"x": [1, 2]}, "text", 3, 2**70, "NaN"] == [value for value in read if value == value]  # noqa: PLR0124 - NaN
    assert 6 == len(read)


def test_the_first_column_is_there_without_any_row():
    table = rows_to_table([], first="timestamp")

    assert ["timestamp"] == table.schema.names
    assert pa.float64() == table.schema.field("timestamp").type
