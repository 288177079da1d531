"""Reading frame streams: one frame, many in a row, the one of a time, or all of them as a video."""

from __future__ import annotations

import builtins
import operator
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_dash.errors import InvalidNameError, InvalidTypeError, InvalidValueError, MissingFileError, StorageError
from ml_dash.query.reader import Source
from ml_dash.storage import layout
from ml_dash.storage.journal import shards
from ml_dash.storage.names import check_topic

if TYPE_CHECKING:
    import numpy.typing as npt

    from ml_dash.query.frame_index import FrameIndex, FrameView

Entry = dict[str, Any]
Pixels = np.ndarray[Any, Any]

NAMED_STREAMS = 5
"""Streams that a message names."""


class FrameReader:
    """One frame stream of a run, as far as it can be read.

    It keeps 32 bytes of index per frame once something was read, so that reading one frame of many takes the same time
    wherever it lies. Iterating over it gives what ``iter()`` gives.

    Attributes:
        topic: its topic, a path such as ``camera/front``.
    """

    def __init__(self, source: Source, topic: str) -> None:
        self.topic = topic
        self._source = source
        self._what = f"frames {topic!r}"
        self._index: FrameIndex | None = None

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def __len__(self) -> int:
        """How many frames there are, those just appended included."""
        return self._view().count

    def __bool__(self) -> bool:
        """True, also while it is empty: asking for a stream must not wait for the disk."""
        return True

    def __iter__(self) -> Iterator[tuple[Entry, Pixels]]:
        return self.iter()

    def list(self) -> builtins.list[Entry]:
        """One entry per frame, in the order of their numbers, those just appended included.

        Returns:
            Dicts with ``seq`` (the number, from 0), ``timestamp`` (seconds), ``shard`` (the name of the tar file),
            ``offset`` and ``size`` (bytes) of the encoded frame in it, ``format`` (``jpeg`` or ``png``), ``shape``
            (rows, columns and perhaps channels), and the fields that were given to ``append``. Where several processes
            wrote the stream, ``seq`` is the position in the order of time, which grows while they write, and
            ``writer`` and ``writer_seq`` tell which one wrote it and what its number is there.

        Raises:
            ExperimentError: the experiment is closed.
        """
        view = self._view()
        return [*view.entries(range(view.count))]

    def read_bytes(self, seq: int) -> bytes:
        """The encoded bytes of a frame, a JPEG or PNG: one read at one place.

        Args:
            seq: its number, as ``list()`` has it.

        Raises:
            MissingFileError: there is no such frame, or its tar file was deleted.
            InvalidTypeError: it is no whole number.
        """
        return self._bytes_of(self._entry(seq))

    def read(self, seq: int) -> Pixels:
        """A frame as an array: HxW, HxWx3 (RGB) or HxWx4 (RGBA), uint8 or, from a 16-bit PNG, uint16.

        Args:
            seq: its number, as ``list()`` has it.

        Raises:
            MissingFileError: there is no such frame, or its tar file was deleted.
            InvalidTypeError: it is no whole number.
        """
        return self._decoded(self._entry(seq))

    def at(self, time: float, *, nearest: bool = False) -> tuple[Entry, Pixels]:
        """The frame that was shown at a time: the last one at or before it.

        Args:
            time: seconds of the stream's clock.
            nearest: take the one that is nearest instead, also if it came later; the earlier of two as near.

        Returns:
            Its entry as in ``list()``, and its pixels as from ``read``. Of frames with one timestamp, the last one.

        Raises:
            MissingFileError: there is no frame at or before that time (with ``nearest``: none at all).
            InvalidValueError: the time is no number.
        """
        moment = self._time("time", time)
        view = self._view()
        times = view.times()
        known = times if nearest else times[times <= moment]
        if not known.size:
            span = f"; they begin at {times.min()}" if times.size else f"; {self._others()}"
            raise MissingFileError(f"{self._what} has no frame at or before {moment}{span}")
        found = _nearest(known, moment) if nearest else known.max()
        (entry,) = view.entries([int(np.flatnonzero(times == found)[-1])])
        return entry, self._decoded(entry)

    def iter(
        self, start: float | None = None, end: float | None = None, step: int = 1
    ) -> Iterator[tuple[Entry, Pixels]]:
        """Frames in the order of their numbers, read and decoded one at a time.

        Args:
            start: the first time wanted, inclusive, in seconds of the stream's clock; None for no limit.
            end: the last time wanted, inclusive; None for no limit.
            step: take every ``step``-th of these, 1 or more.

        Yields:
            Pairs of an entry as in ``list()`` and pixels as from ``read``: the frames that there are at the call.

        Raises:
            InvalidValueError: a limit is no number, or the step no whole number from 1.
            MissingFileError: a tar file was deleted.
        """
        view, positions = self._chosen(start, end, step)
        return ((entry, self._decoded(entry)) for entry in view.entries(positions.tolist()))

    def export(
        self,
        to: str | os.PathLike[str],
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        step: int = 1,
        quality: int | None = None,
    ) -> str:
        """Make a video of the frames, which a browser plays. It takes as long as encoding does.

        The frames are read, decoded and encoded one at a time. The file appears when it is complete, or not at all; one
        of the same name is replaced. A terminal shows the progress.

        Args:
            to: the path of the video, ending in ``.mp4`` (H.264), ``.webm`` (VP9) or ``.gif``; its folder is made.
            fps: frames per second, above 1/600 and at most 1000 (50 for a GIF). If it is missing, the video runs as
                fast as the timestamps say: by the median of their steps if that is below a second, else 30.
            start: as in ``iter``.
            end: as in ``iter``.
            step: as in ``iter``.
            quality: of MP4 and WebM, 1 to 100; default 75.

        Returns:
            The absolute path of the video.

        Raises:
            InvalidValueError: an argument is out of range, the suffix is not known, there are no frames, or they are of
                different sizes.
            MissingExtraError: PyAV is not installed.
            MissingFileError: a tar file was deleted.
            StorageError: the video cannot be written.
        """
        from ml_dash.query.frame_export import export_video

        view, positions = self._chosen(start, end, step)
        times = view.times()[positions]
        frames = ((entry, self._decoded(entry)) for entry in view.entries(positions.tolist()))
        return export_video(self._what, frames, times, to, fps, quality)

    def _view(self) -> FrameView:
        from ml_dash.query.frame_index import FrameIndex  # not loaded by a training process that only logs

        self._source.flush()
        folder = os.path.join(self._source.folder, layout.frames_folder(self.topic))
        index = self._index
        if index is None or not index.is_for(folder):
            self._index = index = FrameIndex(folder)
        return index.refresh()

    def _entry(self, seq: int) -> Entry:
        try:
            number = operator.index(seq)
        except TypeError:
            raise InvalidTypeError(
                f"{self._what}: {seq!r:.80} is no frame number; pass a whole number, or a time to at()"
            ) from None
        view = self._view()
        position = view.position_of(number)
        if position is None:
            known = f"it has {view.count} of them" if view.count else self._others()
            raise MissingFileError(f"{self._what} has no frame {number}; {known}")
        (entry,) = view.entries([position])
        return entry

    def _others(self) -> str:
        """What to say where there is nothing: which streams there are."""
        known = [repr(about["topic"]) for about in FramesReader(self._source).list() if about["totalFrames"]]
        more = f" and {len(known) - NAMED_STREAMS} more" if len(known) > NAMED_STREAMS else ""
        return (
            f"the run has frames {', '.join(known[:NAMED_STREAMS])}{more}" if known else "the run has no frames at all"
        )

    def _bytes_of(self, entry: Entry) -> bytes:
        path = os.path.join(self._source.folder, layout.frames_folder(self.topic), entry["shard"])
        try:
            with open(path, "rb") as file:
                data = os.pread(file.fileno(), entry["size"], entry["offset"])
        except FileNotFoundError:
            raise MissingFileError(f"{self._what}: frame {entry['seq']} was in {path!r}, which is gone") from None
        if len(data) < entry["size"]:
            raise StorageError(f"{self._what}: {path!r} ends within frame {entry['seq']}; the file was cut")
        return data

    def _decoded(self, entry: Entry) -> Pixels:
        from ml_dash.media.decode import decode_image

        return decode_image(self._bytes_of(entry))

    def _chosen(self, start: object, end: object, step: object) -> tuple[FrameView, npt.NDArray[np.int64]]:
        first, last = self._limit("start", start, -np.inf), self._limit("end", end, np.inf)
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < 1:
            raise InvalidValueError(f"{self._what}: step={step!r:.80} must be a whole number from 1")
        view = self._view()
        times = view.times()
        return view, np.flatnonzero((times >= first) & (times <= last))[:: int(step)]

    def _limit(self, name: str, value: object, default: float) -> float:
        return default if value is None else self._time(name, value)

    def _time(self, name: str, value: Any) -> float:
        try:
            seconds = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, for more than one element
            seconds = np.nan
        if np.isnan(seconds):
            raise InvalidValueError(
                f"{self._what}: {name}={value!r:.80} is no number; pass seconds of the stream's clock"
            )
        return seconds


def _nearest(times: npt.NDArray[np.float64], moment: float) -> float:
    distances = np.abs(times - np.clip(moment, times.min(), times.max()))  # clipped, since all are as far from infinity
    return float(times[distances == distances.min()].min())


class FramesReader:
    """Every frame stream of a run, as far as they can be read: ``frames(topic)`` is one of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._readers: dict[str, FrameReader] = {}

    def __call__(self, topic: str) -> FrameReader:
        """The frame stream of that topic, a path such as ``camera/front``; one that does not exist has no frames.

        Raises:
            InvalidNameError: the topic cannot be a place on disk.
        """
        check_topic(topic)
        return self._readers.setdefault(topic, FrameReader(self._source, topic))

    def list(self) -> builtins.list[dict[str, Any]]:
        """The frame streams of the run, by topic, with what was just appended.

        Returns:
            Dicts with ``topic``, ``totalFrames``, ``sizeBytes`` (of all encoded frames), ``firstTimestamp`` and
            ``lastTimestamp`` (the least and the greatest, None if there is no frame).
        """
        self._source.flush()
        root = os.path.join(self._source.folder, "frames")
        folders = sorted(folder for folder, _, _ in os.walk(root) if shards(folder, "data"))
        return [about for folder in folders if (about := self._about(os.path.relpath(folder, root))) is not None]

    def _about(self, topic: str) -> dict[str, Any] | None:
        try:
            view = self(topic)._view()
        except InvalidNameError:  # somebody else's folder
            return None
        times = view.times()
        return {
            "topic": topic,
            "totalFrames": view.count,
            "sizeBytes": view.frame_bytes,
            "firstTimestamp": float(times.min()) if times.size else None,
            "lastTimestamp": float(times.max()) if times.size else None,
        }
