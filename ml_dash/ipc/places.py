"""A place in the frame buffer, and places that are joined. Pure: the memory itself is not touched here."""

from __future__ import annotations

import contextlib
from typing import Any

from ml_dash.ipc.control import FRAMES_OFFSET

NEVER = 1 << 63
"""Where a place stands that somebody has in hand."""

FREE = -1
"""Where a place stands that is among the free ones, or about to be."""


class Place:
    """Room for one frame. Exactly one of ``publish`` and ``FrameBuffer.abandon`` ends its use by the caller.

    Attributes:
        offset: where it is in the shared memory.
        size: its bytes.
        kept: whatever the caller keeps with the room, such as a view of it, for the next frame that gets it.
        free_at: the position of the record ring's tail from which on it is free.
    """

    __slots__ = ("free_at", "kept", "offset", "size")

    def __init__(self, start: int, size: int) -> None:
        self.offset = FRAMES_OFFSET + start
        self.size = size
        self.kept: Any = None
        self.free_at = NEVER

    def publish(self, record_end: int) -> None:
        """The frame's record was published and ends at ``record_end``."""
        self.free_at = record_end


def emptied(free: dict[int, list[Place]]) -> list[Place]:
    """All places of the lists, which are left empty: a call that is being interrupted may have one of them in hand."""
    places = []
    for several in list(free.values()):
        with contextlib.suppress(IndexError):  # a signal handler has taken the last one
            while several:
                places.append(several.pop())
    return places


def joined(free: list[Place]) -> list[tuple[int, int]]:
    """Free places by their start, neighbours as one; each as where it starts and where it ends."""
    joined: list[tuple[int, int]] = []
    for start, size in sorted((place.offset - FRAMES_OFFSET, place.size) for place in free):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], start + size)
        else:
            joined.append((start, start + size))
    return joined
