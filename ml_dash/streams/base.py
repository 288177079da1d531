"""What all streams share: the run that they belong to, timestamps, and errors for attributes that do not exist."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ml_dash.errors import InvalidNameError, InvalidValueError
from ml_dash.storage.names import NamesClosest

if TYPE_CHECKING:
    from ml_dash.ipc.channel import Channel


class Owner(Protocol):
    """The run that a stream belongs to.

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


class NotGiven:
    """Sentinel: the caller passed no value (None is one)."""

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Any = NotGiven()


class Clock(threading.local):
    """The timestamp that each thread used last, for ``_ts=-1``."""

    last: float | None = None


class Stream(NamesClosest):
    """Base class of streams: a missing attribute is answered with the one that was probably meant."""


class RunStream(Stream):
    """Base class of the attributes of an experiment: ``exp.params``, ``exp.metrics`` and so on."""

    _owner: Owner

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} of {self._owner.prefix!r}>"


def to_timestamp(value: object, what: str) -> float:
    """Return a timestamp that the user gave as a float.

    Raises:
        InvalidValueError: it is not numeric, or not finite.
    """
    try:
        seconds = float(value)  # type: ignore[arg-type]  # any value that float() takes is a timestamp
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, for more than one element
        seconds = float("nan")
    if seconds - seconds != 0.0:  # NaN or infinite
        raise InvalidValueError(f"{what}: _ts={value!r} is not a finite number; pass seconds as a float") from None
    return seconds


def check_time_name(fields: Iterable[str], what: str) -> None:
    """Refuse a field ``ts`` in a call without ``_ts``: most likely ``_ts`` was meant.

    Raises:
        InvalidNameError: there is one.
    """
    if "ts" in fields:
        raise InvalidNameError(
            f"{what}: did you mean _ts=...? The time is given as _ts; a field may be named 'ts' beside it"
        )
