"""Who speaks for a run whose process was killed and started again while its writer still had work to do.

The lock was not free then, so the new process writes beside the old one's writer, which ends the run as FAILED when it
is done. From there on the new one says in ``experiment.json`` how the run is. Pure, but for the look at a process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

FOLLOWS = "follows"
"""The key, in the document of a writer that is not the first, of the ``started_at`` of the session it goes on from."""

_SPOKEN = ("status", "status_reason", "ended_at", "heartbeat_at", "host", "pid", "writer_pid", "started_at")


def session_before(run: Mapping[str, Any], host: str, pid: int) -> dict[str, str]:
    """``follows``, if the run's process was on this host and is gone; else nothing.

    Args:
        run: ``experiment.json`` as a further writer finds it when it opens the run.
        host: this one.
        pid: of the training process that opens the run.
    """
    before, started = run.get("pid"), run.get("started_at")
    if run.get("host") != host or before == pid or type(before) is not int or type(started) is not str:
        return {}
    return {} if _is_alive(before) else {FOLLOWS: started}


def spoken_for(run: Mapping[str, Any], writer: Mapping[str, Any]) -> dict[str, Any] | None:
    """``experiment.json`` as a further writer has it, or None if it is not its turn.

    Args:
        run: ``experiment.json`` as it is.
        writer: that writer's own document.
    """
    is_its_own = run.get("started_at") == writer.get("started_at") and run.get("pid") == writer.get("pid")
    is_left = run.get("started_at") == writer.get(FOLLOWS, "") and run.get("status") != "RUNNING"
    if FOLLOWS not in writer or not (is_its_own or is_left):
        return None
    return {**run, **{key: writer[key] for key in _SPOKEN if key in writer}}


def ended_meanwhile(run: Mapping[str, Any], writers: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """``experiment.json`` of a session that has just ended, as the last of those says that followed and ended too."""
    ended = [writer for writer in writers if writer.get("status") != "RUNNING" and spoken_for(run, writer) is not None]
    return spoken_for(run, max(ended, key=lambda writer: str(writer.get("ended_at")))) if ended else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return _state(pid) not in (b"Z", b"X")  # it is gone, and waits for its parent to look


def _state(pid: int) -> bytes:
    """A letter for what a process does; empty where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return b""
