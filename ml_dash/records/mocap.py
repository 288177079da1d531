"""The ``mocap`` document: a track as frames of an animation, for motion capture tools. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DEFAULT_FPS = 30
"""Frames per second of a track whose metadata has no ``fps``."""

_TIMES = ("timestamp", "time")


def mocap_document(topic: str, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a track's rows as one document.

    Args:
        topic: the track's topic.
        rows: sorted by ``timestamp``, which each of them has.
        about: the track's metadata.json; None if there is no such track.

    Returns:
        ``version``; ``metadata`` (``topic``, ``description``, ``tags``, ``fps``, ``duration`` in seconds,
        ``frameCount``, ``startTime``, ``endTime``); ``channels``, the sorted names of all fields; ``frames``, one per
        row: its ``time`` and its fields. A field named ``time`` is left out for that of the frame.
    """
    metadata: dict[str, Any] = {"topic": topic, "duration": 0.0, "frameCount": 0}
    if rows:
        document = about or {}
        more = document.get("metadata")
        fps = more.get("fps") if isinstance(more, Mapping) else None
        first, last = rows[0]["timestamp"], rows[-1]["timestamp"]
        metadata = {
            "topic": topic,
            "description": document.get("description"),
            "tags": document.get("tags") or [],
            "fps": fps if isinstance(fps, (int, float)) and not isinstance(fps, bool) else DEFAULT_FPS,
            "duration": last - first,
            "frameCount": len(rows),
            "startTime": first,
            "endTime": last,
        }
    elif about is not None:
        metadata |= {"startTime": None, "endTime": None}
    frames = [
        {"time": row["timestamp"], **{name: value for name, value in row.items() if name not in _TIMES}} for row in rows
    ]
    channels = sorted({name for row in rows for name in row if name not in _TIMES})
    return {"version": "1.0", "metadata": metadata, "channels": channels, "frames": frames}
