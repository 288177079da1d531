"""Read frame streams: one frame by number or time, a range of frames, or all of them as a video."""

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
from ml_dash.storage.beneath import UnsafeFileError, open_file, walk
from ml_dash.storage.names import check_topic

if TYPE_CHECKING:
    import numpy.typing as npt

    from ml_dash.query.frame_index import FrameIndex, FrameView

Entry = dict[str, Any]
Pixels = np.ndarray[Any, Any]

FRAME_BYTES = 1 << 30
"""The largest encoded frame that is read."""

NAMED_STREAMS = 5
"""Streams that an error names."""


class FrameReader:
    """One frame stream of a run.

    It keeps 32 bytes of index for each frame after the first read, so that reading any one frame takes the same time.
    Iterating over it is calling ``iter()``.

    Attributes:
        topic: the stream's topic, a path such as ``camera/front``.
    """

    def __init__(self, source: Source, topic: str) -> None:
        self.topic = topic
        self._source = source
        self._what = f"frames {topic!r}"
        self._index: FrameIndex | None = None

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def __len__(self) -> int:
        """Return the number of frames, including frames that were just appended."""
        return self._view().count

    def __bool__(self) -> bool:
        """Return True, also for an empty stream: a test of the object must not wait for the disk."""
        return True

    def __iter__(self) -> Iterator[tuple[Entry, Pixels]]:
        return self.iter()

    def list(self) -> builtins.list[Entry]:
        """Return one entry for each frame, in the order of their numbers, including frames that were just appended.

        Returns:
            Dicts with ``seq`` (the number, from 0), ``timestamp`` (seconds), ``shard`` (the name of the tar file),
            ``offset`` and ``size`` (bytes) of the encoded frame in it, ``format`` (``jpeg`` or ``png``), ``shape``
            (rows, columns and perhaps channels), and the fields that were given to ``append``. Where several processes
            wrote the stream, ``seq`` is the position in the order of time, which may change while they write, and
            ``writer`` and ``writer_seq`` are the name of the frame's writer and the frame's number there.

        Raises:
            ExperimentError: the experiment is closed.
        """
        view = self._view()
        return [*view.entries(range(view.count))]

    def read_bytes(self, seq: int) -> bytes:
        """Read the encoded bytes of a frame, a JPEG or PNG, with a single read of the disk.

        Args:
            seq: the frame's number, as in ``list()``.

        Returns:
            The content of the JPEG or PNG file.

        Raises:
            MissingFileError: there is no such frame, or its tar file was deleted.
            InvalidTypeError: ``seq`` is no whole number.
        """
        return self._read_encoded(self._entry(seq))

    def read(self, seq: int) -> Pixels:
        """Read a frame as an array: HxW, HxWx3 (RGB) or HxWx4 (RGBA), uint8 or, from a 16-bit PNG, uint16.

        Args:
            seq: the frame's number, as in ``list()``.

        Returns:
            The pixels.

        Raises:
            MissingFileError: there is no such frame, or its tar file was deleted.
            InvalidTypeError: ``seq`` is no whole number.
        """
        return self._decode(self._entry(seq))

    def at(self, time: float, *, nearest: bool = False) -> tuple[Entry, Pixels]:
        """Read the frame of a time: the last one at or before it.

        Args:
            time: seconds of the stream's clock.
            nearest: take the frame that is nearest in time, before or after; of two equally near frames the earlier one.

        Returns:
            The frame's entry as in ``list()``, and its pixels as from ``read``. Of frames with the same timestamp it is
            the last one.

        Raises:
            MissingFileError: there is no frame at or before that time (with ``nearest``: none at all).
            InvalidValueError: the time is no number.
        """
        seconds = self._check_time("time", time)
        view = self._view()
        times = view.times()
        candidates = times if nearest else times[times <= seconds]
        if not candidates.size:
            hint = f"they begin at {times.min()}" if times.size else self._other_streams()
            raise MissingFileError(f"{self._what} has no frame at or before {seconds}; {hint}")
        match = _nearest(candidates, seconds) if nearest else candidates.max()
        (entry,) = view.entries([int(np.flatnonzero(times == match)[-1])])
        return entry, self._decode(entry)

    def iter(
        self, start: float | None = None, end: float | None = None, step: int = 1
    ) -> Iterator[tuple[Entry, Pixels]]:
        """Iterate over frames in the order of their numbers, which are read and decoded one at a time.

        Args:
            start: first time to include, in seconds of the stream's clock; None for no bound.
            end: last time to include; None for no bound.
            step: take every ``step``-th of these frames, 1 or more.

        Yields:
            Pairs of an entry as in ``list()`` and pixels as from ``read``, of the frames that existed at the call.

        Raises:
            InvalidValueError: a bound is no number, or the step no whole number from 1.
            MissingFileError: a tar file was deleted.
        """
        view, positions = self._select(start, end, step)
        return ((entry, self._decode(entry)) for entry in view.entries(positions.tolist()))

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
        """Make a video of the frames that browsers play. The call returns when the video is encoded.

        The frames are read, decoded and encoded one at a time. The file appears when it is complete, or not at all; an
        existing file is replaced. A terminal shows the progress.

        Args:
            to: path of the video, ending in ``.mp4`` (H.264), ``.webm`` (VP9) or ``.gif``; its folder is made.
            fps: frames per second, above 1/600 and at most 1000 (50 for a GIF). Default: the rate of the timestamps, by
                the median of their steps, or 30 if that is a second or more.
            start: as in ``iter``.
            end: as in ``iter``.
            step: as in ``iter``.
            quality: quality of MP4 and WebM, 1 to 100; default 75.

        Returns:
            The absolute path of the video.

        Raises:
            InvalidValueError: an argument is out of range, the suffix is not known, there are no frames, or their sizes
                differ.
            MissingExtraError: PyAV is not installed.
            MissingFileError: a tar file was deleted.
            StorageError: the video cannot be written.
        """
        from ml_dash.query.frame_export import export_video

        view, positions = self._select(start, end, step)
        times = view.times()[positions]
        frames = ((entry, self._decode(entry)) for entry in view.entries(positions.tolist()))
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
            hint = f"it has {view.count} of them" if view.count else self._other_streams()
            raise MissingFileError(f"{self._what} has no frame {number}; {hint}")
        (entry,) = view.entries([position])
        return entry

    def _other_streams(self) -> str:
        """Return the end of an error text about an empty stream: the streams with frames."""
        topics = [repr(stream["topic"]) for stream in FramesReader(self._source).list() if stream["totalFrames"]]
        if not topics:
            return "the run has no frames at all"
        more = f" and {len(topics) - NAMED_STREAMS} more" if len(topics) > NAMED_STREAMS else ""
        return f"the run has frames {', '.join(topics[:NAMED_STREAMS])}{more}"

    def _read_encoded(self, entry: Entry) -> bytes:
        path = os.path.join(self._source.folder, layout.frames_folder(self.topic), entry["shard"])
        try:
            with open_file(path) as file:
                # No more is asked for than there is: the index may claim any size, and it would be allocated.
                there = max(0, os.fstat(file.fileno()).st_size - entry["offset"])
                size = min(entry["size"], there, FRAME_BYTES)
                data = os.pread(file.fileno(), size, entry["offset"]) if size else b""
        except FileNotFoundError:
            raise MissingFileError(f"{self._what}: frame {entry['seq']} was in {path!r}, which is gone") from None
        except UnsafeFileError as error:
            raise StorageError(f"{self._what}: {path!r} is not read: {error.strerror}") from None
        if entry["size"] > FRAME_BYTES:
            raise StorageError(f"{self._what}: frame {entry['seq']} is larger than {FRAME_BYTES:,} bytes")
        if len(data) < entry["size"]:
            raise StorageError(f"{self._what}: {path!r} ends within frame {entry['seq']}; the file was cut")
        return data

    def _decode(self, entry: Entry) -> Pixels:
        from ml_dash.media.decode import decode_image

        data = self._read_encoded(entry)
        try:
            return decode_image(data, entry.get("shape"))
        except InvalidValueError as error:
            raise InvalidValueError(f"{self._what}: frame {entry['seq']} is damaged: {error}") from error

    def _select(self, start: object, end: object, step: object) -> tuple[FrameView, npt.NDArray[np.int64]]:
        """Return a view of all frames, and the positions of those in a range of time."""
        first = -np.inf if start is None else self._check_time("start", start)
        last = np.inf if end is None else self._check_time("end", end)
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < 1:
            raise InvalidValueError(f"{self._what}: step={step!r:.80} must be a whole number from 1")
        view = self._view()
        times = view.times()
        return view, np.flatnonzero((times >= first) & (times <= last))[:: int(step)]

    def _check_time(self, name: str, value: Any) -> float:
        try:
            seconds = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a torch tensor of several elements
            seconds = np.nan
        if np.isnan(seconds):
            raise InvalidValueError(
                f"{self._what}: {name}={value!r:.80} is no number; pass seconds of the stream's clock"
            )
        return seconds


def _nearest(times: npt.NDArray[np.float64], time: float) -> float:
    distances = np.abs(times - np.clip(time, times.min(), times.max()))  # clipped, since all are as far from infinity
    return float(times[distances == distances.min()].min())


class FramesReader:
    """The frame streams of a run. Call it with a topic to get one of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._readers: dict[str, FrameReader] = {}

    def __call__(self, topic: str) -> FrameReader:
        """Return the frame stream of that topic, a path such as ``camera/front``; one that does not exist is empty.

        Raises:
            InvalidNameError: the topic cannot be a path on disk.
        """
        check_topic(topic)
        return self._readers.setdefault(topic, FrameReader(self._source, topic))

    def list(self) -> builtins.list[dict[str, Any]]:
        """Return the frame streams of the run, sorted by topic, including frames that were just appended.

        Returns:
            Dicts with ``topic``, ``totalFrames``, ``sizeBytes`` (of all encoded frames), ``firstTimestamp`` and
            ``lastTimestamp`` (the least and the greatest; None without frames).
        """
        self._source.flush()
        root = os.path.join(self._source.folder, "frames")
        folders = sorted(folder for folder, names in walk(root) if layout.has_data(names))
        streams = []
        for topic in (os.path.relpath(folder, root) for folder in folders):
            try:
                view = self(topic)._view()  # noqa: SLF001 - classes of one module
            except InvalidNameError:  # a folder of another program
                continue
            times = view.times()
            streams.append(
                {
                    "topic": topic,
                    "totalFrames": view.count,
                    "sizeBytes": view.frame_bytes,
                    "firstTimestamp": float(times.min()) if times.size else None,
                    "lastTimestamp": float(times.max()) if times.size else None,
                }
            )
        return streams
