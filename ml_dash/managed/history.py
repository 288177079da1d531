"""The newest value of every metric of a managed run, merged by time from three sources.

The sources are the calls of this process, ``metrics.toml``, and the journals of all writers beyond what it covers.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Mapping
from typing import Any

from ml_dash._json import orjson
from ml_dash.managed.cells import add_flat
from ml_dash.managed.points import TIME, State, copy, from_point, merge, record, values
from ml_dash.managed.toml_values import TOML_BYTES, decode, encode, parse
from ml_dash.records.values import decode as decode_line
from ml_dash.storage import layout
from ml_dash.storage.beneath import UnsafeFileError, open_below, read_below, warn_refused
from ml_dash.storage.follow import Position
from ml_dash.storage.journal import shards

COVERS = "# The last value of each metric. Journals up to: "
"""Start of the first line of metrics.toml; the size of each journal follows, by file name."""

_JOURNALS = f"{layout.metric_folder(None)}/"


class Journal:
    """One writer's points, read as they are added.

    Attributes:
        state: the values of the points read so far.
    """

    def __init__(self, run: str, path: str, read_to: int = 0) -> None:
        self.state: State = {}
        self._run = run
        self._path = path
        self._position = Position(read_to)

    @property
    def read_to(self) -> int:
        """Bytes of the file that were read."""
        return self._position.offset

    def read(self) -> None:
        """Add the points written since the last call; read all again if the file was cut back."""
        try:
            with open_below(self._run, self._path) as file:
                if not self._position.is_in(file):
                    self._position = Position()
                for _, block in self._position.read(file):
                    for line in block.split(b"\n"):
                        self._take(line)
        except (FileNotFoundError, NotADirectoryError):
            return
        except UnsafeFileError as error:
            warn_refused(error)

    def _take(self, line: bytes) -> None:
        try:
            point = decode_line(line)["data"]
            time = float(point[TIME])
            update = from_point(point)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
        ):  # only the damaged line is lost
            return
        if math.isfinite(time):  # a value from the end of time would stay the newest for ever
            record(self.state, update, time)


class History:
    """The newest values of a run, of all its writers.

    Args:
        run: absolute path of the run's directory.
        saved: the values of metrics.toml.
        covered: the bytes of each journal that are in ``saved``, by file name.

    Attributes:
        own: the values that this process logged.
    """

    def __init__(self, run: str, saved: Mapping[str, Any], covered: Mapping[str, int]) -> None:
        self.own: State = {}
        self._run = run
        self._folder = os.path.join(run, layout.metric_folder(None))
        self._saved: State = {}
        record(self._saved, saved, 0.0)
        sizes = self.sizes()
        # The values of metrics.toml have no times. With several writers all journals are read again to order them.
        known = len(sizes) == 1 and all(size >= covered.get(name, 0) for name, size in sizes.items())
        self._journals = {name: self._journal(name, covered.get(name, 0) if known else 0) for name in sizes}

    def sizes(self) -> dict[str, int]:
        """Bytes of each journal now, by file name."""
        sizes = {}
        for path in shards(self._folder, "data"):
            try:
                sizes[os.path.basename(path)] = os.lstat(path).st_size
            except (FileNotFoundError, NotADirectoryError):
                continue
        return sizes

    def read(self, own: str | None = None) -> dict[str, int]:
        """Read what other writers logged; return how many bytes of each journal are known.

        Args:
            own: the file name of this process's journal. It is not read: ``self.own`` holds its values.
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
        return Journal(self._run, os.path.join(self._folder, name), read_to)


def last_values(folder: str, files: list[str], prefix: str) -> dict[str, Any]:
    """The last value of every metric under its dotted name.

    The journals are read only where metrics.toml does not cover them: after a kill, and while the run is being
    written. They replace a damaged metrics.toml.

    Args:
        folder: the run's directory.
        files: the paths of its metrics.toml and journals, relative to it.
        prefix: put before each name.

    Raises:
        OSError: a file cannot be read.
        ValueError: metrics.toml is damaged, and there is no journal.
    """
    journals = [name for name in files if _is_journal(name)]
    saved, covered = _read_saved(folder, files, must_be_whole=not journals)
    cells: dict[str, Any] = {}
    if any(check_regular(os.path.join(folder, name)) != covered.get(name[len(_JOURNALS) :]) for name in journals):
        history = History(folder, {key: decode(value) for key, value in saved.items()}, covered)
        history.read()
        saved = encode(history.values(), "metrics")
    add_flat(cells, saved, prefix)
    return cells


def check_regular(path: str) -> int:
    """Return the size of a regular file.

    Raises:
        UnsafeFileError: it is something else.
        OSError: as the system says.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFileError(errno.EPERM, "it is a link, or no regular file", path)
    return status.st_size


def covered_by(text: str) -> dict[str, int]:
    """The bytes of each journal that a metrics.toml covers, by file name.

    A journal with a damaged size is left out, and so read from its start.
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
    """The document of metrics.toml, and the bytes of each journal that it covers."""
    if layout.METRICS_TOML not in files:
        return {}, {}
    try:
        content = read_below(folder, layout.METRICS_TOML, TOML_BYTES)
        return parse(content), covered_by(content[: content.find(b"\n") + 1].decode())
    except ValueError:
        if must_be_whole:
            raise
        return {}, {}
