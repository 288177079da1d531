"""Write the status of a run: experiment.json, and .writers/<writer_id>.json for a writer that is not the first."""

from __future__ import annotations

import os
import socket
from typing import Any

from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, timestamp, to_seconds, write_document
from ml_dash.storage.locks import document_lock
from ml_dash.writer import takeover

_GIVEN_KEYS = ("description", "tags", "bindrs", "metadata", "prefix")


class RunStatus:
    """Writes the status of a writer, which is the run's if it is the first. Every method may be repeated.

    Attributes:
        ending: status and reason from the record that closes the run; None before.
        path: absolute path of the document.

    Args:
        run: absolute path of the run's directory.
        writer_id: empty for the run's first writer.
        disk: the file operations.
        parent: process id of the training process.
    """

    def __init__(self, run: str, writer_id: str, disk: Disk, parent: int) -> None:
        self.ending: dict[str, Any] | None = None
        self.path = os.path.join(run, layout.EXPERIMENT if not writer_id else f"{layout.WRITERS}/{writer_id}.json")
        self._run = run
        self._experiment = os.path.join(run, layout.EXPERIMENT)
        self._lock = os.path.join(run, layout.EXPERIMENT_LOCK)
        self._writer_id = writer_id
        self._disk = disk
        self._parent = parent
        self._experiment_id = ""
        self._earlier_s = 0.0
        self._opened: float | None = None
        self._follows: dict[str, str] = {}

    @property
    def experiment_id(self) -> str:
        """``<project>/<full prefix>``, as file records carry it."""
        if not self._experiment_id:
            document = load_document(self._disk, self._experiment) or {}
            self._experiment_id = f"{document.get('project', '')}/{document.get('prefix', '')}"
        return self._experiment_id

    def open(self, opening: dict[str, Any], now: float) -> None:
        """Write that the run has begun: the given facts replace those in the document, and the status is RUNNING."""
        if self._writer_id:
            self._create_if_missing(opening, now)
            if not opening.get("attached"):
                before = load_document(self._disk, self._experiment) or {}
                self._follows = takeover.killed_session(before, socket.gethostname(), self._parent)
        self._update(lambda old: self._merge_opening({} if self._writer_id else old, opening, now) | self._follows)

    def beat(self, now: float, facts: dict[str, Any]) -> None:
        """Write that the run is alive."""
        self._update(lambda old: old | {"heartbeat_at": timestamp(now)} | self._active(old, now) | facts)
        self._take_over_run()

    def end(self, now: float, facts: dict[str, Any]) -> None:
        """Write that the run has ended: with ``ending``, or as FAILED if the training process is gone without one."""
        ending = self.ending or {
            "status": "FAILED",
            "status_reason": f"the training process (pid {self._parent}) ended without closing the run: "
            "it was killed, or left through os._exit",
        }
        times = {"ended_at": timestamp(now), "heartbeat_at": timestamp(now)}
        self._update(lambda old: old | ending | times | self._active(old, now) | facts)
        self._take_over_run()
        if not self._writer_id:
            self._let_successor_take_over()

    def _create_if_missing(self, opening: dict[str, Any], now: float) -> None:
        if load_document(self._disk, self._experiment) is None:
            with document_lock(self._lock):
                if load_document(self._disk, self._experiment) is None:
                    write_document(self._disk, self._experiment, merge_opening({}, opening, now))

    def _merge_opening(self, old: dict[str, Any], opening: dict[str, Any], now: float) -> dict[str, Any]:
        self._earlier_s, self._opened = seconds_so_far(old), now
        if old.get("started_at") == timestamp(now):  # an earlier attempt wrote this opening
            self._continue_counting(old)
        running = {
            "host": socket.gethostname(),
            "pid": self._parent,
            "writer_pid": os.getpid(),
            "started_at": timestamp(now),
            "heartbeat_at": timestamp(now),
            "status": "RUNNING",
            "status_reason": None,
            "ended_at": None,
        }
        return merge_opening(old, opening, now) | running | self._active(old, now)

    def _active(self, old: dict[str, Any], now: float) -> dict[str, float]:
        """``active_seconds``: the seconds that the run was open, in this opening and all earlier ones."""
        if self._opened is None:
            self._continue_counting(old)
        if self._opened is None:  # the opening is not written yet, so that the earlier ones are not known
            return {}
        return {"active_seconds": round(self._earlier_s + max(0.0, now - self._opened), 3)}

    def _continue_counting(self, old: dict[str, Any]) -> None:
        """Count from the start in a document that another writer of this training process wrote, if it did."""
        is_ours = old.get("pid") == self._parent and old.get("host") == socket.gethostname()
        if not is_ours or old.get("status") != "RUNNING":
            return
        started, last_beat = to_seconds(old.get("started_at")), to_seconds(old.get("heartbeat_at"))
        if started is not None and last_beat is not None:  # None: another program changed the document
            self._earlier_s = max(0.0, seconds_so_far(old) - max(0.0, last_beat - started))
            self._opened = started

    def _take_over_run(self) -> None:
        """Copy this writer's status into the run's, if it continues a session that was killed."""
        own = (load_document(self._disk, self.path) or {}) if self._writer_id else {}
        if takeover.FOLLOWS in own:
            with document_lock(self._lock):
                self._write_run(takeover.take_over(load_document(self._disk, self._experiment) or {}, own))

    def _let_successor_take_over(self) -> None:
        """Let a session that continued this one, and ended before it, have the last word on the run's status."""
        folder = os.path.join(self._run, layout.WRITERS)
        names = [name for name in self._disk.list_folder(folder) or () if name.endswith(".json")]
        if names:
            with document_lock(self._lock):
                writers = [load_document(self._disk, os.path.join(folder, name)) or {} for name in names]
                run = load_document(self._disk, self._experiment) or {}
                self._write_run(takeover.take_over_late(run, writers))

    def _write_run(self, document: dict[str, Any] | None) -> None:
        if document is not None:
            write_document(self._disk, self._experiment, document)

    def _update(self, change: Any) -> None:
        self._disk.make_folder(os.path.dirname(self.path))
        with document_lock(self._lock):
            write_document(self._disk, self.path, change(load_document(self._disk, self.path) or {}))


def merge_opening(old: dict[str, Any], opening: dict[str, Any], now: float) -> dict[str, Any]:
    """Return experiment.json after an opening: given facts replace old ones, and unknown keys stay."""
    given = {key: opening[key] for key in _GIVEN_KEYS if opening.get(key) is not None}
    if "name" in old:
        return old | given | {"updated_at": timestamp(now)}
    fresh = {
        "name": opening["name"],
        "project": opening["project"],
        "description": None,
        "tags": [],
        "bindrs": [],
        "prefix": opening["prefix"],
        "metadata": None,
        "created_at": timestamp(now),
        "write_protected": False,
    }
    return old | fresh | given


def seconds_so_far(document: dict[str, Any]) -> float:
    """Return the seconds that a run was open until its last heartbeat.

    Without ``active_seconds`` in its experiment.json only the last opening is known.
    """
    seconds = document.get("active_seconds")
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return float(seconds)
    start = to_seconds(document.get("started_at"))
    end = to_seconds(document.get("ended_at") or document.get("heartbeat_at"))
    return max(0.0, end - start) if start is not None and end is not None else 0.0
