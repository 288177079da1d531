"""The files of a managed run: ``config.toml`` and ``metrics.toml``, and where the runs of a folder are.

A file is replaced as a whole, under a lock that all processes of the run share: a reader, and whoever comes after a
kill, finds the one before or the new one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ml_dash._json import orjson
from ml_dash.errors import ExperimentError, InvalidNameError, MissingFileError, StorageError
from ml_dash.manager.history import History
from ml_dash.records.toml_values import dumps, loads
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.names import check_path, quote
from ml_dash.storage.reading import read_experiment

CONFIG = "config.toml"
METRICS = "metrics.toml"
LOCK = ".manager.lock"
OPEN = ".manager.open"

LOCK_S = 5.0
"""How long a write waits for another process of the same run: its write takes a few milliseconds."""

ORPHAN_S = 10.0
"""How long ``load`` waits for the writer of a killed process to write out what was handed to it: it has no frames of
ours to encode, so that a few milliseconds are usual."""

ORPHAN_POLL_S = 0.01
"""Between two looks at that writer."""

SHOWN_IDS = 3
"""Ids named in an error as the nearest ones."""

_COVERS = "# The last value of each metric. Journals up to: "


class RunFiles:
    """The files of one run.

    Attributes:
        folder: absolute path of the run's directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._held = -1
        self._disk = Disk()
        self._disk.owner = "manager"  # what a killed process left half written is written over by the next one

    def read_config(self) -> dict[str, Any]:
        """All of config.toml.

        Raises:
            StorageError: it cannot be read, or is no TOML.
        """
        return _parsed(os.path.join(self.folder, CONFIG))[0]

    def write_config(self, document: Mapping[str, object]) -> None:
        """Replace config.toml, on the disk when this returns.

        Raises:
            StorageError: it cannot be written.
        """
        with self._locked():
            self._write(CONFIG, dumps(document, "config"), sync=True)

    def open_history(self) -> tuple[History, bool]:
        """Every metric so far, and whether metrics.toml has them all.

        Raises:
            StorageError: metrics.toml is no TOML, and there is no journal from which it could be made again.
        """
        try:
            saved, covered = self._read_metrics()
        except StorageError:
            history = History(self.folder, {}, {})
            if not history.sizes():
                raise
            history.read()
            return history, False
        history = History(self.folder, saved, covered)
        is_current = all(size <= covered.get(name, 0) for name, size in history.sizes().items())
        history.read()
        return history, is_current

    def save_metrics(self, history: History, own: str | None, *, sync: bool = False) -> None:
        """Replace metrics.toml by the newest values of all writers.

        Args:
            history: the run's values.
            own: the file name of this process's journal, or None if it has none.
            sync: on the disk when this returns.

        Raises:
            StorageError: it cannot be written.
        """
        with self._locked():
            # First how far the journals go, then the values: the file may know more than it says, never less.
            covered = history.read(own)
            header = _COVERS + orjson.dumps(covered).decode()
            self._write(METRICS, f"{header}\n{dumps(history.values(), 'metrics')}", sync=sync)

    def status(self) -> tuple[str | None, str | None]:
        """How the run ended or that it is running, and why, as the writer recorded it."""
        document = read_experiment(self.folder)
        return document.get("status"), document.get("status_reason")

    def wait_for_orphan(self) -> None:
        """If the run's process was killed, wait until its writer has written out what it was given."""
        deadline = time.monotonic() + ORPHAN_S
        while self.is_being_written() and not self._is_open() and time.monotonic() < deadline:
            time.sleep(ORPHAN_POLL_S)

    def is_being_written(self) -> bool:
        """Whether a process has the run open, or its writer still works for one that is gone."""
        return _is_locked(os.path.join(self.folder, layout.RUN_LOCK))

    def hold(self) -> None:
        """Show that this process has the run open, until ``let_go`` or its end. Several may."""
        with contextlib.suppress(ImportError, OSError):  # without locks nobody can be told
            import fcntl

            self._held = os.open(os.path.join(self.folder, OPEN), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def let_go(self) -> None:
        """End ``hold``. In a forked child this closes the copy of the parent's, which goes on holding."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def _is_open(self) -> bool:
        return _is_locked(os.path.join(self.folder, OPEN), exclusive=True)

    def _read_metrics(self) -> tuple[dict[str, Any], dict[str, int]]:
        path = os.path.join(self.folder, METRICS)
        if not os.path.exists(path):
            return {}, {}
        values, text = _parsed(path)
        first = text.partition("\n")[0]
        try:
            covered = orjson.loads(first.removeprefix(_COVERS)) if first.startswith(_COVERS) else {}
        except ValueError:
            covered = {}
        return values, _sizes(covered)

    def _write(self, name: str, text: str, *, sync: bool) -> None:
        path = os.path.join(self.folder, name)
        try:
            self._disk.write_file(path, [text.encode()], sync)
        except OSError as error:
            raise StorageError(error.errno, f"{name} cannot be written: {error.strerror}", path) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(os.path.join(self.folder, LOCK), timeout=LOCK_S)
        try:
            lock.acquire()
        except Timeout:
            raise StorageError(11, f"another process holds the run's lock for more than {LOCK_S:g} s", LOCK) from None
        except (OSError, NotImplementedError):  # no locks here, or no room for one: nearly always we are alone
            self._disk.owner = ""
        try:
            yield
        finally:
            lock.release()


def find_run(base_dir: str, run_id: str, project_name: str | None) -> str:
    """The directory of a run.

    Raises:
        MissingFileError: there is none; the text names the nearest ids.
        ExperimentError: several projects have a run of that id; the text names them.
        InvalidNameError: an id or a project's name cannot be that of a folder.
    """
    check_segment(run_id, "run_id")
    if project_name is not None:
        check_segment(project_name, "project_name")
    projects = [project_name] if project_name is not None else _folders(base_dir)
    found = [project for project in projects if _is_run(os.path.join(base_dir, project, run_id))]
    if len(found) > 1:
        raise ExperimentError(
            f"{len(found)} projects have a run {run_id!r}: {', '.join(map(repr, found))}; give project_name="
        )
    if not found:
        raise MissingFileError(_missing(base_dir, run_id, projects, project_name))
    return os.path.join(base_dir, found[0], run_id)


def check_segment(name: object, what: str) -> str:
    """A name that is one folder.

    Raises:
        InvalidTypeError: it is no text.
        InvalidNameError: it cannot be the name of one folder.
    """
    segments = check_path(name, what)
    if len(segments) != 1:
        raise InvalidNameError(f"{what} {quote(name)} has a slash; it is the name of one folder, leave the slash out")
    return segments[0]


def _missing(base_dir: str, run_id: str, projects: list[str], project_name: str | None) -> str:
    import difflib

    if not os.path.isdir(base_dir):
        return f"no run {run_id!r}: there is no folder {base_dir!r}"
    elsewhere = [name for name in _folders(base_dir) if _is_run(os.path.join(base_dir, name, run_id))]
    if elsewhere:
        return f"no run {run_id!r} of project {project_name!r}; it is in {', '.join(map(repr, elsewhere))}"
    where = "" if project_name is None else f" of project {project_name!r}"
    folders = [os.path.join(base_dir, project) for project in projects]
    ids = {name for folder in folders for name in _folders(folder) if _is_run(os.path.join(folder, name))}
    near = difflib.get_close_matches(run_id, sorted(ids), n=SHOWN_IDS)
    hint = f"; the nearest ids are {', '.join(map(repr, near))}" if near else f"; {len(ids)} other runs are there"
    return f"no run {run_id!r}{where}{hint}"


def _folders(path: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_run(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, CONFIG))


def _parsed(path: str) -> tuple[dict[str, Any], str]:
    name = os.path.basename(path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        return loads(text), text
    except OSError as error:
        raise StorageError(error.errno, f"{name} cannot be read: {error.strerror}", path) from error
    except ValueError as error:
        raise StorageError(22, f"{name} is damaged: {error}; restore it, or move the run away", path) from error


def _sizes(covered: Any) -> dict[str, int]:
    """What a header says of the journals. One whose size somebody damaged is left out, and so read from its start."""
    pairs = covered.items() if isinstance(covered, dict) else ()
    return {name: size for name, size in pairs if type(size) is int and size >= 0}


def _is_locked(path: str, *, exclusive: bool = False) -> bool:
    """Whether a process holds the lock that belongs to a file; with ``exclusive`` also one that it shares."""
    try:
        import fcntl

        with open(path, "rb") as file:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False
