"""The run's own record of itself: experiment.json, and .writers/<writer_id>.json for a writer that is not the first."""

from __future__ import annotations

import os
import socket
from typing import Any

from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, timestamp, to_seconds, write_document
from ml_dash.storage.locks import document_lock
from ml_dash.writer import takeover

_GIVEN = ("description", "tags", "bindrs", "metadata", "prefix")


class RunStatus:
    """Writes the state of the run. Every method may be repeated.

    Args:
        run: absolute path of the run's directory.
        writer_id: empty for the run's first writer, which alone writes the run's status.
        disk: where it goes.
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
        """The run begins, or goes on: merge what was given with what is there, status RUNNING."""
        if self._writer_id:
            self._create_if_missing(opening, now)
            if not opening.get("attached"):
                before = load_document(self._disk, self._experiment) or {}
                self._follows = takeover.killed_session(before, socket.gethostname(), self._parent)
        self._update(lambda found: self._opened_as({} if self._writer_id else found, opening, now) | self._follows)

    def beat(self, now: float, facts: dict[str, Any]) -> None:
        """Say that the run is alive."""
        self._update(lambda found: found | {"heartbeat_at": timestamp(now)} | self._active(found, now) | facts)
        self._take_over_run()

    def end(self, now: float, facts: dict[str, Any]) -> None:
        """The run has ended as ``ending`` says, or because the training process is gone."""
        ending = self.ending or {
            "status": "FAILED",
            "status_reason": f"the training process (pid {self._parent}) ended without closing the run: "
            "it was killed, or left through os._exit",
        }
        moment = timestamp(now)
        self._update(
            lambda found: (
                found | ending | {"ended_at": moment, "heartbeat_at": moment} | self._active(found, now) | facts
            )
        )
        self._take_over_run()
        if not self._writer_id:
            self._let_successor_take_over()

    def _create_if_missing(self, opening: dict[str, Any], now: float) -> None:
        if load_document(self._disk, self._experiment) is None:
            with document_lock(self._lock):
                if load_document(self._disk, self._experiment) is None:
                    write_document(self._disk, self._experiment, merge_opening({}, opening, now))

    def _opened_as(self, found: dict[str, Any], opening: dict[str, Any], now: float) -> dict[str, Any]:
        self._earlier_s, self._opened = seconds_so_far(found), now
        if found.get("started_at") == timestamp(now):  # this very opening, which another attempt has written before
            self._go_on(found)
        running = {"status": "RUNNING", "status_reason": None, "ended_at": None}
        return merge_opening(found, opening, now) | self._process(now) | running | self._active(found, now)

    def _active(self, found: dict[str, Any], now: float) -> dict[str, float]:
        """How long the run was open: every opening before this one, and this one until now."""
        if self._opened is None:
            self._go_on(found)
        if self._opened is None:  # opening it did not work out yet, so that nothing is known of those before
            return {}
        return {"active_seconds": round(self._earlier_s + max(0.0, now - self._opened), 3)}

    def _go_on(self, found: dict[str, Any]) -> None:
        """Count on from the document if another writer of this session wrote it: training went on between the two."""
        is_ours = found.get("pid") == self._parent and found.get("host") == socket.gethostname()
        if not is_ours or found.get("status") != "RUNNING":
            return
        started, heard = to_seconds(found.get("started_at")), to_seconds(found.get("heartbeat_at"))
        if started is not None and heard is not None:  # None: another program has changed the document
            self._earlier_s = max(0.0, seconds_so_far(found) - max(0.0, heard - started))
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

    def _process(self, now: float) -> dict[str, Any]:
        moment = timestamp(now)
        return {
            "host": socket.gethostname(),
            "pid": self._parent,
            "writer_pid": os.getpid(),
            "started_at": moment,
            "heartbeat_at": moment,
        }

    def _update(self, change: Any) -> None:
        self._disk.make_folder(os.path.dirname(self.path))
        with document_lock(self._lock):
            write_document(self._disk, self.path, change(load_document(self._disk, self.path) or {}))


def merge_opening(found: dict[str, Any], opening: dict[str, Any], now: float) -> dict[str, Any]:
    """experiment.json after an open: what is given replaces what is there, unknown keys stay."""
    moment = timestamp(now)
    if "name" not in found:
        fresh = {"name": opening["name"], "project": opening["project"], "description": None, "tags": [], "bindrs": []}
        fresh |= {"prefix": opening["prefix"], "metadata": None, "created_at": moment, "write_protected": False}
        return found | fresh | _given(opening)
    return found | _given(opening) | {"updated_at": moment}


def seconds_so_far(found: dict[str, Any]) -> float:
    """How long the run of an experiment.json was open, until it was last heard of.

    Of a document without ``active_seconds`` only the last opening is known.
    """
    seconds = found.get("active_seconds")
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return float(seconds)
    start = to_seconds(found.get("started_at"))
    end = to_seconds(found.get("ended_at") or found.get("heartbeat_at"))
    return max(0.0, end - start) if start is not None and end is not None else 0.0


def _given(opening: dict[str, Any]) -> dict[str, Any]:
    return {key: opening[key] for key in _GIVEN if opening.get(key) is not None}
