"""Tracks: rows indexed by a timestamp of the user's own clock. Rows of one timestamp are one row."""

from __future__ import annotations

import time
from typing import Any

from ml_dash.errors import InvalidNameError, InvalidValueError
from ml_dash.records.record import Kind
from ml_dash.records.values import encode, flatten, to_plain
from ml_dash.storage import reading
from ml_dash.storage.documents import to_json
from ml_dash.storage.names import check_topic
from ml_dash.streams.owner import Owner, to_timestamp

_TRACK = int(Kind.TRACK)
_perf = time.perf_counter_ns
_MISSING: Any = object()


class Track:
    """One track. Get it as ``exp.tracks("robot/pose")``; it may be kept and used from any thread."""

    def __init__(self, owner: Owner, topic: str) -> None:
        self.topic = topic
        self._owner = owner
        self._clock = owner.clock
        self._key = topic.encode()
        self._what = f"track {topic!r}"

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def append(self, /, *, _ts: Any = _MISSING, **fields: Any) -> Track:
        """Append one row.

        Args:
            _ts: its timestamp in seconds of any clock, as long as one track keeps to one. Rows of the same timestamp
                are merged when they are read: later fields overwrite earlier ones.
            **fields: anything that can be stored; fields may differ from row to row. Nested dicts are stored with
                dotted names.

        Raises:
            InvalidValueError: ``_ts`` is missing or not a finite number.
            InvalidNameError: a field is named ``timestamp``, which is the row's own.
            InvalidTypeError: a value cannot be stored; the text names its field.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        if type(_ts) is not float or _ts - _ts != 0.0:
            _ts = self._timestamp(_ts)
        if "timestamp" in fields:
            raise InvalidNameError(f"{self._what}: the field 'timestamp' is the row's own; pass the time as _ts")
        data = encode(fields, self._what)
        if b":{" in data:
            data = to_json(flatten(to_plain(fields, self._what)))
        self._clock.last = _ts
        self._owner.channel.publish(_TRACK, self._key, data, _ts, started)
        return self

    def flush(self) -> Track:
        """Wait until everything appended so far is on disk."""
        self._owner.flush()
        return self

    def read(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: list[str] | None = None,
        format: str = "json",
    ) -> Any:
        """Rows sorted by time, those just appended included.

        Args:
            start_timestamp: the first time wanted, inclusive.
            end_timestamp: the last time wanted, inclusive.
            columns: the fields wanted; None for all. ``timestamp`` is always there.
            format: ``json`` for a dict of ``entries`` and ``count``, ``jsonl`` for bytes.

        Raises:
            InvalidValueError: there is no such format.
        """
        self._owner.flush()
        return reading.read_track(self._owner.folder, self.topic, start_timestamp, end_timestamp, columns, format)

    def list_entries(self) -> list[dict[str, Any]]:
        """Every row, sorted by time."""
        entries: list[dict[str, Any]] = self.read()["entries"]
        return entries

    def _timestamp(self, value: object) -> float:
        if value is _MISSING:
            raise InvalidValueError(
                f"{self._what}: _ts is missing; every row needs its timestamp, such as _ts=step / 30"
            )
        return to_timestamp(value, self._what)


class Tracks:
    """Every track of a run: ``exp.tracks(topic)`` is one of them."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._tracks: dict[str, Track] = {}

    def __call__(self, topic: str) -> Track:
        """The track of that topic, a path such as ``robot/pose``.

        Raises:
            InvalidNameError: the topic cannot be a place on disk.
        """
        track = self._tracks.get(topic) if type(topic) is str else None
        if track is None:
            check_topic(topic)
            track = self._tracks[topic] = Track(self._owner, topic)
        return track

    def flush(self) -> Tracks:
        """Wait until everything appended so far is on disk."""
        self._owner.flush()
        return self
