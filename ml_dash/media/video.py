"""Encode frames to a video file: H.264 in MP4, VP9 in WebM, or GIF.

MP4 and WebM hold 8-bit YUV 4:2:0 with the colours of BT.709, which every browser plays. That needs even sides: the last
row or column is repeated if there is an odd number. MP4 has its index in front, so that playback begins before the whole
file is loaded. A GIF has a palette of 256 colours for each frame, repeats for ever, and keeps odd sides.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingExtraError, StorageError
from ml_dash.media.frames import check_quality
from ml_dash.media.video_frames import RgbFrame
from ml_dash.settings import usable_processors

KIND_OF_SUFFIX = {".mp4": "mp4", ".webm": "webm", ".gif": "gif"}
_CODECS = {"mp4": "libx264", "webm": "libvpx-vp9", "gif": "gif"}

DEFAULT_QUALITY = 75
"""A constant rate factor of 20 for x264: hard to tell from the original, at a tenth of the size of JPEGs."""

FASTEST = {"mp4": 1000, "webm": 1000, "gif": 50}
"""Frames per second at most: WebM counts milliseconds. A GIF counts hundredths of a second, and browsers slow down a GIF
that shows frames for a single hundredth."""

LONGEST_FRAME_S = 600
"""Seconds that one frame may be shown: a GIF's counter of hundredths ends at 655 s."""

FPS_DENOMINATOR = 1001
"""Largest denominator of a rate: a float becomes the nearest fraction, and 29.97 that of television."""

LARGEST_SIDE = {"mp4": 16_384, "webm": 16_384, "gif": 65_535}
"""Pixels: the limits of libx264 and browsers, and of the 16 bits in a GIF's header."""

MAX_THREADS = 8
"""Threads of an encoder: more gain little at the sizes of a camera, and each holds frames of its own."""

KEYFRAME_S, MOST_FRAMES_TO_KEYFRAME = 2, 240
"""Seconds and frames between two key frames at most, so that a player can seek quickly."""

_BT709, _LIMITED_RANGE = 1, 1  # the numbers of ISO/IEC 23091-2, and libav's for the range 16..235

# The caller waits: x264 at "veryfast" takes half as long as its default for files of about the same size, and VP9 in
# "realtime" a third to a tenth as long as in its default.
_OPTIONS = {
    "mp4": {"preset": "veryfast"},
    "webm": {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "tile-columns": "2", "b:v": "0"},
    "gif": {},
}
_CONTAINER_OPTIONS = {"mp4": {"movflags": "+faststart"}, "webm": {}, "gif": {"loop": "0"}}


def check_video_name(name: object) -> str:
    """Return the kind of video that a file's name asks for.

    Args:
        name: A file name or path that ends in ``.mp4``, ``.webm`` or ``.gif``, in any case.

    Returns:
        ``"mp4"``, ``"webm"`` or ``"gif"``.

    Raises:
        InvalidTypeError: The name is not a str.
        InvalidValueError: It ends in something else.
    """
    if not isinstance(name, str):
        raise InvalidTypeError(f"a video's name is a str, not {type(name).__name__}: {name!r:.80}")
    kind = KIND_OF_SUFFIX.get(os.path.splitext(name)[1].lower())
    if kind is None:
        raise InvalidValueError(f"{name!r} is not the name of a video; supported are {', '.join(KIND_OF_SUFFIX)}")
    return kind


def check_fps(fps: object, kind: str) -> Fraction:
    """Check a frame rate.

    Args:
        fps: Frames per second, an int, float or Fraction: above 1/600, at most 1000, or 50 for a GIF.
        kind: ``"mp4"``, ``"webm"`` or ``"gif"``.

    Returns:
        It as a fraction.

    Raises:
        InvalidValueError: It is no number, or out of range.
    """
    rate = _as_fraction(fps)
    if rate is not None and Fraction(1, LONGEST_FRAME_S) <= rate <= FASTEST[kind]:
        return rate
    raise InvalidValueError(
        f"fps is {fps!r:.80}; give frames per second, from 1/{LONGEST_FRAME_S} to {FASTEST[kind]} for {kind}"
    )


def check_video_quality(quality: object) -> int:
    """Check a quality as `check_quality` does; None is the default."""
    return DEFAULT_QUALITY if quality is None else check_quality(quality)


class VideoFile:
    """A video that is being written. As a context manager it removes the file unless `finish` was called.

    For one thread at a time. The encoder runs in the calling thread and in threads of its own, without the GIL.

    Args:
        path: Absolute path of the file; one that exists is replaced.
        kind: As from `check_video_name`.
        fps: As from `check_fps`.
        quality: As from `check_video_quality`; no effect on a GIF.

    Raises:
        MissingExtraError: PyAV is not installed, or has no encoder for that kind.
    """

    def __init__(self, path: str, kind: str, fps: Fraction, quality: int) -> None:
        self._av = _load_av(kind)
        self._path = path
        self._kind = kind
        self._fps = fps
        self._quality = quality
        self._container: Any = None
        self._stream: Any = None
        self._graph: Any = None
        # Not frame.reformat, which shares one between videos: a forked child would wait for its threads for ever.
        self._reformatter: Any = self._av.video.reformatter.VideoReformatter()
        self._taken = 0
        self._encoded = 0
        self._finished = False

    def add(self, pixels: RgbFrame) -> None:
        """Encode one more frame.

        Args:
            pixels: uint8 RGB of shape ``(H, W, 3)``, of the size of the first frame. It is not kept.

        Raises:
            InvalidValueError: A side is longer than the format can hold.
            StorageError: The file cannot be written, or the encoder failed.
        """
        if max(pixels.shape) > LARGEST_SIDE[self._kind]:
            raise InvalidValueError(
                f"{self._kind} has sides of at most {LARGEST_SIDE[self._kind]} pixels, "
                f"not {pixels.shape[1]}x{pixels.shape[0]}; make the frames smaller"
            )
        with self._as_storage_error():
            pixels = np.ascontiguousarray(_coarse(pixels) if self._kind == "gif" else _padded_to_even(pixels))
            if self._container is None:
                self._open(pixels.shape[0], pixels.shape[1])
            frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = self._taken, 1 / self._fps
            self._taken += 1
            self._encode(frame)

    def finish(self) -> None:
        """Write the frames that the encoder still holds, and close the file.

        Raises:
            InvalidValueError: No frame was added.
            StorageError: The file cannot be written.
        """
        if self._container is None:
            raise InvalidValueError("no frames: a video has at least one")
        with self._as_storage_error():
            if self._graph is not None:
                self._encode(None)
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._finished = True

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._finished or self._container is None:
            return
        # In this order: closing an MP4 rewrites it, unless its file is gone.
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        with contextlib.suppress(Exception):  # the file is removed in any case
            self._container.close()

    def _open(self, height: int, width: int) -> None:
        options = _CONTAINER_OPTIONS[self._kind]
        self._container = self._av.open(self._path, "w", format=self._kind, options=options)
        options = {**_OPTIONS[self._kind], **_rate_factor(self._kind, self._quality)}
        self._stream = self._container.add_stream(_CODECS[self._kind], rate=self._fps, options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "pal8" if self._kind == "gif" else "yuv420p"
        context = self._stream.codec_context
        context.time_base = 1 / self._fps
        if self._kind == "gif":
            self._graph = _PaletteGraph(self._av, height, width, self._fps)
            return
        context.thread_type, context.thread_count = "FRAME", min(MAX_THREADS, usable_processors())
        context.gop_size = min(MOST_FRAMES_TO_KEYFRAME, math.ceil(KEYFRAME_S * self._fps))
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED_RANGE

    def _encode(self, frame: Any) -> None:
        if self._graph is not None:
            frames = self._graph.push(frame)
        else:
            yuv = {"format": "yuv420p", "dst_colorspace": "ITU709", "dst_color_range": "MPEG"}
            frames = (self._reformatter.reformat(frame, **yuv),)
        for converted in frames:
            converted.pts, converted.time_base = self._encoded, 1 / self._fps
            self._encoded += 1
            self._container.mux(self._stream.encode(converted))

    @contextlib.contextmanager
    def _as_storage_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the library raises many kinds
            raise StorageError(f"the video {self._path!r} could not be written: {error}") from error


class _PaletteGraph:
    """libav's filters that choose 256 colours for each frame and dither it to them.

    The dither is ordered, which does not move from frame to frame. The usual error diffusion does, and doubles the size.
    """

    def __init__(self, av: Any, height: int, width: int, fps: Fraction) -> None:
        import av.filter as filters

        self._nothing_yet = (av.BlockingIOError, av.EOFError)
        graph: Any = filters.Graph()
        self._source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=1 / fps)
        split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single")
        painted = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
        self._sink = graph.add("buffersink")
        self._source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(painted, 1, 0)
        palette.link_to(painted, 0, 1)
        painted.link_to(self._sink)
        graph.configure()
        self._graph = graph  # the filters do not keep it alive

    def push(self, frame: Any) -> Iterator[Any]:
        """Push a frame, or None at the end, and yield the frames that are ready."""
        self._source.push(frame)
        while True:
            try:
                yield self._sink.pull()
            except self._nothing_yet:
                return


def _load_av(kind: str) -> Any:
    try:
        import av
        import av.codec
    except ImportError:
        raise MissingExtraError("videos need PyAV; run: pip install av") from None
    try:
        av.codec.Codec(_CODECS[kind], "w")
    except Exception as error:
        raise MissingExtraError(
            f"this PyAV has no encoder {_CODECS[kind]} for {kind}; its wheels from PyPI do: "
            "pip install --force-reinstall av"
        ) from error
    return av


def _as_fraction(fps: object) -> Fraction | None:
    """Return a rate as a fraction; None if it is not a finite number."""
    if isinstance(fps, (bool, np.bool_, str)):
        return None
    try:
        rate = fps if isinstance(fps, Fraction) else Fraction(float(fps))  # type: ignore[arg-type]  # float() raises for what is not a number
    except (TypeError, ValueError, OverflowError):
        return None
    return rate.limit_denominator(FPS_DENOMINATOR)


def _rate_factor(kind: str, quality: int) -> dict[str, str]:
    """Map a quality of 1 to 100 (best) to the encoder's constant rate factor, 0 (best) to 51 for H.264 and 63 for VP9."""
    steepness = {"mp4": 0.4, "webm": 0.53}.get(kind)
    return {} if steepness is None else {"crf": str(round(10 + (100 - quality) * steepness))}


def _padded_to_even(pixels: RgbFrame) -> RgbFrame:
    odd_rows, odd_columns = pixels.shape[0] % 2, pixels.shape[1] % 2
    if not (odd_rows or odd_columns):
        return pixels
    return np.pad(pixels, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")


def _coarse(pixels: RgbFrame) -> RgbFrame:
    """Round each sample to six bits: no difference is seen in 256 colours, and they are found 3 times faster."""
    return (pixels & np.uint8(0xFC)) | (pixels >> np.uint8(6))
