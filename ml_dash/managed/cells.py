"""What one cell of a table of runs holds: the value of a parameter or metric, made plain. Pure.

Numbers, booleans and text stay what they are. A moment with a time zone is in UTC. Lists stay lists. What a column
cannot hold becomes what it can be compared as: a decimal a float, a span of time its seconds, a date, a time of day and
bytes (in base64) text, a set a list.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from ml_dash.managed.toml_text import MARK

_PLAIN = frozenset({bool, int, float, str})


def add_flat(cells: dict[str, Any], values: Mapping[str, Any], prefix: str) -> None:
    """Put nested values into a row under dotted names.

    Args:
        cells: the row.
        values: as a TOML or JSON document has them.
        prefix: put before each name.
    """
    for key, value in values.items():
        kind = type(value)
        if kind in _PLAIN:
            cells[prefix + key] = value
        elif kind is dict and value and not _is_marked(value):
            add_flat(cells, value, f"{prefix}{key}.")
        else:
            cells[prefix + key] = cell(value)


def cell(value: Any) -> Any:
    """One value."""
    if isinstance(value, dict) and _is_marked(value):
        value = _unmarked(value)
    if isinstance(value, datetime.datetime):
        try:
            return in_utc(value)
        except OverflowError:  # within hours of the year 1 or 9999
            pass
    return _inside(value)


def in_utc(moment: datetime.datetime) -> datetime.datetime:
    """A moment with a time zone in UTC; one without is left alone."""
    return moment.astimezone(datetime.UTC) if moment.tzinfo is not None else moment


def text_or_none(value: Any) -> str | None:
    """Text as it is, anything else as nothing."""
    return value if isinstance(value, str) else None


def _inside(value: Any) -> Any:
    """The same for what is in a list: JSON must hold it."""
    if isinstance(value, dict):
        value = _unmarked(value) if _is_marked(value) else {key: _inside(item) for key, item in value.items()}
    elif isinstance(value, list):
        return [_inside(item) for item in value]
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else value


def _is_marked(value: dict[str, Any]) -> bool:
    return isinstance(value.get(MARK), str)


def _unmarked(table: dict[str, Any]) -> Any:
    kind, value = table[MARK], table.get("value")
    if kind == "none":
        return None
    try:
        return _KINDS[kind](value)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return {key: _inside(item) for key, item in table.items()}


def _seconds(parts: list[int]) -> float:
    days, seconds, microseconds = parts
    return datetime.timedelta(days, seconds, microseconds).total_seconds()


def _text(value: str) -> str:
    import base64

    return base64.b64decode(value, validate=True).decode("utf-8", "surrogatepass")


_KINDS: dict[str, Callable[[Any], Any]] = {
    "integer": int,
    "decimal": float,
    "bytes": str,
    "text": _text,
    "set": lambda items: [_inside(item) for item in items],
    "timedelta": _seconds,
    "date": str,
    "time": str,
    "datetime": datetime.datetime.fromisoformat,
    "table": lambda table: {key: _inside(item) for key, item in table.items()},
}
