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
    return {
        "version": "1.0",
        "metadata": _metadata(topic, rows, about),
        "channels": sorted({name for row in rows for name in row if name not in _TIMES}),
        "frames": [_frame(row) for row in rows],
    }


def _metadata(topic: str, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any] | None) -> dict[str, Any]:
    if not rows:
        ends = {} if about is None else {"startTime": None, "endTime": None}
        return {"topic": topic, "duration": 0.0, "frameCount": 0, **ends}
    first, last = rows[0]["timestamp"], rows[-1]["timestamp"]
    about = about or {}
    return {
        "topic": topic,
        "description": about.get("description"),
        "tags": about.get("tags") or [],
        "fps": _fps(about),
        "duration": last - first,
        "frameCount": len(rows),
        "startTime": first,
        "endTime": last,
    }


def _fps(about: Mapping[str, Any]) -> int | float:
    more = about.get("metadata")
    fps = more.get("fps") if isinstance(more, Mapping) else None
    return fps if isinstance(fps, (int, float)) and not isinstance(fps, bool) else DEFAULT_FPS


def _frame(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"time": row["timestamp"], **{name: value for name, value in row.items() if name not in _TIMES}}
