"""All runs of a tree as rows, read from the tree only where it changed since the last time.

What was read is kept in the cache folder with the times, sizes and numbers of every file that it came from. Where those
differ, or cannot be trusted yet, the run is read again; so the index never says anything but what reading all runs anew
would say. Without a cache folder that can be written everything is read each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ml_dash.catalog import index_cache, row_columns
from ml_dash.catalog.index_cache import Saved
from ml_dash.catalog.row_columns import RowColumns
from ml_dash.catalog.summary import Row, summarise
from ml_dash.catalog.walk import Found, Walk
from ml_dash.storage.file_index import without_collector

BATCH_RUNS = 1000
"""Runs whose rows are in memory as Python values before they become columns."""


class Problem(NamedTuple):
    """A run, or a folder, that could not be read.

    Attributes:
        folder: its absolute path.
        reason: why.
    """

    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """The runs of a tree at one moment.

    Attributes:
        root: absolute path of the tree.
        places: the folder of each run below it, with slashes.
        managed: for each whether it is one of the ML manager.
        rows: one for each.
        problems: what could not be read.
    """

    root: str
    places: list[str]
    managed: list[bool]
    rows: RowColumns
    problems: list[Problem]

    def folder(self, row: int) -> str:
        """The absolute folder of a run."""
        return _folder(self.root, self.places[row])

    def rows_of(self, folders: Sequence[str]) -> RowColumns:
        """The rows of some runs in the order of their folders; a run that is not there has none."""
        numbers = {self.folder(row): row for row in range(len(self.places))}
        return self.rows.take([numbers[folder] for folder in folders if folder in numbers])


def read_index(root: str, *, cached: bool = True) -> Index:
    """Every run below a folder.

    Args:
        root: absolute path of the folder.
        cached: whether to use and renew what is kept of it; False reads everything.
    """
    old = index_cache.load(root) if cached else None
    walk = Walk(root, old.listings if old is not None else {})
    with without_collector():
        new = _read(root, walk.runs(), old, walk)
    if cached and (old is None or _differs(old, new)):
        index_cache.save(root, new)
    problems = [Problem(_folder(root, place), reason) for place, _, reason in new.problems]
    problems += [Problem(_folder(root, place), reason) for place, reason in walk.unreadable]
    return Index(root, new.places, new.managed, new.rows, sorted(problems))


def _read(root: str, runs: list[Found], old: Saved | None, walk: Walk) -> Saved:
    """The runs as they are: rows that are known and still hold, and the others read."""
    known = _Known(old)
    fresh = _Fresh(root)
    new = Saved(walk.listings, [], [], [], RowColumns([], [], {}), [])
    order: list[int] = []
    for found in runs:
        if (reason := known.problem(found)) is not None:
            new.problems.append((found.place, found.signature, reason))
            continue
        row = known.row(found)
        signature = found.signature
        if row is None:
            row, reason, is_certain = fresh.read(found)
            signature = signature if is_certain else ""
            if row is None:
                if reason:
                    new.problems.append((found.place, signature, reason))
                continue
            row += known.count
        order.append(row)
        new.places.append(found.place)
        new.managed.append(found.is_managed)
        new.signatures.append(signature)
    new.rows = row_columns.concat([*known.columns(), *fresh.columns()]).take(order)
    return new


class _Known:
    """What an older index has."""

    def __init__(self, old: Saved | None) -> None:
        self._old = old
        self.count = len(old.places) if old is not None else 0
        self._rows: dict[str, int] = {}
        self._problems: dict[str, tuple[str, str]] = {}
        if old is not None:
            self._rows = {place: row for row, place in enumerate(old.places)}
            self._problems = {place: (signature, reason) for place, signature, reason in old.problems}

    def row(self, found: Found) -> int | None:
        """The number of a run's row, if its files are what they were."""
        row = self._rows.get(found.place)
        if row is None or self._old is None or not found.signature:
            return None
        is_same = self._old.signatures[row] == found.signature and self._old.managed[row] == found.is_managed
        return row if is_same else None

    def problem(self, found: Found) -> str | None:
        signature, reason = self._problems.get(found.place, ("", ""))
        return reason if signature and signature == found.signature else None

    def columns(self) -> Iterator[RowColumns]:
        if self._old is not None:
            yield self._old.rows


class _Fresh:
    """Rows that are read now."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._count = 0
        self._rows: list[Row] = []
        self._parts: list[RowColumns] = []

    def read(self, found: Found) -> tuple[int | None, str, bool]:
        """The number of the row; without one why, empty for a run that is gone; whether it holds until a file changes."""
        try:
            row = summarise(self._root, found)
        except FileNotFoundError as error:  # removed while we looked, or a link to nothing
            is_gone = not os.path.lexists(error.filename or "")
            return None, "" if is_gone else f"{os.path.basename(error.filename)} leads nowhere", False
        except OSError as error:
            return None, f"{os.path.basename(error.filename or '')} cannot be read: {error.strerror}", False
        except RecursionError:
            return None, "a document nests too deep", True
        except Exception as error:  # noqa: BLE001 - whatever a file holds, the other runs are shown
            return None, str(error) or type(error).__name__, True
        self._rows.append(row)
        self._count += 1
        if len(self._rows) >= BATCH_RUNS:
            self._pack()
        return self._count - 1, "", True

    def columns(self) -> list[RowColumns]:
        if self._rows:
            self._pack()
        return self._parts

    def _pack(self) -> None:
        self._parts.append(row_columns.from_rows(self._rows))
        self._rows = []


def _differs(old: Saved, new: Saved) -> bool:
    return (
        old.signatures != new.signatures
        or old.places != new.places
        or old.problems != new.problems
        or old.listings != new.listings
    )


def _folder(root: str, place: str) -> str:
    return os.path.join(root, *place.split("/")) if place else root
