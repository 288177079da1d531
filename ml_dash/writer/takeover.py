"""Take over a run whose training process was killed and started again while its old writer still drained.

The run's lock was not free then, so the new process got a second writer. The old writer ends the run as FAILED when it
is done; from there on the second writer's status is the run's, and is copied into ``experiment.json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

FOLLOWS = "follows"
"""Key in the document of a further writer: the ``started_at`` of the killed session that it continues."""

_STATUS_KEYS = ("status", "status_reason", "ended_at", "heartbeat_at", "host", "pid", "writer_pid", "started_at")


def killed_session(run: Mapping[str, Any], host: str, pid: int) -> dict[str, str]:
    """Return ``{"follows": ...}`` if the run's process was on this host and is gone, else an empty dict.

    Args:
        run: ``experiment.json`` as a further writer finds it when it opens the run.
        host: the name of this host.
        pid: process id of the training process that opens the run.
    """
    before, started = run.get("pid"), run.get("started_at")
    if run.get("host") != host or before == pid or type(before) is not int or type(started) is not str:
        return {}
    return {} if _is_alive(before) else {FOLLOWS: started}


def take_over(run: Mapping[str, Any], writer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``experiment.json`` with the status of a further writer, or None if that writer may not take over.

    Args:
        run: the present ``experiment.json``.
        writer: the further writer's own document.
    """
    was_taken_over = run.get("started_at") == writer.get("started_at") and run.get("pid") == writer.get("pid")
    is_free = run.get("started_at") == writer.get(FOLLOWS, "") and run.get("status") != "RUNNING"
    if FOLLOWS not in writer or not (was_taken_over or is_free):
        return None
    return {**run, **{key: writer[key] for key in _STATUS_KEYS if key in writer}}


def take_over_late(run: Mapping[str, Any], writers: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return ``experiment.json`` of a session that just ended, taken over by the last further writer that ended before it.

    Args:
        run: the present ``experiment.json``.
        writers: the documents of all further writers.
    """
    ended = [writer for writer in writers if writer.get("status") != "RUNNING" and take_over(run, writer) is not None]
    return take_over(run, max(ended, key=lambda writer: str(writer.get("ended_at")))) if ended else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in (b"Z", b"X")  # a zombie still has its process id
