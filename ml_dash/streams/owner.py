"""What a stream needs to know of the experiment it belongs to."""

from __future__ import annotations

import threading
from typing import Protocol

from ml_dash.errors import InvalidValueError
from ml_dash.ipc.channel import Channel


class Owner(Protocol):
    """An experiment, as its streams see it.

    ``channel`` is an ordinary attribute that is read at each call: it is exchanged when the experiment is opened, closed
    or forked, and whatever stands there raises or attaches as it should.
    """

    channel: Channel
    folder: str
    writer_id: str
    clock: Clock

    @property
    def prefix(self) -> str:
        """Where the run is, for people."""

    def _warn_once(self, text: str) -> None:
        """Show a text, once for each run."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything published so far is on disk."""


class Clock(threading.local):
    """The timestamp that each thread used last, for ``_ts=-1``."""

    last: float | None = None


def to_timestamp(value: object, what: str) -> float:
    """A timestamp as the user gave it, as a float.

    Raises:
        InvalidValueError: it is not numeric, or not finite.
    """
    try:
        seconds = float(value)  # type: ignore[arg-type]  # whatever float() takes is a timestamp
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, for more than one element
        seconds = float("nan")
    if seconds - seconds != 0.0:  # NaN or infinite: it has no place in time
        raise InvalidValueError(f"{what}: _ts={value!r} is not a finite number; pass seconds as a float") from None
    return seconds
