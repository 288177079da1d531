"""Write environment.json: the process, machine, packages and code of a run.

The training process sends the facts that only it knows with the record that opens the run; they are written with that
record. The rest is collected on a thread, and the document then says ``complete``. A writer that replaces a dead one
completes the document.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from ml_dash.provenance.secrets import mask_text, mask_values
from ml_dash.records.values import parse
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, timestamp, to_json, write_document
from ml_dash.storage.locks import document_lock

VERSION = 1

BRIEF_S = 0.2
"""Seconds that the end of a run waits for the complete document: enough on a machine that is not busy."""

LATE_S = 2.0
"""Seconds that the writer goes on with it after the end; then git is stopped, and the known facts are written."""

STOP_S = 1.0
"""Seconds that the thread may take to write the known facts once it was stopped."""

FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 60.0
"""Bounds of the pause before a refused write is tried again. The end of the run is the last try."""

HISTORY_LENGTH = 50
"""Earlier starts of the run that are kept; only those that differ from the one before."""

_OF_ONE_START = frozenset({"started_at", "recorded_at", "complete", "problems"})
"""Keys that differ between two starts in the same environment."""


class EnvironmentRecorder:
    """Writes environment.json of one run.

    Args:
        run: absolute path of the run's directory.
        disk: the file operations.
        parent: process id of the training process.
        on_stored: called with the absolute path of each file that was put in place.
        may_run_git: whether git may be started: not if the writer is a thread of the training process.
    """

    def __init__(
        self, run: str, disk: Disk, parent: int, *, on_stored: Callable[[str], None], may_run_git: bool
    ) -> None:
        self._path = os.path.join(run, layout.ENVIRONMENT)
        self._diff_path = os.path.join(run, layout.CODE_DIFF)
        self._history_path = os.path.join(run, layout.ENVIRONMENT_HISTORY)
        self._lock = os.path.join(run, layout.ENVIRONMENT_LOCK)
        self._disk = disk
        self._parent = parent
        self._on_stored = on_stored
        self._may_run_git = may_run_git
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._collected: tuple[dict[str, Any], bytes] | None = None
        self._refusals: list[str] = []

    def opened(self, facts: dict[str, Any], when: float) -> None:
        """Write the facts that the training process sent at the start of a run, and collect the rest. May be repeated.

        Raises:
            OSError: the disk refused.
        """
        facts = mask_values(facts, by_name=False)
        start = {"version": VERSION, "complete": False, "started_at": timestamp(when), **facts}
        with document_lock(self._lock):
            before = self._load()
            if before is None or not _is_same_start(before, start):
                if before is not None:
                    self._add_to_history(before)
                write_document(self._disk, self._path, start)
        self.resume()

    def resume(self) -> None:
        """Complete the document on a thread, if there is one of this training process that is not complete."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._work, name="ml_dash-environment", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be started: the document stays incomplete
            self._thread.start()

    def wait(self, patience: float) -> None:
        """Wait up to ``patience`` seconds until the document is complete."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(patience)

    def finish(self, patience: float) -> None:
        """Wait up to ``patience`` seconds, then write the facts that are known."""
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
            except Exception:  # noqa: BLE001 - the run goes on without this document
                return
            if last:
                return
            self._stop.wait(pause)
            pause = min(pause * 2, LONGEST_RETRY_S)

    def _complete(self) -> None:
        """Try once to complete the document.

        Raises:
            OSError: the disk refused.
        """
        start = self._unfinished()
        if start is None:
            return
        if self._collected is None:
            self._collected = collect_facts(start, self._may_run_git, lambda: not self._stop.is_set())
        document, diff = self._collected
        with document_lock(self._lock):
            if self._unfinished() == start:
                self._put_in_place(document, diff)

    def _unfinished(self) -> dict[str, Any] | None:
        """The document, if it is of this training process and not complete."""
        document = self._load()
        if document is None or document.get("complete", True) or document["process"].get("pid") != self._parent:
            return None
        return document

    def _load(self) -> dict[str, Any] | None:
        """The document, or None if it is missing or damaged; a damaged one is replaced."""
        document = load_document(self._disk, self._path)
        return document if _is_whole(document) else None

    def _put_in_place(self, document: dict[str, Any], diff: bytes) -> None:
        """Write the code's difference first, since a complete document refers to it."""
        # Always in a repository, and removed if empty, so that it replaces a file that a killed writer left half written.
        if document.get("code"):
            self._disk.write_file(self._diff_path, [diff])
        if not diff:
            self._disk.remove(self._diff_path)
        problems = document["problems"] + [f"the disk refused: {text}" for text in self._refusals[:1]]
        write_document(self._disk, self._path, document | {"problems": problems})
        for path in (self._diff_path, self._path) if diff else (self._path,):
            self._on_stored(path)

    def _add_to_history(self, before: dict[str, Any]) -> None:
        """Add an earlier start to the history, unless the newest one there had the same environment."""
        content = self._disk.read_file(self._history_path) or b""
        lines = content.splitlines()
        if lines:
            newest: Any = None
            with contextlib.suppress(ValueError):  # a damaged line differs from every start
                newest = parse(lines[-1])
            if _is_whole(newest) and _lasting_facts(newest) == _lasting_facts(before):
                return
        kept = [*lines, to_json(before)][-HISTORY_LENGTH:]
        self._disk.write_file(self._history_path, [line + b"\n" for line in kept])


def collect_facts(
    start: dict[str, Any], may_run_git: bool, is_wanted: Callable[[], bool]
) -> tuple[dict[str, Any], bytes]:
    """Return the complete document, and the difference of the code from its commit.

    Facts that cannot be read are listed under ``problems``.

    Args:
        start: the document with the facts from the training process.
        may_run_git: whether git may be started.
        is_wanted: called while git runs; False stops git.
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
    document = mask_values(document, by_name=False)
    document |= _try("packages", _packages, problems, {})
    code = _try("code", lambda: _code(document["process"], may_run_git, is_wanted), problems, None)
    if code is not None:
        document["code"], diff = mask_values(code.facts, by_name=False), code.diff
        problems += code.problems
    if diff:
        document["code"] |= {"diff": layout.CODE_DIFF, "diff_sha256": hashlib.sha256(diff).hexdigest()}
    return document | {"complete": True, "problems": problems}, diff


def _packages() -> dict[str, Any]:
    from ml_dash.provenance.packages import installed

    versions, left_out = installed(sys.path)
    return {"packages": versions, "packages_left_out": left_out}


def _code(process: dict[str, Any], may_run_git: bool, is_wanted: Callable[[], bool]) -> Any:
    from ml_dash.provenance.code import Code, describe_code

    if not may_run_git:
        return Code(problems=["code: git was not asked, since the writer runs within the training process"])
    entry, cwd = process.get("entry") or "", process.get("cwd") or ""
    folders = [entry if os.path.isdir(entry) else os.path.dirname(entry), cwd]
    return describe_code([folder for folder in folders if folder], is_wanted)


def _try(name: str, read: Callable[[], Any], problems: list[str], otherwise: Any) -> Any:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - facts may be missing on any system
        problems.append(mask_text(f"{name}: {type(error).__name__}: {error}")[:500])
        return otherwise


def _is_same_start(document: dict[str, Any], start: dict[str, Any]) -> bool:
    is_same_process = document["process"].get("pid") == start["process"].get("pid")
    return bool(is_same_process and document.get("started_at") == start["started_at"])


def _is_whole(document: Any) -> bool:
    """Whether a document has the parts that every writer writes."""
    if not isinstance(document, dict):
        return False
    return isinstance(document.get("process"), dict) and isinstance(document.get("problems"), list)


def _lasting_facts(document: dict[str, Any]) -> dict[str, Any]:
    """The facts that two starts in the same environment have in common."""
    process = {key: value for key, value in document["process"].items() if key != "pid"}
    return {key: value for key, value in document.items() if key not in _OF_ONE_START} | {"process": process}
