"""The values of a run's metrics by the time they were logged, from this process and from the journals of all writers.

A point of the journal is flat: ``{"eval": {"accuracy": 0.9}}`` is ``eval.accuracy``. A dot or a backslash that belongs
to a name has a backslash before it, so that every point can be nested again as it was.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from ml_dash.records.toml_text import MARK
from ml_dash.records.toml_values import decode, encode
from ml_dash.records.values import decode as decode_line
from ml_dash.storage import layout
from ml_dash.storage.lines import shards

State = dict[str, Any]
"""Nested like the metrics; where a value is, there is a tuple of its time and the value."""

TIME = "_ts"


def to_point(update: Mapping[str, Any]) -> dict[str, Any]:
    """One call's metrics as a flat point for the journal."""
    point = dict(_flat(encode(update, "metrics", for_json=True), ""))
    if TIME in point:  # a metric of that name, not the time of the point
        point[f"\\{TIME}"] = point.pop(TIME)
    return point


def _flat(plain: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        name = f"{prefix}{_escaped(key)}"
        if isinstance(value, dict) and value and MARK not in value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def from_point(point: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``to_point``."""
    update: dict[str, Any] = {}
    for name, value in point.items():
        if name != TIME:
            *parents, leaf = _split(name)
            _table_at(update, parents)[leaf] = decode(value)
    return update


def _table_at(update: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    for parent in parents:
        below = update.get(parent)
        if not isinstance(below, dict):  # missing; or logged past us, as a value and as a table in one point
            below = update[parent] = {}
        update = below
    return update


def _escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace(".", "\\.") if "." in key or "\\" in key else key


def _split(name: str) -> list[str]:
    if "\\" not in name:
        return name.split(".")
    parts, letters = [""], iter(name)
    for letter in letters:
        if letter == ".":
            parts.append("")
        else:
            parts[-1] += next(letters, "") if letter == "\\" else letter
    return parts


def record(state: State, update: Mapping[str, Any], time: float) -> None:
    """Put one call's metrics into a state: dicts are merged, everything else is replaced."""
    for key, value in update.items():
        if not isinstance(value, dict):
            state[key] = (time, value)
            continue
        below = state.get(key)
        if not isinstance(below, dict):
            below = state[key] = {}
        record(below, value, time)


def merge(state: State, other: State) -> None:
    """Put the values of another state into this one where they are newer."""
    for key, theirs in other.items():
        ours = state.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            merge(ours, theirs)
        elif ours is None or _newest(theirs) > _newest(ours):
            state[key] = copy(theirs) if isinstance(theirs, dict) else theirs


def update_values(metrics: dict[str, Any], update: Mapping[str, Any]) -> None:
    """The same as ``record`` for metrics without times."""
    for key, value in update.items():
        if not isinstance(value, dict):
            metrics[key] = value
            continue
        below = metrics.get(key)
        if not isinstance(below, dict):
            below = metrics[key] = {}
        update_values(below, value)


def _newest(found: Any) -> float:
    return max(map(_newest, found.values()), default=0.0) if isinstance(found, dict) else found[0]


def copy(state: State) -> State:
    """A copy that shares no dict. Another thread may go on recording: each level is copied at once."""
    return {key: copy(found) if isinstance(found, dict) else found for key, found in list(state.items())}


def values(state: State) -> dict[str, Any]:
    """The metrics themselves, without their times."""
    return {key: values(found) if isinstance(found, dict) else found[1] for key, found in list(state.items())}


class Journal:
    """One writer's points, read as they are added.

    Attributes:
        state: the values of the points read so far.
        read_to: bytes of the file that they took.
    """

    def __init__(self, path: str, read_to: int = 0) -> None:
        self.state: State = {}
        self.read_to = read_to
        self._path = path

    def read(self) -> None:
        """Take in what was added since the last time."""
        try:
            with open(self._path, "rb") as file:
                self._seek(file)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self.read_to += len(line)
                    self._take(line)
        except FileNotFoundError:
            return

    def _seek(self, file: BinaryIO) -> None:
        """To where the last time ended; to the start if that is not the end of a line, as it is in a batch undone."""
        file.seek(max(0, self.read_to - 1))
        if self.read_to and file.read(1) != b"\n":
            self.read_to = 0
            file.seek(0)

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
