"""The value of a parameter or metric as one cell of a table of runs. Pure.

Numbers, booleans and text stay what they are. A datetime with a time zone is in UTC. Lists stay lists. Values that a
column cannot hold become comparable ones: a decimal a float, a timedelta its seconds, a date, a time of day and bytes
(in base64) text, a set a list.
"""

from __future__ import annotations

import base64
import datetime
import sys
from collections.abc import Mapping
from typing import Any

from ml_dash.managed.toml_values import MARK, decode

_CELL_TYPES = frozenset({bool, int, float, str})


def add_flat(cells: dict[str, Any], values: Mapping[str, Any], prefix: str) -> None:
    """Add nested values to a row under dotted names.

    Args:
        cells: the row.
        values: a TOML or JSON document.
        prefix: put before each name.
    """
    for key, value in values.items():
        kind = type(value)
        if kind in _CELL_TYPES:
            cells[prefix + key] = value
        elif kind is dict and value and not isinstance(value.get(MARK), str):
            add_flat(cells, value, f"{prefix}{key}.")
        else:
            cells[prefix + key] = cell(value)


def in_utc(time: datetime.datetime) -> datetime.datetime:
    """The same time in UTC; a time without a zone is left alone."""
    return time.astimezone(datetime.UTC) if time.tzinfo is not None else time


def cell(value: Any) -> Any:
    """One value."""
    value = decode(value)
    if isinstance(value, datetime.datetime):
        try:
            return in_utc(value)
        except OverflowError:  # within hours of the year 1 or 9999
            pass
    return _as_json(value)


def _as_json(value: Any) -> Any:
    """A value that JSON holds, which is how columns of several types are kept."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [_as_json(item) for item in sorted(value, key=repr)]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    decimal = sys.modules.get("decimal")  # loaded if a value is one
    return _as_float(value) if decimal is not None and isinstance(value, decimal.Decimal) else value


def _as_float(decimal: Any) -> float | str:
    try:
        return float(decimal)
    except ValueError:  # a signalling NaN
        return str(decimal)
