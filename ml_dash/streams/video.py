"""``exp.files(...).save_video``: frames to a video among the run's files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ml_dash.errors import StorageError
from ml_dash.ipc import spill_file
from ml_dash.storage import layout
from ml_dash.storage.documents import to_json

if TYPE_CHECKING:
    from ml_dash.media.video import VideoFile
    from ml_dash.query.files import Record
    from ml_dash.streams.saving import FolderSaver


def save_video(
    folder: FolderSaver,
    frames: object,
    *,
    to: str,
    fps: float = 20,
    quality: int | None = None,
    description: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, object] | None = None,
    bindrs: Sequence[str] | None = None,
) -> Record:
    """Save frames as a video that a browser plays. The call takes as long as encoding does.

    The frames are taken one at a time and encoded in the calling thread, to a file in the run's folder; when the call
    returns, the video is safe. To not wait, append the frames to a stream and export that when there is time:
    ``exp.frames(topic).append(frame)``, later ``exp.frames(topic).export("clip.mp4")``.

    Args:
        folder: where it goes.
        frames: an array of shape TxHxW or TxHxWxC, a list, or an iterator of images as ``save_image`` takes them, all
            of one size. Floats outside [0, 1] are stretched over the range of all frames, or, from an iterator, over
            that of the first one.
        to: the file's name, ending in ``.mp4`` (H.264), ``.webm`` (VP9) or ``.gif``; it may begin with folders. In MP4
            and WebM an odd side gets its last row or column once more.
        fps: frames per second, above 1/600 and at most 1000 (50 for a GIF).
        quality: of MP4 and WebM, 1 to 100; default 75.
        description: what it is.
        tags: words to find it by.
        metadata: more about it.
        bindrs: resources or teams that it belongs to.

    Returns:
        The file's record; ``status`` is ``queued``, or ``refused`` if the video could not be written (counted).

    Raises:
        InvalidValueError: there are no frames, they differ in size, or the suffix, ``fps`` or ``quality`` is wrong.
        InvalidTypeError: a frame is no array of numbers.
        InvalidNameError: ``to`` cannot be a place on disk.
        MissingExtraError: PyAV is not installed.
        ExperimentError: the experiment is not open.
        Exception: whatever the iterator raises. Nothing is stored then.
    """
    from ml_dash.media.video import VideoFile, check_fps, check_video_name, check_video_quality
    from ml_dash.streams.saving import without_id

    kind = check_video_name(to)
    rate, level = check_fps(fps, kind), check_video_quality(quality)
    entry = folder._entry(to, description, tags, metadata, bindrs)
    owner = folder._owner
    owner.channel.require_open()
    staged = f"{layout.STAGING}/{spill_file.prefix(owner.writer_id)}{entry['id']}"
    path = os.path.join(owner.folder, staged)
    problem = _written(VideoFile(path, kind, rate, level), path, frames)
    if problem is not None:
        owner.channel.refuse(f"the video {to!r} was not saved: {without_id(problem, entry)}")
        return {**entry, "status": "refused"}
    return _handed_over(folder, entry, staged, path)


def _written(video: VideoFile, path: str, frames: object) -> OSError | None:
    """As ``_encoded``; unless all went well, nothing is left of the file."""
    problem: OSError | None = None
    try:
        with video:
            problem = _encoded(video, path, frames)
    except BaseException:
        _remove(path)
        raise
    if problem is not None:
        _remove(path)
    return problem


def _encoded(video: VideoFile, path: str, frames: object) -> OSError | None:
    """Encode all frames; what went wrong on our side, if anything did. What the user's frames raise is raised."""
    from ml_dash.media.video_frames import rgb_frames

    try:
        spill_file.make_file(path)
    except OSError as error:
        return error
    for pixels in rgb_frames(frames):
        try:
            video.add(pixels)
        except StorageError as error:
            return error
    try:
        video.finish()
    except StorageError as error:
        return error
    return None


def _handed_over(folder: FolderSaver, entry: Record, staged: str, path: str) -> Record:
    # Encoding is the user's own doing, and takes any time: only the hand-over counts as a cost of the tracker.
    began = time.perf_counter_ns()
    try:
        record = folder._publish(entry, to_json({**entry, "staged": staged}), b"", began)
    except Exception:  # not KeyboardInterrupt: the writer may have been told, and removes what nobody told it of
        _remove(path)
        raise
    if record["status"] != "queued":
        _remove(path)
    return record


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
