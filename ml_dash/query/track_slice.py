"""Rows of a track in memory: iterate over them, count them, find the row of a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingEntryError

if TYPE_CHECKING:
    import numpy.typing as npt

Entry = dict[str, Any]

_NO_SECONDS = "mMc"
"""Kinds of dtypes that numpy turns into floats with another meaning: dates, time spans, complex numbers."""


class TrackSlice(Sequence[Entry]):
    """The rows of a track at the time of the call of ``slice()``, sorted by time.

    A slice does not change when more is appended, and stays usable when the run is closed. Iterate over it as often as
    needed, take its length, or index it by position: ``window[0]``, ``window[-1]``, ``window[10:20]`` (a list).

    Attributes:
        topic: the track's topic.
        start_timestamp: lower bound of the slice; None if it has none.
        end_timestamp: upper bound of the slice; None if it has none.

    Args:
        topic: the track's topic.
        start_timestamp: lower bound of the slice.
        end_timestamp: upper bound of the slice.
        rows: dicts with a ``timestamp``, sorted by it, no two with the same one.
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
        """The times of the rows: float64, shape ``(len(self),)``, ascending, read-only."""
        return self._times

    def find_by_time(
        self,
        timestamp: Any,
        neighborhood_size: int = 10,  # noqa: ARG002 - callers of the published client give it
        *,
        nearest: bool = False,
    ) -> Any:
        """Find the row that was valid at a time: the last one whose timestamp is not after it.

        Args:
            timestamp: seconds of the track's clock; a list, tuple or one-dimensional array of them gives a list.
            neighborhood_size: has no effect, since the search needs no limit.
            nearest: take the row that is closest in time, before or after; of two equally close rows the earlier one.

        Returns:
            The row as a dict, or a list of rows, one for each time.

        Raises:
            MissingEntryError: the slice is empty, or a time is before its first row and ``nearest`` is False. It is
                also a ``KeyError``.
            InvalidValueError: a time is no number.
        """
        times = _to_times(timestamp, self.topic)
        rows = [self._rows[position] for position in self._positions(np.atleast_1d(times), nearest)]
        return rows if times.ndim else rows[0]

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
        # An infinite time is not closer to the later row.
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(self._times[after] - times < times - self._times[before], after, before)


def _to_times(value: Any, topic: str) -> npt.NDArray[np.float64]:
    """Return one time as an array without dimensions, several as an array of one dimension."""
    try:
        array = np.asarray(value)
        times = array.astype(np.float64) if array.dtype.kind not in _NO_SECONDS else np.asarray(np.nan)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a torch tensor on a GPU
        times = np.asarray(np.nan)
    if times.ndim > 1 or np.isnan(times).any():
        raise InvalidValueError(
            f"track {topic!r}: {value!r:.80} is no time; pass seconds as a number, or a flat list or array of them"
        )
    return times
