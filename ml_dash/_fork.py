"""Hooks for a forked child: it replaces locks that another thread held, and lets go of what the parent has open."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol


class ProcessResource(Protocol):
    """Something open that belongs to one process, such as a run or the capture of its output."""

    def after_fork_in_child(self) -> None:
        """Close inherited descriptors and replace locks. Must not block, or change what the parent uses."""


def call_in_child(function: Callable[[], object]) -> None:
    """Call a function in every forked child from now on; does nothing where there is no fork (Windows)."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


_open: weakref.WeakSet[ProcessResource] = weakref.WeakSet()


def register(resource: ProcessResource) -> None:
    """Call the resource's ``after_fork_in_child`` in each forked child, until it is unregistered or collected."""
    _open.add(resource)


def unregister(resource: ProcessResource) -> None:
    """Stop calling a resource; one that is not registered is fine."""
    _open.discard(resource)


def _release_all() -> None:
    for resource in list(_open):
        resource.after_fork_in_child()
    _open.clear()


call_in_child(_release_all)
