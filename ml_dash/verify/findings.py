"""Findings of a check of a run, and the fixes for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

ERROR = "error"
"""Something that was recorded is damaged or missing."""

WARNING = "warning"
"""Everything recorded is there, but something derived from it, or the state of the run, is wrong."""

NOTE = "note"
"""Nothing is wrong: a note does not change the result of a check."""

SHOWN_NUMBERS = 5
"""Numbers that a finding names before it only counts them."""

REWRITE = "rewrite"
"""Write a journal anew without some lines and without the bytes after its last newline."""
RECOUNT = "recount"
"""Make a metadata.json again from its journal."""
COPY = "copy"
"""Remove a columnar copy, and make it again."""
SET_ASIDE = "set aside"
"""Rename a document that cannot be read, and make it again if that can be done."""
RESIZE = "resize"
"""Cut a tar file after its last whole frame, or fill its last block."""
HASH = "hash"
"""Add the missing checksums of files."""
MOVE = "move"
"""Move a leftover to the quarantine folder."""
END = "end"
"""Mark a run that is not being written as FAILED."""


@dataclass(frozen=True, slots=True)
class Fix:
    """One step of a repair.

    Attributes:
        kind: one of the constants above.
        path: the file to mend, relative to the run's folder, with slashes.
        lines: for ``REWRITE``, the lines to leave out, from 0.
        size: for ``RESIZE``, the new length in bytes.
    """

    kind: str
    path: str
    lines: frozenset[int] = frozenset()
    size: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect of a run, or a note about it.

    Attributes:
        severity: ``error``, ``warning`` or ``note``.
        path: the file or folder, relative to the run's folder, with slashes.
        problem: what is wrong, in a few words.
        repair: what a repair would do, as a verb phrase; empty if it can do nothing.
        fix: the step of the repair; None if there is none.
    """

    severity: str
    path: str
    problem: str
    repair: str = ""
    fix: Fix | None = None

    def as_json(self) -> dict[str, Any]:
        """Return ``severity``, ``path``, ``problem`` and ``repair`` (None if a repair can do nothing)."""
        return {
            "severity": self.severity,
            "path": self.path,
            "problem": self.problem,
            "repair": self.repair or None,
        }


@dataclass(slots=True)
class Report:
    """Result of the check of one run.

    Attributes:
        live: why the run counts as being written now; empty if it does not. Of a live run only the parts that cannot
            change are checked, and nothing is repaired.
        findings: in the order in which they were found.
        files: number of the run's files.
        size: bytes that were read.
        repaired: one sentence for each fix that was done.
    """

    live: str = ""
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    size: int = 0
    repaired: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether there are no findings but notes."""
        return all(finding.severity == NOTE for finding in self.findings)


class NumberSet:
    """Numbers from 0 in any order, with one span in memory for each run of consecutive ones."""

    def __init__(self) -> None:
        self._spans: list[list[int]] = []

    def add(self, number: int) -> None:
        """Add one number."""
        if self._spans and self._spans[-1][1] == number:
            self._spans[-1][1] = number + 1
        else:
            self._spans.append([number, number + 1])

    def examine(self, start: int | None = 0) -> tuple[list[range], list[range]]:
        """Return the duplicated numbers and the gaps below the highest one.

        Args:
            start: the first number that is expected; None for the lowest one that was added.
        """
        duplicates: list[range] = []
        gaps: list[range] = []
        spans = sorted(self._spans)
        end = spans[0][0] if spans and start is None else start or 0
        for first, stop in spans:
            if first > end:
                gaps.append(range(end, first))
            elif first < end:
                duplicates.append(range(first, min(stop, end)))
            end = max(end, stop)
        return duplicates, gaps


def span_length(span: range) -> int:
    """Return the length of a range; ``len`` refuses one beyond 64 bits, which a damaged line may name."""
    return span.stop - span.start


def format_numbers(numbers: Iterable[int], one: str, many: str) -> str:
    """Return ``line 3``, ``lines 3, 9 and 12`` or ``lines 3, 9, 12, 14, 20 and 801 more``."""
    texts = [f"{number:,}" for number in numbers]
    return _format(texts, len(texts), one, many)


def format_ranges(ranges: Iterable[range], one: str, many: str) -> str:
    """Return ``line 3``, ``lines 3-9 and 12``, and so on."""
    spans = list(ranges)
    texts = [f"{span.start}" if span_length(span) == 1 else f"{span.start}-{span.stop - 1}" for span in spans]
    return _format(texts, sum(map(span_length, spans)), one, many)


def _format(texts: list[str], count: int, one: str, many: str) -> str:
    noun = one if count == 1 else many
    if len(texts) > SHOWN_NUMBERS:
        return f"{noun} {', '.join(texts[:SHOWN_NUMBERS])} and {len(texts) - SHOWN_NUMBERS:,} more"
    return f"{noun} {', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else f"{noun} {texts[0]}"
