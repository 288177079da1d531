"""Tracks: rows indexed by a timestamp of the user's own clock. Rows of the same timestamp are merged."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ml_dash import _fork
from ml_dash.errors import InvalidNameError, InvalidTypeError, InvalidValueError
from ml_dash.query.tracks import TrackReader, TracksReader
from ml_dash.records.record import Kind
from ml_dash.records.values import encode, flatten, to_plain
from ml_dash.storage.documents import to_json
from ml_dash.storage.names import check_topic
from ml_dash.streams.base import NOT_GIVEN, Owner, RunStream, Stream, check_time_name, to_timestamp

TICK_S = 1e-6
"""The smallest step between times that we assign, in seconds: floats near the present can represent it."""

_TRACK = int(Kind.TRACK)
_perf = time.perf_counter_ns


class Track(Stream, TrackReader):
    """One track. Get it as ``exp.tracks("robot/pose")``; it may be kept and used from any thread."""

    _instead: ClassVar[dict[str, str]] = {"log": "append(..., _ts=t)"}

    def __init__(self, owner: Owner, topic: str) -> None:
        super().__init__(owner, topic)
        self._owner = owner
        self._clock = owner.clock
        self._key = topic.encode()

    def append(self, values: Mapping[str, Any] | None = None, /, *, _ts: Any = NOT_GIVEN, **fields: Any) -> Self:
        """Append one row.

        Args:
            values: fields by name, as one dict; keywords are the usual way, and count where both have a name. A key
                ``_ts`` is the timestamp.
            _ts: the timestamp in seconds, as a number or the text of one; -1 is the time -1. Any clock will do, but all
                rows of a track must use the same one. Required, except for ``exp.track(topic)``, which assigns the
                present time. Rows of the same timestamp are merged when they are read: later fields overwrite earlier
                ones.
            **fields: values that can be stored; different rows may have different fields. Nested dicts get dotted
                names.

        Returns:
            The track.

        Raises:
            InvalidValueError: ``_ts`` is missing or not a finite number.
            InvalidNameError: a field is named ``timestamp``, or ``ts`` in a call without ``_ts``.
            InvalidTypeError: a value cannot be stored; the text names its field.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        if values is not None:
            fields = _merged(values, fields, self._what)
            inside = fields.pop("_ts", NOT_GIVEN)
            _ts = inside if _ts is NOT_GIVEN else _ts
        if "timestamp" in fields:
            raise InvalidNameError(f"{self._what}: the field 'timestamp' is the row's own; did you mean _ts=...?")
        if type(_ts) is not float or _ts - _ts != 0.0:
            if _ts is NOT_GIVEN:
                check_time_name(fields, self._what)
            _ts = self._timestamp(_ts)
        data = encode(fields, self._what)
        if b":{" in data:
            data = to_json(flatten(to_plain(fields, self._what)))
        self._clock.last = _ts
        self._owner.channel.publish(_TRACK, self._key, data, _ts, started)
        return self

    def flush(self) -> Self:
        """Wait until everything appended so far is on disk."""
        self._owner.flush()
        return self

    def _timestamp(self, value: object) -> float:
        if value is NOT_GIVEN:
            raise InvalidValueError(
                f"{self._what}: _ts is missing; every row needs its timestamp, such as _ts=step / 30"
            )
        return to_timestamp(value, self._what)


class TimedTrack(Track):
    """One track whose rows may come without ``_ts``. Get it as ``exp.track("robot/pose")``.

    It is the same track as ``exp.tracks("robot/pose")``. A row without ``_ts`` gets the present time in seconds since
    1970, or a microsecond more than the last assigned time if the clock has not moved on. So no two calls become one
    row, also from several threads.
    """

    # One lock for all tracks: it is held for less than a microsecond. Reentrant for signal handlers that append.
    _assigning = threading.RLock()

    def __init__(self, owner: Owner, topic: str) -> None:
        super().__init__(owner, topic)
        self._last = 0.0

    def _timestamp(self, value: object) -> float:
        if value is not NOT_GIVEN:
            return to_timestamp(value, self._what)
        with self._assigning:
            now = time.time()
            self._last = now if now > self._last else self._last + TICK_S
            return self._last


class Tracks(RunStream, TracksReader):
    """Every track of a run: ``exp.tracks(topic)`` is one of them."""

    _instead: ClassVar[dict[str, str]] = dict.fromkeys(("append", "log"), "exp.tracks(topic).append(..., _ts=t)")

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._owner = owner
        self._tracks: dict[str, Track] = {}
        self._timed: dict[str, TimedTrack] = {}

    def __call__(self, topic: str) -> Track:
        """Return the track of a topic.

        Args:
            topic: a path such as ``robot/pose``.

        Raises:
            InvalidNameError: the topic cannot be a path on disk.
        """
        track = self._tracks.get(topic) if type(topic) is str else None
        if track is None:
            check_topic(topic)
            track = self._tracks[topic] = Track(self._owner, topic)
        return track

    def timed(self, topic: str) -> TimedTrack:
        """Return the track of a topic, whose rows may leave out ``_ts``; ``exp.track(topic)`` for short.

        Args:
            topic: a path such as ``robot/pose``.

        Raises:
            InvalidNameError: the topic cannot be a path on disk.
        """
        track = self._timed.get(topic) if type(topic) is str else None
        if track is None:
            check_topic(topic)
            # Two threads must get the same object: two objects would assign equal times.
            track = self._timed.setdefault(topic, TimedTrack(self._owner, topic))
        return track

    def flush(self) -> Tracks:
        """Wait until everything appended so far is on disk."""
        self._owner.flush()
        return self


def _merged(values: object, fields: dict[str, Any], what: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InvalidTypeError(
            f"{what}: {values!r:.80} is no dict; pass fields by name, such as append(q=[0.1], _ts=t)"
        )
    wrong = next((name for name in values if not isinstance(name, str)), None)
    if wrong is not None:
        raise InvalidTypeError(f"{what}: the key {wrong!r:.80} is no text; names of fields are")
    return {**values, **fields}


def _after_fork_in_child() -> None:
    TimedTrack._assigning = threading.RLock()  # another thread of the parent may have held the old one  # noqa: SLF001 - classes of one module


_fork.call_in_child(_after_fork_in_child)
