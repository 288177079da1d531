"""Export the frames of a stream to a video file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_dash._progress import ProgressLine
from ml_dash.errors import InvalidTypeError, InvalidValueError, StorageError
from ml_dash.media.video import FASTEST, VideoFile, check_fps, check_video_name, check_video_quality
from ml_dash.media.video_frames import rgb_frames
from ml_dash.storage.atomic import replacing_path
from ml_dash.storage.names import kind_of

DEFAULT_FPS = 30
"""Frame rate where the timestamps are no seconds of a recording: numbers of steps, or a picture now and then."""

FASTEST_GUESS = 240
"""Frame rate above which the timestamps cannot be seconds: no camera or screen is faster."""


def export_video(
    what: str,
    frames: Iterable[tuple[dict[str, Any], np.ndarray[Any, Any]]],
    times: npt.NDArray[np.float64],
    to: str | os.PathLike[str],
    fps: object,
    quality: object,
) -> str:
    """Encode frames to a file that appears when it is complete.

    Args:
        what: the stream's name for error texts.
        frames: pairs of an index entry and pixels.
        times: timestamps of the frames in seconds.
        to: path of the video.
        fps: frames per second, or None to guess it from the times.
        quality: 1 to 100, or None for the default.

    Returns:
        The absolute path of the video.

    Raises:
        InvalidValueError: an argument is out of range, there are no frames, or their sizes differ.
        MissingExtraError: PyAV is not installed.
        StorageError: the video cannot be written.
    """
    if not isinstance(to, (str, os.PathLike)):
        raise InvalidTypeError(f"{what}: to={to!r:.80} is {kind_of(to)}, not a path")
    path = os.path.abspath(os.fsdecode(to))
    kind = check_video_name(path)
    rate = check_fps(guessed_fps(times, FASTEST[kind]) if fps is None else fps, kind)
    if not times.size:
        raise InvalidValueError(f"{what} has no frames to export; check the topic, start= and end=")
    folder = os.path.dirname(path)
    exported = 0
    with (
        replacing_path(path, rename=_put_in_place) as temporary,
        VideoFile(temporary, kind, rate, check_video_quality(quality)) as video,
        ProgressLine(lambda: f"ml_dash: exporting, {exported} of {times.size} frames") as progress,
    ):
        _make_folder(folder)
        for pixels in rgb_frames(_check_sizes(what, frames)):
            video.add(pixels)
            exported += 1
            progress.update()
        video.finish()
    return path


def guessed_fps(times: npt.NDArray[np.float64], fastest: int) -> float:
    """Return the frame rate at which a video is as fast as the recording.

    Args:
        times: timestamps of the frames, which may be seconds.
        fastest: highest frame rate of the format.
    """
    steps = np.diff(times)
    step = float(np.median(steps)) if steps.size else 0.0
    if 1 / FASTEST_GUESS <= step < 1:
        return min(float(round(1 / step, 2)), fastest)
    return DEFAULT_FPS


def _check_sizes(
    what: str, frames: Iterable[tuple[dict[str, Any], np.ndarray[Any, Any]]]
) -> Iterator[np.ndarray[Any, Any]]:
    size: tuple[int, ...] = ()
    for entry, pixels in frames:
        size = size or pixels.shape[:2]
        if pixels.shape[:2] != size:
            raise InvalidValueError(
                f"{what}: frame {entry['seq']} at {entry['timestamp']} is {pixels.shape[1]}x{pixels.shape[0]} pixels, "
                f"the first one {size[1]}x{size[0]}: all frames of a video have one size; export parts with start, end"
            )
        yield pixels


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"cannot make the video's folder: {error.strerror}", folder) from None


def _put_in_place(temporary: str, path: str) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(error.errno, f"cannot put the video in place: {error.strerror}", path) from None
