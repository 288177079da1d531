"""Any configuration, and any sequence of metrics, comes back as it was."""

from __future__ import annotations

import datetime
import math

from hypothesis import given
from hypothesis import strategies as st

from ml_dash.managed.points import from_point, record, to_point, update_values, values
from ml_dash.managed.toml_values import dumps, loads
from ml_dash.records.values import decode, encode

offsets = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(
    lambda offset: datetime.timezone(datetime.timedelta(seconds=int(offset.total_seconds())))
)
zones = st.none() | st.just(datetime.UTC) | offsets
texts = st.text() | st.sampled_from(["NaN", "\\NaN", "Infinity", "-Infinity", "__ml_dash__", "value", "_ts", "\ud800"])
keys = st.text() | st.sampled_from(["__ml_dash__", "value", "_ts", "a.b", "a\\.b", "\\", ".", "", "none", "table"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    texts,
    st.binary(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.times(timezones=st.none() | st.just(datetime.UTC)),
    st.datetimes(timezones=zones),
    st.timedeltas(),
)
leaves = st.deferred(lambda: scalars | st.sets(scalars | st.tuples(scalars, scalars), max_size=2))
# Deferred, since Hypothesis writes out a strategy whenever it draws again, and this one would fill pages.
anything = st.deferred(lambda: leaves | leaves | st.lists(anything, max_size=3) | tables)
tables = st.deferred(lambda: st.dictionaries(keys, anything, max_size=3))
documents = st.dictionaries(keys, anything, max_size=5)


@given(documents)
def test_any_configuration_comes_back_equal(config):
    assert config == loads(dumps(config))


@given(documents)
def test_writing_what_was_read_gives_the_same_text(config):
    text = dumps(config)

    assert text == dumps(loads(text))


@given(st.floats())
def test_any_float_comes_back(value):
    read = loads(dumps({"value": value}))["value"]

    assert value == read or (math.isnan(value) and math.isnan(read))


@given(documents)
def test_any_metrics_come_back_from_the_journal(update):
    line = encode(to_point(update), "metrics")

    assert update == from_point(decode(line))


@given(st.lists(documents, max_size=5))
def test_a_state_without_its_times_is_the_metrics(updates):
    state, metrics = {}, {}
    for time, update in enumerate(updates):
        record(state, update, float(time))
        update_values(metrics, update)

    assert metrics == values(state)
