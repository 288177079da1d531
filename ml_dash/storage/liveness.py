"""Whether somebody writes a run now: by its heartbeat, and by its lock."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from ml_dash.storage import layout, locks
from ml_dash.storage.documents import read_raw_document, to_datetime, to_seconds

HEARTBEAT_LIMIT_S = 60.0
"""A run that says it is running and has not said so for longer is not: the writer does so every 10 s."""


def is_live(document: dict[str, Any]) -> bool:
    """Whether the run of this experiment.json is being written now."""
    beat = to_datetime(document.get("heartbeat_at"))
    if document.get("status") != "RUNNING" or beat is None:
        return False
    return (datetime.datetime.now(datetime.UTC) - beat).total_seconds() < HEARTBEAT_LIMIT_S


def open_seconds(document: dict[str, Any], *, live: bool) -> float | None:
    """How long a run was open: all its openings, a live one until now, one that broke off until it was last heard of.

    Of a run that does not count ``active_seconds`` it is the last opening alone; None where there is nothing to go by.
    """
    heard, active = to_seconds(document.get("heartbeat_at")), document.get("active_seconds")
    if isinstance(active, (int, float)) and not isinstance(active, bool) and abs(active) <= sys.float_info.max:
        since = time.time() - heard if live and heard is not None else 0.0
        return max(0.0, active) + max(0.0, since)  # another machine's clock may be ahead
    start = to_seconds(document.get("started_at")) or to_seconds(document.get("created_at"))
    end = time.time() if live else to_seconds(document.get("ended_at")) or heard
    return None if start is None or end is None else max(0.0, end - start)


def writer_of(folder: str) -> str:
    """Who writes a run, as text to show; empty if nobody does.

    A run counts as written while it, or another writer of it, was heard of within the last minute, and while its lock
    is held. The lock is looked at for a moment only: an experiment that is opened just then would write beside the
    run's own files, which loses nothing.
    """
    beating = _beating(folder)
    if beating:
        return beating
    return "its lock is held" if locks.is_locked(os.path.join(folder, layout.RUN_LOCK)) else ""


def other_writers(folder: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """The documents of a run's further writers: the path relative to the run, and the content if it can be read."""
    place = os.path.join(folder, layout.WRITERS)
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(place)):
            if name.endswith(".json") and not name.startswith("."):
                yield f"{layout.WRITERS}/{name}", read_raw_document(os.path.join(place, name))


def _beating(folder: str) -> str:
    documents = [read_raw_document(os.path.join(folder, layout.EXPERIMENT))]
    documents += [document for _, document in other_writers(folder)]
    for document in documents:
        if document is not None and is_live(document):
            return f"it was heard of at {document['heartbeat_at']}, less than a minute ago"
    return ""
