"""Read the tracks of a run."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidNameError, InvalidValueError
from ml_dash.query.reader import Source, check_columns, check_known, check_time
from ml_dash.query.track_slice import TrackSlice
from ml_dash.storage import track_reading
from ml_dash.storage.names import check_topic, closest

if TYPE_CHECKING:
    import numpy.typing as npt


class TrackReader:
    """One track of a run.

    Attributes:
        topic: the track's topic, a path such as ``robot/pose``.
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
        """Read rows sorted by time, including rows that were just appended. Rows of one timestamp become one row.

        Args:
            start_timestamp: first time to include, in seconds of the track's clock; None for no bound.
            end_timestamp: last time to include; None for no bound.
            columns: names of the fields to read, with dotted names for nested ones; None for all. ``timestamp`` is
                always included, and so is a row without any of the fields.
            format: form of the result, see below.

        Returns:
            ``json``: a dict of ``entries`` (a list of dicts, each with its ``timestamp``) and ``count``. ``jsonl``:
            bytes, one JSON object per line. ``parquet``: the bytes of a Parquet file whose first column is
            ``timestamp`` (float64); columns of mixed types hold JSON text, and missing values are null. ``mocap``: a
            dict with ``metadata``, ``channels`` and ``frames``.

        Raises:
            InvalidValueError: a bound is no number, ``columns`` is no list of names, or there is no such format; or all
                rows are read, and none has any of the columns.
            ExperimentError: the experiment is closed.
        """
        start, end = self._check_window(start_timestamp, end_timestamp)
        names = check_columns(columns, self._what)
        _check_format(format, self._what)
        self._source.flush()
        if names is not None and start is None and end is None:
            # Names that no row has are misspelt, unless some row has one of them: then the others may come later.
            known = ["timestamp", *track_reading.track_stats(self._source.folder, self.topic)["columns"]]
            if len(known) > 1 and not any(name in known for name in names):
                check_known(names, known, self._what)
        return track_reading.read_track(self._source.folder, self.topic, start, end, names, format)

    def list_entries(self) -> list[dict[str, Any]]:
        """Read all rows, sorted by time.

        Returns:
            A dict for each timestamp: ``timestamp`` and the fields.
        """
        self._source.flush()
        return track_reading.merged_rows(self._source.folder, self.topic)

    def slice(self, start_timestamp: float | None = None, end_timestamp: float | None = None) -> TrackSlice:
        """Read the rows between two times into memory, to iterate over them and to find the row of a time.

        Args:
            start_timestamp: first time to include; None for no bound.
            end_timestamp: last time to include; None for no bound.

        Returns:
            The rows; see ``TrackSlice``.

        Raises:
            InvalidValueError: a bound is no number.
            ExperimentError: the experiment is closed.
        """
        start, end = self._check_window(start_timestamp, end_timestamp)
        self._source.flush()
        rows = track_reading.merged_rows(self._source.folder, self.topic, start, end)
        return TrackSlice(self.topic, start, end, rows)

    def table(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Read the rows as a ``pyarrow.Table`` sorted by ``timestamp``: many times faster than ``read`` for long tracks.

        Args:
            start_timestamp: first time to include, in seconds of the track's clock; None for no bound.
            end_timestamp: last time to include; None for no bound.
            columns: names of the fields to read; None for all.

        Returns:
            ``timestamp`` (float64) and a column for each field: whole numbers, floats, booleans, text or lists of
            these; a field of mixed types or with dicts is JSON text. A field that is missing or None is null.

        Raises:
            InvalidValueError: a bound is no number, ``columns`` is no list of names, or no row has such a field.
            ExperimentError: the experiment is closed.
        """
        start, end = self._check_window(start_timestamp, end_timestamp)
        names = check_columns(columns, self._what)
        self._source.flush()
        from ml_dash.query import tables

        table = tables.track_table(self._source.folder, self.topic, start, end, names)
        read_all = None if start is not None or end is not None else self.table
        return tables.with_columns(table, names, read_all, self._what)

    def numpy(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: Sequence[str] | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Read the rows as arrays by field name, with one entry for each row; the arguments are those of ``table``.

        Missing numbers are NaN. Lists of one length become one array (N x 7 for vectors of 7); text and fields of mixed
        types become arrays of objects.

        Returns:
            The columns of ``table`` as arrays of equal length.
        """
        from ml_dash.query import tables

        return tables.to_numpy(self.table(start_timestamp, end_timestamp, columns))

    def dataframe(
        self,
        start_timestamp: float | None = None,
        end_timestamp: float | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Read the rows as a ``pandas.DataFrame``; the arguments are those of ``table``.

        Returns:
            A ``pandas.DataFrame`` with the columns of ``table``, one row for each timestamp.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from ml_dash.query import tables

        return tables.to_dataframe(self.table(start_timestamp, end_timestamp, columns))

    def _check_window(self, start: object, end: object) -> tuple[float | None, float | None]:
        first = check_time(start, "start_timestamp", self._what)
        return first, check_time(end, "end_timestamp", self._what)


class TracksReader:
    """The tracks of a run. Call it with a topic to get one of them."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, topic: str) -> TrackReader:
        """Return the track of that topic, a path such as ``robot/pose``; one that does not exist has no rows.

        Raises:
            InvalidNameError: no track can have the topic, and none that ``topics`` gives has it.
        """
        try:
            check_topic(topic)
        except InvalidNameError:  # of a folder that another program made
            if topic not in track_reading.list_tracks(self._source.folder):
                raise
        return TrackReader(self._source, topic)

    def topics(self, topic_filter: str | None = None) -> list[str]:
        """Return the topics of the run, sorted.

        Args:
            topic_filter: a topic, or a glob such as ``robot/*``, whose ``*`` also matches slashes; None for all.

        Raises:
            InvalidValueError: the filter is no text.
        """
        if topic_filter is not None and not isinstance(topic_filter, str):
            raise InvalidValueError(f"topic_filter={topic_filter!r:.80} must be text, such as 'robot/*'")
        self._source.flush()
        topics = track_reading.list_tracks(self._source.folder)
        if topic_filter is None:
            return topics
        return [topic for topic in topics if topic == topic_filter or fnmatchcase(topic, topic_filter)]

    def list(self, topic_filter: str | None = None) -> list[dict[str, Any]]:
        """Return the tracks of the run with their metadata, counted now and sorted by topic.

        Args:
            topic_filter: as in ``topics``.

        Returns:
            Dicts with ``topic``, ``columns`` (sorted names of all fields), ``totalEntries`` (the calls of ``append``,
            of which several may make one row), ``firstTimestamp``, ``lastTimestamp``, and, from the run's first writer,
            ``trackId`` and ``createdAt``.

        Raises:
            InvalidValueError: the filter is no text.
        """
        return [track_reading.track_stats(self._source.folder, topic) for topic in self.topics(topic_filter)]


def _check_format(format: object, what: str) -> None:
    if isinstance(format, str) and format in track_reading.TRACK_FORMATS:
        return
    near = closest(format, track_reading.TRACK_FORMATS) if isinstance(format, str) else None
    hint = f"did you mean {near!r}?" if near else f"use one of {', '.join(track_reading.TRACK_FORMATS)}"
    raise InvalidValueError(f"{what}: format={format!r:.80} is not known; {hint}")
