"""Check a run: its documents, journals, files, frames, columnar copies, its state, and what was left over."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from ml_dash.storage import layout, liveness, reading
from ml_dash.storage.documents import read_raw_document
from ml_dash.storage.own_files import is_temporary, own_files
from ml_dash.verify import documents, files, frames, journals
from ml_dash.verify.documents import as_far_as_readable, look_at
from ml_dash.verify.files import Checksums
from ml_dash.verify.findings import END, MOVE, NOTE, WARNING, Finding, Fix, Report
from ml_dash.verify.journals import Advance

COPY_S = 3600.0
"""Age until which a columnar copy that is not finished may be one that is being made: that begins when the run ends, and
nobody waits for it."""

_COPY_BEGUN = ".tmp"


def verify_run(
    run: str, *, live: str | None = None, known: Checksums | None = None, advance: Advance = lambda _: None
) -> Report:
    """Check everything that a run recorded. Nothing is changed. What cannot be read is a finding, and nothing more is.

    Args:
        run: absolute path of the run's directory.
        live: who writes it, if that is known; empty for nobody.
        known: checksums of stored files that were computed before; see ``verify_files``.
        advance: called with the number of bytes that were read, and now and then with 0.
    """
    report = Report(liveness.writer_of(run) if live is None else live)

    def count(read: int) -> None:
        report.size += read
        advance(read)

    is_live = bool(report.live)
    parts = [
        documents.check_folders(run),
        documents.check_documents(run),
        documents.check_diff(run),
        _check_journals(run, live=is_live, advance=count),
        files.check_files(run, live=is_live, known={} if known is None else known, advance=count),
    ]
    if not is_live:
        parts += [_check_state(run), _check_leftovers(run)]
    parts += [_check_quarantine(run), _count_files(run, report)]
    # A folder that cannot be read is met by several parts.
    report.findings = list(dict.fromkeys(finding for part in parts for finding in as_far_as_readable(run, part)))
    return report


def _count_files(run: str, report: Report) -> Iterator[Finding]:
    report.files = sum(1 for _ in own_files(run))
    yield from ()


def _check_journals(run: str, *, live: bool, advance: Advance) -> Iterator[Finding]:
    about = read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {}
    lost = sum(_whole(about.get(name)) for name in ("frames_dropped", "records_refused"))
    topics: dict[str, None] = {}
    for path, kind in journals.journals(run):
        check = journals.check_journal(run, path, kind, live=live, lost=lost, advance=advance)
        yield from as_far_as_readable(run, check, path)
        if kind is journals.FRAMES:
            topics.setdefault(path.rsplit("/", 1)[0])
    yield from as_far_as_readable(run, journals.check_lone_copies(run))
    for topic in topics:
        yield from as_far_as_readable(run, frames.check_topic(run, topic, live=live, advance=advance), topic)


def _check_state(run: str) -> Iterator[Finding]:
    documents = [(layout.EXPERIMENT, read_raw_document(os.path.join(run, layout.EXPERIMENT)))]
    for path, document in [*documents, *liveness.other_writers(run)]:
        if document is not None and document.get("status") == "RUNNING":
            beat = document.get("heartbeat_at")
            known = f"; it was last heard of at {beat}" if isinstance(beat, str) else ""
            problem = f"says RUNNING, but nobody writes the run{known}"
            yield Finding(WARNING, path, problem, "sets FAILED, with the reason", Fix(END, path))


def _check_leftovers(run: str) -> Iterator[Finding]:
    stored: set[str] | None = None
    is_unlisted = bool(look_at(os.path.join(run, layout.FILES_METADATA)).refusal)
    for path in own_files(run):
        if not is_temporary(path) or path.startswith(f"{layout.QUARANTINE}/"):
            continue
        if path.endswith(_COPY_BEGUN) and _age(os.path.join(run, path)) < COPY_S:
            continue
        if path.startswith("files/") and is_unlisted:  # it may be a stored file of such a name
            continue
        if path.startswith("files/") and stored is None:
            stored = {layout.blob(e["path"], e["id"], e["filename"]) for e in reading.read_files(run)}
        if path in (stored or ()):
            continue
        yield Finding(WARNING, path, _leftover(path), "moves it to quarantine/", Fix(MOVE, path))


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:  # it was finished meanwhile
        return 0.0


def _leftover(path: str) -> str:
    if path.startswith(f"{layout.SPILL}/"):
        return "is a large record that was never written out"
    if path.startswith(f"{layout.STAGING}/"):
        return "is the copy of a file that never got into the index"
    return "was never written to its end"


def _check_quarantine(run: str) -> Iterator[Finding]:
    names = _names(os.path.join(run, layout.QUARANTINE))
    records = [name for name in names if name.endswith(".json")]
    if records:
        about: dict[str, Any] = read_raw_document(os.path.join(run, layout.QUARANTINE, records[0])) or {}
        lines = str(about.get("error", "")).strip().splitlines()
        why = f", the first because of {lines[-1]}" if lines else ""
        what = "1 record was" if len(records) == 1 else f"{len(records):,} records were"
        yield Finding(WARNING, layout.QUARANTINE, f"{what} set aside{why}")
    kept = [name for name in names if name.startswith("leftover-")]
    if kept:
        what = "1 leftover is" if len(kept) == 1 else f"{len(kept):,} leftovers are"
        yield Finding(NOTE, layout.QUARANTINE, f"{what} kept there from an earlier repair")


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
