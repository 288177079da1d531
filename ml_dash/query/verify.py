"""Check a run: its documents, journals, files, frames, columnar copies, its state, and what was left over."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import Any

from ml_dash.query import liveness, verify_files, verify_frames, verify_journals
from ml_dash.query.findings import END, ERROR, MOVE, NOTE, SET_ASIDE, WARNING, Finding, Fix, Report
from ml_dash.query.own_files import is_temporary, own_files
from ml_dash.query.verify_files import Checksums
from ml_dash.query.verify_journals import Advance
from ml_dash.storage import layout, reading
from ml_dash.storage.documents import read_raw_document

COPY_S = 3600.0
"""Age until which a columnar copy that is not finished may be one that is being made: that begins when the run ends, and
nobody waits for it."""

_COPY_BEGUN = ".tmp"
_DOCUMENTS = (layout.EXPERIMENT, layout.PARAMETERS, layout.ENVIRONMENT)
_ADVICE = {
    layout.EXPERIMENT: "gives it another name, and makes one with the run's name and place",
    layout.ENVIRONMENT: "gives it another name",
    layout.PARAMETERS: "gives it another name, so that the next writer does not replace it",
}
_TOML = ("config.toml", "metrics.toml")


def verify_run(
    run: str, *, live: str | None = None, known: Checksums | None = None, advance: Advance = lambda _: None
) -> Report:
    """Check everything that a run recorded. Nothing is changed.

    Args:
        run: absolute path of the run's directory.
        live: who writes it, if that is known; empty for nobody.
        known: checksums of stored files that were computed before; see ``verify_files``.
        advance: called with the number of bytes that were read, and now and then with 0.

    Raises:
        OSError: a file cannot be read.
    """
    report = Report(liveness.writer_of(run) if live is None else live)

    def count(read: int) -> None:
        report.size += read
        advance(read)

    is_live = bool(report.live)
    report.findings += _check_documents(run)
    report.findings += _check_diff(run)
    report.findings += _check_journals(run, live=is_live, advance=count)
    report.findings += verify_files.check_files(run, live=is_live, known={} if known is None else known, advance=count)
    if not is_live:
        report.findings += _check_state(run)
        report.findings += _check_leftovers(run)
    report.findings += _check_quarantine(run)
    report.files = sum(1 for _ in own_files(run))
    return report


def _check_documents(run: str) -> Iterator[Finding]:
    others = [path for path, document in liveness.other_writers(run) if document is None]
    for path in _DOCUMENTS:
        absolute = os.path.join(run, path)
        if os.path.exists(absolute) and read_raw_document(absolute) is None:
            yield Finding(ERROR, path, f"{_why(absolute)}", _ADVICE[path], Fix(SET_ASIDE, path))
    for path in others:
        yield Finding(WARNING, path, _why(os.path.join(run, path)), "gives it another name", Fix(SET_ASIDE, path))
    for path in _TOML:
        if os.path.exists(os.path.join(run, path)):
            yield from _check_toml(run, path)


def _check_diff(run: str) -> Iterator[Finding]:
    """The difference of the code from its commit, whose checksum stands in environment.json."""
    code = (read_raw_document(os.path.join(run, layout.ENVIRONMENT)) or {}).get("code")
    wanted = code.get("diff_sha256") if isinstance(code, dict) else None
    if wanted is None:
        return
    try:
        with open(os.path.join(run, layout.CODE_DIFF), "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        yield Finding(ERROR, layout.CODE_DIFF, "is missing")
        return
    if found != wanted:
        yield Finding(ERROR, layout.CODE_DIFF, "is not what was recorded: its SHA-256 is another")


def _why(path: str) -> str:
    return "is empty" if not os.path.getsize(path) else "is no JSON object"


def _check_toml(run: str, path: str) -> Iterator[Finding]:
    import tomllib

    try:
        with open(os.path.join(run, path), "rb") as file:
            tomllib.load(file)
    except ValueError as error:  # also what is no UTF-8
        remedy = "; MLRun.load(...) makes it anew from the journals" if path == "metrics.toml" else ""
        yield Finding(ERROR, path, f"is no TOML: {error}{remedy}")


def _check_journals(run: str, *, live: bool, advance: Advance) -> Iterator[Finding]:
    about = read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {}
    lost = sum(_whole(about.get(name)) for name in ("frames_dropped", "records_refused"))
    topics: dict[str, None] = {}
    for path, kind in verify_journals.journals(run):
        yield from verify_journals.check_journal(run, path, kind, live=live, lost=lost, advance=advance)
        if kind is verify_journals.FRAMES:
            topics.setdefault(path.rsplit("/", 1)[0])
    yield from verify_journals.check_lone_copies(run)
    for topic in topics:
        yield from verify_frames.check_topic(run, topic, live=live, advance=advance)


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
    for path in own_files(run):
        if not is_temporary(path) or path.startswith(f"{layout.QUARANTINE}/"):
            continue
        if path.endswith(_COPY_BEGUN) and _age(os.path.join(run, path)) < COPY_S:
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
