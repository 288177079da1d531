"""What happens to open runs in a forked child: it lets go of everything at once, and attaches anew if it logs."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something open that must be disarmed in a forked child."""

    def after_fork_in_child(self) -> None:
        """Close inherited descriptors, replace locks; never block, never touch what the parent does."""


_open: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(owner: Forkable) -> None:
    """From now on ``owner`` is told in each forked child."""
    _open.add(owner)


def unregister(owner: Forkable) -> None:
    """``owner`` is closed and has nothing to let go of."""
    _open.discard(owner)


def _after_fork_in_child() -> None:
    for owner in list(_open):
        owner.after_fork_in_child()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
