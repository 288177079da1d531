"""Repair what a check of a run found. Nothing that was recorded is deleted: a replaced original is kept beside.

A run is repaired under its own lock, only while nobody writes it, and only by the user that it belongs to. Nothing
outside of its folder is changed: the folder is held, and no link is followed. One fix may call for another (a journal that lost
a broken line has another count), so a run is checked and repaired until nothing is left to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any

from ml_dash.storage import compaction, layout, locks, parquet_copy
from ml_dash.storage.beneath import UnsafeFileError, is_own
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, timestamp, write_document
from ml_dash.storage.journal import read_lines
from ml_dash.storage.locks import document_lock
from ml_dash.storage.own_files import DAMAGED
from ml_dash.verify import files
from ml_dash.verify import run as checks
from ml_dash.verify.findings import (
    COPY,
    END,
    HASH,
    MOVE,
    NOTE,
    RECOUNT,
    RESIZE,
    REWRITE,
    SET_ASIDE,
    WARNING,
    Finding,
    Fix,
    Report,
)
from ml_dash.verify.journals import Advance
from ml_dash.writer import finish, journal_state

PASSES = 4
"""Checks of a run while it is repaired: one for the journals, one for the counts made from them, one that finds nothing
more, and one in reserve."""

_ORDER = (SET_ASIDE, REWRITE, RESIZE, RECOUNT, COPY, HASH, MOVE, END)
"""Journals come before everything made from them, and the state of the run last."""


def repair_run(
    run: str, *, prefix: str = "", live: str | None = None, advance: Advance = lambda _: None, now: float | None = None
) -> Report:
    """Check a run and repair what can be repaired. A run that is being written is only checked.

    Args:
        run: absolute path of the run's directory.
        prefix: its path below the folder of all runs, for an experiment.json that is made anew.
        live: see ``verify_run``.
        advance: called with the number of bytes that were read.
        now: seconds since 1970, for the names of kept originals; default the present.

    Returns:
        The findings that are left, and the fixes that were done.

    Raises:
        OSError: the disk refuses; the fixes done until then stay.
    """
    known: files.Checksums = {}
    report = checks.verify_run(run, live=live, known=known, advance=advance)
    if report.live or not _fixes(report.findings):
        return report
    status = os.stat(run)
    if not is_own(status):
        problem = f"is not repaired: it belongs to another user (uid {status.st_uid}), who can repair it"
        report.findings.append(Finding(NOTE, ".", problem))
        return report
    with contextlib.ExitStack() as stack:
        try:
            is_locked = stack.enter_context(locks.holding(os.path.join(run, layout.RUN_LOCK)))
        except UnsafeFileError as error:
            report.findings.append(Finding(WARNING, layout.RUN_LOCK, f"keeps the run from repair: {error.strerror}"))
            return report
        if not is_locked:
            report.live = "its lock is held"
            return report
        repair = _Repair(run, prefix, time.time() if now is None else now)
        stack.callback(repair.close)
        done: list[str] = []
        refused: dict[tuple[str, str], Finding] = {}
        for _ in range(PASSES):
            fixes = [fix for fix in _fixes(report.findings) if (fix.kind, fix.path) not in refused]
            if not fixes:
                break
            for fix in fixes:
                try:
                    done.append(repair.apply(fix))
                except UnsafeFileError as error:
                    problem = f"is not repaired: {error.strerror}"
                    refused[fix.kind, fix.path] = Finding(WARNING, fix.path, problem)
            report = checks.verify_run(run, live="", known=known, advance=advance)
    report.findings += refused.values()
    report.repaired = done
    return report


def _fixes(findings: Iterable[Finding]) -> list[Fix]:
    """Return the fixes in their order, one for each kind and file."""
    fixes: dict[tuple[str, str], Fix] = {}
    for fix in (finding.fix for finding in findings if finding.fix is not None):
        before = fixes.get((fix.kind, fix.path))
        lines = fix.lines | before.lines if before is not None else fix.lines
        fixes[fix.kind, fix.path] = Fix(fix.kind, fix.path, lines, fix.size)
    return sorted(fixes.values(), key=lambda fix: _ORDER.index(fix.kind))


class _Disk(Disk):
    """A file that is written anew keeps its permissions: what was private stays private."""

    def write_file(
        self, path: str, parts: Iterable[bytes | memoryview], sync: bool = False, *, mode: int | None = None
    ) -> None:
        super().write_file(path, parts, sync, mode=self._mode(path) if mode is None else mode)


class _Repair:
    """The repair of one run whose lock is held."""

    def __init__(self, run: str, prefix: str, now: float) -> None:
        self._run = run
        self._prefix = prefix
        self._now = now
        self._disk = _Disk(run)
        self._disk.owner = "repair"
        self._time_text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        self._steps: dict[str, Callable[[Fix], str]] = {
            SET_ASIDE: self._set_aside,
            REWRITE: self._rewrite,
            RESIZE: self._resize,
            RECOUNT: self._recount,
            COPY: self._copy,
            HASH: self._hash,
            MOVE: self._move,
            END: self._end,
        }

    def apply(self, fix: Fix) -> str:
        """Apply one fix, and return a sentence about it.

        Raises:
            UnsafeFileError: the file is a link, no regular file, or another user's, or lies behind a link. It is as it was.
        """
        status = self._disk.status(self._at(fix.path))
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise UnsafeFileError(errno.EPERM, "it is no regular file", fix.path)
        if status is not None and not is_own(status):
            raise UnsafeFileError(errno.EPERM, "it belongs to another user", fix.path)
        return self._steps[fix.kind](fix)

    def close(self) -> None:
        """Release the run's folder. Idempotent."""
        self._disk.release()

    def _at(self, path: str) -> str:
        return os.path.join(self._run, *path.split("/"))

    def _kept_name(self, path: str) -> str:
        """Return a free name beside a file, under which its original is kept."""
        base = self._at(path) + DAMAGED + self._time_text
        name, number = base, 1
        while self._disk.status(name) is not None:
            number += 1
            name = f"{base}-{number}"
        return name

    def _set_aside(self, fix: Fix) -> str:
        kept = self._kept_name(fix.path)
        path = self._at(fix.path)
        # Made before anything is changed: the disk may refuse the files that it is made from.
        fresh = self._fresh_experiment(path) if fix.path == layout.EXPERIMENT else None
        self._disk.keep(path, kept)
        if fresh is not None:
            write_document(self._disk, path, fresh, sync=True)
        elif os.path.basename(fix.path) == layout.METADATA:
            self._disk.remove(path)
            self._recount(fix)
        elif fix.path == layout.FILES_METADATA and self._has_index():
            finish.write_files_metadata(self._run, self._disk)
        else:
            self._disk.remove(path)
        return f"{fix.path}: the damaged one is kept as {os.path.basename(kept)}"

    def _has_index(self) -> bool:
        return self._disk.size(self._at(layout.file_index())) is not None

    def _changed_at(self, path: str) -> str:
        """Return the time of a file's last change; the present for one that is missing."""
        status = self._disk.status(path)
        return timestamp(self._now if status is None else status.st_mtime)

    def _fresh_experiment(self, path: str) -> dict[str, Any]:
        """Make an experiment.json from the other facts about a run, in place of a damaged one."""
        environment = load_document(self._disk, self._at(layout.ENVIRONMENT)) or {}
        created = environment.get("started_at") or self._changed_at(path)
        segments = self._prefix.split("/")
        return {
            "name": segments[-1] or os.path.basename(self._run),
            "project": segments[1] if len(segments) > 1 else segments[0],
            "description": None,
            "tags": [],
            "bindrs": [],
            "prefix": self._prefix,
            "metadata": None,
            "created_at": created,
            "write_protected": False,
            "status": "FAILED",
            "status_reason": "experiment.json was damaged, and made anew by a repair: how the run ended is not known",
            "ended_at": self._changed_at(path),
        }

    def _rewrite(self, fix: Fix) -> str:
        path = self._at(fix.path)
        kept = self._kept_name(fix.path)
        lines = (
            line + b"\n"
            for number, line in enumerate(read_lines(path, opener=self._disk.open_read))
            if number not in fix.lines
        )
        self._disk.keep(path, kept)
        self._disk.write_file(path, lines, sync=True)
        if fix.path.startswith("metrics/"):
            self._forget_positions()
        count = len(fix.lines)
        done = f"{count:,} {'line was' if count == 1 else 'lines were'} taken out" if count else "the end was cut off"
        return f"{fix.path}: {done}; the original is kept as {os.path.basename(kept)}"

    def _forget_positions(self) -> None:
        """Remove the first line of metrics.toml: how far each journal was read, which a rewritten one makes wrong."""
        path = self._at(layout.METRICS_TOML)
        content = self._disk.read_file(path)
        if content is not None and content.startswith(b"#"):
            self._disk.write_file(path, [content.partition(b"\n")[2]], sync=True)

    def _resize(self, fix: Fix) -> str:
        path = self._at(fix.path)
        size = self._disk.size(path) or 0
        if fix.size >= size:
            fd = self._disk.open_append(path)
            try:
                os.ftruncate(fd, fix.size)  # fills the block with zeros
            finally:
                self._disk.close(fd)
            return f"{fix.path}: its last block was filled up"
        kept = self._kept_name(fix.path)
        with self._disk.open_read(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            file.seek(fix.size)
            self._disk.write_file(kept, iter(lambda: file.read(1 << 20), b""), sync=True, mode=mode)
        self._disk.truncate(path, fix.size)
        return f"{fix.path}: {size - fix.size:,} bytes were cut off; they are kept as {os.path.basename(kept)}"

    def _recount(self, fix: Fix) -> str:
        folder = os.path.dirname(fix.path)
        kind, _, name = folder.partition("/")
        state: journal_state.MetricState | journal_state.TrackState
        if kind == "metrics":
            state = journal_state.load_metric(
                self._disk, self._run, "", None if name == layout.UNNAMED_METRIC else name
            )
        else:
            state = journal_state.load_track(self._disk, self._run, "", name, recount=True)
        journal_state.save_metadata(self._disk, self._run, state, self._now)
        return f"{fix.path}: counted anew"

    def _copy(self, fix: Fix) -> str:
        journal = self._at(fix.path)
        self._disk.remove(parquet_copy.path_of(journal))
        shape = compaction.POINTS if fix.path.startswith("metrics/") else compaction.ROWS
        done = (
            "made anew from"
            if compaction.build_below(self._run, journal, shape, only_own=True)
            else "removed; it is of no use beside"
        )
        return f"{parquet_copy.path_of(fix.path)}: {done} the journal"

    def _hash(self, fix: Fix) -> str:
        finish.hash_late(self._run, fix.path, self._disk)
        finish.write_files_metadata(self._run, self._disk)
        return f"{fix.path}: checksums were added"

    def _move(self, fix: Fix) -> str:
        folder = self._at(layout.QUARANTINE)
        self._disk.make_folder(folder)
        name = f"leftover-{self._time_text}-{fix.path.replace('/', '_')}"[:200]
        target, number = os.path.join(folder, name), 1
        while self._disk.status(target) is not None:
            number += 1
            target = os.path.join(folder, f"{name}-{number}")
        self._disk.rename(self._at(fix.path), target)
        if fix.path.startswith((f"{layout.SPILL}/", f"{layout.STAGING}/")):
            self._disk.remove_empty_folder(os.path.dirname(self._at(fix.path)))
        return f"{fix.path}: moved to {layout.QUARANTINE}/{os.path.basename(target)}"

    def _end(self, fix: Fix) -> str:
        path = self._at(fix.path)
        with document_lock(self._at(layout.EXPERIMENT_LOCK)):
            document = load_document(self._disk, path) or {}
            heartbeat = document.get("heartbeat_at") or self._changed_at(path)
            reason = (
                f"nobody writes the run any more (pid {document.get('pid')} on {document.get('host')}): "
                "the machine or both processes ended without closing it"
            )
            ending = {"status": "FAILED", "status_reason": reason, "ended_at": heartbeat}
            write_document(self._disk, path, document | ending, sync=True)
        if fix.path == layout.EXPERIMENT and self._has_index():
            finish.write_files_metadata(self._run, self._disk)
        return f"{fix.path}: set to FAILED, ended when it was last heard of"
