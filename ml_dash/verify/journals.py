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
from ml_dash.storage.compaction import point_row, track_row
from ml_dash.storage.documents import read_raw_document
from ml_dash.storage.journal import read_lines
from ml_dash.storage.lines import shards
from ml_dash.verify.documents import look_at
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
    Numbers,
    length,
    told,
    told_ranges,
)

Advance = Callable[[int], None]
"""Called with a number of bytes that were read."""


LARGEST = 2**63
"""Numbers from here on were never given to a line: readers keep them in 64 bits."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the lines of a stream are told from broken ones.

    Attributes:
        row: a line as an object, or None if it cannot be read.
        number: the key of the number that each line has; empty if there is none.
        record: what a line is called.
    """

    row: Callable[[bytes], dict[str, Any] | None]
    number: str
    record: str


@dataclass(slots=True)
class _Facts:
    """What a journal holds."""

    lines: int = 0
    rows: int = 0
    broken: list[int] = field(default_factory=list)
    unfinished: int = 0
    numbers: Numbers = field(default_factory=Numbers)
    following: int = 0
    wild: list[int] = field(default_factory=list)
    first: float = math.inf
    last: float = -math.inf


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = decode(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _point(line: bytes) -> dict[str, Any] | None:
    value = _object(line)
    return value if point_row(value) is not None else None


def _row(line: bytes) -> dict[str, Any] | None:
    row = track_row(_object(line))
    return row if row is not None and abs(row["timestamp"]) <= sys.float_info.max else None


def _entry(line: bytes) -> dict[str, Any] | None:
    value = _object(line)
    return value if file_index.is_entry(value) else None


LOGS = _Kind(_object, "sequenceNumber", "log lines")
POINTS = _Kind(_point, "index", "points")
ROWS = _Kind(_row, "", "rows")
FRAMES = _Kind(frame_of, "seq", "frames")
FILES = _Kind(_entry, "", "entries")
HISTORY = _Kind(_object, "", "entries")


def journals(run: str) -> Iterator[tuple[str, _Kind]]:
    """Every journal of a run, relative to its folder, and its kind."""
    if os.path.exists(os.path.join(run, layout.ENVIRONMENT_HISTORY)):
        yield layout.ENVIRONMENT_HISTORY, HISTORY
    for folder, stem, kind in (("logs", "logs", LOGS), ("files", "index", FILES)):
        for path in _shards(os.path.join(run, folder), stem):
            yield _relative(path, run), kind
    for top, kind in (("metrics", POINTS), ("tracks", ROWS), ("frames", FRAMES)):
        for folder in _folders(os.path.join(run, top)):
            for path in _shards(folder, "data"):
                yield _relative(path, run), kind


def _shards(folder: str, stem: str) -> list[str]:
    try:
        return shards(folder, stem)
    except OSError:  # a finding of its own, and no reason to pass over the other journals
        return []


def check_journal(run: str, path: str, kind: _Kind, *, live: bool, lost: int, advance: Advance) -> Iterator[Finding]:
    """What is wrong with one journal, its counts and its copy.

    Args:
        run: absolute path of the run's directory.
        path: the journal, relative to it.
        kind: of its lines.
        live: whether it is being written.
        lost: records and frames that the run itself counted as given up.
        advance: told how much was read.
    """
    absolute = os.path.join(run, path)
    facts = _scan(absolute, kind, advance)
    if facts.unfinished and not live:
        size = "1 byte" if facts.unfinished == 1 else f"{facts.unfinished:,} bytes"
        problem = f"ends in {size} of a line that was never finished"
        yield Finding(WARNING, path, problem, "cuts them off", Fix(REWRITE, path))
    if facts.broken:
        numbers = told((number + 1 for number in facts.broken), "line", "lines")
        fix = Fix(REWRITE, path, frozenset(facts.broken))
        what = "it" if len(facts.broken) == 1 else "them"
        yield Finding(ERROR, path, f"{numbers} cannot be read", f"takes {what} out", fix)
    if kind.number:
        yield from _check_numbers(run, path, kind, facts, lost)
    folder, name = os.path.split(path)
    if kind in (POINTS, ROWS):
        if name == "data.jsonl" and not live:
            yield from _check_counts(run, f"{folder}/{layout.METADATA}", kind, facts)
        if not facts.unfinished and not facts.broken:
            yield from _check_copy(run, path, kind, advance)


def check_lone_copies(run: str) -> Iterator[Finding]:
    """Columnar copies whose journal is gone: what is in them is nowhere else."""
    for top in ("metrics", "tracks"):
        for folder in _folders(os.path.join(run, top)):
            for name in sorted(os.listdir(folder)):
                if not (name.startswith("data.") and name.endswith(layout.COPY_SUFFIX)):
                    continue
                journal = name.removesuffix(layout.COPY_SUFFIX) + ".jsonl"
                if not os.path.exists(os.path.join(folder, journal)):
                    path = _relative(os.path.join(folder, name), run)
                    yield Finding(ERROR, path, f"its journal {journal} is gone; the copy is all that there is")


def _scan(path: str, kind: _Kind, advance: Advance) -> _Facts:
    facts = _Facts()
    whole = told_of = 0
    for line in read_lines(path):
        whole += len(line) + 1
        row = kind.row(line)
        if row is None:
            facts.broken.append(facts.lines)
        else:
            _take(facts, row, kind)
        facts.lines += 1
        if not facts.lines % 1024:
            advance(whole - told_of)
            told_of = whole
    facts.unfinished = max(0, os.path.getsize(path) - whole)
    advance(whole + facts.unfinished - told_of)
    return facts


def _take(facts: _Facts, row: dict[str, Any], kind: _Kind) -> None:
    facts.rows += 1
    if kind.number:
        number = row.get(kind.number)
        if type(number) is int and number >= LARGEST:
            facts.wild.append(facts.lines)
        elif type(number) is int and number >= 0:
            facts.numbers.add(number)
            facts.following = number + 1
    elif kind is ROWS:
        time = float(row["timestamp"])
        facts.first, facts.last = min(facts.first, time), max(facts.last, time)


def _check_numbers(run: str, path: str, kind: _Kind, facts: _Facts, lost: int) -> Iterator[Finding]:
    # A second writer of a frame stream begins after all frames that it finds, and then so does the first.
    alone = kind is not FRAMES or len(shards(os.path.join(run, os.path.dirname(path)), "data")) == 1
    twice, missing = facts.numbers.examine(0 if alone else None)
    # The published client numbers some lines twice after a crash, and says that their order is what counts.
    is_ours = "status" in (read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {})
    if twice:
        numbers = told_ranges(twice, f"the {kind.number}", f"the {kind.number}s")
        why = "" if is_ours else ", as its client leaves it after a crash"
        yield Finding(
            WARNING if is_ours else NOTE, path, f"{numbers} came up twice{why}; the order of the lines counts"
        )
    if facts.wild:
        lines = told((line + 1 for line in facts.wild), "line", "lines")
        what = "has" if len(facts.wild) == 1 else "have"
        yield Finding(
            WARNING, path, f"{lines} {what} no {kind.number} that a writer gives; the order of the lines counts"
        )
    count = sum(map(length, missing))
    if count and alone:
        numbers = told_ranges(missing, f"the {kind.number}", f"the {kind.number}s")
        known = kind is FRAMES and count <= lost
        why = "frames that were dropped, and counted" if known else f"{kind.record} were lost there"
        yield Finding(NOTE if known or not is_ours else WARNING, path, f"{numbers} did not come up: {why}")


def _check_counts(run: str, path: str, kind: _Kind, facts: _Facts) -> Iterator[Finding]:
    absolute = os.path.join(run, path)
    look = look_at(absolute)
    if look.refusal or look.damage:
        fix = Fix(SET_ASIDE, path) if look.damage else None
        yield Finding(ERROR, path, look.refusal or look.damage, "makes it anew from the journal" if fix else "", fix)
        return
    found = look.document
    if found is None:
        yield Finding(WARNING, path, "is missing", "makes it from the journal", Fix(RECOUNT, path))
        return
    key = "totalDataPoints" if kind is POINTS else "totalEntries"
    wrong = []
    if found.get(key) not in (facts.rows, facts.lines):
        wrong.append(f"says {found.get(key)} {kind.record} where the journal has {facts.rows:,}")
    if kind is POINTS and facts.following > _whole(found.get("nextIndex")):
        wrong.append(f"says nextIndex {found.get('nextIndex')}, which the journal has used")
    ends = (found.get("firstTimestamp"), found.get("lastTimestamp"))
    if kind is ROWS and not wrong and facts.rows and math.isfinite(facts.last - facts.first):
        wrong += ["says other times than the journal has"] if ends != (facts.first, facts.last) else []
    if wrong:
        yield Finding(WARNING, path, "; ".join(wrong), "counts anew", Fix(RECOUNT, path))


def _check_copy(run: str, path: str, kind: _Kind, advance: Advance) -> Iterator[Finding]:
    journal = os.path.join(run, path)
    place = parquet_copy.path_of(path)
    copy = os.path.join(run, place)
    if not os.path.exists(copy):
        return
    advance(os.path.getsize(copy))
    with parquet_copy.opened(journal) as found:
        if found is not None and found.is_intact() and parquet_copy.fits(found.coverage, journal):
            return
    problem = "is damaged, or belongs to another journal"
    advice = "removes it and makes it anew from the journal"
    yield Finding(WARNING, place, f"{problem}; {kind.record} are read from the journal", advice, Fix(COPY, path))


def _folders(top: str) -> Iterator[str]:
    for folder, names, _ in os.walk(top):
        names.sort()
        if folder != top:
            yield folder


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _relative(path: str, run: str) -> str:
    return os.path.relpath(path, run).replace(os.sep, "/")
