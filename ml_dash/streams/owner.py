"""The run that a stream belongs to, as the stream sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ml_dash.errors import InvalidValueError
from ml_dash.ipc.channel import Channel


class Owner(Protocol):
    """The open or closed run that a stream belongs to.

    Attributes:
        channel: where the stream publishes. Read it at each call: it is exchanged when the run is opened, closed or
            forked, and its stand-ins raise or attach as they should.
        folder: absolute path of the run's directory.
        writer_id: part of the names of this writer's files; empty for the run's first writer.
        clock: the newest timestamp of each thread.
        before_open: called before the run is opened, also when it is opened again.
        before_end: called with the channel of the run that ends, to publish what a stream still holds.
        after_fork: called in a forked child.
    """

    channel: Channel
    folder: str
    writer_id: str
    clock: Clock
    before_open: list[Callable[[], None]]
    before_end: list[Callable[[Channel], None]]
    after_fork: list[Callable[[], None]]

    @property
    def prefix(self) -> str:
        """The run's prefix, for messages."""

    def warn_once(self, text: str) -> None:
        """Print a text on stderr, once for each run."""

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
