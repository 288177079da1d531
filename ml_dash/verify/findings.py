"""What a check of a run finds, and what would mend it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

ERROR = "error"
"""Something that was recorded is damaged or missing."""

WARNING = "warning"
"""Everything recorded is there, but something derived from it, or the state of the run, is wrong."""

NOTE = "note"
"""Worth knowing, and nothing is wrong: it does not change how a check ends."""

SHOWN_NUMBERS = 5
"""Numbers that a finding names before it only counts them."""

REWRITE = "rewrite"
"""A journal is written anew without some lines and without what stands after its last newline."""
RECOUNT = "recount"
"""A metadata.json is made again from its journal."""
COPY = "copy"
"""A columnar copy is removed and made again."""
SET_ASIDE = "set aside"
"""A document that cannot be read gets another name, and is made again if that can be done."""
RESIZE = "resize"
"""A tar file is cut behind its last whole frame, or filled up to the end of its block."""
HASH = "hash"
"""Checksums that a file's entry does not have are added."""
MOVE = "move"
"""A leftover goes to the quarantine folder."""
END = "end"
"""A run that nobody writes is marked as FAILED."""


@dataclass(frozen=True, slots=True)
class Fix:
    """What repairing a finding takes.

    Attributes:
        kind: one of the words above.
        path: what it is done to, relative to the run's folder, with slashes.
        lines: of ``REWRITE``, the lines left out, from 0.
        size: of ``RESIZE``, the new length in bytes.
    """

    kind: str
    path: str
    lines: frozenset[int] = frozenset()
    size: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: ``error``, ``warning`` or ``note``.
        path: where, relative to the run's folder, with slashes.
        problem: what is wrong, in a few words.
        repair: what repairing it would do; empty if nothing can be done about it.
        fix: the same for the program.
    """

    severity: str
    path: str
    problem: str
    repair: str = ""
    fix: Fix | None = None

    def as_json(self) -> dict[str, Any]:
        """For a program to read."""
        return {
            "severity": self.severity,
            "path": self.path,
            "problem": self.problem,
            "repair": self.repair or None,
        }


def refusal(error: OSError) -> str:
    """What to say of a file or folder that was not read. It may be intact: whoever repairs leaves it alone."""
    return f"cannot be read: {error.strerror or error}"


@dataclass(slots=True)
class Report:
    """What a check of one run came to.

    Attributes:
        live: why the run counts as being written now; empty if it is not. Of such a run only what cannot change is
            checked, and nothing is repaired.
        findings: in the order in which they were found.
        files: files that were read.
        size: their bytes.
        repaired: what was done, in words.
    """

    live: str = ""
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    size: int = 0
    repaired: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing but notes was found."""
        return all(finding.severity == NOTE for finding in self.findings)


class Numbers:
    """Which of the numbers 0, 1, 2, ... came up, in any order, in the memory of the gaps between them."""

    def __init__(self) -> None:
        self._spans: list[list[int]] = []

    def add(self, number: int) -> None:
        """One came up."""
        if self._spans and self._spans[-1][1] == number:
            self._spans[-1][1] = number + 1
        else:
            self._spans.append([number, number + 1])

    def examine(self, start: int | None = 0) -> tuple[list[range], list[range]]:
        """Those that came up twice, and those that are missing before the last one; None: before the first is none."""
        twice: list[range] = []
        missing: list[range] = []
        spans = sorted(self._spans)
        end = spans[0][0] if spans and start is None else start or 0
        for first, stop in spans:
            if first > end:
                missing.append(range(end, first))
            elif first < end:
                twice.append(range(first, min(stop, end)))
            end = max(end, stop)
        return twice, missing


def told(numbers: Iterable[int], one: str, many: str) -> str:
    """``line 3``, ``lines 3, 9 and 12``, ``lines 3, 9, 12, 14, 20 and 801 more``."""
    known = list(numbers)
    return _listed([f"{number:,}" for number in known], len(known), one, many)


def told_ranges(ranges: Iterable[range], one: str, many: str) -> str:
    """The same for numbers that follow each other: ``lines 3-9 and 12``."""
    known = list(ranges)
    texts = [f"{span.start}" if length(span) == 1 else f"{span.start}-{span.stop - 1}" for span in known]
    return _listed(texts, sum(map(length, known)), one, many)


def length(span: range) -> int:
    """How many numbers follow each other; ``len`` refuses what 64 bits do not hold, and a damaged line may say that."""
    return span.stop - span.start


def _listed(texts: list[str], count: int, one: str, many: str) -> str:
    what = one if count == 1 else many
    if len(texts) > SHOWN_NUMBERS:
        return f"{what} {', '.join(texts[:SHOWN_NUMBERS])} and {len(texts) - SHOWN_NUMBERS:,} more"
    return f"{what} {', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else f"{what} {texts[0]}"
