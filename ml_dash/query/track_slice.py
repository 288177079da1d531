"""A window of a track's rows, held in memory: go through it, count it, find the row of a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingEntryError

if TYPE_CHECKING:
    import numpy.typing as npt

Entry = dict[str, Any]

_NO_SECONDS = "mMc"  # numpy turns dates, time spans and complex numbers into floats that mean something else


class TrackSlice(Sequence[Entry]):
    """The rows of a track as they were when ``slice()`` was called, sorted by time.

    It does not change when more is appended, and it stays usable when the run is closed. Iterate over it as often as
    needed, take its length, or index it by position: ``window[0]``, ``window[-1]``, ``window[10:20]`` (a list).

    Attributes:
        topic: the track's topic.
        start_timestamp: the first time asked for; None if there was no limit.
        end_timestamp: the last time asked for; None if there was no limit.

    Args:
        topic: the track's topic.
        start_timestamp: the first time asked for.
        end_timestamp: the last time asked for.
        rows: dicts with a ``timestamp``, sorted by it, no two of the same time.
    """

    def __init__(
        self, topic: str, start_timestamp: float | None, end_timestamp: float | None, rows: list[Entry]
    ) -> None:
        self.topic = topic
        self.start_timestamp = start_timestamp
        self.end_timestamp = end_timestamp
        self._rows = rows
        self._times = np.fromiter((row["timestamp"] for row in rows), np.float64, len(rows))
        self._times.setflags(write=False)

    @property
    def timestamps(self) -> npt.NDArray[np.float64]:
        """The rows' times: float64, shape ``(len(self),)``, growing, read-only."""
        return self._times

    def find_by_time(
        self,
        timestamp: Any,
        neighborhood_size: int = 10,  # noqa: ARG002 - callers of the published client give it
        *,
        nearest: bool = False,
    ) -> Any:
        """The row that was valid at a time: the last one whose timestamp is not after it.

        Args:
            timestamp: seconds of the track's clock; a list, tuple or one-dimensional array of them gives a list.
            neighborhood_size: has no effect; a search needs no such limit here.
            nearest: take the row that is closest in time, before or after; the earlier one if both are equally close.

        Returns:
            The row as a dict, or a list of rows, one for each time.

        Raises:
            MissingEntryError: the slice is empty, or a time lies before its first row and ``nearest`` is False. It is
                a ``KeyError`` too.
            InvalidValueError: a time is no number.
        """
        times = _to_times(timestamp, self.topic)
        found = [self._rows[position] for position in self._positions(np.atleast_1d(times), nearest)]
        return found if times.ndim else found[0]

    findByTime = find_by_time  # noqa: N815 - the name in the published client

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        try:
            return self._rows[index]
        except IndexError:
            raise IndexError(f"position {index} of a track slice with {len(self)} entries") from None
        except TypeError:
            raise InvalidTypeError(
                f"{index!r:.80} is no position; index by whole numbers, or use find_by_time({index!r:.80})"
            ) from None

    def __repr__(self) -> str:
        limits = f"start={self.start_timestamp}, end={self.end_timestamp}"
        return f"TrackSlice(topic={self.topic!r}, {limits}, entries={len(self)})"

    def _positions(self, times: npt.NDArray[np.float64], nearest: bool) -> list[int]:
        if not times.size:
            return []
        if not len(self):
            raise MissingEntryError(f"No entries in track slice of {self.topic!r}: {self!r}")
        floor = np.searchsorted(self._times, times, side="right") - 1
        if nearest:
            floor = self._closest(times, floor)
        elif floor.min() < 0:
            raise MissingEntryError(
                f"No entry found with timestamp <= {float(times[floor < 0][0])!r} in track {self.topic!r}: the first one "
                f"of this slice is at {float(self._times[0])!r}; pass nearest=True for the closest one"
            )
        positions: list[int] = floor.tolist()
        return positions

    def _closest(self, times: npt.NDArray[np.float64], floor: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        before = np.maximum(floor, 0)
        after = np.minimum(floor + 1, len(self) - 1)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # infinite times: not closer to the later row than to this one
            return np.where(self._times[after] - times < times - self._times[before], after, before)


def _to_times(value: Any, topic: str) -> npt.NDArray[np.float64]:
    """One time as an array of no dimension, several as one of one dimension."""
    try:
        array = np.asarray(value)
        times = array.astype(np.float64) if array.dtype.kind not in _NO_SECONDS else np.asarray(np.nan)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, for what is not in memory here
        times = np.asarray(np.nan)
    if times.ndim > 1 or np.isnan(times).any():
        raise InvalidValueError(
            f"track {topic!r}: {value!r:.80} is no time; pass seconds as a number, or a flat list or array of them"
        )
    return times
