"""All runs of a tree as rows. Only runs that changed since the last time are read.

The rows are kept in the cache folder with the times, sizes and inodes of the files that they came from. Where these
differ, or are too new to be trusted, the run is read again, so that the rows always are those of a scan of everything.
Without a writable cache folder every run is read each time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ml_dash.catalog import index_cache, row_columns
from ml_dash.catalog.index_cache import Saved
from ml_dash.catalog.row_columns import RowColumns
from ml_dash.catalog.summary import Cells, summarise
from ml_dash.catalog.walk import ListedRun, Walk
from ml_dash.storage.file_index import without_collector

BATCH_RUNS = 1000
BATCH_CELLS = 1_000_000
"""Rows, and cells in them, that are held as Python values before they become columns."""

MAX_COLUMNS = 10_000
"""Columns of a table. A run beyond it lacks some of its parameters and metrics there, and is named as a problem: a column
takes memory for every run, also where only one run has a value."""

MAX_CELLS = 50_000_000
LEAST_COLUMNS = 1_000
"""Cells of a table, some 500 MB. A table of so many runs that it would have fewer than ``LEAST_COLUMNS`` has these."""


class Problem(NamedTuple):
    """A run, or a folder, that could not be read, or of which a part is left out.

    Attributes:
        folder: its absolute path.
        reason: why.
    """

    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """The runs of a tree as one scan found them.

    Attributes:
        root: absolute path of the tree.
        paths: the folder of each run relative to the root, with slashes.
        managed: for each run whether the ML manager made it.
        rows: one for each run.
        problems: the runs and folders that could not be read.
    """

    root: str
    paths: list[str]
    managed: list[bool]
    rows: RowColumns
    problems: list[Problem]

    def folder(self, row: int) -> str:
        """The absolute folder of a run."""
        return _folder(self.root, self.paths[row])

    def rows_of(self, folders: Sequence[str]) -> RowColumns:
        """The rows of the runs in these folders, in their order; folders without a row are left out."""
        numbers = {self.folder(row): row for row in range(len(self.paths))}
        return self.rows.take([numbers[folder] for folder in folders if folder in numbers])


def read_index(root: str, *, cached: bool = True) -> Index:
    """Every run below a folder.

    Args:
        root: absolute path of the folder.
        cached: whether to use and renew the saved index; False reads everything.
    """
    old = index_cache.load(root) if cached else None
    walk = Walk(root, old.listings if old is not None else {})
    with without_collector():
        new = _read(root, walk.runs(), old, walk)
    if cached and (old is None or _differs(old, new)):
        index_cache.save(root, new)
    problems = [Problem(_folder(root, path), reason) for path, _, reason in new.problems]
    problems += [Problem(_folder(root, path), reason) for path, reason in walk.unreadable]
    return Index(root, new.paths, new.managed, new.rows, sorted(problems))


def _read(root: str, runs: list[ListedRun], old: Saved | None, walk: Walk) -> Saved:
    """The rows of all runs: known ones whose files are the same, and the others read now."""
    known = _KnownRows(old)
    most = min(MAX_COLUMNS, max(LEAST_COLUMNS, MAX_CELLS // max(1, len(runs))))
    fresh = _FreshRows(root, most)
    new = Saved(walk.listings, [], [], [], RowColumns([], [], {}), [])
    order: list[int] = []
    for run in runs:
        if (reason := known.problem(run)) is not None:
            new.problems.append((run.path, run.signature, reason))
            continue
        row, signature = known.row(run), run.signature
        if row is None:
            row, reason, is_certain = fresh.read(run)
            signature = signature if is_certain else ""
            if row is None:
                if reason:
                    new.problems.append((run.path, signature, reason))
                continue
            row += known.count
        order.append(row)
        new.paths.append(run.path)
        new.managed.append(run.is_managed)
        new.signatures.append(signature)
    parts = [*([old.rows] if old is not None else []), *fresh.columns()]
    kept = row_columns.names_within(_shapes(parts, order), most)
    new.rows = row_columns.concat(parts, kept).take(order)
    lost = {known.count + row: count for row, count in fresh.left_out.items()}
    if kept is not None:
        shapes = [part.shapes[number] for part in parts for number in part.shape_of]
        for row in order:
            if missing := sum(name not in kept for name in shapes[row]):
                lost[row] = lost.get(row, 0) + missing
    for position, row in enumerate(order):
        if row in lost:
            new.signatures[position] = ""  # read again next time: the other runs may be fewer then
            reason = f"{lost[row]:,} of its columns are left out: a table of {len(runs):,} runs has at most {most:,}"
            new.problems.append((new.paths[position], "", reason))
    return new


def _shapes(parts: Sequence[RowColumns], order: Sequence[int]) -> Counter[row_columns.Shape]:
    """How many of the rows have each shape."""
    used = set(order)
    shapes: Counter[row_columns.Shape] = Counter()
    start = 0
    for part in parts:
        counts = Counter(number for row, number in enumerate(part.shape_of, start) if row in used)
        for number, count in counts.items():
            shapes[part.shapes[number]] += count
        start += len(part)
    return shapes


class _KnownRows:
    """The rows and problems of an older index."""

    def __init__(self, old: Saved | None) -> None:
        self._old = old
        self.count = len(old.paths) if old is not None else 0
        self._rows: dict[str, int] = {}
        self._problems: dict[str, tuple[str, str]] = {}
        if old is not None:
            self._rows = {path: row for row, path in enumerate(old.paths)}
            self._problems = {path: (signature, reason) for path, signature, reason in old.problems}

    def row(self, run: ListedRun) -> int | None:
        """The number of a run's row; None if its files changed."""
        row = self._rows.get(run.path)
        if row is None or self._old is None or not run.signature:
            return None
        is_same = self._old.signatures[row] == run.signature and self._old.managed[row] == run.is_managed
        return row if is_same else None

    def problem(self, run: ListedRun) -> str | None:
        """Why a run could not be read; None if it could, or if its files changed."""
        signature, reason = self._problems.get(run.path, ("", ""))
        return reason if signature and signature == run.signature else None


class _FreshRows:
    """Rows that are read now.

    Attributes:
        left_out: by the number of a row, how many of its names are left out.
    """

    def __init__(self, root: str, most: int) -> None:
        self.left_out: dict[int, int] = {}
        self._root = root
        self._most = most
        self._cells = 0
        self._count = 0
        self._rows: list[Cells] = []
        self._parts: list[RowColumns] = []

    def read(self, run: ListedRun) -> tuple[int | None, str, bool]:
        """Read a run.

        Returns:
            The number of its row, or None; the reason for None, empty if the run is gone; and whether the outcome holds
            until a file changes.
        """
        try:
            row = summarise(self._root, run)
        except FileNotFoundError as error:  # removed meanwhile, or a broken link
            is_gone = not os.path.lexists(error.filename or "")
            return None, "" if is_gone else f"{os.path.basename(error.filename)} leads nowhere", False
        except OSError as error:
            return None, f"{os.path.basename(error.filename or '')} cannot be read: {error.strerror}", False
        except RecursionError:
            return None, "a document nests too deep", True
        except Exception as error:  # noqa: BLE001 - a damaged file must not hide the other runs
            return None, str(error) or type(error).__name__, True
        self._rows.append(row)
        self._count += 1
        self._cells += len(row)
        if len(self._rows) >= BATCH_RUNS or self._cells >= BATCH_CELLS:
            self._pack()
        return self._count - 1, "", True

    def columns(self) -> list[RowColumns]:
        """All rows that were read, in that order."""
        if self._rows:
            self._pack()
        return self._parts

    def _pack(self) -> None:
        kept = None
        if self._cells > self._most:
            kept = row_columns.names_within(Counter(map(tuple, self._rows)), self._most)
        if kept is not None:
            start = self._count - len(self._rows)
            whole, self._rows = self._rows, [{name: row[name] for name in row if name in kept} for row in self._rows]
            for number, (row, part) in enumerate(zip(whole, self._rows, strict=True), start):
                if len(part) < len(row):
                    self.left_out[number] = len(row) - len(part)
        self._parts.append(row_columns.from_rows(self._rows))
        self._rows, self._cells = [], 0


def _differs(old: Saved, new: Saved) -> bool:
    return (
        old.signatures != new.signatures
        or old.paths != new.paths
        or old.problems != new.problems
        or old.listings != new.listings
    )


def _folder(root: str, path: str) -> str:
    return os.path.join(root, *path.split("/")) if path else root
