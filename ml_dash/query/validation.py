"""Checks of what a reader is asked for: a window of time, and names of columns."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ml_dash.errors import InvalidValueError
from ml_dash.storage.names import closest


def check_columns(columns: object, what: str) -> list[str] | None:
    """The names of columns as the user gave them.

    Raises:
        InvalidValueError: they are no list of names.
    """
    if columns is None:
        return None
    if isinstance(columns, str):
        raise InvalidValueError(f"{what}: columns={columns!r:.80} is one text; pass a list, columns=[{columns!r:.80}]")
    given = [*columns] if isinstance(columns, Iterable) else [columns]
    names = [name for name in given if isinstance(name, str)]
    if len(names) < len(given):
        raise InvalidValueError(f"{what}: columns={columns!r:.80} must be a list of names, such as ['loss', 'imu.x']")
    return names


def check_there(wanted: Iterable[str], there: Iterable[str], what: str) -> None:
    """Refuse a column that is asked for and that nothing has.

    Raises:
        InvalidValueError: there is one; the text names the closest of those that are there.
    """
    known = sorted(there)
    missing = next((name for name in wanted if name not in known), None)
    if missing is not None:
        near = closest(missing, known)
        advice = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}"
        raise InvalidValueError(f"{what} has no values of the name {missing!r}; {advice}")


def check_time(value: object, name: str, what: str) -> float | None:
    """The bound of a window of time as the user gave it; infinite ones are taken.

    Raises:
        InvalidValueError: it is no number.
    """
    if value is None:
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]  # whatever float() takes is a time
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, for more than one element
        seconds = math.nan
    if math.isnan(seconds):
        raise InvalidValueError(f"{what}: {name}={value!r:.80} is no number; pass seconds of its own clock, or None")
    return seconds
