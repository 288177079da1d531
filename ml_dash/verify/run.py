"""Check a run: its documents, journals, files, frames, columnar copies, its state, and leftover files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from ml_dash.storage import layout, liveness, reading
from ml_dash.storage.documents import read_raw_document
from ml_dash.storage.own_files import is_temporary, own_files
from ml_dash.verify import documents, files, frames, journals
from ml_dash.verify.documents import inspect_document, until_failure
from ml_dash.verify.files import Checksums
from ml_dash.verify.findings import END, MOVE, NOTE, WARNING, Finding, Fix, Report
from ml_dash.verify.journals import Advance

UNFINISHED_COPY_S = 3600.0
"""Age until which an unfinished columnar copy may still be in the making: that begins when the run ends, and nobody
waits for it."""


def verify_run(
    run: str, *, live: str | None = None, known: Checksums | None = None, advance: Advance = lambda _: None
) -> Report:
    """Check everything that a run recorded. Nothing is changed. A file that cannot be read becomes a finding.

    Args:
        run: absolute path of the run's directory.
        live: why the run counts as being written, or an empty text if it does not; default: look at the run.
        known: checksums of stored files that were computed before; new ones are added.
        advance: called with the number of bytes that were read, and now and then with 0.
    """
    report = Report(liveness.writer_of(run) if live is None else live)

    def count(read: int) -> None:
        report.size += read
        advance(read)

    is_live = bool(report.live)
    checks = [
        documents.check_folders(run),
        documents.check_documents(run),
        documents.check_diff(run),
        _check_journals(run, live=is_live, advance=count),
        files.check_files(run, live=is_live, known={} if known is None else known, advance=count),
    ]
    if not is_live:
        checks += [_check_state(run), _check_leftovers(run)]
    checks += [_check_quarantine(run), _count_files(run, report)]
    # Several checks meet the same folder that cannot be read.
    report.findings = list(dict.fromkeys(finding for check in checks for finding in until_failure(run, check)))
    return report


def _count_files(run: str, report: Report) -> Iterator[Finding]:
    """Count the run's files; a generator like the checks, so that a folder that cannot be read becomes a finding."""
    report.files = sum(1 for _ in own_files(run))
    yield from ()


def _check_journals(run: str, *, live: bool, advance: Advance) -> Iterator[Finding]:
    document = read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {}
    counts = (document.get(name) for name in ("frames_dropped", "records_refused"))
    lost = sum(count for count in counts if isinstance(count, int) and not isinstance(count, bool))
    topics: dict[str, None] = {}
    for path, kind in journals.list_journals(run):
        check = journals.check_journal(run, path, kind, live=live, lost=lost, advance=advance)
        yield from until_failure(run, check, path)
        if kind is journals.FRAMES:
            topics.setdefault(path.rsplit("/", 1)[0])
    yield from until_failure(run, journals.check_lone_copies(run))
    for topic in topics:
        yield from until_failure(run, frames.check_topic(run, topic, live=live, advance=advance), topic)


def _check_state(run: str) -> Iterator[Finding]:
    experiment = (layout.EXPERIMENT, read_raw_document(os.path.join(run, layout.EXPERIMENT)))
    for path, document in [experiment, *liveness.other_writers(run)]:
        if document is not None and document.get("status") == "RUNNING":
            heartbeat = document.get("heartbeat_at")
            last = f"; it was last heard of at {heartbeat}" if isinstance(heartbeat, str) else ""
            problem = f"says RUNNING, but nobody writes the run{last}"
            yield Finding(WARNING, path, problem, "sets FAILED, with the reason", Fix(END, path))


def _check_leftovers(run: str) -> Iterator[Finding]:
    """Find files with the name of one that is being written, in a run that is not."""
    stored: set[str] | None = None
    is_list_unread = bool(inspect_document(os.path.join(run, layout.FILES_METADATA)).refusal)
    for path in own_files(run):
        if not is_temporary(path) or path.startswith(f"{layout.QUARANTINE}/"):
            continue
        if path.endswith(".tmp") and _age(os.path.join(run, path)) < UNFINISHED_COPY_S:
            continue
        if path.startswith("files/"):  # a stored file may have such a name
            if is_list_unread:
                continue
            if stored is None:
                stored = {layout.blob(e["path"], e["id"], e["filename"]) for e in reading.read_files(run)}
            if path in stored:
                continue
        if path.startswith(f"{layout.SPILL}/"):
            problem = "is a large record that was never written out"
        elif path.startswith(f"{layout.STAGING}/"):
            problem = "is the copy of a file that never got into the index"
        else:
            problem = "was never written to its end"
        yield Finding(WARNING, path, problem, "moves it to quarantine/", Fix(MOVE, path))


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:  # it was finished meanwhile
        return 0.0


def _check_quarantine(run: str) -> Iterator[Finding]:
    try:
        names = sorted(os.listdir(os.path.join(run, layout.QUARANTINE)))
    except OSError:
        return
    records = [name for name in names if name.endswith(".json")]
    if records:
        first: dict[str, Any] = read_raw_document(os.path.join(run, layout.QUARANTINE, records[0])) or {}
        lines = str(first.get("error", "")).strip().splitlines()
        reason = f", the first because of {lines[-1]}" if lines else ""
        subject = "1 record was" if len(records) == 1 else f"{len(records):,} records were"
        yield Finding(WARNING, layout.QUARANTINE, f"{subject} set aside{reason}")
    leftovers = [name for name in names if name.startswith("leftover-")]
    if leftovers:
        subject = "1 leftover is" if len(leftovers) == 1 else f"{len(leftovers):,} leftovers are"
        yield Finding(NOTE, layout.QUARANTINE, f"{subject} kept there from an earlier repair")
