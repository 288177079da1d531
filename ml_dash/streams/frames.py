"""Frame streams: images with timestamps, packed into tar shards instead of one file each."""

from __future__ import annotations

import itertools
import time
from typing import Any, ClassVar

from ml_dash.errors import InvalidNameError, InvalidValueError
from ml_dash.ipc.frame_format import FrameFormat, check_image
from ml_dash.query.frames import FrameReader, FramesReader
from ml_dash.records.record import Kind
from ml_dash.records.values import to_plain
from ml_dash.storage import reading
from ml_dash.storage.documents import to_json
from ml_dash.storage.names import check_topic
from ml_dash.streams.base import Owner, RunStream, Stream, check_time_name, to_timestamp

_FRAME = int(Kind.FRAME)
_RESERVED_FIELDS = frozenset(("seq", "timestamp", "shape", "shard", "offset", "size", "frame", "writer", "writer_seq"))
_FORMATS = {"jpeg": "jpeg", "jpg": "jpeg", "png": "png"}


class FrameStream(Stream, FrameReader):
    """One frame stream. Get it as ``exp.frames("camera/front")``; it may be kept and used from any thread."""

    _instead: ClassVar[dict[str, str]] = dict.fromkeys(("log", "save"), "append(frame)")

    def __init__(self, owner: Owner, topic: str) -> None:
        super().__init__(owner, topic)
        self._owner = owner
        self._key = topic.encode()
        self._frame_format: FrameFormat | None = None
        self._numbers: dict[str, itertools.count[int]] = {}

    def append(
        self, frame: object, *, _ts: Any = None, format: str = "jpeg", quality: int = 95, **fields: Any
    ) -> FrameStream:
        """Append one frame. The call copies the pixels; the writer process encodes and packs them.

        Args:
            frame: an array of shape HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA), a torch tensor or a Pillow image; see
                ``exp.files(...).save_image`` for the types of values.
            _ts: the timestamp in seconds of any clock; default the present time, in seconds since 1970.
            format: ``jpeg`` or ``png``.
            quality: of JPEG, 1 to 100.
            **fields: small values that are stored with the frame's index entry.

        Returns:
            The stream.

        Raises:
            InvalidValueError: the shape, format, quality or ``_ts`` is wrong.
            InvalidTypeError: ``frame`` is no array of numbers, or a field cannot be stored.
            InvalidNameError: a field has a reserved name, such as ``seq``; or ``ts`` in a call without ``_ts``.
            ExperimentError: the experiment is not open.
        """
        started = time.perf_counter_ns()
        when = time.time()
        image_format = _FORMATS.get(str(format))
        if image_format is None:
            raise InvalidValueError(f"{self._what}: format={format!r} is not known; use 'jpeg' or 'png'")
        frame_format, pixels = self._frame_format, frame
        if frame_format is None or not frame_format.matches(frame, image_format, quality):
            pixels, frame_format = check_image(frame, image_format, quality)
            self._frame_format = frame_format
        about: dict[str, Any] = {
            "timestamp": when if _ts is None else to_timestamp(_ts, self._what),
            "shape": frame_format.shape,
            **(self._checked(fields, timed=_ts is not None) if fields else {}),
            "seq": self._next_number(),  # last, so that a wrong call takes no number
        }
        start = to_json(about)[:-1] + b","
        self._owner.channel.publish_frame(_FRAME, self._key, start, pixels, frame_format, when, started)
        return self

    def flush(self) -> FrameStream:
        """Wait until everything appended so far is on disk."""
        self._owner.flush()
        return self

    def _checked(self, fields: dict[str, Any], *, timed: bool) -> dict[str, Any]:
        reserved = next((name for name in fields if name in _RESERVED_FIELDS), None)
        if reserved is not None:
            advice = "did you mean _ts=...?" if reserved == "timestamp" else "choose another name"
            raise InvalidNameError(f"{self._what}: the field {reserved!r} is the index line's own; {advice}")
        if not timed:
            check_time_name(fields, self._what)
        plain: dict[str, Any] = to_plain(fields, self._what)
        return plain

    def _next_number(self) -> int:
        numbers = self._numbers.get(self.topic)
        if numbers is None:
            entries = reading.read_frames(self._owner.folder, self.topic)
            first = max((entry.get("seq", -1) for entry in entries), default=-1) + 1
            # setdefault: two threads that come here at once get the same counter.
            numbers = self._numbers.setdefault(self.topic, itertools.count(first))
        return next(numbers)


class Frames(RunStream, FramesReader):
    """Every frame stream of a run: ``exp.frames(topic)`` is one of them."""

    _instead: ClassVar[dict[str, str]] = dict.fromkeys(("append", "log", "save"), "exp.frames(topic).append(frame)")

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._owner = owner
        self._streams: dict[str, FrameStream] = {}
        owner.before_open.append(self._forget_numbers)

    def __call__(self, topic: str) -> FrameStream:
        """Return the frame stream of a topic.

        Args:
            topic: a path such as ``camera/front``.

        Raises:
            InvalidNameError: the topic cannot be a path on disk.
        """
        stream = self._streams.get(topic) if type(topic) is str else None
        if stream is None:
            check_topic(topic)
            stream = self._streams.setdefault(topic, FrameStream(self._owner, topic))
        return stream

    def flush(self) -> Frames:
        """Wait until everything appended so far is on disk."""
        self._owner.flush()
        return self

    def _forget_numbers(self) -> None:
        # Another process may have written to the run meanwhile: the next frame's number is read from the disk.
        for stream in list(self._streams.values()):
            stream._numbers.clear()  # noqa: SLF001 - classes of one module
