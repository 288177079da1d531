"""The metrics of a run of the ML manager: what ``metrics.toml`` has, and what its journals have beyond it.

They come from this process, from metrics.toml, and from the journals of all writers, and are merged by their time.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from typing import Any

from ml_dash._json import orjson
from ml_dash.managed.cells import add_flat
from ml_dash.managed.points import TIME, State, copy, from_point, merge, record, values
from ml_dash.managed.toml_values import decode, encode
from ml_dash.records.values import decode as decode_line
from ml_dash.storage import layout
from ml_dash.storage.follow import Position
from ml_dash.storage.lines import shards

COVERS = "# The last value of each metric. Journals up to: "
"""How the first line of metrics.toml starts; the sizes of the journals follow, by file name."""

_JOURNALS = f"{layout.metric_folder(None)}/"


class Journal:
    """One writer's points, read as they are added.

    Attributes:
        state: the values of the points read so far.
    """

    def __init__(self, path: str, read_to: int = 0) -> None:
        self.state: State = {}
        self._path = path
        self._position = Position(read_to)

    @property
    def read_to(self) -> int:
        """Bytes of the file that were read."""
        return self._position.offset

    def read(self) -> None:
        """Take in what was added since the last time; all of it if what was read has been undone."""
        try:
            with open(self._path, "rb") as file:
                if not self._position.is_in(file):
                    self._position = Position()
                for _, block in self._position.read(file):
                    for line in block.split(b"\n"):
                        self._take(line)
        except FileNotFoundError:
            return

    def _take(self, line: bytes) -> None:
        try:
            point = decode_line(line)["data"]
            moment = float(point[TIME])
            update = from_point(point)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):  # a damaged line costs itself
            return
        if math.isfinite(moment):  # a value of no moment, or of the end of time, would stand for ever
            record(self.state, update, moment)


class History:
    """The newest values of a run, whoever logged them.

    Args:
        run: absolute path of the run's directory.
        saved: what metrics.toml holds.
        covered: up to which byte of each journal, by file name, ``saved`` knows it.

    Attributes:
        own: what this process logged.
    """

    def __init__(self, run: str, saved: Mapping[str, Any], covered: Mapping[str, int]) -> None:
        self.own: State = {}
        self._folder = os.path.join(run, layout.metric_folder(None))
        self._saved: State = {}
        record(self._saved, saved, 0.0)
        sizes = self.sizes()
        # What metrics.toml has of several writers has lost its times, so all of it is read again to put it in order.
        known = len(sizes) == 1 and all(size >= covered.get(name, 0) for name, size in sizes.items())
        self._journals = {name: self._journal(name, covered.get(name, 0) if known else 0) for name in sizes}

    def sizes(self) -> dict[str, int]:
        """Bytes of each journal now, by file name."""
        found = {}
        for path in shards(self._folder, "data"):
            try:
                found[os.path.basename(path)] = os.stat(path).st_size
            except FileNotFoundError:
                continue
        return found

    def read(self, own: str | None = None) -> dict[str, int]:
        """Take in what others logged; returns up to which byte each journal is known.

        Args:
            own: the file name of this process's journal, which is not read: ``own`` holds the same.
        """
        known = self.sizes()
        for name in known:
            if name != own:
                journal = self._journals.get(name) or self._journals.setdefault(name, self._journal(name, 0))
                journal.read()
                known[name] = journal.read_to
        return known

    def values(self) -> dict[str, Any]:
        """The newest value of every metric."""
        state = copy(self._saved)
        for journal in self._journals.values():
            merge(state, journal.state)
        merge(state, copy(self.own))
        return values(state)

    def _journal(self, name: str, read_to: int) -> Journal:
        return Journal(os.path.join(self._folder, name), read_to)


def last_values(folder: str, files: list[str], prefix: str) -> dict[str, Any]:
    """The last value of every metric under its dotted name.

    The journals are read only as far as metrics.toml does not know them, as it is after a kill and while the run is
    being written. A metrics.toml that is damaged is made up for by the journals, if there are any.

    Args:
        folder: the run's directory.
        files: what describes it.
        prefix: put before each name.

    Raises:
        OSError: a file cannot be read.
        ValueError: metrics.toml is damaged, and there is no journal.
    """
    journals = [name for name in files if _is_journal(name)]
    saved, covered = _read_saved(folder, files, must_be_whole=not journals)
    cells: dict[str, Any] = {}
    if any(os.stat(os.path.join(folder, name)).st_size != covered.get(name[len(_JOURNALS) :]) for name in journals):
        history = History(folder, {key: decode(value) for key, value in saved.items()}, covered)
        history.read()
        saved = encode(history.values(), "metrics")
    add_flat(cells, saved, prefix)
    return cells


def covered_by(text: str) -> dict[str, int]:
    """Up to which byte a metrics.toml knows each journal, by file name.

    A journal whose size somebody damaged is left out, and so read from its start.
    """
    first = text.partition("\n")[0]
    try:
        covered = orjson.loads(first.removeprefix(COVERS)) if first.startswith(COVERS) else {}
    except ValueError:
        return {}
    pairs = covered.items() if isinstance(covered, dict) else ()
    return {name: size for name, size in pairs if type(size) is int and size >= 0}


def _is_journal(name: str) -> bool:
    return name.startswith(_JOURNALS) and name.endswith(".jsonl") and "/" not in name[len(_JOURNALS) :]


def _read_saved(folder: str, files: list[str], *, must_be_whole: bool) -> tuple[dict[str, Any], dict[str, int]]:
    """The document of metrics.toml, and up to which byte it knows each journal."""
    if layout.METRICS_TOML not in files:
        return {}, {}
    try:
        with open(os.path.join(folder, layout.METRICS_TOML), encoding="utf-8", newline="") as file:
            text = file.read()
        return tomllib.loads(text), covered_by(text)
    except ValueError:
        if must_be_whole:
            raise
        return {}, {}
