"""Metrics of a managed run as flat points of a journal, as nested values, and merged by time.

A point of the journal is flat: ``{"eval": {"accuracy": 0.9}}`` is ``eval.accuracy``. A dot or a backslash that belongs
to a name has a backslash before it, so that every point can be nested again as it was. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ml_dash.managed.toml_values import MARK, MAX_KEY_PARTS, check_values, decode, encode

State = dict[str, Any]
"""Nested like the metrics: a ``Table`` for each dict, a tuple (time, value) for each value."""

TIME = "_ts"

_CONTAINERS = frozenset({dict, list, set})

_NUMBERS = frozenset({float, int, bool})

_LONG = 64
"""Bits from which on an integer is checked: it may not fit TOML, or be too long to store."""


class Table(dict[str, Any]):
    """Metrics below a name, within a ``State``.

    Attributes:
        cleared: when the name was last a plain value. That value replaced everything older below the name.
        touched: when a value, or an empty dict, was last logged below the name.
    """

    __slots__ = ("cleared", "touched")

    def __init__(self, cleared: float = -math.inf, touched: float = -math.inf) -> None:
        super().__init__()
        self.cleared = cleared
        self.touched = touched


def is_flat(metrics: Mapping[str, Any]) -> bool:
    """Whether metrics are numbers by plain names, as in nearly every call. Their point is the same dict, unchecked."""
    for name, value in metrics.items():
        if type(value) not in _NUMBERS or type(name) is not str or not name.isascii() or name == TIME:
            return False
        if "." in name or "\\" in name or (type(value) is int and value.bit_length() >= _LONG):
            return False
    return True


def to_point(update: Mapping[str, Any]) -> dict[str, Any]:
    """One call's metrics as a flat point for the journal."""
    if is_flat(update):
        return dict(update)
    point = dict(_flat(encode(update, "metrics", for_json=True), ""))
    if TIME in point:  # a metric of that name, not the time of the point
        point[f"\\{TIME}"] = point.pop(TIME)
    return point


def from_point(point: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``to_point``.

    Raises:
        ValueError: it nests deeper than any that was logged, such as one that another user has made up.
    """
    update: dict[str, Any] = {}
    for name, value in point.items():
        if name != TIME:
            *parents, leaf = _split(name)
            if len(parents) >= MAX_KEY_PARTS:
                raise ValueError(f"a name has more than {MAX_KEY_PARTS} parts")
            if type(value) in _CONTAINERS:
                check_values({leaf: value})
            _table_at(update, parents)[leaf] = decode(value)
    return update


def record(state: State, update: Mapping[str, Any], time: float) -> None:
    """Put one call's metrics into a state: dicts are merged, everything else is replaced."""
    for key, value in update.items():
        if not isinstance(value, dict):
            state[key] = (time, value)
            continue
        below = state.get(key)
        table = below if isinstance(below, Table) else Table(-math.inf if below is None else below[0])
        table.cleared = min(table.cleared, time)  # a clock that was set back does not change the order of calls
        table.touched = max(table.touched, time)
        record(table, value, time)
        state[key] = table  # whole: another thread may copy the state meanwhile


def merge(state: State, other: State) -> None:
    """Put the values of another state into this one where they are newer. The two share no dict afterwards."""
    for key, theirs in other.items():
        ours, copied = state.get(key), _copied(theirs)
        state[key] = copied if ours is None else _merged(ours, copied)


def update_values(metrics: dict[str, Any], update: Mapping[str, Any]) -> None:
    """Put one call's metrics into nested values without times. The two share no list, dict or set afterwards."""
    for key, value in update.items():
        if not isinstance(value, dict):
            metrics[key] = unshared(value) if type(value) in _CONTAINERS else value
            continue
        below = metrics.get(key)
        if not isinstance(below, dict):
            below = metrics[key] = {}
        update_values(below, value)


def copy(state: State) -> State:
    """A copy that shares no dict. Another thread may go on recording: each level is copied at once."""
    return {key: _copied(node) for key, node in list(state.items())}


def values(state: State) -> dict[str, Any]:
    """The metrics themselves, without their times, and with containers of their own."""
    return {key: values(node) if isinstance(node, Table) else unshared(node[1]) for key, node in list(state.items())}


def unshared(value: Any) -> Any:
    """A copy of a value with dicts, lists and sets of its own."""
    kind = type(value)
    if kind is list:
        return [unshared(item) if type(item) in _CONTAINERS else item for item in value]
    if kind is dict:
        return {key: unshared(item) if type(item) in _CONTAINERS else item for key, item in value.items()}
    return set(value) if kind is set else value  # the items of a set are hashable, and so immutable


def _flat(plain: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        name = prefix + (key.replace("\\", "\\\\").replace(".", "\\.") if "." in key or "\\" in key else key)
        if isinstance(value, dict) and value and MARK not in value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _table_at(update: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    for parent in parents:
        below = update.get(parent)
        if not isinstance(below, dict):  # missing; or logged past us, as a value and as a table in one point
            below = update[parent] = {}
        update = below
    return update


def _split(name: str) -> list[str]:
    if "\\" not in name:
        return name.split(".")
    parts, letters = [""], iter(name)
    for letter in letters:
        if letter == ".":
            parts.append("")
        else:
            parts[-1] += next(letters, "") if letter == "\\" else letter
    return parts


def _merged(ours: Any, theirs: Any) -> Any:
    newest = theirs if _newest(theirs) > _newest(ours) else ours
    if not isinstance(newest, Table):
        return newest
    older = ours if newest is theirs else theirs
    if isinstance(older, Table):
        newest.cleared = max(newest.cleared, older.cleared)
        merge(newest, older)
    else:
        newest.cleared = max(newest.cleared, min(older[0], newest.touched))
    _drop_older(newest, newest.cleared)
    return newest


def _drop_older(table: Table, limit: float) -> None:
    for key, node in list(table.items()):
        if _newest(node) < limit:
            del table[key]
        elif isinstance(node, Table):
            _drop_older(node, limit)


def _newest(node: Any) -> float:
    time: float = node.touched if isinstance(node, Table) else node[0]
    return time


def _copied(node: Any) -> Any:
    if not isinstance(node, Table):
        return node
    table = Table()
    table.update(copy(node))
    table.cleared, table.touched = node.cleared, node.touched
    return table
