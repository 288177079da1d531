"""Whether a run is being written now: by its heartbeat and its lock."""

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
"""Age of the last heartbeat from which a run counts as ended: the writer writes one every 10 s."""


FUTURE_LIMIT_S = 600.0
"""How far a heartbeat may be ahead of this clock: more than the clocks of two machines differ by."""


def is_live(document: dict[str, Any]) -> bool:
    """Whether the run of this experiment.json is being written now."""
    beat = to_datetime(document.get("heartbeat_at"))
    if document.get("status") != "RUNNING" or beat is None:
        return False
    age = (datetime.datetime.now(datetime.UTC) - beat).total_seconds()
    return -FUTURE_LIMIT_S < age < HEARTBEAT_LIMIT_S


def open_seconds(document: dict[str, Any], *, live: bool) -> float | None:
    """Return how many seconds a run was open, over all its starts; None if its document does not say.

    A live run counts until now, one that was killed until its last heartbeat. Of a run without ``active_seconds`` only
    the last start is known.
    """
    heard, active = to_seconds(document.get("heartbeat_at")), document.get("active_seconds")
    if isinstance(active, (int, float)) and not isinstance(active, bool) and abs(active) <= sys.float_info.max:
        since = time.time() - heard if live and heard is not None else 0.0
        return max(0.0, active) + max(0.0, since)  # another machine's clock may be ahead
    start = to_seconds(document.get("started_at")) or to_seconds(document.get("created_at"))
    end = time.time() if live else to_seconds(document.get("ended_at")) or heard
    return None if start is None or end is None else max(0.0, end - start)


def writer_of(folder: str) -> str:
    """Return how a run shows that it is being written, as text for people; empty if it is not.

    It is while one of its writers had a heartbeat within the last minute, or its lock is held. The lock is tested for a
    few microseconds; an experiment that is opened just then writes beside the run's own files, which loses nothing.
    """
    documents = [read_raw_document(os.path.join(folder, layout.EXPERIMENT))]
    documents += [document for _, document in other_writers(folder)]
    for document in documents:
        if document is not None and is_live(document):
            return f"it was heard of at {document['heartbeat_at']}, less than a minute ago"
    return "its lock is held" if locks.is_locked(os.path.join(folder, layout.RUN_LOCK)) else ""


def other_writers(folder: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the documents of all writers but the first: the path relative to the run, and the content; None if broken."""
    writers = os.path.join(folder, layout.WRITERS)
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(writers)):
            if name.endswith(".json") and not name.startswith("."):
                yield f"{layout.WRITERS}/{name}", read_raw_document(os.path.join(writers, name))
