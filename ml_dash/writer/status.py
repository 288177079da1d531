"""The run's own record of itself: experiment.json, and .writers/<tag>.json for a writer that is not the first."""

from __future__ import annotations

import os
import socket
from typing import Any

from filelock import FileLock, Timeout

from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, parse_timestamp, timestamp, write_document

LOCK_TIMEOUT_S = 5.0
"""How long a merge into a shared document waits for another process; after that it is tried again later."""

_GIVEN = ("description", "tags", "bindrs", "metadata", "prefix")


class RunStatus:
    """Writes the state of the run. Every method may be repeated.

    Args:
        run: absolute path of the run's directory.
        tag: the writer's tag; only the run's first writer (an empty tag) writes the run's status.
        disk: where it goes.
        parent: process id of the training process.
    """

    def __init__(self, run: str, tag: str, disk: Disk, parent: int) -> None:
        self.ending: dict[str, Any] | None = None
        self.path = os.path.join(run, layout.EXPERIMENT if not tag else f"{layout.WRITERS}/{tag}.json")
        self._experiment = os.path.join(run, layout.EXPERIMENT)
        self._lock = os.path.join(run, layout.EXPERIMENT_LOCK)
        self._tag = tag
        self._disk = disk
        self._parent = parent
        self._experiment_id = ""
        self._earlier_s = 0.0
        self._opened: float | None = None

    @property
    def experiment_id(self) -> str:
        """``<project>/<full prefix>``, as file records carry it."""
        if not self._experiment_id:
            document = load_document(self._disk, self._experiment) or {}
            self._experiment_id = f"{document.get('project', '')}/{document.get('prefix', '')}"
        return self._experiment_id

    def open(self, opening: dict[str, Any], now: float) -> None:
        """The run begins, or goes on: merge what was given with what is there, status RUNNING."""
        if self._tag:
            self._create_if_missing(opening, now)
        self._update(lambda found: self._opened_as({} if self._tag else found, opening, now))

    def beat(self, now: float, facts: dict[str, Any]) -> None:
        """Say that the run is alive."""
        self._update(lambda found: found | {"heartbeat_at": timestamp(now)} | self._active(now) | facts)

    def end(self, now: float, facts: dict[str, Any]) -> None:
        """The run has ended as ``ending`` says, or because the training process is gone."""
        ending = self.ending or {
            "status": "FAILED",
            "status_reason": f"the training process (pid {self._parent}) ended without closing the run: "
            "it was killed, or left through os._exit",
        }
        moment = timestamp(now)
        self._update(
            lambda found: found | ending | {"ended_at": moment, "heartbeat_at": moment} | self._active(now) | facts
        )

    def _create_if_missing(self, opening: dict[str, Any], now: float) -> None:
        if load_document(self._disk, self._experiment) is None:
            with self._locked():
                if load_document(self._disk, self._experiment) is None:
                    write_document(self._disk, self._experiment, merge_opening({}, opening, now))

    def _opened_as(self, found: dict[str, Any], opening: dict[str, Any], now: float) -> dict[str, Any]:
        self._earlier_s, self._opened = seconds_so_far(found), now
        running = {"status": "RUNNING", "status_reason": None, "ended_at": None}
        return merge_opening(found, opening, now) | self._process(now) | running | self._active(now)

    def _active(self, now: float) -> dict[str, float]:
        """How long the run was open: every opening before this one, and this one until now."""
        if self._opened is None:  # opening it did not work out yet, so that nothing is known of those before
            return {}
        return {"active_seconds": round(self._earlier_s + max(0.0, now - self._opened), 3)}

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
        with self._locked():
            write_document(self._disk, self.path, change(load_document(self._disk, self.path) or {}))

    def _locked(self) -> Any:
        return locked(self._lock)


class locked:  # noqa: N801 - reads as a verb in a with statement
    """Hold the lock of a shared document for a moment.

    Raises:
        OSError: another process held it for longer than ``LOCK_TIMEOUT_S``.
    """

    def __init__(self, path: str) -> None:
        self._file_lock = FileLock(path, timeout=LOCK_TIMEOUT_S)
        self._path = path

    def __enter__(self) -> None:
        try:
            self._file_lock.acquire()
        except Timeout:
            raise OSError(f"another process holds {self._path} for more than {LOCK_TIMEOUT_S:g} s") from None
        except NotImplementedError:  # a file system without locks: nearly always we are alone, and stuck is worse
            return

    def __exit__(self, *_: object) -> None:
        self._file_lock.release()


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
    try:
        start = parse_timestamp(found["started_at"])
        return max(0.0, parse_timestamp(found.get("ended_at") or found["heartbeat_at"]) - start)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0.0


def _given(opening: dict[str, Any]) -> dict[str, Any]:
    return {key: opening[key] for key in _GIVEN if opening.get(key) is not None}
