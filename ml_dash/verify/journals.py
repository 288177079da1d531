"""Check the journals of a run: every line, the numbers in them, the counts beside them, and their columnar copies."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ml_dash.query.frame_index import frame_of
from ml_dash.records.values import decode
from ml_dash.storage import file_index, layout, parquet_copy
from ml_dash.storage.beneath import open_file, regular_size, walk
from ml_dash.storage.compaction import point_row, track_row
from ml_dash.storage.documents import read_raw_document
from ml_dash.storage.journal import lines_in, shards
from ml_dash.verify.documents import inspect_document, relative
from ml_dash.verify.findings import (
    COPY,
    ERROR,
    NOTE,
    RECOUNT,
    REWRITE,
    SET_ASIDE,
    WARNING,
    Finding,
    Fix,
    NumberSet,
    format_numbers,
    format_ranges,
    span_length,
)

Advance = Callable[[int], None]
"""Called with a number of bytes that were read."""

NUMBER_LIMIT = 2**63
"""Numbers from here on were never given to a line: readers keep them in 64 bits."""


@dataclass(frozen=True, slots=True)
class JournalKind:
    """The form of the lines of one kind of stream.

    Attributes:
        parse: returns a line as an object, or None if it cannot be read.
        number_key: the key of the number that each line has; empty if there is none.
        noun: what the lines are called.
    """

    parse: Callable[[bytes], dict[str, Any] | None]
    number_key: str
    noun: str


@dataclass(slots=True)
class _Contents:
    """Everything about the lines of a journal that a check needs.

    Attributes:
        lines: number of whole lines.
        rows: number of lines that can be read.
        broken: the other lines, from 0.
        unfinished_bytes: bytes after the last newline.
        numbers: the numbers of the lines.
        next_number: the number that follows that of the last line.
        out_of_range: lines, from 0, with a number that no writer gives.
        first_time: least timestamp of a track.
        last_time: greatest timestamp of a track.
    """

    lines: int = 0
    rows: int = 0
    broken: list[int] = field(default_factory=list)
    unfinished_bytes: int = 0
    numbers: NumberSet = field(default_factory=NumberSet)
    next_number: int = 0
    out_of_range: list[int] = field(default_factory=list)
    first_time: float = math.inf
    last_time: float = -math.inf


def _parse_object(line: bytes) -> dict[str, Any] | None:
    try:
        value = decode(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parse_point(line: bytes) -> dict[str, Any] | None:
    value = _parse_object(line)
    return value if point_row(value) is not None else None


def _parse_row(line: bytes) -> dict[str, Any] | None:
    row = track_row(_parse_object(line))
    return row if row is not None and abs(row["timestamp"]) <= sys.float_info.max else None


def _parse_file(line: bytes) -> dict[str, Any] | None:
    value = _parse_object(line)
    return value if file_index.is_entry(value) else None


LOGS = JournalKind(_parse_object, "sequenceNumber", "log lines")
POINTS = JournalKind(_parse_point, "index", "points")
ROWS = JournalKind(_parse_row, "", "rows")
FRAMES = JournalKind(frame_of, "seq", "frames")
FILES = JournalKind(_parse_file, "", "entries")
HISTORY = JournalKind(_parse_object, "", "entries")


def list_journals(run: str) -> Iterator[tuple[str, JournalKind]]:
    """Yield every journal of a run, relative to its folder, and its kind."""
    if os.path.lexists(os.path.join(run, layout.ENVIRONMENT_HISTORY)):
        yield layout.ENVIRONMENT_HISTORY, HISTORY
    for name, stem, kind in (("logs", "logs", LOGS), ("files", "index", FILES)):
        folder = os.path.join(run, name)
        for path in [] if os.path.islink(folder) else _readable_shards(folder, stem):
            yield relative(path, run), kind
    for top, kind in (("metrics", POINTS), ("tracks", ROWS), ("frames", FRAMES)):
        for folder in _folders_below(os.path.join(run, top)):
            for path in _readable_shards(folder, "data"):
                yield relative(path, run), kind


def _readable_shards(folder: str, stem: str) -> list[str]:
    try:
        return shards(folder, stem)
    except OSError:  # check_folders finds it, and the other journals are checked
        return []


def _folders_below(top: str) -> Iterator[str]:
    for folder, _ in walk(top):
        if folder != top:
            yield folder


def check_journal(
    run: str, path: str, kind: JournalKind, *, live: bool, lost: int, advance: Advance
) -> Iterator[Finding]:
    """Check one journal, its counts and its copy.

    Args:
        run: absolute path of the run's directory.
        path: the journal, relative to it.
        kind: the kind of its lines.
        live: whether it is being written.
        lost: records and frames that the run itself counted as lost.
        advance: called with the number of bytes that were read.
    """
    contents = _read_contents(os.path.join(run, path), kind, advance)
    yield from _check_lines(path, contents, live=live)
    if kind.number_key:
        yield from _check_numbers(run, path, kind, contents, lost)
    if kind in (POINTS, ROWS):
        folder, name = os.path.split(path)
        if name == "data.jsonl" and not live:
            yield from _check_counts(run, f"{folder}/{layout.METADATA}", kind, contents)
        if not contents.unfinished_bytes and not contents.broken:
            yield from _check_copy(run, path, kind, advance)


def check_lone_copies(run: str) -> Iterator[Finding]:
    """Find columnar copies whose journal is gone: nothing else holds their rows."""
    for top in ("metrics", "tracks"):
        for folder in _folders_below(os.path.join(run, top)):
            for name in sorted(os.listdir(folder)):
                if not (name.startswith("data.") and name.endswith(layout.COPY_SUFFIX)):
                    continue
                journal = name.removesuffix(layout.COPY_SUFFIX) + ".jsonl"
                if not os.path.exists(os.path.join(folder, journal)):
                    path = relative(os.path.join(folder, name), run)
                    yield Finding(ERROR, path, f"its journal {journal} is gone; the copy is all that there is")


def _read_contents(path: str, kind: JournalKind, advance: Advance) -> _Contents:
    contents = _Contents()
    whole = reported = 0
    with open_file(path) as file:
        for line in lines_in(file):
            whole += len(line) + 1
            row = kind.parse(line)
            if row is None:
                contents.broken.append(contents.lines)
            else:
                _add_row(contents, row, kind)
            contents.lines += 1
            if not contents.lines % 1024:
                advance(whole - reported)
                reported = whole
        contents.unfinished_bytes = max(0, os.fstat(file.fileno()).st_size - whole)
    advance(whole + contents.unfinished_bytes - reported)
    return contents


def _add_row(contents: _Contents, row: dict[str, Any], kind: JournalKind) -> None:
    contents.rows += 1
    if kind.number_key:
        number = row.get(kind.number_key)
        if type(number) is int and number >= NUMBER_LIMIT:
            contents.out_of_range.append(contents.lines)
        elif type(number) is int and number >= 0:
            contents.numbers.add(number)
            contents.next_number = number + 1
    elif kind is ROWS:
        time = float(row["timestamp"])
        contents.first_time = min(contents.first_time, time)
        contents.last_time = max(contents.last_time, time)


def _check_lines(path: str, contents: _Contents, *, live: bool) -> Iterator[Finding]:
    if contents.unfinished_bytes and not live:
        size = "1 byte" if contents.unfinished_bytes == 1 else f"{contents.unfinished_bytes:,} bytes"
        problem = f"ends in {size} of a line that was never finished"
        yield Finding(WARNING, path, problem, "cuts them off", Fix(REWRITE, path))
    if contents.broken:
        lines = format_numbers((line + 1 for line in contents.broken), "line", "lines")
        advice = f"takes {'it' if len(contents.broken) == 1 else 'them'} out"
        yield Finding(ERROR, path, f"{lines} cannot be read", advice, Fix(REWRITE, path, frozenset(contents.broken)))


def _check_numbers(run: str, path: str, kind: JournalKind, contents: _Contents, lost: int) -> Iterator[Finding]:
    # A second writer of a frame stream begins after all frames that it finds, and then so does the first.
    has_one_writer = kind is not FRAMES or len(shards(os.path.join(run, os.path.dirname(path)), "data")) == 1
    duplicates, gaps = contents.numbers.examine(0 if has_one_writer else None)
    # The published client numbers some lines twice after a crash, and says that their order is what counts.
    is_ours = "status" in (read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {})
    if duplicates:
        yield _duplicates_finding(path, kind, duplicates, is_ours=is_ours)
    if contents.out_of_range:
        lines = format_numbers((line + 1 for line in contents.out_of_range), "line", "lines")
        verb = "has" if len(contents.out_of_range) == 1 else "have"
        problem = f"{lines} {verb} no {kind.number_key} that a writer gives; the order of the lines counts"
        yield Finding(WARNING, path, problem)
    if gaps and has_one_writer:
        yield _gaps_finding(path, kind, gaps, lost, is_ours=is_ours)


def _duplicates_finding(path: str, kind: JournalKind, duplicates: list[range], *, is_ours: bool) -> Finding:
    numbers = format_ranges(duplicates, f"the {kind.number_key}", f"the {kind.number_key}s")
    reason = "" if is_ours else ", as its client leaves it after a crash"
    problem = f"{numbers} came up twice{reason}; the order of the lines counts"
    return Finding(WARNING if is_ours else NOTE, path, problem)


def _gaps_finding(path: str, kind: JournalKind, gaps: list[range], lost: int, *, is_ours: bool) -> Finding:
    numbers = format_ranges(gaps, f"the {kind.number_key}", f"the {kind.number_key}s")
    if kind is FRAMES and sum(map(span_length, gaps)) <= lost:
        return Finding(NOTE, path, f"{numbers} did not come up: frames that were dropped, and counted")
    return Finding(WARNING if is_ours else NOTE, path, f"{numbers} did not come up: {kind.noun} were lost there")


def _check_counts(run: str, path: str, kind: JournalKind, contents: _Contents) -> Iterator[Finding]:
    """Compare the counts in metadata.json with the journal."""
    state = inspect_document(os.path.join(run, path))
    if state.refusal:
        yield Finding(ERROR, path, state.refusal)
    elif state.damage:
        yield Finding(ERROR, path, state.damage, "makes it anew from the journal", Fix(SET_ASIDE, path))
    elif state.document is None:
        yield Finding(WARNING, path, "is missing", "makes it from the journal", Fix(RECOUNT, path))
    elif wrong := _wrong_counts(state.document, kind, contents):
        yield Finding(WARNING, path, "; ".join(wrong), "counts anew", Fix(RECOUNT, path))


def _wrong_counts(document: dict[str, Any], kind: JournalKind, contents: _Contents) -> list[str]:
    count = document.get("totalDataPoints" if kind is POINTS else "totalEntries")
    wrong = []
    if count not in (contents.rows, contents.lines):
        wrong.append(f"says {count} {kind.noun} where the journal has {contents.rows:,}")
    if kind is POINTS:
        next_index = document.get("nextIndex")
        if type(next_index) is not int or contents.next_number > next_index:
            wrong.append(f"says nextIndex {next_index}, which the journal has used")
    elif not wrong and contents.rows and math.isfinite(contents.last_time - contents.first_time):
        times = (document.get("firstTimestamp"), document.get("lastTimestamp"))
        if times != (contents.first_time, contents.last_time):
            wrong.append("says other times than the journal has")
    return wrong


def _check_copy(run: str, path: str, kind: JournalKind, advance: Advance) -> Iterator[Finding]:
    journal = os.path.join(run, path)
    copy = parquet_copy.path_of(path)
    if not os.path.lexists(os.path.join(run, copy)):
        return
    advance(regular_size(os.path.join(run, copy)))
    with parquet_copy.opened(journal) as opened:
        if opened is not None and opened.is_intact() and parquet_copy.fits(opened.coverage, journal):
            return
    problem = f"is damaged, or belongs to another journal; {kind.noun} are read from the journal"
    yield Finding(WARNING, copy, problem, "removes it and makes it anew from the journal", Fix(COPY, path))
