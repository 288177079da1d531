"""environment.json: what a run records of itself. The slow part of it is found out on a thread beside the writer's loop.

The training process says what only it knows with the record that opens the run; that is written with the record. The
rest (machine, packages, code) follows when it is found out, and the document then says ``complete``. A writer that
finds one of its training process that is not complete goes on with it, so nothing is lost with a writer that dies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from ml_dash.records.values import parse
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, timestamp, to_json, write_document
from ml_dash.storage.locks import document_lock

VERSION = 1

BRIEF_S = 0.2
"""How long the end of a run waits for the record to be complete: enough on a machine that is not busy."""

LATE_S = 2.0
"""How long the writer goes on with it after the end, when nobody waits; then git is stopped, and what is known written."""

STOP_S = 1.0
"""How long a thread that was told to stop may take to write what it knows."""

FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 60.0
"""Bounds of the pause before a refused write is tried again; once more when the run ends."""

HISTORY_LENGTH = 50
"""Earlier starts of the run that are kept, those alone that differ from the one before."""

_OF_ONE_START = frozenset({"started_at", "recorded_at", "complete", "problems"})
"""What differs from start to start and says nothing of a different environment."""


class EnvironmentRecorder:
    """Writes environment.json of one run.

    Args:
        run: absolute path of the run's directory.
        disk: every file operation in the run's folder.
        parent: process id of the training process.
        stored: called with the absolute path of each file that was put in place.
        may_ask: whether programs may be started: only in a process of the writer's own.
    """

    def __init__(self, run: str, disk: Disk, parent: int, stored: Callable[[str], None], *, may_ask: bool) -> None:
        self._path = os.path.join(run, layout.ENVIRONMENT)
        self._diff_path = os.path.join(run, layout.CODE_DIFF)
        self._history_path = os.path.join(run, layout.ENVIRONMENT_HISTORY)
        self._lock = os.path.join(run, layout.ENVIRONMENT_LOCK)
        self._disk = disk
        self._parent = parent
        self._stored = stored
        self._may_ask = may_ask
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._found: tuple[dict[str, Any], bytes] | None = None
        self._refusals: list[str] = []

    def opened(self, told: dict[str, Any], when: float) -> None:
        """A run begins: write what the training process told, and find out the rest. It may be repeated.

        Raises:
            OSError: the disk refused.
        """
        start = {"version": VERSION, "complete": False, "started_at": timestamp(when), **told}
        with document_lock(self._lock):
            found = self._load()
            if found is None or not _is_same_start(found, start):
                if found is not None:
                    self._keep(found)
                write_document(self._disk, self._path, start)
        self.resume()

    def resume(self) -> None:
        """Find out what is missing, on a thread: nothing for a run that is complete, or that does not record this."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._work, name="ml_dash-environment", daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads are to be had: what was told is there
            self._thread.start()

    def wait(self, patience: float) -> None:
        """Wait until the record is complete, at most ``patience`` seconds."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(patience)

    def finish(self, patience: float) -> None:
        """The same, and then stop: what is known until then is written."""
        self.wait(patience)
        self._stop.set()
        self.wait(STOP_S)

    def _work(self) -> None:
        pause = FIRST_RETRY_S
        while True:
            last = self._stop.is_set()
            try:
                self._complete()
                return
            except OSError as error:
                self._refusals.append(f"{type(error).__name__}: {error.strerror or error}")
            except Exception:  # noqa: BLE001 - the run is worth more than this record of it
                return
            if last:
                return
            self._stop.wait(pause)
            pause = min(pause * 2, LONGEST_RETRY_S)

    def _complete(self) -> None:
        """One attempt.

        Raises:
            OSError: the disk refused.
        """
        start = self._unfinished()
        if start is None:
            return
        if self._found is None:
            self._found = find_out(start, self._may_ask, lambda: not self._stop.is_set())
        document, diff = self._found
        with document_lock(self._lock):
            if self._unfinished() == start:
                self._put_in_place(document, diff)

    def _unfinished(self) -> dict[str, Any] | None:
        """What was told of this start, if the rest is missing. Another start of the run is its own writer's."""
        found = self._load()
        if found is None or found.get("complete", True) or found["process"].get("pid") != self._parent:
            return None
        return found

    def _load(self) -> dict[str, Any] | None:
        """The document, or None if there is none. One that somebody damaged counts as none, and is replaced."""
        found = load_document(self._disk, self._path)
        return found if _is_whole(found) else None

    def _put_in_place(self, document: dict[str, Any], diff: bytes) -> None:
        """The difference first: a document that is complete has everything beside it."""
        # In a repository always, and removed if empty: so it replaces what a writer that was killed left half written.
        if document.get("code"):
            self._disk.write_file(self._diff_path, [diff])
        if not diff:
            self._disk.remove(self._diff_path)
        problems = document["problems"] + [f"the disk refused: {text}" for text in self._refusals[:1]]
        write_document(self._disk, self._path, document | {"problems": problems})
        for path in (self._diff_path, self._path) if diff else (self._path,):
            self._stored(path)

    def _keep(self, before: dict[str, Any]) -> None:
        """Add an earlier start to the history, unless the newest one there is the same."""
        content = self._disk.read_file(self._history_path) or b""
        lines = content.splitlines()
        if lines and _is_same_environment(_parsed(lines[-1]), before):
            return
        kept = [*lines, to_json(before)][-HISTORY_LENGTH:]
        self._disk.write_file(self._history_path, [line + b"\n" for line in kept])


def find_out(start: dict[str, Any], may_ask: bool, wanted: Callable[[], bool]) -> tuple[dict[str, Any], bytes]:
    """The complete document, and how the code differs from its commit. What cannot be found out is among its problems.

    Args:
        start: what the training process told.
        may_ask: whether git may be started.
        wanted: whether git's answer is still of use.
    """
    from ml_dash.provenance import machine

    problems = list(start["problems"])
    diff = b""
    document = start | {
        "process": start["process"] | _try("process", machine.who, problems, {}),
        "python": _try("python", machine.python_facts, problems, {}),
        "system": _try("system", machine.system_facts, problems, {}),
        "gpus": _try("gpus", machine.gpus, problems, {}),
        "container": _try("container", machine.container, problems, {}),
    }
    document |= _try("packages", _packages, problems, {})
    code = _try("code", lambda: _code(document["process"], may_ask, wanted), problems, None)
    if code is not None:
        document["code"], diff = code.facts, code.diff
        problems += code.problems
    if diff:
        document["code"] |= {"diff": layout.CODE_DIFF, "diff_sha256": hashlib.sha256(diff).hexdigest()}
    return document | {"complete": True, "problems": problems}, diff


def _packages() -> dict[str, Any]:
    from ml_dash.provenance.packages import installed

    versions, left_out = installed(sys.path)
    return {"packages": versions, "packages_left_out": left_out}


def _code(process: dict[str, Any], may_ask: bool, wanted: Callable[[], bool]) -> Any:
    from ml_dash.provenance.code import Code, describe_code

    if not may_ask:
        return Code(problems=["code: git was not asked, since the writer runs within the training process"])
    entry, cwd = process.get("entry") or "", process.get("cwd") or ""
    folders = [entry if os.path.isdir(entry) else os.path.dirname(entry), cwd]
    return describe_code([folder for folder in folders if folder], wanted)


def _try(name: str, find: Callable[[], Any], problems: list[str], otherwise: Any) -> Any:
    try:
        return find()
    except Exception as error:  # noqa: BLE001 - whatever a system does not have or does not tell
        problems.append(f"{name}: {type(error).__name__}: {error}"[:500])
        return otherwise


def _is_same_start(found: dict[str, Any], start: dict[str, Any]) -> bool:
    is_same_process = found["process"].get("pid") == start["process"].get("pid")
    return bool(is_same_process and found.get("started_at") == start["started_at"])


def _is_whole(document: Any) -> bool:
    """Whether a document has the parts that others are found by; a writer leaves none without them."""
    if not isinstance(document, dict):
        return False
    return isinstance(document.get("process"), dict) and isinstance(document.get("problems"), list)


def _is_same_environment(one: Any, other: dict[str, Any]) -> bool:
    return _is_whole(one) and _lasting(one) == _lasting(other)


def _lasting(document: dict[str, Any]) -> dict[str, Any]:
    process = {key: value for key, value in document["process"].items() if key != "pid"}
    return {key: value for key, value in document.items() if key not in _OF_ONE_START} | {"process": process}


def _parsed(line: bytes) -> Any:
    try:
        return parse(line)
    except ValueError:
        return None
