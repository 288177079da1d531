"""Parts that the readers of all streams share: the run that they read, and checks of times and column names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from ml_dash.errors import InvalidValueError
from ml_dash.storage.names import closest


class Source(Protocol):
    """A run that is read: an open experiment, or a run that was opened for reading.

    Attributes:
        folder: absolute path of the run's directory.
    """

    folder: str

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything published so far is on disk; does nothing for a run of another process."""


def check_columns(columns: object, what: str) -> list[str] | None:
    """Return column names as a list; None means all columns.

    Raises:
        InvalidValueError: ``columns`` is no list of names.
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


def check_known(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Check that every column name is known.

    Raises:
        InvalidValueError: one is not; the text names the closest known one.
    """
    known = sorted(known)
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        near = closest(missing, known)
        advice = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}"
        raise InvalidValueError(f"{what} has no values of the name {missing!r}; {advice}")


def check_time(value: object, name: str, what: str) -> float | None:
    """Return the bound of a time range as a float; None means no bound, and infinities are allowed.

    Raises:
        InvalidValueError: the value is no number.
    """
    if value is None:
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]  # anything that float() takes is a time
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a torch tensor of several elements
        seconds = math.nan
    if math.isnan(seconds):
        raise InvalidValueError(f"{what}: {name}={value!r:.80} is no number; pass seconds of its own clock, or None")
    return seconds
