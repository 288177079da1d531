"""Reading tracks: the topics of a run, and the rows of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidValueError
from ml_dash.query import validation
from ml_dash.query.source import Source
from ml_dash.query.track_slice import TrackSlice
from ml_dash.storage import track_reading
from ml_dash.storage.names import check_topic, closest

if TYPE_CHECKING:
    import numpy.typing as npt


class TrackReader:
    """One track of a run, as far as it can be read.

    Attributes:
        topic: its topic, a path such as ``robot/pose``.
    """

    def __init__(self, source: Source, topic: str) -> None:
        self.topic = topic
        self._source = source
        self._what = f"track {topic!r}"

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def read(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: Sequence[str] | None = None,
        format: str = "json",
    ) -> Any:
        """Rows sorted by time, those just appended included. Rows of one timestamp are one row.

        Args:
            start_timestamp: the first time wanted, inclusive, in seconds of the track's clock; None for no limit.
            end_timestamp: the last time wanted, inclusive; None for no limit.
            columns: a list of the fields wanted, nested ones with their dotted names; None for all. ``timestamp`` is
                always there, and a row that has none of the fields stays.
            format: how the rows are given back, see below.

        Returns:
            ``json``: a dict of ``entries`` (a list of dicts, each with its ``timestamp``) and ``count``. ``jsonl``:
            bytes, one JSON object per line. ``parquet``: the bytes of a Parquet file whose first column is
            ``timestamp`` (float64); columns that mix types hold JSON text, and what is missing is null. ``mocap``: a
            dict with ``metadata``, ``channels`` and ``frames``.

        Raises:
            InvalidValueError: a limit is no number, ``columns`` is no list of names, or there is no such format; or all
                rows are read, and none has any of the columns.
            ExperimentError: the experiment is closed.
        """
        start, end = self._limits(start_timestamp, end_timestamp)
        names = validation.check_columns(columns, self._what)
        _check_format(format, self._what)
        self._source.flush()
        if names is not None and start is None and end is None:
            self._check_there(names)
        return track_reading.read_track(self._source.folder, self.topic, start, end, names, format)

    def _check_there(self, names: Sequence[str]) -> None:
        """Refuse names of which no row has any, which are misspelt; the others may come later."""
        known = ["timestamp", *track_reading.track_stats(self._source.folder, self.topic)["columns"]]
        if len(known) > 1 and not any(name in known for name in names):
            validation.check_there(names, known, self._what)

    def list_entries(self) -> list[dict[str, Any]]:
        """Every row, sorted by time."""
        self._source.flush()
        return track_reading.merged_rows(self._source.folder, self.topic)

    def slice(self, start_timestamp: float | None = None, end_timestamp: float | None = None) -> TrackSlice:
        """The rows between two times, read at once, to iterate over and to find the row of a time.

        Args:
            start_timestamp: the first time wanted, inclusive; None for no limit.
            end_timestamp: the last time wanted, inclusive; None for no limit.

        Raises:
            InvalidValueError: a limit is no number.
            ExperimentError: the experiment is closed.
        """
        start, end = self._limits(start_timestamp, end_timestamp)
        self._source.flush()
        return TrackSlice(
            self.topic, start, end, track_reading.merged_rows(self._source.folder, self.topic, start, end)
        )

    def table(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """The rows as a ``pyarrow.Table`` sorted by ``timestamp``: many times faster than ``read`` for long tracks.

        Args:
            start_timestamp: the first time wanted, inclusive, in seconds of the track's clock; None for no limit.
            end_timestamp: the last time wanted, inclusive; None for no limit.
            columns: the fields wanted; None for all.

        Returns:
            ``timestamp`` (float64) and a column for each field: whole numbers, floats, booleans, text or lists of
            these; a field that mixes types, or holds dicts, is JSON text. Null is a field that is missing or None.

        Raises:
            InvalidValueError: a limit is no number, ``columns`` is no list of names, or no row has such a field.
            ExperimentError: the experiment is closed.
        """
        start, end = self._limits(start_timestamp, end_timestamp)
        names = validation.check_columns(columns, self._what)
        self._source.flush()
        from ml_dash.query import tables

        found = tables.track_table(self._source.folder, self.topic, start, end, names)
        whole = None if start is not None or end is not None else self.table
        return tables.with_columns(found, names, whole, self._what)

    def numpy(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: Sequence[str] | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """The same as arrays by name, each with one entry a row.

        Numbers that are missing are NaN; lists of one length are one array (vectors of 7 are N x 7); text, and fields
        that mix types, are arrays of objects.
        """
        from ml_dash.query import tables

        return tables.to_numpy(self.table(start_timestamp, end_timestamp, columns))

    def dataframe(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """The same as a ``pandas.DataFrame``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from ml_dash.query import tables

        return tables.to_dataframe(self.table(start_timestamp, end_timestamp, columns))

    def _limits(self, start: object, end: object) -> tuple[float | None, float | None]:
        first = validation.check_time(start, "start_timestamp", self._what)
        return first, validation.check_time(end, "end_timestamp", self._what)


class TracksReader:
    """Every track of a run, as far as they can be read."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, topic: str) -> TrackReader:
        """The track of that topic, a path such as ``robot/pose``; one that does not exist has no rows.

        Raises:
            InvalidNameError: the topic cannot be a place on disk.
        """
        check_topic(topic)
        return TrackReader(self._source, topic)

    def topics(self, topic_filter: str | None = None) -> list[str]:
        """The topics of the run, sorted.

        Args:
            topic_filter: a topic, or a glob such as ``robot/*``; its ``*`` stands for anything, slashes included. None
                for all.

        Raises:
            InvalidValueError: the filter is no text.
        """
        if topic_filter is not None and not isinstance(topic_filter, str):
            raise InvalidValueError(f"topic_filter={topic_filter!r:.80} must be text, such as 'robot/*'")
        self._source.flush()
        found = track_reading.list_tracks(self._source.folder)
        return [topic for topic in found if topic_filter is None or _matches(topic, topic_filter)]

    def list(self, topic_filter: str | None = None) -> list[dict[str, Any]]:
        """The topics of the run with what metadata.json knows of them, counted now, by topic.

        Args:
            topic_filter: as in ``topics``.

        Returns:
            Dicts with ``topic``, ``columns`` (sorted names of all fields), ``totalEntries`` (calls of ``append``: those
            of one timestamp, which are read as one row, count each), ``firstTimestamp``, ``lastTimestamp``, and, from
            the run's first writer, ``trackId`` and ``createdAt``.

        Raises:
            InvalidValueError: the filter is no text.
        """
        return [track_reading.track_stats(self._source.folder, topic) for topic in self.topics(topic_filter)]


def _matches(topic: str, topic_filter: str) -> bool:
    return topic == topic_filter or fnmatchcase(topic, topic_filter)


def _check_format(format: object, what: str) -> None:
    if isinstance(format, str) and format in track_reading.TRACK_FORMATS:
        return
    near = closest(format, track_reading.TRACK_FORMATS) if isinstance(format, str) else None
    hint = f"did you mean {near!r}?" if near else f"use one of {', '.join(track_reading.TRACK_FORMATS)}"
    raise InvalidValueError(f"{what}: format={format!r:.80} is not known; {hint}")
