"""Whatever was logged to a run of the ML manager, by whomever: a run that is loaded and the table of runs have it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from ml_dash.managed.cells import add_flat
from ml_dash.managed.history import COVERS, History, last_values
from ml_dash.managed.points import copy, from_point, record, to_point, unshared, update_values, values
from ml_dash.managed.toml_values import dumps, encode

names = st.sampled_from(["a", "b", "c"])
leaves = st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2) | st.none()
updates = st.dictionaries(
    names, st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=2)), max_size=3
)
calls = st.lists(st.tuples(st.integers(0, 1), updates), max_size=8)


def after(logged):
    metrics = {}
    for _, update in logged:
        update_values(metrics, update)
    return metrics


def lines_of(logged, writer):
    points = [(time, to_point(update)) for time, (who, update) in enumerate(logged, 1) if who == writer]
    return [json.dumps({"data": point | {"_ts": time}}) + "\n" for time, point in points]


def written(folder, logged, saved):
    """The files of a run: metrics.toml as of after the first calls, and the journal of each writer with all of them."""
    journals = {"data.jsonl": 0, "data.w2.jsonl": 1}
    place = Path(folder, "metrics/None")
    place.mkdir(parents=True)
    for name, writer in journals.items():
        if lines := lines_of(logged, writer):
            (place / name).write_text("".join(lines))
    known = {name: len("".join(lines_of(logged[:saved], writer))) for name, writer in journals.items()}
    covered = {name: size for name, size in known.items() if size}
    Path(folder, "metrics.toml").write_text(f"{COVERS}{json.dumps(covered)}\n{dumps(after(logged[:saved]))}")
    return ["metrics.toml", *(f"metrics/None/{path.name}" for path in sorted(place.iterdir()))], covered


@given(calls, st.integers(0, 8))
@example([(0, {"a": {"b": 1}}), (0, {"a": 5}), (0, {"a": {"c": 1}})], 1)
@example([(0, {"a": {"b": 1}}), (1, {"a": 5}), (0, {"a": {"c": 1}})], 3)
@example([(0, {"a": 1}), (0, {"a": {}})], 1)
def test_the_journals_and_metrics_toml_together_are_what_was_logged(logged, saved):
    with tempfile.TemporaryDirectory() as folder:
        files, covered = written(folder, logged, saved)
        history = History(folder, after(logged[:saved]), covered)
        history.read()

        assert after(logged) == history.values()
        cells = {}
        add_flat(cells, encode(after(logged), "test"), "m:")
        assert cells == last_values(folder, files, "m:")


@given(updates, updates)
def test_values_share_nothing_with_the_state(first, second):
    state = {}
    record(state, first, 1.0)
    copied = copy(state)
    record(state, second, 2.0)

    assert first == values(copied) == from_point(to_point(first)) == unshared(first)
    found = values(state)
    spoil(found)
    assert after([(0, first), (0, second)]) == values(state)


def spoil(value):
    for inner in list(value.values()) if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list)):
            spoil(inner)
    if isinstance(value, dict):
        value["spoilt"] = 1
    else:
        value.append("spoilt")
